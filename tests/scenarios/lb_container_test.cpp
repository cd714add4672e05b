#include <string>

#include <doctest/doctest.h>

#include "tests/scenarios/lb_fixture.hpp"

/// Backends and clients in containers that have addresses of their own.
namespace muster::lb {
namespace {

std::string ask_from(const Netns& from, const char* vip) {
  return from.run([&] { return ask_tcp(at(vip)); });
}

TEST_CASE(
    "a backend in a container of this node is reached, whichever of its addresses Mesos tells") {
  MUSTER_NEEDS_NETNS();
  Topology net;
  // The client's namespace is the container; who runs it publishes its port as Docker does.
  const auto inside =
      net.client.run([] { return std::make_unique<NameServer>(at("10.1.0.2:8080"), "inside"); });
  net.node.shell(
      "nft 'add table ip docker; add chain ip docker pre { type nat hook prerouting priority -100; "
      "}; add chain ip docker out { type nat hook output priority -100; }; "
      "add rule ip docker pre ip daddr 10.2.0.254 tcp dport 31000 dnat to 10.1.0.2:8080; "
      "add rule ip docker out ip daddr 10.2.0.254 tcp dport 31000 dnat to 10.1.0.2:8080'");
  BalancerOptions options;
  options.node_v4 = ip("10.2.0.254");
  Node node{net.node, options};
  Task published = task("1", {literal("11.0.0.1", 80)}, {"10.2.0.254:31000"});
  published.agent_addresses = {ip("10.2.0.254")};
  published.addresses = {ip("10.1.0.2")};
  published.ports[0].container_port = port(8080);
  node.add(published);
  Task own_address = task("2", {literal("11.0.0.2", 80)}, {"10.1.0.2:8080"});
  own_address.agent_addresses = {ip("10.2.0.254")};
  node.add(own_address);
  CHECK(ask_from(net.backends, "10.2.0.254:31000") == "inside");
  for (const char* vip : {"11.0.0.1:80", "11.0.0.2:80"}) {
    CAPTURE(vip);
    CHECK(ask_from(net.node, vip) == "inside");
    CHECK(ask_from(net.backends, vip) == "inside");
    CHECK(ask_from(net.client, vip) == "inside");  // itself
  }
}

TEST_CASE("clients reach a backend on an overlay network, which sees who called") {
  MUSTER_NEEDS_NETNS();
  Topology net;
  const auto tunnel = [](const std::string& from, const std::string& to,
                         const std::string& address) {
    return "ip link add vx0 type vxlan id 9 dstport 4789 local " + from + " remote " + to +
           " 2>&1 && ip addr add " + address + "/24 dev vx0 && ip link set vx0 up || true";
  };
  const std::string missing = net.node.shell(tunnel("10.2.0.254", "10.2.0.1", "9.0.1.1"));
  if (!missing.empty()) {
    MESSAGE("SKIPPED: no vxlan on this kernel: " << missing);
    return;
  }
  net.backends.shell(tunnel("10.2.0.1", "10.2.0.254", "9.0.1.2"));
  net.backends.shell("ip addr add 9.0.2.2/32 dev lo; ip route add 10.1.0.0/24 via 9.0.1.1");
  net.node.shell("ip route add 9.0.2.0/24 via 9.0.1.2");
  const auto server = net.serve("9.0.2.2:8080");
  Node node{net.node};
  node.add(task("1", {literal("11.0.0.1", 80)}, {"9.0.2.2:8080"}));
  CHECK(ask_from(net.client, "11.0.0.1:80") == "9.0.2.2:8080");
  const auto seen = server->last_client();
  REQUIRE(seen);
  CHECK(seen->address == ip("10.1.0.2"));
  CHECK(ask_from(net.node, "11.0.0.1:80") == "9.0.2.2:8080");
}

}  // namespace
}  // namespace muster::lb
