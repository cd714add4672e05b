#include "dev/network_plan.hpp"

#include <cstdio>

namespace muster::dev {

namespace {

// Up to here everybody fits the kernel's neighbour table (1024 entries for the whole machine,
// whatever the namespace); permanent entries do not count, so larger clusters get those.
constexpr unsigned kDynamicNeighbours = 20;

std::string number(unsigned value) {
  return std::to_string(value);
}

std::string node_mac(unsigned node) {
  char text[32];
  std::snprintf(text, sizeof text, "02:66:00:00:00:%02x", node & 0xff);
  return text;
}

void addresses(std::string& out, const std::string& v4, const std::string& v6,
               const std::string& device) {
  out += "addr add " + v4 + " dev " + device + "\n";
  // Without duplicate detection: an address one cannot bind for a second breaks every start.
  out += "addr add " + v6 + " dev " + device + " nodad\n";
}

void routes_to_containers(std::string& out, unsigned nodes, unsigned except) {
  for (unsigned node = 1; node <= nodes; ++node) {
    if (node == except) continue;
    out += "route add " + container_subnet(node) + " via " + node_address(node) + "\n";
    out += "route add fd67:0:0:" + number(node) + "::/64 via " + node_address6(node) + "\n";
  }
}

void neighbours(std::string& out, unsigned nodes, unsigned except) {
  if (nodes <= kDynamicNeighbours) return;
  for (unsigned node = 1; node <= nodes; ++node) {
    if (node == except) continue;
    for (const std::string& address : {node_address(node), node_address6(node)}) {
      out += "neigh add " + address + " lladdr " + node_mac(node) + " dev eth0 nud permanent\n";
    }
  }
}

}  // namespace

std::string master_address() {
  return "10.66.0.250";
}
std::string standby_address() {
  return "10.66.0.251";
}
std::string node_address(unsigned node) {
  return "10.66.0." + number(node);
}
// The decimal digits, read as hexadecimal: node 10 is fd66::10, not fd66::a.
std::string node_address6(unsigned node) {
  return "fd66::" + number(node);
}

std::string container_address(unsigned node, unsigned host) {
  return "10.67." + number(node) + "." + number(host);
}

std::string container_address6(unsigned node, unsigned host) {
  return "fd67:0:0:" + number(node) + "::" + number(host);
}

std::string container_subnet(unsigned node) {
  return container_address(node, 0) + "/24";
}

std::string switch_batch(const std::vector<std::string>& node_paths,
                         const std::string& master_path) {
  std::string out = "link set lo up\nlink add br0 type bridge\nlink set br0 up\n";
  addresses(out, "10.66.0.254/24", "fd66::254/64", "br0");
  unsigned node = 0;
  for (const std::string& path : node_paths) {
    const std::string port = "p" + number(++node);
    out += "link add " + port + " type veth peer name eth0 address " + node_mac(node) + " netns " +
           path + "\n";
    out += "link set " + port + " master br0 up\n";
  }
  out += "link add pm type veth peer name eth0 address 02:66:00:00:00:fa netns " + master_path +
         "\nlink set pm master br0 up\n";
  return out;
}

std::string master_batch(unsigned nodes) {
  std::string out = "link set lo up\nlink set eth0 up\n";
  addresses(out, master_address() + "/24", "fd66::250/64", "eth0");
  addresses(out, standby_address() + "/24", "fd66::251/64", "eth0");
  routes_to_containers(out, nodes, 0);
  neighbours(out, nodes, 0);
  return out;
}

std::string node_batch(unsigned node, unsigned nodes) {
  std::string out = "link set lo up\nlink set eth0 up\n";
  addresses(out, node_address(node) + "/24", node_address6(node) + "/64", "eth0");
  // As on a real host. What leaks goes to the switch, which knows no way on and says so at once.
  out += "route add default via 10.66.0.254\nroute add default via fd66::254\n";
  out += "link add cont0 type bridge\nlink set cont0 up\n";
  addresses(out, container_address(node, 1) + "/24", container_address6(node, 1) + "/64", "cont0");
  routes_to_containers(out, nodes, node);
  neighbours(out, nodes, node);
  return out;
}

std::string container_cable_batch(unsigned host, const std::string& path) {
  const std::string port = "c" + number(host);
  return "link add " + port + " type veth peer name eth0 netns " + path + "\nlink set " + port +
         " master cont0 up\n";
}

std::string container_batch(unsigned node, unsigned host) {
  std::string out = "link set lo up\nlink set eth0 up\n";
  addresses(out, container_address(node, host) + "/24", container_address6(node, host) + "/64",
            "eth0");
  return out + "route add default via " + container_address(node, 1) + "\nroute add default via " +
         container_address6(node, 1) + "\n";
}

std::string host_ports_ruleset(unsigned node, const std::vector<HostPort>& ports) {
  // Creating it first makes the delete succeed the first time too.
  std::string out = "table ip muster_dev\ndelete table ip muster_dev\ntable ip muster_dev {\n";
  out += "  chain host_ports {\n";
  for (const HostPort& port : ports) {
    out += "    ip daddr != 127.0.0.0/8 " + port.forward.protocol + " dport " +
           number(port.forward.host_port) + " dnat to " + port.container + ":" +
           number(port.forward.container_port) + "\n";
  }
  out += "  }\n";
  out +=
      "  chain prerouting {\n    type nat hook prerouting priority -100;\n"
      "    fib daddr type local jump host_ports\n  }\n";
  out +=
      "  chain output {\n    type nat hook output priority -100;\n"
      "    fib daddr type local jump host_ports\n  }\n";
  // A container that reaches its neighbour, or itself, by the host port: the reply has to come
  // back through the node, or it would arrive from an address nobody asked.
  const std::string subnet = container_subnet(node);
  out += "  chain postrouting {\n    type nat hook postrouting priority 100;\n    ip saddr " +
         subnet + " ip daddr " + subnet + " ct status dnat masquerade\n  }\n}\n";
  return out;
}

}  // namespace muster::dev
