#include <map>
#include <string>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include "cluster/core/first_contact.hpp"
#include "cluster/core/vip_address.hpp"
#include "tests/sim/seeds.hpp"
#include "tests/sim/whole.hpp"

// Gossip and cluster/core together: whole nodes, an emulated master, virtual time.
using namespace muster;
using namespace std::chrono_literals;
using namespace muster::testing;

namespace {

/// Two names that prefer one address.
std::pair<std::string, std::string> colliding() {
  std::map<IpAddress, std::string> names;
  for (unsigned i = 0;; ++i) {
    const std::string name = "x" + std::to_string(i) + ".marathon";
    const auto at = cluster::preferred_address(name, cluster::default_vip_range_v4());
    const auto [known, fresh] = names.emplace(at, name);
    if (!fresh) return {known->second, name};
  }
}

}  // namespace

TEST_SUITE_BEGIN("cluster and gossip");

TEST_CASE("one node publishes what all serve, and a change reaches all") {
  gossip::sim::for_seeds(1, 3, [](std::uint64_t seed) {
    MUSTER_SHOW_SEED(seed);
    World master;
    fill(master, 40);
    Whole whole{9, seed};
    whole.reach_of = [&](std::size_t) { return &master; };
    whole.run_for(6s);
    REQUIRE(whole.publishers().size() == 1);
    CHECK(whole.equal(master));
    for (const auto& [i, seat] : whole.seats) CHECK(seat->cluster.status(whole.net.now()).complete);
    master.add("late", "late.marathon", 1);
    master.remove("t7");
    whole.run_for(500ms);
    CHECK(whole.equal(master));
  });
}

namespace {

// Every fourth agent has a muster; nobody is told of another.
void strangers_meet(std::uint64_t seed) {
  MUSTER_SHOW_SEED(seed);
  gossip::sim::NetworkOptions network;
  network.loss_percent = static_cast<std::uint32_t>(seed % 3) * 10;
  gossip::sim::Cluster net{0, seed, network};
  std::vector<Endpoint> agents;
  constexpr std::size_t kNodes = 50;
  for (std::size_t i = 0; i < 4 * kNodes; ++i) agents.push_back(net.node(net.add({})).at);
  std::vector<cluster::FirstContact> contacts;
  for (std::size_t i = 0; i < kNodes; ++i) {
    net.start(4 * i, {});
    contacts.emplace_back(false, Rng{seed * 1000 + i}, net.now());
  }
  std::size_t asked = 0;
  const auto took = net.run_until(
      [&] {
        for (std::size_t i = 0; i < kNodes; ++i) {
          const bool alone = net.node(4 * i).core->members().alive() <= 1;
          if (!contacts[i].due(alone, net.now())) continue;
          ++asked;
          net.set_seeds(4 * i, agents);  // its own among them
        }
        return net.views_equal();
      },
      60s);
  REQUIRE(took);
  MESSAGE(kNodes, " of ", agents.size(), " agents' nodes met after ", took->count(), " ms, ", asked,
          " asked the master");
  CHECK(*took <= 20s);
  CHECK(asked <= kNodes + kNodes / 2);
  CHECK(net.false_deaths() == 0);
}

}  // namespace

TEST_CASE("nodes that know nobody find each other among the agents the master lists") {
  gossip::sim::for_seeds(1, 6, strangers_meet);
}

TEST_CASE("who found others asks no master, and who is alone asks for ever, less and less") {
  const TimePoint start{std::chrono::hours{1}};
  const auto asks = [&](bool known, auto alone) {
    cluster::FirstContact contact{known, Rng{1}, start};
    std::vector<Duration> at;
    for (TimePoint now = start; now < start + 600s; now += 50ms) {
      if (contact.due(alone(now), now)) {
        at.push_back(std::chrono::duration_cast<Duration>(now - start));
      }
    }
    return at;
  };
  const auto ever = [](TimePoint) { return true; };
  const auto fresh = asks(false, ever);
  REQUIRE(fresh.size() > 8);
  CHECK(fresh.size() < 20);
  CHECK(fresh[0] <= cluster::FirstContact::kSpread + 50ms);
  CHECK(fresh.back() - fresh[fresh.size() - 2] >= cluster::FirstContact::kLastGap);
  CHECK(asks(true, ever)[0] >= cluster::FirstContact::kPatience);
  CHECK(asks(false, [](TimePoint) { return false; }).empty());
  // Cut off later: it asks again, soon.
  const auto cut = asks(true, [&](TimePoint now) { return now > start + 300s; });
  REQUIRE_FALSE(cut.empty());
  CHECK(cut[0] <= 304s);
}

