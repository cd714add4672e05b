// What bench/run lb measures with, inside network namespaces that it makes:
//
//   lb_bench program DRIVER VIPS CHANGES [CGROUP]  what the driver writes; it stays in the kernel
//   lb_bench clean                                 takes it away
//   lb_bench serve PORT                            accepts, answers "GET", swallows a stream
//   lb_bench dial SECONDS NETNS=ENDPOINT...        connects to each in turns, from its namespace
//   lb_bench http SECONDS ENDPOINT                 one request a connection
//   lb_bench stream SECONDS ENDPOINT               octets one way
//   lb_bench exhaust ENDPOINT MOST                 connects and closes until no port is left
//
// Each prints words `name value ...` on one line.
#include <algorithm>
#include <arpa/inet.h>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <netinet/in.h>
#include <sched.h>
#include <stdexcept>
#include <string>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>
#include <vector>

#include "lb/io/balancer.hpp"
#include "lb/io/driver_choice.hpp"
#include "lb/io/programmer.hpp"
#include "tests/support/lb_samples.hpp"
#include "tests/support/sole_programmer.hpp"

namespace muster::lb {
namespace {

using namespace testing;
using Micros = std::chrono::duration<double, std::micro>;
using Steady = std::chrono::steady_clock;

constexpr int kBackends = 4;
/// The Vip that connections go through; those beside it only fill the tables.
constexpr const char* kDialled = "11.200.0.1";
/// Connects of one target before the next has its turn.
constexpr int kTurn = 32;

double cpu_micros() {
  timespec now{};
  ::clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) * 1e6 + static_cast<double>(now.tv_nsec) / 1e3;
}

double percentile(std::vector<double>& values, double percent) {
  if (values.empty()) return 0;
  std::sort(values.begin(), values.end());
  return values[static_cast<std::size_t>(static_cast<double>(values.size() - 1) * percent / 100)];
}

[[noreturn]] void die(const std::string& what) {
  throw std::runtime_error{what + ": " + std::strerror(errno)};
}

// --- programming

Task one_of_many(int vip, int backend) {
  const std::string low = std::to_string(vip / 250) + "." + std::to_string(1 + vip % 250);
  return task(std::to_string(vip) + "." + std::to_string(backend), {literal("11.0." + low, 80)},
              {"10." + std::to_string(100 + backend) + "." + low + ":8080"});
}

/// The backends of the dialled Vip are at .1 to .4 of the network in MUSTER_BENCH_BACKENDS.
Task dialled(int backend) {
  const char* net = std::getenv("MUSTER_BENCH_BACKENDS");
  const std::string prefix = net != nullptr ? net : "10.2.0.";
  return task("x" + std::to_string(backend), {literal(kDialled, 80)},
              {prefix + std::to_string(backend + 1) + ":8080"});
}

void settle(Programmer& programmer) {
  while (programmer.step() == Programmer::Outcome::more) {
  }
  if (!programmer.knows_kernel()) throw std::runtime_error{programmer.last_error()};
}

ClusterDelta only(Change<Task> change) {
  ClusterDelta delta;
  delta.complete = true;
  delta.tasks.push_back(std::move(change));
  return delta;
}

void time_changes(SoleProgrammer& programmer, int vips, int changes) {
  std::vector<double> times;
  for (int i = 0; i < changes; ++i) {
    const Task one = one_of_many((i * 7919) % vips, kBackends);
    for (const bool add : {true, false}) {
      const auto began = Steady::now();
      programmer.take(only(add ? added(one) : removed(one)));
      settle(programmer);
      times.push_back(Micros{Steady::now() - began}.count());
    }
  }
  const double p50 = percentile(times, 50);
  std::printf("change_p50_us %.2f change_p99_us %.2f ", p50, percentile(times, 99));
}

void time_reconcile(Driver& driver, Programmer& programmer) {
  programmer.take_counts();
  const double before = cpu_micros();
  const auto began = Steady::now();
  auto state = driver.read();
  if (!state) throw std::runtime_error{state.error().message()};
  const std::size_t differ = programmer.adopt(std::move(*state));
  settle(programmer);
  std::printf("reconcile_cpu_ms %.2f reconcile_ms %.2f reconcile_writes %zu ",
              (cpu_micros() - before) / 1e3, Micros{Steady::now() - began}.count() / 1e3,
              differ + programmer.take_counts().changes);
}

int program(const std::string& name, int vips, int changes, const std::string& cgroup) {
  auto made = make_driver(name);
  if (!made) throw std::runtime_error{made.error().message()};
  Driver& driver = **made;
  DriverConfig config;
  config.range_v4 = Prefix::parse("11.0.0.0/8");
  config.bpf_cgroup = cgroup;
  const auto opened = driver.open(config);
  if (!opened) throw std::runtime_error{opened.error().message() + ": " + driver.detail()};
  SoleProgrammer programmer{driver, Policy::random};
  ClusterDelta delta;
  delta.complete = true;
  for (int i = 0; i < vips; ++i) {
    for (int b = 0; b < kBackends; ++b) delta.tasks.push_back(added(one_of_many(i, b)));
  }
  for (int b = 0; b < kBackends; ++b) delta.tasks.push_back(added(dialled(b)));
  programmer.take(delta);
  programmer.adopt(*driver.read());
  const double cpu = cpu_micros();
  const auto began = Steady::now();
  settle(programmer);
  std::printf("install_ms %.2f install_cpu_ms %.2f ", Micros{Steady::now() - began}.count() / 1e3,
              (cpu_micros() - cpu) / 1e3);
  if (!driver.publish_routes(driver.find_sources())) throw std::runtime_error{driver.detail()};
  if (changes > 0) {
    time_changes(programmer, vips, changes);
    time_reconcile(driver, programmer);
  }
  std::printf("vips %zu\n", programmer.applied().size());
  return 0;
}

// --- serving

sockaddr_in socket_address(const std::string& text) {
  const Endpoint endpoint = at(text);
  sockaddr_in out{};
  out.sin_family = AF_INET;
  out.sin_port = htons(endpoint.port.number());
  ::inet_pton(AF_INET, endpoint.address.to_string().c_str(), &out.sin_addr);
  return out;
}

constexpr std::string_view kAnswer =
    "HTTP/1.0 200 OK\r\nContent-Length: 12\r\nConnection: close\r\n\r\nhello world\n";

/// One readable connection: true while it goes on.
bool attend(int client, std::vector<char>& buffer) {
  const ssize_t got = ::recv(client, buffer.data(), buffer.size(), 0);
  if (got <= 0) return got < 0 && errno == EAGAIN;
  if (std::string_view{buffer.data(), static_cast<std::size_t>(got)}.starts_with("GET")) {
    return ::send(client, kAnswer.data(), kAnswer.size(), MSG_NOSIGNAL) < 0;
  }
  return true;
}

int serve(int port) {
  const int listener = ::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
  const int on = 1;
  ::setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  sockaddr_in any{};
  any.sin_family = AF_INET;
  any.sin_port = htons(static_cast<std::uint16_t>(port));
  if (::bind(listener, reinterpret_cast<sockaddr*>(&any), sizeof any) != 0) die("bind");
  if (::listen(listener, 4096) != 0) die("listen");
  const int poll = ::epoll_create1(0);
  epoll_event event{.events = EPOLLIN, .data = {.fd = listener}};
  ::epoll_ctl(poll, EPOLL_CTL_ADD, listener, &event);
  std::puts("ready");
  std::fflush(stdout);
  std::vector<char> buffer(1 << 18);
  std::array<epoll_event, 256> events{};
  for (;;) {
    const int count = ::epoll_wait(poll, events.data(), static_cast<int>(events.size()), -1);
    for (int i = 0; i < count; ++i) {
      const int fd = events[static_cast<std::size_t>(i)].data.fd;
      if (fd != listener) {
        if (!attend(fd, buffer)) ::close(fd);
        continue;
      }
      for (int client; (client = ::accept4(listener, nullptr, nullptr, SOCK_NONBLOCK)) >= 0;) {
        epoll_event readable{.events = EPOLLIN, .data = {.fd = client}};
        ::epoll_ctl(poll, EPOLL_CTL_ADD, client, &readable);
      }
    }
  }
}

// --- connecting

int connected(const sockaddr_in& to, bool reset) {
  const int fd = ::socket(AF_INET, SOCK_STREAM, 0);
  if (fd < 0) die("socket");
  if (reset) {  // leaves no TIME_WAIT behind
    const linger now{.l_onoff = 1, .l_linger = 0};
    ::setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
  }
  if (::connect(fd, reinterpret_cast<const sockaddr*>(&to), sizeof to) == 0) return fd;
  const int error = errno;
  ::close(fd);
  errno = error;
  return -1;
}

struct Target {
  int netns;
  sockaddr_in address{};
  std::vector<double> times = {};
  double cpu = 0;
  long failed = 0;
};

void turn(Target& target) {
  if (::setns(target.netns, CLONE_NEWNET) != 0) die("setns");
  const double before = cpu_micros();
  for (int i = 0; i < kTurn; ++i) {
    const auto began = Steady::now();
    const int fd = connected(target.address, true);
    target.times.push_back(Micros{Steady::now() - began}.count());
    if (fd < 0) {
      ++target.failed;
    } else {
      ::close(fd);
    }
  }
  target.cpu += cpu_micros() - before;
}

int dial(double seconds, const std::vector<std::string>& names) {
  std::vector<Target> targets;
  for (const std::string& name : names) {
    const std::size_t split = name.find('=');
    if (split == std::string::npos) throw std::runtime_error{name + ": expected NETNS=ENDPOINT"};
    const std::string netns = "/run/netns/" + name.substr(0, split);
    const int fd = ::open(netns.c_str(), O_RDONLY | O_CLOEXEC);
    if (fd < 0) die(netns);
    targets.push_back({fd, socket_address(name.substr(split + 1))});
  }
  const auto end = Steady::now() + std::chrono::duration<double>{seconds};
  while (Steady::now() < end) {
    for (Target& target : targets) turn(target);
  }
  for (Target& target : targets) {
    const auto count = static_cast<double>(target.times.size());
    const double p50 = percentile(target.times, 50);
    std::printf("p50_us %.3f p99_us %.3f cpu_us %.3f failed %ld ", p50,
                percentile(target.times, 99), target.cpu / count, target.failed);
  }
  std::puts("");
  return 0;
}

int http(double seconds, const std::string& name) {
  const sockaddr_in to = socket_address(name);
  const auto end = Steady::now() + std::chrono::duration<double>{seconds};
  const double cpu = cpu_micros();
  long done = 0;
  long failed = 0;
  std::array<char, 512> buffer{};
  const auto began = Steady::now();
  while (Steady::now() < end) {
    const int fd = connected(to, false);
    bool good = false;
    if (fd >= 0 && ::send(fd, "GET / HTTP/1.0\r\n\r\n", 18, MSG_NOSIGNAL) == 18) {
      while (::recv(fd, buffer.data(), buffer.size(), 0) > 0) good = true;
    }
    if (fd >= 0) ::close(fd);
    ++(good ? done : failed);
  }
  const double took = Micros{Steady::now() - began}.count();
  std::printf("rate %.1f cpu_us %.3f failed %ld\n", static_cast<double>(done) / took * 1e6,
              (cpu_micros() - cpu) / static_cast<double>(std::max(1L, done)), failed);
  return 0;
}

int stream(double seconds, const std::string& name) {
  const int fd = connected(socket_address(name), true);
  if (fd < 0) die("connect");
  const std::vector<char> buffer(1 << 17);
  const auto began = Steady::now();
  const auto end = began + std::chrono::duration<double>{seconds};
  double octets = 0;
  while (Steady::now() < end) {
    const ssize_t sent = ::send(fd, buffer.data(), buffer.size(), MSG_NOSIGNAL);
    if (sent < 0) die("send");
    octets += static_cast<double>(sent);
  }
  std::printf("gbits %.3f\n", octets * 8 / Micros{Steady::now() - began}.count() / 1e3);
  return 0;
}

/// Who closes first keeps the port: as many connections as there are ports, or ports a backend.
int exhaust(const std::string& name, int most) {
  const sockaddr_in to = socket_address(name);
  int opened = 0;
  int error = 0;
  while (opened < most) {
    const int fd = connected(to, false);
    if (fd < 0) {
      error = errno;
      break;
    }
    ::close(fd);
    ++opened;
  }
  std::printf("opened %d errno %d\n", opened, error);
  return 0;
}

int run(const std::vector<std::string>& words) {
  const std::string verb = words.empty() ? "" : words[0];
  const std::size_t count = words.size();
  if (verb == "program" && (count == 4 || count == 5)) {
    return program(words[1], std::stoi(words[2]), std::stoi(words[3]), count == 5 ? words[4] : "");
  }
  if (verb == "clean") return cleanup() ? 0 : 1;
  if (verb == "serve" && count == 2) return serve(std::stoi(words[1]));
  if (verb == "dial" && count >= 3) {
    return dial(std::stod(words[1]), {words.begin() + 2, words.end()});
  }
  if (verb == "http" && count == 3) return http(std::stod(words[1]), words[2]);
  if (verb == "stream" && count == 3) return stream(std::stod(words[1]), words[2]);
  if (verb == "exhaust" && count == 3) return exhaust(words[1], std::stoi(words[2]));
  std::fprintf(stderr, "usage: see bench/lb_bench.cpp\n");
  return 2;
}

}  // namespace
}  // namespace muster::lb

int main(int argc, char** argv) {
  try {
    return muster::lb::run({argv + 1, argv + argc});
  } catch (const std::exception& error) {
    std::fprintf(stderr, "lb_bench: %s\n", error.what());
    return 1;
  }
}
