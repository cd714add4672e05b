#include <cerrno>
#include <map>

#include <doctest/doctest.h>

#include "tests/scenarios/lb_fixture.hpp"

namespace muster::lb {
namespace {

/// Who answers `count` connections.
std::map<std::string, int> answers(const Netns& from, const Endpoint& to, int count) {
  return from.run([&] {
    std::map<std::string, int> names;
    for (int i = 0; i < count; ++i) ++names[ask_tcp(to)];
    return names;
  });
}

TEST_CASE("a forwarded and a local client reach both backends, and backends see who called") {
  MUSTER_NEEDS_NETNS();
  Topology net;
  const auto one = net.serve("10.2.0.1:8080");
  const auto two = net.serve("10.2.0.2:8080");
  Node node{net.node};
  node.allocate(allocation("web.marathon", "11.0.0.1"));
  node.add(task("1", {named("web.marathon", 80)}, {"10.2.0.1:8080"}));
  node.add(task("2", {named("web.marathon", 80)}, {"10.2.0.2:8080"}));

  for (const Netns* from : {&net.client, &net.node}) {
    const auto names = answers(*from, at("11.0.0.1:80"), 60);
    CHECK(names.size() == 2);
    CHECK(names.contains("10.2.0.1:8080"));
    CHECK(names.contains("10.2.0.2:8080"));
    const IpAddress expected = from == &net.client ? ip("10.1.0.2") : ip("10.2.0.254");
    // The node's own address is that of either side, whichever it found first.
    const auto seen = one->last_client();
    REQUIRE(seen);
    CHECK((seen->address == expected || (from == &net.node && seen->address == ip("10.1.0.1"))));
  }
  CHECK(net.node.shell(our_routes()).find("11.0.0.0/8 dev lo") != std::string::npos);
}

TEST_CASE("four backends get their share, at random and in turn") {
  MUSTER_NEEDS_NETNS();
  for (const Policy policy : {Policy::random, Policy::round_robin}) {
    CAPTURE(to_string(policy));
    Topology net;
    std::vector<std::unique_ptr<NameServer>> servers;
    BalancerOptions options;
    options.policy = policy;
    Node node{net.node, options};
    for (int i = 1; i <= 4; ++i) {
      const std::string endpoint = "10.2.0." + std::to_string(i) + ":8080";
      servers.push_back(net.serve(endpoint));
      node.add(task(std::to_string(i), {literal("11.0.0.1", 80)}, {endpoint}));
    }
    const int count = 400;
    double chi_square = 0;
    for (const auto& [name, hits] : answers(net.client, at("11.0.0.1:80"), count)) {
      CAPTURE(name);
      CHECK(name.starts_with("10.2.0."));
      if (policy == Policy::round_robin) CHECK(hits == count / 4);
      chi_square += (hits - count / 4.0) * (hits - count / 4.0) / (count / 4.0);
    }
    CHECK(chi_square < 27);  // three degrees of freedom: one honest run in 170,000 is above
  }
}

TEST_CASE("what has no backend refuses at once") {
  MUSTER_NEEDS_NETNS();
  Topology net;
  // The node would have somewhere to send strangers, and must not.
  net.node.shell("ip route add default via 10.2.0.1");
  Node node{net.node};
  node.allocate(allocation("empty.marathon", "11.0.0.9", "fd01:c::9"));
  Task staging = task("1",
                      {named("empty.marathon", 80), literal("10.99.0.1", 80),
                       named("empty.marathon", 80, Protocol::udp),
                       literal("10.99.0.1", 80, Protocol::udp), literal("fd00:99::1", 80)},
                      {"10.2.0.1:8080", "[fd00:2::1]:8080"});
  staging.state = TaskState::staging;
  node.add(staging);
  net.node.shell("ip -6 route add default via fd00:2::1");
  // The first IPv6 packet waits for its neighbour to be found: not one of those that are timed.
  net.client.run([] { connect_tcp(at("[fd00:1::1]:9"), std::chrono::seconds{5}); });

  for (const Netns* from : {&net.client, &net.node}) {
    const std::string_view which = from == &net.client ? "forwarded" : "local";
    CAPTURE(which);
    for (const std::string_view to : {"11.0.0.9:80", "11.0.0.9:81", "11.200.0.1:80", "10.99.0.1:80",
                                      "[fd01:c::9]:80", "[fd01:c::8]:80", "[fd00:99::1]:80"}) {
      CAPTURE(to);
      const auto [error, repeats] = from->run([&] {
        const Attempt attempt = connect_tcp(at(to));
        return std::pair{attempt.error, attempt.repeats};
      });
      CHECK(error == ECONNREFUSED);
      CHECK(repeats == 0);  // it was refused, not forgotten
    }
    for (const std::string_view to : {"11.0.0.9:80", "11.0.0.9:81", "10.99.0.1:80"}) {
      CAPTURE(to);
      const int error = from->run([&] {
        const Socket socket = connect_udp(at(to));
        socket.send("?");
        socket.receive(std::chrono::seconds{5});
        int pending = 0;
        // The refusal ended receive(), or is still waiting.
        return ::send(socket.fd(), "?", 1, 0) < 0 ? errno : pending;
      });
      // EPERM is how the kernel tells a local sender that its packet was refused on the way out.
      CHECK((error == ECONNREFUSED || error == EPERM || error == 0));
    }
    CHECK(net.node.shell("conntrack -L -p udp 2>/dev/null | grep -c 11.0.0.9 || true") == "0\n");
  }
}

TEST_CASE("neither a listener of the node nor another program's translation takes a VIP's port") {
  MUSTER_NEEDS_NETNS();
  Topology net;
  const auto server = net.serve("10.2.0.1:8080");
  const auto thief = net.serve("10.2.0.2:9999");
  const auto everywhere =
      net.node.run([] { return std::make_unique<NameServer>(at("0.0.0.0:81"), "the node"); });
  // As Docker does for a container with host port 80.
  net.node.shell(
      "nft 'table ip nat { chain docker { tcp dport 80 dnat to 10.2.0.2:9999; }; "
      "chain PREROUTING { type nat hook prerouting priority -100; "
      "fib daddr type local jump docker; }; "
      "chain OUTPUT { type nat hook output priority -100; fib daddr type local jump docker; }; }'");
  Node node{net.node};
  node.add(task("1", {literal("11.0.0.1", 80), literal("10.99.0.1", 80)}, {"10.2.0.1:8080"}));
  for (const Netns* from : {&net.client, &net.node}) {
    CAPTURE((from == &net.client ? "forwarded" : "local"));
    from->run([&] {
      CHECK(ask_tcp(at("11.0.0.1:80")) == "10.2.0.1:8080");
      CHECK(connect_tcp(at("11.0.0.1:81")).error == ECONNREFUSED);
      if (from == &net.client || on_ipvs() ||
          on_bpf()) {  // by nft the node itself has no way there
        CHECK(ask_tcp(at("10.99.0.1:80")) == "10.2.0.1:8080");
      }
      if (on_ipvs()) CHECK(connect_tcp(at("10.99.0.1:81")).error == ECONNREFUSED);
    });
  }
  net.client.run([] { CHECK(ask_tcp(at("10.1.0.1:80")) == "10.2.0.2:9999"); });
}

TEST_CASE("a VIP outside the range is balanced for forwarded and local clients") {
  MUSTER_NEEDS_NETNS();
  Topology net;
  net.node.shell("ip route add default via 10.2.0.1");
  const auto server = net.serve("10.2.0.1:8080");
  Node node{net.node};
  node.add(task("1", {literal("10.99.0.1", 80)}, {"10.2.0.1:8080"}));
  for (const Netns* from : {&net.client, &net.node}) {
    CHECK(answers(*from, at("10.99.0.1:80"), 3) ==
          std::map<std::string, int>{{"10.2.0.1:8080", 3}});
  }
}

TEST_CASE("udp and IPv6 are balanced for forwarded and local clients") {
  MUSTER_NEEDS_NETNS();
  Topology net;
  const auto v4 = net.serve("10.2.0.1:5353");
  const auto v6 = net.serve("[fd00:2::1]:5353");
  Node node{net.node};
  node.allocate(allocation("dns.marathon", "11.0.0.1", "fd01:c::1"));
  node.add(task("1", {named("dns.marathon", 53), named("dns.marathon", 53, Protocol::udp)},
                {"10.2.0.1:5353", "[fd00:2::1]:5353"}));
  for (const Netns* from : {&net.client, &net.node}) {
    CAPTURE((from == &net.client ? "forwarded" : "local"));
    from->run([] {
      CHECK(ask_tcp(at("11.0.0.1:53")) == "10.2.0.1:5353");
      CHECK(ask_udp(at("11.0.0.1:53")) == "10.2.0.1:5353");
      CHECK(ask_tcp(at("[fd01:c::1]:53")) == "[fd00:2::1]:5353");
      CHECK(ask_udp(at("[fd01:c::1]:53")) == "[fd00:2::1]:5353");
    });
  }
  CHECK(net.node.shell(our_routes("-6")).find("fd01:c::/64 dev lo") != std::string::npos);
}

TEST_CASE("a backend that dials its own VIP reaches itself") {
  MUSTER_NEEDS_NETNS();
  Topology net;
  const auto server =
      net.client.run([] { return std::make_unique<NameServer>(at("10.1.0.2:8080"), "itself"); });
  BalancerOptions options;
  options.node_v4 = ip("10.2.0.254");
  Node node{net.node, options};
  Task local = task("1", {literal("11.0.0.1", 80)}, {"10.1.0.2:8080"});
  local.agent_addresses = {ip("10.2.0.254")};
  node.add(local);
  net.client.run([] { CHECK(ask_tcp(at("11.0.0.1:80")) == "itself"); });
  // The node itself, and another machine, still show who they are.
  net.node.run([] { CHECK(ask_tcp(at("11.0.0.1:80")) == "itself"); });
  net.backends.run([] { CHECK(ask_tcp(at("11.0.0.1:80")) == "itself"); });
  CHECK(server->last_client()->address == ip("10.2.0.1"));
}

TEST_CASE("a container reaches another on the same bridge, whose answers no rule sees") {
  MUSTER_NEEDS_NETNS();
  Netns node_net;
  Netns first;
  Netns second;
  connect({first, "eth0", "172.17.0.2/16"}, {node_net, "v1", ""});
  connect({second, "eth0", "172.17.0.3/16"}, {node_net, "v2", ""});
  node_net.shell(
      "ip link add br0 type bridge && ip link set v1 master br0 && ip link set v2 master br0 && "
      "ip addr add 172.17.0.1/16 dev br0 && ip link set br0 up && "
      "sysctl -qw net.ipv4.ip_forward=1; "
      "sysctl -qw net.bridge.bridge-nf-call-iptables=0 2>/dev/null || true");
  for (const Netns* container : {&first, &second}) {
    container->shell("ip route add default via 172.17.0.1");
  }
  const auto server =
      second.run([] { return std::make_unique<NameServer>(at("172.17.0.3:80"), "neighbour"); });
  Node node{node_net};
  Task local = task("1", {literal("11.0.0.1", 80)}, {"172.17.0.3:80"});
  local.agent_addresses = {ip("172.17.0.1")};
  node.add(local);
  first.run([] { CHECK(ask_tcp(at("11.0.0.1:80")) == "neighbour"); });
  second.run([] { CHECK(ask_tcp(at("11.0.0.1:80")) == "neighbour"); });
  node_net.run([] { CHECK(ask_tcp(at("11.0.0.1:80")) == "neighbour"); });
}

TEST_CASE("a dead backend costs one retransmission, not the connection") {
  MUSTER_NEEDS_NETNS();
  MUSTER_EXCEPT_IPVS("no SYN failover");
  Topology net;
  const auto alive = net.serve("10.2.0.1:8080");
  net.backends.shell(
      "nft 'table ip dead { chain in { type filter hook input priority 0; "
      "ip daddr 10.2.0.2 drop; }; }'");
  BalancerOptions options;
  options.policy = Policy::round_robin;  // so that half of the first attempts are unlucky
  Node node{net.node, options};
  node.add(task("1", {literal("11.0.0.1", 80)}, {"10.2.0.1:8080"}));
  node.add(task("2", {literal("11.0.0.1", 80)}, {"10.2.0.2:8080"}));
  net.client.run([] {
    for (int i = 0; i < 4; ++i) {
      const Attempt attempt = connect_tcp(at("11.0.0.1:80"), std::chrono::seconds{15});
      CHECK(attempt.error == 0);
      MESSAGE("connect took " << attempt.took.count() / 1000 << " ms");
    }
  });
}

TEST_CASE("a backend that refuses costs one retransmission, not the connection") {
  MUSTER_NEEDS_NETNS();
  MUSTER_EXCEPT_IPVS("no SYN failover");
  Topology net;
  const auto alive = net.serve("10.2.0.1:8080");  // nobody listens on 10.2.0.2
  BalancerOptions options;
  options.policy = Policy::round_robin;
  Node node{net.node, options};
  node.allocate(allocation("web.marathon", "11.0.0.1", "fd01:c::1"));
  const auto alive6 = net.serve("[fd00:2::1]:8080");
  node.add(task("1", {named("web.marathon", 80)}, {"10.2.0.1:8080", "[fd00:2::1]:8080"}));
  node.add(task("2", {named("web.marathon", 80)}, {"10.2.0.2:8080", "[fd00:2::2]:8080"}));
  for (const Netns* from : {&net.client, &net.node}) {
    for (const char* to : {"11.0.0.1:80", "[fd01:c::1]:80"}) {
      CAPTURE(to);
      from->run([&] {
        for (int i = 0; i < 4; ++i) {
          CHECK(connect_tcp(at(to), std::chrono::seconds{15}).error == 0);
        }
      });
    }
  }
}

TEST_CASE("a backend on this very node that refuses a container costs one retransmission") {
  MUSTER_NEEDS_NETNS();
  MUSTER_EXCEPT_IPVS("no SYN failover");
  Topology net;
  const auto alive = net.serve("10.2.0.1:8080");
  const auto alive6 = net.serve("[fd00:2::1]:8080");
  BalancerOptions options;
  options.policy = Policy::round_robin;  // so that half of the first attempts are unlucky
  Node node{net.node, options};
  node.allocate(allocation("web.marathon", "11.0.0.1", "fd01:c::1"));
  node.add(task("1", {named("web.marathon", 80)}, {"10.2.0.1:8080", "[fd00:2::1]:8080"}));
  // Nobody listens there: the node's own kernel says so, on no way that packets come in by.
  node.add(task("2", {named("web.marathon", 80)}, {"10.2.0.254:8080", "[fd00:2::fe]:8080"}));
  for (const Netns* from : {&net.client, &net.node}) {
    for (const char* to : {"11.0.0.1:80", "[fd01:c::1]:80"}) {
      CAPTURE(to);
      from->run([&] {
        for (int i = 0; i < 4; ++i) {
          CHECK(connect_tcp(at(to), std::chrono::seconds{15}).error == 0);
        }
      });
    }
  }
}

TEST_CASE("where there is nobody else to ask, a refusal is passed on at once") {
  MUSTER_NEEDS_NETNS();
  Topology net;
  Node node{net.node};
  node.add(task("1", {literal("11.0.0.1", 80)}, {"10.2.0.2:8080"}));  // nobody listens there
  net.client.run([] {
    const Attempt attempt = connect_tcp(at("11.0.0.1:80"), std::chrono::seconds{15});
    CHECK(attempt.error == ECONNREFUSED);
    CHECK(attempt.repeats == 0);
  });
  // And where all refuse, a client is told so after its one more try.
  node.add(task("2", {literal("11.0.0.1", 80)}, {"10.2.0.3:8080"}));
  net.client.run([] {
    CHECK(connect_tcp(at("11.0.0.1:80"), std::chrono::seconds{15}).error == ECONNREFUSED);
  });
}

TEST_CASE("connections through a VIP keep the system's own timeouts once they stand") {
  MUSTER_NEEDS_NETNS();
  Topology net;
  net.node.shell("sysctl -qw net.netfilter.nf_conntrack_tcp_timeout_established=54321");
  const auto server = Socket::tcp_listener(at("127.0.0.1:1"));  // never used: keeps port 1 honest
  const auto listener = net.backends.run([] { return Socket::tcp_listener(at("10.2.0.1:8080")); });
  Node node{net.node};
  node.add(task("1", {literal("11.0.0.1", 80)}, {"10.2.0.1:8080"}));
  const auto client = net.client.run([] { return connect_tcp(at("11.0.0.1:80")); });
  REQUIRE(client.error == 0);
  const std::string entry = net.node.shell("conntrack -L -p tcp --orig-dst 11.0.0.1 2>/dev/null");
  CAPTURE(entry);
  const auto seconds = std::stol(entry.substr(entry.find(" 6 ") + 3));
  CHECK(seconds > 54000);
  CHECK(seconds <= 54321);
}

TEST_CASE("a udp client that keeps its socket is moved off a backend that left") {
  MUSTER_NEEDS_NETNS();
  Topology net;
  const auto one = net.serve("10.2.0.1:53");
  const auto two = net.serve("10.2.0.2:53");
  Node node{net.node};
  const Task first = task("1", {literal("11.0.0.1", 53, Protocol::udp)}, {"10.2.0.1:53"});
  const Task second = task("2", {literal("11.0.0.1", 53, Protocol::udp)}, {"10.2.0.2:53"});
  node.add(first);
  const Socket client = net.client.run([] { return connect_udp(at("11.0.0.1:53")); });
  CHECK(ask(client) == "10.2.0.1:53");
  node.add(second);
  CHECK(ask(client) == "10.2.0.1:53");  // a flow stays where it is while it can
  node.remove(first);
  CHECK(eventually([&] { return ask(client) == "10.2.0.2:53"; }));
  // IPVS forgets the flow together with the backend.
  if (!on_ipvs()) {
    CHECK(eventually([&] { return node.metric("muster_lb_udp_flows_flushed_total") >= 1; }));
  }
}

TEST_CASE("a udp client that was there before the VIP is served as soon as there is a backend") {
  MUSTER_NEEDS_NETNS();
  Topology net;
  const auto server = net.serve("10.2.0.1:53");
  for (const char* vip : {"11.0.0.1:53", "10.99.0.1:53"}) {
    CAPTURE(vip);
    net.node.shell("ip route replace default via 10.2.0.4");
    Node node{net.node};
    node.apply(Node::delta_of({}));
    // Outside the range nothing refuses yet: the flow is on its way to wherever 10.99.0.1 is.
    const Socket client = net.client.run([&] { return connect_udp(at(vip)); });
    client.send("early");
    client.receive(std::chrono::milliseconds{100});
    client.send("early");
    node.add(task("1", {VipLabel{at(vip).address, at(vip).port, Protocol::udp}}, {"10.2.0.1:53"}));
    CHECK(eventually([&] { return ask(client, std::chrono::milliseconds{200}) == "10.2.0.1:53"; }));
  }
}

}  // namespace
}  // namespace muster::lb