TEST_CASE("a publisher that dies is replaced, and no VIP address changes") {
  gossip::sim::for_seeds(1, 3, [](std::uint64_t seed) {
    MUSTER_SHOW_SEED(seed);
    World master;
    fill(master, 20);
    Whole whole{7, seed};
    whole.reach_of = [&](std::size_t) { return &master; };
    whole.run_for(6s);
    REQUIRE(whole.publishers().size() == 1);
    const auto first = whole.publishers().front();
    const auto before = whole.seats.at(first)->cluster.view().vip_records();
    whole.kill(first);
    master.add("later", "app0.marathon", 2);
    whole.run_for(3s);
    REQUIRE(whole.publishers().size() == 1);
    CHECK(whole.equal(master));
    CHECK(whole.seats.begin()->second->cluster.view().vip_records() == before);
    whole.restart(first);
    whole.run_for(6s);
    CHECK(whole.publishers().size() == 1);
    CHECK(whole.equal(master));
  });
}

TEST_CASE("both halves of a partition publish; after the heal there is one publisher, one view") {
  gossip::sim::for_seeds(1, 2, [](std::uint64_t seed) {
    MUSTER_SHOW_SEED(seed);
    World left;
    fill(left, 20);
    Whole whole{8, seed};
    whole.net.check_false_deaths = false;
    whole.reach_of = [&](std::size_t) { return &left; };
    whole.run_for(6s);
    World right = left;
    whole.net.cut([](std::size_t a, std::size_t b) { return (a < 4) != (b < 4); });
    whole.reach_of = [&](std::size_t i) { return i < 4 ? &left : &right; };
    whole.run_for(8s);
    CHECK(whole.publishers().size() == 2);
    left.add("l", "left.marathon", 0);
    right.add("r", "right.marathon", 1);
    right.remove("t3");
    whole.run_for(2s);
    // The network is whole again, and so is what the masters say.
    whole.net.heal();
    left.add("r", "right.marathon", 1);
    left.remove("t3");
    whole.reach_of = [&](std::size_t) { return &left; };
    whole.run_for(25s);
    CHECK(whole.publishers().size() == 1);
    CHECK(whole.equal(left));
  });
}

TEST_CASE("at a heal the older allocation of an address wins, whichever half publishes on") {
  const auto [one, other] = colliding();
  const auto preferred = cluster::preferred_address(one, cluster::default_vip_range_v4());
  for (const bool left_first : {false, true}) {
    CAPTURE(left_first);
    World left;
    fill(left, 8);
    Whole whole{8, 1};
    whole.net.check_false_deaths = false;
    whole.reach_of = [&](std::size_t) { return &left; };
    whole.run_for(6s);
    World right = left;
    whole.net.cut([](std::size_t a, std::size_t b) { return (a < 4) != (b < 4); });
    whole.reach_of = [&](std::size_t i) { return i < 4 ? &left : &right; };
    whole.run_for(8s);
    (left_first ? left : right).add("old", one, 0);
    whole.run_for(3s);
    (left_first ? right : left).add("young", other, 1);
    whole.run_for(2s);
    whole.net.heal();
    left.add("old", one, 0);
    left.add("young", other, 1);
    whole.reach_of = [&](std::size_t) { return &left; };
    whole.run_for(25s);
    CHECK(whole.publishers().size() == 1);
    CHECK(whole.equal(left));
    const auto& records = whole.seats.begin()->second->cluster.view().vip_records();
    CHECK(records.at(VipName{one}).allocation.v4 == preferred);
    const auto& loser = records.at(VipName{other});
    CHECK(loser.allocation.v4 != preferred);
    CHECK(loser.former == std::vector<IpAddress>{preferred});
    // Nothing of the dispute is left behind.
    for (const auto& [id, shard] : whole.net.node(0).core->shards().shards()) {
      if (id.front() == static_cast<char>(cluster::ShardKind::claims)) CHECK(shard.records.empty());
    }
  }
}

TEST_CASE("while no master answers nothing is lost, whoever publishes") {
  gossip::sim::for_seeds(1, 2, [](std::uint64_t seed) {
    MUSTER_SHOW_SEED(seed);
    World master;
    fill(master, 20);
    bool gone = false;
    Whole whole{6, seed};
    whole.reach_of = [&](std::size_t) { return gone ? nullptr : &master; };
    whole.run_for(6s);
    gone = true;
    whole.kill(whole.publishers().front());
    whole.run_for(20s);
    CHECK(whole.equal(master));
    gone = false;
    master.add("new", "new.marathon", 3);
    whole.run_for(10s);
    CHECK(whole.publishers().size() == 1);
    CHECK(whole.equal(master));
  });
}

TEST_SUITE_END();
