#include "dev/node.hpp"

#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sched.h>
#include <stdexcept>
#include <sys/mount.h>
#include <system_error>

namespace muster::dev {

namespace fs = std::filesystem;

namespace {

void write_file(const std::string& path, const std::string& text) {
  std::ofstream out{path, std::ios::binary | std::ios::trunc};
  out << text;
  if (!out.flush()) throw std::runtime_error{"cannot write " + path};
}

void mount_or_throw(const char* source, const char* target, const char* type, unsigned long flags,
                    const char* data) {
  if (::mount(source, target, type, flags, data) != 0) {
    throw std::system_error{errno, std::generic_category(), std::string{"mounting "} + target};
  }
}

/// Puts `text` where `path` leads, for this mount namespace only.
void replace_file(const std::string& path, const std::string& keep_in, const std::string& text) {
  std::error_code error;
  const fs::path target = fs::weakly_canonical(path, error);
  if (error) return;
  if (target.string().starts_with("/run/")) {  // ours alone already: systemd-resolved's link
    fs::create_directories(target.parent_path());
    write_file(target, text);
    return;
  }
  if (!fs::exists(target, error)) return;  // making it would change the host's /etc
  const std::string copy = keep_in + "/" + fs::path{path}.filename().string();
  write_file(copy, text);
  mount_or_throw(copy.c_str(), target.c_str(), nullptr, MS_BIND, nullptr);
}

/// The host's may send `hosts` to services that do not run here.
std::string name_service_switch() {
  std::ifstream in{"/etc/nsswitch.conf"};
  std::string out;
  for (std::string line; std::getline(in, line);) {
    if (!line.starts_with("hosts:")) out += line + "\n";
  }
  return out + "hosts: files dns\n";
}

void set_sysctl(const std::string& name, const char* value) {
  std::ofstream{"/proc/sys/net/" + name} << value;  // those of this network namespace
}

/// The node's own muster first, a neighbour's second: names resolve while the own one restarts.
std::string resolv_conf(unsigned number, unsigned nodes) {
  std::string out = "nameserver " + node_address(number) + "\n";
  if (nodes > 1) out += "nameserver " + node_address(number % nodes + 1) + "\n";
  return out;
}

/// In the new namespaces of node `number`; nothing of this is seen outside of them.
void furnish(unsigned number, unsigned nodes, const std::string& root) {
  mount_or_throw("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr);
  mount_or_throw(root.c_str(), "/run", nullptr, MS_BIND, nullptr);
  replace_file("/etc/resolv.conf", "/run/muster-dev", resolv_conf(number, nodes));
  replace_file("/etc/nsswitch.conf", "/run/muster-dev", name_service_switch());
  // Pins of a node's BPF programs die with the node. Without BPF in the kernel nothing is lost.
  std::error_code ignored;
  if (fs::exists("/sys/fs/bpf", ignored)) ::mount("bpf", "/sys/fs/bpf", "bpf", 0, nullptr);
  const std::string name = "node" + std::to_string(number);
  ::sethostname(name.c_str(), name.size());
  set_sysctl("ipv4/ip_forward", "1");
  set_sysctl("ipv6/conf/all/forwarding", "1");
}

std::string path_of(const Fd& fd) {
  return "/proc/1/fd/" + std::to_string(fd.get());
}

void ip_batch(const std::string& lines, const Entry& entry) {
  run_tool({"ip", "-batch", "-"}, lines, entry);
}

}  // namespace

Fd Node::add_container(unsigned host) const {
  Fd net = make_network_namespace();
  ip_batch(container_cable_batch(host, path_of(net)), spaces.entry());
  ip_batch(container_batch(number, host), {.net = net.get()});
  return net;
}

std::optional<unsigned> Node::take_container() {
  for (unsigned host = kFirstContainer; host <= kLastContainer; ++host) {
    if (containers.insert(host).second) return host;
  }
  return std::nullopt;
}

void Node::apply_host_ports() const {
  run_tool({"nft", "-f", "-"}, host_ports_ruleset(number, host_ports), spaces.entry());
}

Network Network::build(unsigned count, const std::string& directory) {
  Network out;
  out.master = make_network_namespace();
  std::vector<std::string> paths;
  for (unsigned number = 1; number <= count; ++number) {
    Node& node = out.nodes.emplace_back();
    node.number = number;
    node.root = directory + "/" + node.name();
    fs::create_directories(node.root + "/muster-dev/state");
    fs::create_directories(node.root + "/muster-dev/tasks");
    fs::create_directories(node.root + "/muster-dev/logs");
    fs::create_directories(node.root + "/lock");
    node.spaces = make_namespaces([&] { furnish(number, count, node.root); });
    paths.push_back(path_of(node.spaces.net));
  }
  set_sysctl("ipv4/ip_forward", "1");  // the switch answers for what leaves the cluster: no route
  set_sysctl("ipv6/conf/all/forwarding", "1");
  ip_batch(switch_batch(paths, path_of(out.master)), {});
  ip_batch(master_batch(count), {.net = out.master.get()});
  for (Node& node : out.nodes) {
    ip_batch(node_batch(node.number, count), node.spaces.entry());
    node.neighbour = node.add_container(2);
  }
  return out;
}

}  // namespace muster::dev
