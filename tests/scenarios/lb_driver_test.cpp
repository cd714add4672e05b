#include <atomic>
#include <cstring>
#include <sys/socket.h>
#include <thread>

#include <doctest/doctest.h>

#include "tests/scenarios/lb_fixture.hpp"

/// What concerns one driver only, and going from one to the other.
namespace muster::lb {
namespace {

DriverConfig ranges() {
  DriverConfig config;
  config.range_v4 = Prefix::parse("11.0.0.0/8");
  config.range_v6 = Prefix::parse("fd01:c::/64");
  return config;
}

/// Why this kernel has no IPVS; empty if it has.
std::string ipvs_missing() {
  const Netns netns;
  return netns.run([] {
    const auto opened = new_driver("ipvs")->open(ranges());
    return opened ? std::string{} : opened.error().message();
  });
}
#define MUSTER_NEEDS_IPVS()                                      \
  do {                                                           \
    MUSTER_NEEDS_NETNS();                                        \
    if (const auto missing = ipvs_missing(); !missing.empty()) { \
      MESSAGE("SKIPPED: " << missing);                           \
      return;                                                    \
    }                                                            \
  } while (false)

/// Connects again and again from inside a namespace; counts what fails.
class Dialling {
 public:
  Dialling(const Netns& from, const Endpoint& to)
      : thread_{[this, &from, to] {
          from.enter();
          while (!stop_) {
            const Attempt attempt = connect_tcp(to, std::chrono::seconds{10});
            ++(attempt.error == 0 ? good_ : bad_);
            if (attempt.error != 0) last_error_ = attempt.error;
          }
        }} {}
  ~Dialling() {
    stop_ = true;
    thread_.join();
  }
  bool some_more() const {
    const long before = good_;
    return eventually([&] { return good_ > before + 20; });
  }
  long good() const { return good_; }
  long bad() const { return bad_; }
  std::string last_error() const { return std::strerror(last_error_); }

