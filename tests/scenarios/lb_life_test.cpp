#include <csignal>
#include <sys/wait.h>
#include <unistd.h>

#include <doctest/doctest.h>

#include "tests/scenarios/lb_fixture.hpp"
#include "tests/support/driver_contract.hpp"

namespace muster::lb {
namespace {

Task backend(int i) {
  return task(std::to_string(i), {literal("11.0.0.1", 80)},
              {"10.2.0." + std::to_string(i) + ":8080"});
}

/// Without the kernel's own routes: those of link-local addresses come when they come.
std::string ruleset(const Netns& netns) {
  return netns.shell(
      "nft list ruleset; "
      "for f in -4 -6; do ip $f route show table all; done | grep -v 'proto kernel' | sort");
}

DriverConfig both_ranges() {
  DriverConfig config;
  config.range_v4 = Prefix::parse("11.0.0.0/8");
  config.range_v6 = Prefix::parse("fd01:c::/64");
  config.bpf_cgroup = bpf_cgroup();
  return config;
}

TEST_CASE("the driver keeps the drivers' contract") {
  MUSTER_NEEDS_NETNS();
  const Netns netns;
  netns.run([] {
    const auto held = new_driver();
    Driver& driver = *held;
    const auto opened = driver.open(both_ranges());
    REQUIRE_MESSAGE(opened.has_value(), opened.error().message() << ": " << driver.detail());
    MESSAGE("syn failover: " << opened->syn_failover << " " << opened->syn_failover_missing);
    DriverContract{driver}.run();
  });
}

TEST_CASE("nft reads back what it prints of our tables") {
  MUSTER_NEEDS_NETNS();
  const Netns netns;
  netns.shell("ip addr add 10.2.0.254/32 dev lo; ip addr add fd00:2::fe/128 dev lo");
  Node node{netns};
  node.allocate(allocation("web.marathon", "11.0.0.1", "fd01:c::1"));
  node.add(task("1", {named("web.marathon", 80), named("web.marathon", 80, Protocol::udp)},
                {"10.2.0.1:8080", "[fd00:2::1]:8080"}));
  VipLabel hashed = literal("11.0.0.2", 80);
  hashed.policy = {.spread = VipPolicy::Spread::source_hash, .affinity_seconds = 600};
  VipLabel sticky = literal("11.0.0.3", 80, Protocol::udp);
  sticky.policy.affinity_seconds = 30;
  node.add(task("2", {hashed, sticky}, {"10.2.0.2:8080"}));
  node.add(task("3", {hashed, sticky}, {"10.2.0.3:8080"}));
  const std::string listing = netns.shell("nft -s list ruleset");
  CHECK(listing.find("11.0.0.1 . 80") != std::string::npos);
  const Netns other;
  CHECK(other.run([&] {
    return other.shell("nft -f - <<'END'\n" + listing + "END\nnft -s list ruleset");
  }) == listing);
}

TEST_CASE("backends come and go under load without one failed connection") {
  MUSTER_NEEDS_NETNS();
  Topology net;
  std::vector<std::unique_ptr<NameServer>> servers;
  for (int i = 1; i <= 4; ++i) {
    servers.push_back(net.serve("10.2.0." + std::to_string(i) + ":8080"));
  }
  Node node{net.node};
  node.add(backend(1));
  Load forwarded{net.client, at("11.0.0.1:80")};
  Load local{net.node, at("11.0.0.1:80")};
  int changes = 0;
  for (int round = 0; round < 150; ++round) {
    for (int i = 2; i <= 4; ++i) node.add(backend(i));
    node.remove(backend(1));
    node.add(backend(1));
    for (int i = 2; i <= 4; ++i) node.remove(backend(i));
    changes += 8;
  }
  CHECK(eventually([&] { return forwarded.good() > 200 && local.good() > 200; }));
  forwarded.stop();
  local.stop();
  MESSAGE(changes << " changes, " << forwarded.good() + local.good() << " connections");
  CHECK(forwarded.bad() == 0);
  CHECK(local.bad() == 0);
  CHECK(node.metric("muster_lb_errors_total") == 0);
}

TEST_CASE("killed at any instant and started again it adopts, and no connection fails") {
  MUSTER_NEEDS_NETNS();
  Topology net;
  std::vector<std::unique_ptr<NameServer>> servers;
  for (int i = 1; i <= 4; ++i) {
    servers.push_back(net.serve("10.2.0." + std::to_string(i) + ":8080"));
  }
  {
    Node node{net.node};
    node.add(backend(1));
  }
  Load load{net.client, at("11.0.0.1:80")};
  for (int round = 0; round < 5; ++round) {
    const pid_t child = ::fork();
    REQUIRE(child >= 0);
    if (child == 0) {
      Node node{net.node};
      node.add(backend(1));
      for (;;) {
        for (int i = 2; i <= 4; ++i) node.add(backend(i));
        for (int i = 2; i <= 4; ++i) node.remove(backend(i));
      }
    }
    const long before = load.good();
    eventually([&] { return load.good() > before + 30 + 17 * round; });
    ::kill(child, SIGKILL);
    ::waitpid(child, nullptr, 0);
  }
  {
    Node node{net.node};
    std::vector<Change<Task>> all;
    for (int i = 1; i <= 4; ++i) all.push_back(added(backend(i)));
    node.apply(Node::delta_of(all));
    CHECK(node.status().applied_backends == 4);
  }
  // Nothing to do: not one element is written anew.
  const std::string before = net.node.shell("nft -s list ruleset; nft -a list tables");
  const std::string generation = "nft -nn monitor >/dev/null & sleep 0";
  Node node{net.node};
  std::vector<Change<Task>> all;
  for (int i = 1; i <= 4; ++i) all.push_back(added(backend(i)));
  node.apply(Node::delta_of(all));
  CHECK(net.node.shell("nft -s list ruleset; nft -a list tables") == before);
  CHECK(node.metric("muster_lb_applied_changes_total") == 0);
  load.stop();
  MESSAGE(load.good() << " connections");
  CHECK(load.bad() == 0);
}

TEST_CASE("a foreign flush, a deleted table, chain, element or route is mended at once") {
  MUSTER_NEEDS_NETNS();
  Topology net;
  const auto server = net.serve("10.2.0.1:8080");
  Node node{net.node};
  node.add(backend(1));
  const auto state = [&] { return net.node.shell("nft -s list ruleset; " + our_routes()); };
  const std::string right = state();
  const std::vector<std::string> by_nft{
      "nft flush ruleset",
      "nft delete table ip muster",
      "nft delete table ip6 muster",
      "nft flush chain ip muster services",
      "nft add rule ip muster guard drop",
      "nft delete element ip muster vips_tcp '{ 11.0.0.1 . 80 }'",
      "nft add element ip muster refused_tcp '{ 10.3.3.3 . 80 }'",
      "nft add element ip muster vips_tcp '{ 10.3.3.3 . 80 : 0:ffff }'",
      "nft flush map ip muster slots_tcp",
      "ip route del 11.0.0.0/8 proto 109",
      "ip route add 11.3.0.0/16 dev lo proto 109",
      "ip link set lo down; ip link set lo up"};  // the kernel forgets its IPv4 routes in silence
  const std::vector<std::string> by_ipvs{
      "nft flush ruleset",
      "nft delete table ip muster_ipvs",
      "nft delete table ip6 muster_ipvs",
      "nft flush chain ip muster_ipvs unserved",
      "nft add rule ip muster_ipvs refused drop",
      "nft delete element ip muster_ipvs vips_tcp '{ 11.0.0.1 . 80 }'",
      "nft add element ip muster_ipvs refused_tcp '{ 10.3.3.3 . 80 }'",
      "nft add element ip muster_ipvs addresses '{ 10.3.3.3 }'",
      "ipvsadm -C; nft delete table ip muster_ipvs",
      "ip route del local 11.0.0.0/8 table local proto 110",
      "ip route add local 11.3.0.0/16 dev lo proto 110",
      "ip link set lo down; ip link set lo up"};
  for (const std::string& harm : on_ipvs() ? by_ipvs : by_nft) {
    CAPTURE(harm);
    net.node.shell(harm);
    const auto began = std::chrono::steady_clock::now();
    CHECK(eventually([&] { return state() == right; }));
    const auto took = std::chrono::steady_clock::now() - began;
    MESSAGE(harm << ": mended in "
                 << std::chrono::duration_cast<std::chrono::milliseconds>(took).count() << " ms");
    net.client.run([] { CHECK(ask_tcp(at("11.0.0.1:80")) == "10.2.0.1:8080"); });
  }
  CHECK(node.metric("muster_lb_foreign_changes_total") >= 11);
  CHECK(node.status().healthy);
}

TEST_CASE("what others have in nftables is none of our business") {
  MUSTER_NEEDS_NETNS();
  Topology net;
  Node node{net.node};
  node.add(backend(1));
  net.node.shell(
      "nft 'table ip nat { chain POSTROUTING { type nat hook postrouting priority 100; }; }'; "
      "ip route add 10.50.0.0/16 dev b0");
  for (int i = 0; i < 20; ++i) {
    net.node.shell("nft add rule ip nat POSTROUTING counter");
    node.add(backend(2));
    node.remove(backend(2));
  }
  CHECK(node.metric("muster_lb_foreign_changes_total") == 0);
  CHECK(node.metric("muster_lb_reconcile_repairs_total") == 0);
}

TEST_CASE("an older schema is replaced without a failed connection") {
  MUSTER_NEEDS_NETNS();
  Topology net;
  const auto server = net.serve("10.2.0.1:8080");
  {
    BalancerOptions options;
    options.vip_range_v4 = "11.0.0.0/16";
    Node old{net.node, options};
    old.add(backend(1));
  }
  Load load{net.client, at("11.0.0.1:80")};
  Node node{net.node};
  CHECK(eventually([&] { return load.good() > 20; }));
  const auto has = [&](const std::string& range) {
    const std::string table = net.node.shell("nft list table ip " + our_table());
    return table.find((on_ipvs() ? "schema_2_" : "range ") + range) != std::string::npos;
  };
  CHECK(has("11.0.0.0/16"));
  node.add(backend(1));
  CHECK(has("11.0.0.0/8"));
  const long good = load.good();
  CHECK(eventually([&] { return load.good() > good + 20; }));
  load.stop();
  CHECK(load.bad() == 0);
}

TEST_CASE("connections are counted for each backend") {
  MUSTER_NEEDS_NETNS();
  Topology net;
  const auto server = net.serve("10.2.0.1:8080");
  BalancerOptions options;
  options.reconcile_interval = Duration{100};
  Node node{net.node, options};
  node.add(backend(1));
  net.client.run([] {
    for (int i = 0; i < 7; ++i) ask_tcp(at("11.0.0.1:80"));
  });
  CHECK(eventually([&] {
    const auto vips = node.call([](Balancer& balancer) { return balancer.vips(); });
    return vips.size() == 1 && vips[0].backends.size() == 1 && vips[0].backends[0].connections == 7;
  }));
}

TEST_CASE("cleanup removes all that is ours and nothing else") {
  MUSTER_NEEDS_NETNS();
  Topology net;
  net.node.shell(
      "nft 'table ip nat { chain POSTROUTING { type nat hook postrouting priority 100; }; }'; "
      "ip route add 10.50.0.0/16 dev b0 proto 99");
  const std::string before = ruleset(net.node);
  {
    Node node{net.node};
    node.allocate(allocation("web.marathon", "11.0.0.1", "fd01:c::1"));
    node.add(task("1", {named("web.marathon", 80)}, {"10.2.0.1:8080", "[fd00:2::1]:8080"}));
    CHECK(ruleset(net.node) != before);
  }
  const std::string folder =
      on_bpf() ? net.node.run([] { return *bpf::pin_folder("muster"); }) : std::string{};
  net.node.run([&folder] {
    const auto removed = cleanup();
    REQUIRE(removed.has_value());
    const std::string mark = on_ipvs() ? "110" : "109";
    std::vector<std::string> expected{"route 11.0.0.0/8 (protocol " + mark + ")",
                                      "route fd01:c::/64 (protocol " + mark + ")"};
    if (on_ipvs()) expected.emplace_back("IPVS services: 2");
    if (on_bpf()) expected.insert(expected.begin(), "BPF programs and maps in " + folder);
    expected.push_back("nftables table ip " + our_table());
    expected.push_back("nftables table ip6 " + our_table());
    CHECK(*removed == expected);
    CHECK(cleanup()->empty());
  });
  CHECK(ruleset(net.node) == before);
}

TEST_CASE("without the privilege starting says which one is missing") {
  MUSTER_NEEDS_NETNS();
  // A user namespace would give the privilege back; so this runs as nobody, in a child.
  const pid_t child = ::fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    if (::setgid(65534) != 0 || ::setuid(65534) != 0) ::_exit(3);
    const auto opened = new_driver()->open(both_ranges());
    ::_exit(!opened && opened.error() == Errc::not_permitted ? 0 : 1);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  CHECK(WIFEXITED(status));
  CHECK(WEXITSTATUS(status) == 0);
}

}  // namespace
}  // namespace muster::lb
