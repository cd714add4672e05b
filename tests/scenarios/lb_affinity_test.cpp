#include <map>
#include <set>
#include <string>

#include <doctest/doctest.h>

#include "tests/scenarios/lb_policy_fixture.hpp"

/// Clients that stay with their backend.
namespace muster::lb {
namespace {

/// Clients by the dozen: the source address is what counts.
void add_clients(const Topology& net) {
  for (int i = 3; i <= 30; ++i) {
    net.client.shell("ip addr add 10.1.0." + std::to_string(i) + "/24 dev eth0");
  }
}

TEST_CASE("by source hash a client stays with its backend, and only who must moves") {
  MUSTER_NEEDS_NETNS();
  Topology net;
  const auto servers = serve_all(net);
  add_clients(net);
  Node node{net.node};
  node.allocate(allocation("web.marathon", "11.0.0.1", "fd01:c::1"));
  const VipPolicy policy{.spread = VipPolicy::Spread::source_hash};
  for (int i = 1; i <= 4; ++i) node.add(with_policy(i, policy));
  const auto choices = [&] {
    std::map<int, std::string> found;
    for (int i = 2; i <= 30; ++i) {
      net.client.shell("ip route replace default via 10.1.0.1 src 10.1.0." + std::to_string(i));
      const auto names = answers(net.client, "11.0.0.1:80", 3);
      CHECK(names.size() == 1);
      found[i] = *names.begin();
    }
    return found;
  };
  const auto before = choices();
  std::set<std::string> used;
  for (const auto& [client, name] : before) used.insert(name);
  CHECK(used.size() >= 3);
  CHECK(answers(net.client, "[fd01:c::1]:80", 6).size() == 1);
  node.remove(with_policy(2, policy));
  CHECK(
      eventually([&] { return !answers(net.client, "11.0.0.1:80", 1).contains("10.2.0.2:8080"); }));
  const auto after = choices();
  int moved = 0;
  for (const auto& [client, name] : before) {
    CHECK(after.at(client) != "10.2.0.2:8080");
    if (name != "10.2.0.2:8080" && after.at(client) != name) ++moved;
  }
  MESSAGE(moved << " of " << before.size() << " clients moved needlessly");
  CHECK(moved <= 10);
}

TEST_CASE("with affinity a client stays, and moves when its backend takes no more connections") {
  MUSTER_NEEDS_NETNS();
  Topology net;
  const auto servers = serve_all(net);
  Node node{net.node};
  node.allocate(allocation("web.marathon", "11.0.0.1", "fd01:c::1"));
  const VipPolicy policy{.affinity_seconds = 60};
  std::map<std::string, Task> tasks;
  for (int i = 1; i <= 4; ++i) {
    tasks.emplace("10.2.0." + std::to_string(i) + ":8080", with_policy(i, policy));
    node.add(with_policy(i, policy));
  }
  for (const Netns* from : {&net.client, &net.node}) {
    CHECK(answers(*from, "11.0.0.1:80", 12).size() == 1);
    CHECK(answers(*from, "[fd01:c::1]:80", 12).size() == 1);
  }
  for (int round = 0; round < 3; ++round) {
    const std::string mine = *answers(net.client, "11.0.0.1:80", 1).begin();
    node.remove(tasks.at(mine));
    tasks.erase(mine);
    std::string next;
    CHECK(eventually([&] {
      next = *answers(net.client, "11.0.0.1:80", 1).begin();
      return next != mine;
    }));
    CHECK(answers(net.client, "11.0.0.1:80", 12) == std::set{next});
  }
  if (!on_ipvs()) CHECK(node.metric("muster_lb_affinity_clients_moved_total") >= 3);
}

/// What the kernel still knows of clients of VIPs with affinity: nft's elements, IPVS's templates.
std::string remembered(const Topology& net) {
  return net.node.shell(on_ipvs()
                            ? "tail -n +2 /proc/net/ip_vs_conn"
                            : "nft list map ip muster affinity_udp | grep -F expires || true");
}

TEST_CASE("affinity holds for udp, and a client that was away for longer is balanced anew") {
  MUSTER_NEEDS_NETNS();
  Topology net;
  const auto servers = serve_all(net);
  add_clients(net);
  Node node{net.node};
  node.allocate(allocation("web.marathon", "11.0.0.1"));
  const VipPolicy policy{.affinity_seconds = 10};
  for (int i = 1; i <= 4; ++i) node.add(with_policy(i, policy, Protocol::udp));
  // There the time begins anew while any of the client's flows is known, by default for 5 minutes.
  if (on_ipvs()) net.node.shell("ipvsadm --set 0 0 1");
  const auto ask_as = [&](int client) {
    net.client.shell("ip route replace default via 10.1.0.1 src 10.1.0." + std::to_string(client));
    std::set<std::string> names;
    net.client.run([&] {
      for (int i = 0; i < 4; ++i) names.insert(ask_udp(at("11.0.0.1:80")));
    });
    CHECK(names.size() == 1);
    return *names.begin();
  };
  std::map<int, std::string> before;
  for (int i = 2; i <= 30; ++i) before[i] = ask_as(i);
  CHECK(remembered(net) != "");
  for (const auto& [client, name] : before) CHECK(ask_as(client) == name);
  CHECK(eventually([&] { return remembered(net).empty(); }));
  // The other way round: IPVS has no chance in it.
  int moved = 0;
  for (int i = 30; i >= 2; --i) moved += ask_as(i) == before.at(i) ? 0 : 1;
  CHECK(moved > 0);
}

}  // namespace
}  // namespace muster::lb