 private:
  std::atomic<bool> stop_ = false;
  std::atomic<long> good_ = 0;
  std::atomic<long> bad_ = 0;
  std::atomic<int> last_error_ = 0;
  std::thread thread_;
};

/// Both ends of one connection through a Vip.
struct Connection {
  Socket client;
  Socket server;
  bool alive() const {
    client.send("ping");
    if (server.receive() != "ping") return false;
    server.send("pong");
    return client.receive() == "pong";
  }
};
Connection connection(const Netns& from, const Endpoint& to, const Socket& listener) {
  Attempt attempt = from.run([&] { return connect_tcp(to); });
  REQUIRE(attempt.error == 0);
  return {std::move(*attempt.socket), listener.accept()};
}

Task web(int i) {
  return task(std::to_string(i), {literal("11.0.0.1", 80)},
              {"10.2.0." + std::to_string(i) + ":8080"});
}
Task ssh() {
  return task("s", {literal("11.0.0.2", 22)}, {"10.2.0.3:22"});
}
std::string services(const Netns& netns) {
  return netns.shell("ipvsadm -Sn");
}

TEST_CASE("from one driver to the other and back, no connection fails and none is cut") {
  MUSTER_NEEDS_IPVS();
  Topology net;
  const auto one = net.serve("10.2.0.1:8080");
  const auto two = net.serve("10.2.0.2:8080");
  const auto listener = net.backends.run([] { return Socket::tcp_listener(at("10.2.0.3:22")); });
  BalancerOptions options;
  options.reconcile_interval = Duration{200};
  const auto everything = [] {
    return Node::delta_of({added(web(1)), added(web(2)), added(ssh())});
  };
  {
    Node node{net.node, options, "nft"};
    node.apply(everything());
  }
  std::vector<Connection> connections;
  Dialling forwarded{net.client, at("11.0.0.1:80")};
  Dialling local{net.node, at("11.0.0.1:80")};
  for (const std::string to : {"ipvs", "nft", "ipvs"}) {
    CAPTURE(to);
    const long bad = forwarded.bad() + local.bad();
    for (const Netns* from : {&net.client, &net.node}) {
      connections.push_back(connection(*from, at("11.0.0.2:22"), listener));
    }
    CHECK(forwarded.some_more());
    Node node{net.node, options, to};
    // Before the whole state is known it is the old one that serves.
    CHECK(forwarded.some_more());
    CHECK(local.some_more());
    node.apply(everything());
    if (to == "ipvs") {
      CHECK(eventually([&] {
        return net.node.shell("nft list tables").find("ip muster\n") == std::string::npos;
      }));
      CHECK(net.node.shell("ip route show proto 109").empty());
    } else {
      CHECK(eventually([&] {
        return net.node.shell("nft list tables").find("ip muster\n") != std::string::npos;
      }));
      CHECK(forwarded.some_more());
      // IPVS stays for the sake of its old connections.
      CHECK_FALSE(services(net.node).empty());
    }
    CHECK(forwarded.some_more());
    CHECK(local.some_more());
    for (const Connection& one_of : connections) CHECK(one_of.alive());
    CHECK(node.status().driver == to);
    CHECK(node.status().healthy);
    CHECK_MESSAGE(forwarded.bad() + local.bad() == bad, forwarded.last_error()
                                                            << ", " << local.last_error());
  }
  MESSAGE("connections: " << forwarded.good() + local.good());
  CHECK(forwarded.bad() == 0);
  CHECK(local.bad() == 0);
}

TEST_CASE("with nothing left to wait for, nothing of ipvs is left behind nft") {
  MUSTER_NEEDS_IPVS();
  Topology net;
  const std::string before = net.node.shell("ip route show table local");
  {
    Node node{net.node, {}, "ipvs"};
    node.apply(Node::delta_of({added(web(1))}));
  }
  BalancerOptions options;
  options.reconcile_interval = Duration{100};
  Node node{net.node, options, "nft"};
  node.apply(Node::delta_of({added(web(1))}));
  CHECK(eventually([&] { return services(net.node).empty(); }));
  CHECK(eventually(
      [&] { return net.node.shell("nft list tables").find("muster_ipvs") == std::string::npos; }));
  CHECK(net.node.shell("ip route show table local") == before);
}

TEST_CASE("on ipvs a backend that leaves keeps its connections, and goes with the last of them") {
  MUSTER_NEEDS_IPVS();
  Topology net;
  const auto listener = net.backends.run([] { return Socket::tcp_listener(at("10.2.0.3:22")); });
  BalancerOptions options;
  options.reconcile_interval = Duration{100};
  Node node{net.node, options, "ipvs"};
  node.add(ssh());
  {
    const Connection held = connection(net.client, at("11.0.0.2:22"), listener);
    node.remove(ssh());
    CHECK(held.alive());
    CHECK(eventually(
        [&] { return services(net.node).find("-r 10.2.0.3:22 -m -w 0") != std::string::npos; }));
    net.client.run([] { CHECK(connect_tcp(at("11.0.0.2:22")).error == ECONNREFUSED); });
    CHECK(held.alive());
    // It comes back as if nothing had been.
    node.add(ssh());
    CHECK(services(net.node).find("-r 10.2.0.3:22 -m -w 1") != std::string::npos);
    node.remove(ssh());
    // A reset rather than a farewell, over which IPVS would watch for two minutes.
    const linger now{.l_onoff = 1, .l_linger = 0};
    ::setsockopt(held.client.fd(), SOL_SOCKET, SO_LINGER, &now, sizeof now);
  }
  CHECK(eventually([&] { return services(net.node).empty(); }));
}

TEST_CASE("on ipvs a backend that drains is cut off at its deadline") {
  MUSTER_NEEDS_IPVS();
  Topology net;
  const auto listener = net.backends.run([] { return Socket::tcp_listener(at("10.2.0.3:22")); });
  BalancerOptions options;
  options.reconcile_interval = Duration{100};
  options.ipvs_drain = Duration{500};
  Node node{net.node, options, "ipvs"};
  node.add(ssh());
  const Connection held = connection(net.client, at("11.0.0.2:22"), listener);
  CHECK(held.alive());
  node.remove(ssh());
  CHECK(eventually([&] { return services(net.node).empty(); }));
  CHECK(net.node.shell("nft list set ip muster_ipvs vips_tcp").find("11.0.0.2") ==
        std::string::npos);
}

TEST_CASE("on ipvs an address outside the range is this node's as long as a VIP has it") {
  MUSTER_NEEDS_IPVS();
  Topology net;
  BalancerOptions options;
  options.reconcile_interval = Duration{100};
  Node node{net.node, options, "ipvs"};
  const Task outside = task("1", {literal("10.99.0.1", 80)}, {"10.2.0.1:8080"});
  node.apply(Node::delta_of({}));
  const auto routed = [&] {
    return net.node.shell("ip route show table local 10.99.0.1").find("proto 110") !=
           std::string::npos;
  };
  CHECK_FALSE(routed());
  node.add(outside);
  CHECK(routed());
  node.remove(outside);
  CHECK(eventually([&] { return !routed(); }));
  CHECK(services(net.node).empty());
  CHECK(net.node.shell("nft list table ip muster_ipvs").find("10.99.0.1") == std::string::npos);
}

TEST_CASE("on ipvs other programs' services are left alone, and their addresses not taken") {
  MUSTER_NEEDS_IPVS();
  Topology net;
  const auto server = net.serve("10.2.0.1:8080");
  net.node.shell("ipvsadm -A -t 192.0.2.1:80 -s rr; ipvsadm -a -t 192.0.2.1:80 -r 10.2.0.9:80 -m");
  const std::string theirs = services(net.node);
  {
    Node node{net.node, {}, "ipvs"};
    node.apply(Node::delta_of(
        {added(web(1)), added(task("2", {literal("192.0.2.1", 80)}, {"10.2.0.2:8080"}))}));
    CHECK(eventually([&] {  // first the batch, then each by itself
      return net.client.run([] { return ask_tcp(at("11.0.0.1:80")); }) == "10.2.0.1:8080";
    }));
    CHECK(services(net.node).find(theirs) != std::string::npos);
    const auto vips = node.call([](Balancer& balancer) { return balancer.vips(); });
    REQUIRE(vips.size() == 2);
    CHECK(vips[1].quarantined);
    CHECK_FALSE(node.status().last_error.empty());
  }
  net.node.run([] { CHECK(cleanup().has_value()); });
  CHECK(services(net.node) == theirs);
}

TEST_CASE("ipvsadm -C is found by the next comparison with the kernel") {
  MUSTER_NEEDS_IPVS();
  Topology net;
  const auto server = net.serve("10.2.0.1:8080");
  BalancerOptions options;
  options.reconcile_interval = Duration{200};
  Node node{net.node, options, "ipvs"};
  node.add(web(1));
  for (const std::string harm :
       {"ipvsadm -C", "ipvsadm -d -t 11.0.0.1:80 -r 10.2.0.1:8080",
        "ipvsadm -e -t 11.0.0.1:80 -r 10.2.0.1:8080 -m -w 0", "ipvsadm -E -t 11.0.0.1:80 -s rr",
        "ipvsadm -A -t 11.0.0.77:80 -s rr"}) {
    CAPTURE(harm);
    const std::string right = services(net.node);
    net.node.shell(harm);
    CHECK(eventually([&] { return services(net.node) == right; }));
  }
  CHECK(node.metric("muster_lb_reconcile_repairs_total") >= 4);
}

TEST_CASE("auto takes ipvs where the kernel has it, else nft, and says so") {
  MUSTER_NEEDS_NETNS();
  const std::string missing = ipvs_missing();
  const Netns netns;
  netns.run([&] {
    const auto opened = new_driver("auto")->open(ranges());
    REQUIRE(opened.has_value());
    CHECK(opened->driver == (missing.empty() ? "ipvs" : "nft"));
    CHECK(opened->passed_over.empty() == missing.empty());
  });
  CHECK_FALSE(make_driver("bpfnft").has_value());
}

TEST_CASE("the preflight names what is missing and what would mend it, and leaves nothing behind") {
  MUSTER_NEEDS_NETNS();
  const Netns netns;
  netns.shell(
      "sysctl -qw net.ipv4.ip_forward=0; "
      "nft 'table ip filter { chain FORWARD { type filter hook forward priority 0; "
      "policy drop; }; }'");
  const std::string before = netns.shell("nft list ruleset; ip route show table all");
  for (const std::string name : {"auto", "ipvs", "nft", "pigeons"}) {
    CAPTURE(name);
    const auto findings = netns.run([&] { return check_driver(name, ranges()); });
    std::string all;
    for (const Finding& finding : findings) {
      all += finding.what + " -> " + finding.remedy + "\n";
      CHECK(finding.remedy.empty() == (finding.level == Finding::Level::good));
    }
    MESSAGE(name << ":\n" << all);
    const bool can = name == "auto" || name == "nft" || (name == "ipvs" && ipvs_missing().empty());
    CHECK((findings.at(0).level != Finding::Level::missing) == can);
    if (!can) continue;
    CHECK(all.find("net.ipv4.ip_forward=1") != std::string::npos);
    CHECK(all.find("filter FORWARD") != std::string::npos);
  }
  CHECK(netns.shell("nft list ruleset; ip route show table all") == before);
}

}  // namespace
}  // namespace muster::lb
