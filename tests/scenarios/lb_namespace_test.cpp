#include <cerrno>
#include <optional>
#include <string>

#include <doctest/doctest.h>

#include "tests/scenarios/lb_namespace_fixture.hpp"

/// Containers whose network namespaces bypass the node's: macvlan here, as ipvlan and SR-IOV do.
namespace muster::lb {
namespace {

Task web(int i) {
  const std::string last = std::to_string(i);
  return task(last, {literal("11.0.0.1", 80)}, {"10.2.0." + last + ":8080"});
}

TEST_CASE("a container that bypasses the node reaches VIPs once a file names its namespace") {
  MUSTER_NEEDS_NETNS();
  const Bypass net;
  const Netns container;
  MUSTER_ATTACH(net, container);
  const Folder folder;
  const auto v4 = net.serve("10.2.0.1:8080");
  const auto v6 = net.serve("[fd00:2::1]:8080");
  Node node{net.node, folder.options()};
  node.allocate(allocation("web.marathon", "11.0.0.1", "fd01:c::1"));
  node.add(task("1", {named("web.marathon", 80), named("web.marathon", 80, Protocol::udp)},
                {"10.2.0.1:8080", "[fd00:2::1]:8080"}));
  CHECK(tcp_from(container, "11.0.0.1:80").starts_with("error"));
  folder.name("c1", container.path());
  CHECK(eventually([&] { return tcp_from(container, "11.0.0.1:80") == "10.2.0.1:8080"; }));
  CHECK(eventually([&] { return tcp_from(container, "[fd01:c::1]:80") == "[fd00:2::1]:8080"; }));
  CHECK(udp_from(container, "11.0.0.1:80") == "10.2.0.1:8080");
  CHECK(udp_from(container, "[fd01:c::1]:80") == "[fd00:2::1]:8080");
  const auto seen = v4->last_client();
  REQUIRE(seen);
  CHECK(seen->address == ip("10.2.0.9"));
  CHECK(container.run([] { return connect_tcp(at("11.0.0.1:81")).error; }) == ECONNREFUSED);
  CHECK(served(node) == 1);
  CHECK(node.metric("muster_lb_errors_total") == 0);
}

TEST_CASE("in a served namespace backends come and go without one failed connection") {
  MUSTER_NEEDS_NETNS();
  const Bypass net;
  const Netns container;
  MUSTER_ATTACH(net, container);
  const Folder folder;
  std::vector<std::unique_ptr<NameServer>> servers;
  for (int i = 1; i <= 4; ++i) {
    servers.push_back(net.serve("10.2.0." + std::to_string(i) + ":8080"));
  }
  auto node = std::make_unique<Node>(net.node, folder.options());
  node->add(web(1));
  folder.name("c1", container.path());
  REQUIRE(eventually([&] { return !tcp_from(container, "11.0.0.1:80").starts_with("error"); }));
  Load load{container, at("11.0.0.1:80")};
  for (int round = 0; round < 100; ++round) {
    for (int i = 2; i <= 4; ++i) node->add(web(i));
    node->remove(web(1));
    node->add(web(1));
    for (int i = 2; i <= 4; ++i) node->remove(web(i));
  }
  const long before = load.good();
  CHECK(eventually([&] { return load.good() > before + 100; }));
  // A daemon that ends takes nothing away, and the next one goes on with what it finds.
  node.reset();
  const long without = load.good();
  CHECK(eventually([&] { return load.good() > without + 50; }));
  node = std::make_unique<Node>(net.node, folder.options());
  node->apply(Node::delta_of({added(web(1)), added(web(2))}));
  CHECK(eventually([&] { return served(*node) == 1; }));
  node->remove(web(1));
  CHECK(eventually([&] {
    return container.shell("nft list map ip muster slots_tcp").find("10.2.0.1") ==
           std::string::npos;
  }));
  const long after = load.good();
  CHECK(eventually([&] { return load.good() > after + 50; }));
  load.stop();
  CHECK(load.bad() == 0);
}

TEST_CASE("what somebody takes away in a served namespace is put back") {
  MUSTER_NEEDS_NETNS();
  const Bypass net;
  const Netns container;
  MUSTER_ATTACH(net, container);
  const Folder folder;
  const auto server = net.serve("10.2.0.1:8080");
  Node node{net.node, folder.options()};
  node.add(web(1));
  folder.name("c1", container.path());
  const auto answers = [&] { return tcp_from(container, "11.0.0.1:80") == "10.2.0.1:8080"; };
  REQUIRE(eventually(answers));
  container.shell("nft flush ruleset");
  CHECK(eventually(answers));
  container.shell("ip route del 11.0.0.0/8");
  CHECK(eventually(answers));
  container.shell(
      "nft delete element ip muster slots_tcp "
      "'{ 11.0.0.1 . 80 . 0 }' 2>/dev/null || nft flush chain ip muster services_tcp "
      "2>/dev/null || nft flush ruleset");
  CHECK(eventually(answers));
  CHECK(net.node.shell("nft list table ip " + our_table()).find("11.0.0.1") != std::string::npos);
}

TEST_CASE(
    "a dead backend costs a client in a served namespace one second, and is ejected for all") {
  MUSTER_NEEDS_NETNS();
  const Bypass net;
  const Netns container;
  MUSTER_ATTACH(net, container);
  const Folder folder;
  const auto server = net.serve("10.2.0.1:8080");
  net.backends.shell(
      "nft 'table ip dead { chain in { type filter hook prerouting priority -400; ip daddr "
      "10.2.0.2 drop; }; }'");
  Node node{net.node, folder.options()};
  node.add(web(1));
  node.add(web(2));
  folder.name("c1", container.path());
  REQUIRE(eventually([&] { return served(node) == 1; }));
  CHECK(eventually([&] {
    const auto attempt = container.run(
        [] { return connect_tcp(at("11.0.0.1:80"), std::chrono::seconds{10}).error; });
    return attempt == 0 && node.metric("muster_lb_ejected_backends") == 1;
  }));
}

TEST_CASE("udp clients in a served namespace are moved off a backend that left") {
  MUSTER_NEEDS_NETNS();
  const Bypass net;
  const Netns container;
  MUSTER_ATTACH(net, container);
  const Folder folder;
  const auto one = net.serve("10.2.0.1:53");
  const auto two = net.serve("10.2.0.2:53");
  const Task first = task("1", {literal("11.0.0.1", 53, Protocol::udp)}, {"10.2.0.1:53"});
  const Task second = task("2", {literal("11.0.0.1", 53, Protocol::udp)}, {"10.2.0.2:53"});
  Node node{net.node, folder.options()};
  node.add(first);
  folder.name("c1", container.path());
  REQUIRE(eventually([&] { return !container.shell("ip route show proto 109").empty(); }));
  const Socket client = container.run([] { return connect_udp(at("11.0.0.1:53")); });
  CHECK(ask(client) == "10.2.0.1:53");
  node.apply(Node::delta_of({added(second), removed(first)}));
  CHECK(eventually([&] { return ask(client) == "10.2.0.2:53"; }));
}

TEST_CASE(
    "connections in served namespaces are counted with the node's own, and stay when they go") {
  MUSTER_NEEDS_NETNS();
  const Bypass net;
  const Netns container;
  MUSTER_ATTACH(net, container);
  const Netns idle;
  const Folder folder;
  const auto server = net.serve("10.2.0.1:8080");
  BalancerOptions options = folder.options();
  options.reconcile_interval = Duration{300};
  Node node{net.node, options};
  node.add(web(1));
  folder.name("c1", container.path());
  folder.name("idle", idle.path());
  const auto connect_from = [](const Netns& from, int times) {
    for (int i = 0; i < times; ++i) REQUIRE(tcp_from(from, "11.0.0.1:80") == "10.2.0.1:8080");
  };
  const auto counted = [&] {
    const auto vips = node.call([](Balancer& balancer) { return balancer.vips(); });
    return vips.size() == 1 && vips[0].backends.size() == 1 ? vips[0].backends[0].connections : 0;
  };
  REQUIRE(eventually([&] { return served(node) == 2; }));
  REQUIRE(eventually([&] { return !container.shell("ip route show proto 109").empty(); }));
  connect_from(net.node, 3);
  connect_from(container, 4);
  CHECK(eventually([&] { return counted() == 7; }));
  connect_from(container, 1);
  CHECK(eventually([&] { return counted() == 8; }));
  // Somebody empties the table, and the daemon builds it anew: what it counts begins at 0.
  container.shell("nft flush ruleset");
  REQUIRE(eventually([&] {
    return container.shell("nft list ruleset").find(": 10.2.0.1 . 8080") != std::string::npos;
  }));
  connect_from(container, 1);
  CHECK(eventually([&] { return counted() == 9; }));
  // What was opened just before it goes counts as well.
  connect_from(container, 5);
  folder.remove("c1");
  REQUIRE(eventually([&] { return served(node) == 1; }));
  CHECK(eventually([&] { return counted() == 14; }));
  connect_from(net.node, 1);
  CHECK(eventually([&] { return counted() == 15; }));
}

TEST_CASE("a namespace whose file goes is let go of, and dies") {
  MUSTER_NEEDS_NETNS();
  const Bypass net;
  std::optional<Netns> container{std::in_place};
  connect({net.node, "peer0", "10.9.0.1/24"}, {*container, "eth9", "10.9.0.2/24"});
  const Folder folder;
  Node node{net.node, folder.options()};
  node.add(web(1));
  folder.name("c1", container->path());
  REQUIRE(eventually([&] { return served(node) == 1; }));
  REQUIRE(eventually(
      [&] { return container->shell("nft list ruleset").find("11.0.0.1") != std::string::npos; }));
  folder.remove("c1");
  CHECK(eventually([&] { return served(node) == 0; }));
  // What still lives is left as it was.
  CHECK(eventually(
      [&] { return container->shell("nft list ruleset; ip route show proto 109").empty(); }));
  folder.name("c2", container->path());
  REQUIRE(eventually([&] { return served(node) == 1; }));
  folder.remove("c2");
  container.reset();
  const auto began = std::chrono::steady_clock::now();
  CHECK(
      eventually([&] { return net.node.shell("ip link show peer0 2>/dev/null || true").empty(); }));
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - began;
  MESSAGE("the veth peer was gone after " << took.count() << " s");
}

TEST_CASE("files that name nothing good cost the others nothing, and are said") {
  MUSTER_NEEDS_NETNS();
  const Bypass net;
  const Netns container;
  const Netns other;
  MUSTER_ATTACH(net, container);
  const Folder folder;
  const auto server = net.serve("10.2.0.1:8080");
  for (int i = 0; i < 300; ++i) folder.name("junk" + std::to_string(i), "/dev/null");
  folder.name("own", net.node.path());
  folder.name("twice", container.path());
  folder.name("c1", container.path());
  folder.name("other", other.path());
  Node node{net.node, folder.options()};
  node.add(web(1));
  CHECK(eventually([&] { return tcp_from(container, "11.0.0.1:80") == "10.2.0.1:8080"; }));
  CHECK(eventually([&] { return served(node) == 2; }));
  CHECK(eventually([&] { return !node.status().namespaces->trouble.empty(); }));
  CHECK(node.status().healthy);
  // The one that it was named by first goes, the other name stays.
  folder.remove("c1");
  folder.remove("other");
  CHECK(eventually([&] { return served(node) == 1; }));
  CHECK(tcp_from(container, "11.0.0.1:80") == "10.2.0.1:8080");
  // A file that comes to lead elsewhere.
  folder.name("twice", other.path());
  CHECK(eventually([&] {
    return container.shell("nft list ruleset").empty() &&
           other.shell("nft list ruleset").find("11.0.0.1") != std::string::npos;
  }));
}

TEST_CASE("cleanup takes everything out of the namespaces that are named") {
  MUSTER_NEEDS_NETNS();
  const Bypass net;
  const Netns container;
  const Folder folder;
  container.shell("ip addr add 10.9.0.1/32 dev lo");
  folder.name("c1", container.path());
  {
    Node node{net.node, folder.options()};
    node.add(web(1));
    REQUIRE(eventually([&] {
      return container.shell("ip route show proto 109; nft list ruleset").find("11.0.0.0/8") !=
             std::string::npos;
    }));
  }
  const auto removed = net.node.run([&] { return cleanup("muster", {folder.path()}, "/nowhere"); });
  REQUIRE(removed.has_value());
  CHECK(container.shell("ip route show proto 109; nft list ruleset").empty());
  CHECK(net.node.shell("nft list ruleset").empty());
}

TEST_CASE("many namespaces are served, and a change reaches them all") {
  MUSTER_NEEDS_NETNS();
  const Bypass net;
  const Folder folder;
  constexpr std::size_t kMany = 20;
  std::vector<Netns> containers(kMany);
  for (std::size_t i = 0; i < kMany; ++i) {
    folder.name("c" + std::to_string(i), containers[i].path());
  }
  Node node{net.node, folder.options()};
  std::vector<Change<Task>> tasks;
  for (int i = 1; i <= 200; ++i) {
    tasks.push_back(added(
        task(std::to_string(i), {literal("11.0.1." + std::to_string(i), 80)}, {"10.2.0.1:8080"})));
  }
  node.apply(Node::delta_of(std::move(tasks)));
  CHECK(eventually([&] { return served(node) == kMany; }));
  node.add(web(3));
  for (const Netns& container : containers) {
    CHECK(eventually([&] {
      return container.shell("nft list map ip muster slots_tcp").find("10.2.0.3") !=
             std::string::npos;
    }));
  }
}

}  // namespace
}  // namespace muster::lb
