#include "tests/support/netns.hpp"

#include <array>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <fcntl.h>
#include <sched.h>
#include <sstream>
#include <stdexcept>
#include <unistd.h>

namespace muster::testing {
namespace {

[[noreturn]] void fail(const std::string& what) {
  throw std::runtime_error{what + ": " + std::strerror(errno)};
}

std::string run_shell(const std::string& command) {
  std::FILE* pipe = ::popen(("exec 2>&1; " + command).c_str(), "r");
  if (pipe == nullptr) fail("popen");
  std::string output;
  std::array<char, 4096> part{};
  while (const std::size_t size = std::fread(part.data(), 1, part.size(), pipe)) {
    output.append(part.data(), size);
  }
  const int status = ::pclose(pipe);
  if (status != 0) throw std::runtime_error{"`" + command + "` failed: " + output};
  return output;
}

}  // namespace

std::optional<std::string> netns_missing() {
  std::optional<std::string> missing;
  std::thread{[&missing] {
    if (::unshare(CLONE_NEWNET) != 0) {
      missing = std::string{"no network namespaces here (CAP_SYS_ADMIN, CONFIG_NET_NS): "} +
                std::strerror(errno);
    } else if (std::system("ip link set lo up >/dev/null 2>&1") != 0) {
      missing = "`ip link set lo up` fails in a new namespace (CAP_NET_ADMIN, iproute2)";
    }
  }}.join();
  return missing;
}

Netns::Netns() {
  std::string problem;
  std::thread{[this, &problem] {
    if (::unshare(CLONE_NEWNET) != 0) {
      problem = std::string{"unshare: "} + std::strerror(errno);
      return;
    }
    fd_ = ::open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
    if (fd_ < 0) problem = std::string{"/proc/thread-self/ns/net: "} + std::strerror(errno);
  }}.join();
  if (fd_ < 0) throw std::runtime_error{problem};
  // Link-local addresses too are there at once, and routes do not change under a test.
  shell("sysctl -qw net.ipv6.conf.all.accept_dad=0 net.ipv6.conf.default.accept_dad=0");
  shell("ip link set lo up");
}

Netns::~Netns() {
  if (fd_ >= 0) ::close(fd_);
}

void Netns::enter() const {
  if (::setns(fd_, CLONE_NEWNET) != 0) fail("setns");
}

std::string Netns::shell(const std::string& command) const {
  return run([&command] { return run_shell(command); });
}

std::string Netns::path() const {
  return "/proc/" + std::to_string(::getpid()) + "/fd/" + std::to_string(fd_);
}

void connect(const VethEnd& a, const VethEnd& b) {
  a.netns.shell("ip link add " + a.name + " type veth peer name " + b.name + " netns " +
                b.netns.path());
  for (const VethEnd* end : {&a, &b}) {
    std::istringstream addresses{end->addresses};
    for (std::string address; addresses >> address;) {
      // A fresh IPv6 address cannot be used for a second while duplicates are looked for.
      const std::string nodad = address.find(':') != std::string::npos ? " nodad" : "";
      end->netns.shell("ip addr add " + address + " dev " + end->name + nodad);
    }
    end->netns.shell("ip link set " + end->name + " up");
  }
}

}  // namespace muster::testing
