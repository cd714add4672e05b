#include <doctest/doctest.h>

#include "tests/sim/cluster.hpp"
#include "tests/sim/seeds.hpp"

using namespace muster;
using namespace muster::gossip;
using namespace std::chrono_literals;
using sim::Cluster;
using sim::NetworkOptions;

namespace {

NetworkOptions rough(std::uint64_t seed) {
  NetworkOptions network;
  network.loss_percent = static_cast<std::uint32_t>(seed % 4) * 10;
  network.duplicate_percent = 3;
  network.corrupt_percent = seed % 5 == 0 ? 1 : 0;
  network.late_percent = 5;
  return network;
}

void require_equal_views(Cluster& cluster, Duration limit) {
  const auto took = cluster.run_until([&] { return cluster.views_equal(); }, limit);
  INFO("running ", cluster.running());
  for (std::size_t i = 0; i < cluster.size() && !took; ++i) {
    if (!cluster.node(i).running()) continue;
    MESSAGE(i, " root ", cluster.node(i).core->root(), " alive ",
            cluster.node(i).core->members().alive());
  }
  REQUIRE(took);
}

void one_death(std::uint64_t seed) {
  MUSTER_SHOW_SEED(seed);
  const std::size_t nodes = 2 + seed % 15;
  Cluster cluster{nodes, seed, rough(seed)};
  cluster.start_warm();
  cluster.run_for(1500ms);
  const std::size_t victim = seed % nodes;
  const bool host = seed % 2 == 0;
  host ? cluster.cut_off(victim) : cluster.kill(victim);
  const auto took = cluster.run_until([&] { return cluster.unaware_of_death(victim) == 0; }, 2s);
  REQUIRE(took);
  // Of two monitors both must hear the other's alert. At 30 % loss one of a thousand seeds (571)
  // loses two in a row, each 300 ms after the other.
  const Duration limit = nodes > 3 ? 750ms : seed % 4 == 3 ? 1200ms : 900ms;
  CHECK(*took <= limit);
  cluster.run_for(1s);
  CHECK(cluster.false_deaths() == 0);
  require_equal_views(cluster, 3s);
}

void join_and_restart(std::uint64_t seed) {
  MUSTER_SHOW_SEED(seed);
  const std::size_t nodes = 3 + seed % 12;
  Cluster cluster{nodes, seed, rough(seed)};
  cluster.start_cold(300ms);
  require_equal_views(cluster, 10s);
  const std::size_t again = seed % nodes;
  cluster.restart(again, seed % 3 != 0);
  require_equal_views(cluster, 8s);
  CHECK(cluster.node((again + 1) % nodes).core->members().is_alive(cluster.node(again).uid));
}

void swarm(std::uint64_t seed) {
  MUSTER_SHOW_SEED(seed);
  Rng rng{seed};
  const std::size_t nodes = 4 + rng.below(10);
  Cluster cluster{nodes, seed, rough(seed)};
  cluster.start_cold(200ms);
  cluster.run_for(1s);
  cluster.check_false_deaths = false;
  for (int step = 0; step < 6; ++step) {
    const std::size_t who = rng.below(nodes);
    switch (rng.below(6)) {
      case 0:
        if (cluster.node(who).running() && who > 2) cluster.kill(who);
        break;
      case 1:
        cluster.restart(who, rng.chance(70));
        break;
      case 2:
        if (cluster.node(who).running()) cluster.pause(who, Duration{rng.below(3000)});
        break;
      case 3:  // one way only
        cluster.cut([who](auto from, auto to) { return from == who && to % 2 == 0; });
        break;
      case 4:
        cluster.cut([nodes](auto from, auto to) { return (from < nodes / 2) != (to < nodes / 2); });
        break;
      case 5:
        cluster.node(who).slow = std::chrono::milliseconds{rng.below(30)};
        break;
    }
    cluster.run_for(Duration{200 + rng.below(900)});
    if (rng.chance(50)) cluster.heal();
  }
  cluster.heal();
  for (std::size_t i = 0; i < nodes; ++i) cluster.node(i).slow = {};
  require_equal_views(cluster, 90s);
}

}  // namespace

TEST_SUITE_BEGIN("gossip/sim");

TEST_CASE("a death is known to all within 0.75 s at up to 30 % loss, and nobody else dies") {
  sim::for_seeds(0, 80, one_death);
}

TEST_CASE("nodes that start together find each other, and one that restarts is taken back") {
  sim::for_seeds(100, 60, join_and_restart);
}

TEST_CASE("whatever happened, all views are equal once it stops") {
  sim::for_seeds(200, 60, swarm);
  swarm(606);  // a pause while others are accused: was due again and again until it judged again
}

TEST_CASE("one seed is one run") {
  const auto trace = [](std::uint64_t seed) {
    NetworkOptions network = rough(3);
    Cluster cluster{12, seed, network};
    cluster.start_cold(500ms);
    cluster.run_for(2s);
    cluster.kill(5);
    cluster.pause(3, 900ms);
    cluster.run_for(3s);
    return cluster.trace();
  };
  CHECK(trace(7) == trace(7));
  CHECK(trace(7) != trace(8));
}

TEST_CASE("60 nodes at 30 % loss for 20 s: nobody is believed dead") {
  NetworkOptions network;
  network.loss_percent = 30;
  Cluster cluster{60, 1, network};
  cluster.start_warm();
  cluster.run_for(20s);
  CHECK(cluster.false_deaths() == 0);
  require_equal_views(cluster, 2s);
}

TEST_CASE("a third dead at once is known within 1.5 s: the dead have no vote") {
  Cluster cluster{60, 2};
  cluster.start_warm();
  cluster.run_for(2s);
  for (std::size_t i = 0; i < 60; i += 3) cluster.cut_off(i);
  const auto took = cluster.run_until(
      [&] {
        for (std::size_t i = 0; i < 60; i += 3) {
          if (cluster.unaware_of_death(i) > 0) return false;
        }
        return true;
      },
      3s);
  REQUIRE(took);
  MESSAGE("20 of 60 dead known to all after ", took->count(), " ms");
  CHECK(*took <= 1500ms);
  CHECK(cluster.false_deaths() == 0);
}

TEST_CASE("all restart at once, and have equal views within 3 s") {
  Cluster cluster{40, 3};
  cluster.start_warm();
  cluster.run_for(2s);
  cluster.check_false_deaths = false;
  for (std::size_t i = 0; i < 40; ++i) cluster.kill(i);
  for (std::size_t i = 0; i < 40; ++i) cluster.restart(i);
  const auto took = cluster.run_until([&] { return cluster.views_equal(); }, 5s);
  REQUIRE(took);
  MESSAGE("equal views after ", took->count(), " ms");
  CHECK(*took <= 3s);
}

TEST_CASE("16 of 60 stalling for 8 s, running 20 ms: no healthy node is believed dead") {
  Cluster cluster{60, 4};
  cluster.start_warm();
  cluster.run_for(2s);
  for (std::size_t i = 0; i < 16; ++i) cluster.unhealthy.insert(i * 3);
  cluster.reset_counters();
  for (int round = 0; round < 4; ++round) {
    for (const auto i : cluster.unhealthy) cluster.pause(i, 8s);
    cluster.run_for(8020ms);
  }
  CHECK(cluster.false_deaths() == 0);
  std::uint64_t packets = 0;
  for (std::size_t i = 0; i < 60; ++i) {
    if (!cluster.unhealthy.contains(i)) packets = std::max(packets, cluster.node(i).packets);
  }
  MESSAGE("busiest healthy node: ", packets / 32, " packets/s");
  CHECK(packets / 32 < 300);
  require_equal_views(cluster, 90s);
}

TEST_CASE(
    "a cluster cut in half knows it on both sides, and is whole again within 5 s of the heal") {
  Cluster cluster{30, 5};
  cluster.start_warm();
  cluster.run_for(1s);
  cluster.check_false_deaths = false;
  cluster.cut([](auto from, auto to) { return (from < 15) != (to < 15); });
  const auto known = cluster.run_until(
      [&] {
        return cluster.node(0).core->members().alive() == 15 &&
               cluster.node(20).core->members().alive() == 15;
      },
      10s);
  REQUIRE(known);
  MESSAGE("both halves know after ", known->count(), " ms");
  cluster.run_for(5s);
  // Verdicts of the other side, all at once at the heal, must not kill one's own side.
  std::size_t own_side_deaths = 0;
  cluster.on_member = [&](auto observer, const MemberChange& change) {
    const auto who = cluster.find(change.after.head.uid);
    if (change.after.head.status != MemberStatus::alive && (*who < 15) == (observer < 15)) {
      ++own_side_deaths;
    }
  };
  cluster.heal();
  const auto took = cluster.run_until([&] { return cluster.views_equal(); }, 20s);
  REQUIRE(took);
  MESSAGE("whole again after ", took->count(), " ms");
  CHECK(*took <= 5s);
  CHECK(own_side_deaths == 0);
}

TEST_CASE("a node that hears only half of the others harms none of them, nor causes a storm") {
  Cluster cluster{24, 6};
  cluster.start_warm();
  cluster.run_for(1s);
  cluster.unhealthy.insert(7);
  cluster.reset_counters();
  cluster.cut([](auto from, auto to) { return to == 7 && from % 2 == 0; });
  cluster.run_for(20s);
  CHECK(cluster.false_deaths() == 0);
  CHECK(cluster.node(0).packets / 20 < 250);
  cluster.heal();
  require_equal_views(cluster, 80s);
}

TEST_CASE("a node cut off alone declares nobody dead in a cluster of sixty") {
  Cluster cluster{60, 7};
  cluster.start_warm();
  cluster.run_for(1s);
  cluster.unhealthy.insert(9);
  cluster.cut([](auto from, auto to) { return from == 9 || to == 9; });
  cluster.run_for(10s);
  CHECK(cluster.node(9).core->members().alive() >= 45);
  CHECK(cluster.node(9).core->isolated(cluster.now()));
  CHECK(cluster.unaware_of_death(9) == 1);  // itself
  cluster.heal();
  require_equal_views(cluster, 20s);
}

TEST_CASE("a new node at a dead one's address is a new node, and the old one is dead") {
  Cluster cluster{15, 8};
  cluster.start_warm();
  cluster.run_for(1s);
  cluster.kill(4);
  const auto fresh = cluster.recycle(4);
  cluster.start(fresh, {0, 1});
  cluster.run_for(3s);
  CHECK(cluster.unaware_of_death(4) == 0);
  require_equal_views(cluster, 5s);
  CHECK(cluster.node(2).core->members().is_alive(cluster.node(fresh).uid));
}

TEST_CASE("who leaves is gone at once and is no death") {
  Cluster cluster{12, 9};
  cluster.start_warm();
  cluster.run_for(1s);
  cluster.leave(3);
  const auto took = cluster.run_until([&] { return cluster.unaware_of_death(3) == 0; }, 1s);
  REQUIRE(took);
  CHECK(*took <= 200ms);
  cluster.run_for(3s);
  for (const std::size_t i : {0U, 5U, 11U}) {
    CHECK(cluster.node(i).core->members().find(cluster.node(3).uid)->status == MemberStatus::left);
  }
}

TEST_CASE("the old life of a restarted node cannot kill or revive it") {
  Cluster cluster{10, 10};
  cluster.start_warm();
  cluster.run_for(1s);
  cluster.node(2).epoch = 50;
  cluster.restart(2);
  require_equal_views(cluster, 3s);
  cluster.kill(2);
  cluster.run_for(2s);
  CHECK(cluster.unaware_of_death(2) == 0);
  // The disk lost and the clock back: the cluster remembers epoch 51 as dead.
  cluster.restart(2, false);
  require_equal_views(cluster, 5s);
  CHECK(cluster.node(2).epoch > 51);
}

namespace {

// Which of the two draws the smaller instance is the seed's choice.
void clone_joins(std::uint64_t seed) {
  MUSTER_SHOW_SEED(seed);
  Cluster cluster{8, seed};
  cluster.start_warm();
  cluster.run_for(61s);
  const auto clone = cluster.add({});
  cluster.check_false_deaths = false;
  cluster.node(clone).uid = cluster.node(2).uid;
  if (seed % 2 == 0) cluster.node(clone).epoch = 1'000;  // it was started later, by the clock
  cluster.start(clone, {0, 1});
  Gossip& original = *cluster.node(2).core;
  Gossip& copy = *cluster.node(clone).core;
  REQUIRE(cluster.run_until([&] { return copy.conflicted(); }, 30s));
  cluster.run_for(5s);
  // Who was there stays, and both can name the other.
  CHECK_FALSE(original.conflicted());
  CHECK(original.take_twin() == cluster.node(clone).at);
  CHECK(copy.take_twin() == cluster.node(2).at);
  for (const std::size_t i : {0U, 1U, 5U}) {
    const auto* entry = cluster.node(i).core->members().find(original.self().uid);
    CHECK(entry->alive());
    CHECK(entry->endpoint() == cluster.node(2).at);
    CHECK(cluster.node(i).core->members().alive() == 8);
  }
}

}  // namespace

TEST_CASE("of two nodes with one id the newcomer yields, both say so, and the other is unharmed") {
  sim::for_seeds(1, 6, clone_joins);
}

TEST_CASE("of two nodes with one id that are equally old one yields") {
  for (const Duration age : {1'000ms, 70'000ms}) {
    CAPTURE(age.count());
    Cluster cluster{8, 11};
    cluster.start_warm();
    cluster.check_false_deaths = false;
    const auto clone = cluster.add({});
    cluster.node(clone).uid = cluster.node(2).uid;
    cluster.cut([&](auto from, auto to) { return (from == clone) != (to == clone); });
    cluster.start(clone, {0, 1});
    cluster.run_for(age);
    cluster.heal();
    const auto conflicted = [&](std::size_t i) { return cluster.node(i).core->conflicted(); };
    CHECK(cluster.run_until([&] { return conflicted(clone) || conflicted(2); }, 30s));
    cluster.run_for(3s);
    CHECK_FALSE((conflicted(clone) && conflicted(2)));
  }
}

TEST_CASE(
    "a wrong key or another cluster's name is kept out, named on both sides, and harms no one") {
  Cluster cluster{8, 12};
  cluster.start_warm();
  const auto wrong_key = cluster.add({});
  cluster.node(wrong_key).key = 2;
  cluster.start(wrong_key, {0, 1});
  const auto other = cluster.add({});
  cluster.node(other).cluster = "other";
  cluster.start(other, {0, 1});
  cluster.run_for(3s);
  for (std::size_t i = 0; i < 8; ++i) CHECK(cluster.node(i).core->members().alive() == 8);
  CHECK(cluster.node(wrong_key).core->members().alive() == 1);
  CHECK(cluster.node(other).core->members().alive() == 1);
  CHECK(cluster.node(0).core->link().drops(Drop::wrong_cluster) +
            cluster.node(1).core->link().drops(Drop::wrong_cluster) >
        0);
  const auto named = [&](std::size_t i, Drop reason, bool by_peer) {
    const auto refusals = cluster.node(i).core->link().take_refusals();
    return std::any_of(refusals.begin(), refusals.end(), [&](const auto& refusal) {
      return refusal.reason == reason && refusal.by_peer == by_peer;
    });
  };
  CHECK(named(other, Drop::wrong_cluster, true));
  CHECK(named(0, Drop::wrong_cluster, false));
  CHECK(named(wrong_key, Drop::wrong_key, true));
  CHECK(named(1, Drop::wrong_key, false));
  CHECK(cluster.false_deaths() == 0);
}

TEST_CASE("where no member more is taken the newcomer is told, and those there are unharmed") {
  Cluster cluster{3, 14};
  cluster.start_warm();
  cluster.run_for(1s);
  std::vector<MemberRecord> gone;
  const auto profile = cluster.node(1).core->members().find(cluster.node(1).uid)->profile;
  for (std::uint64_t i = 1; i <= kMaxMembers; ++i) {
    gone.push_back({{NodeUid{7, i}, 1, 0, MemberStatus::alive}, profile});
  }
  for (std::size_t i = 0; i < 3; ++i) cluster.node(i).core->preload(gone, cluster.now());
  for (MemberRecord& record : gone) record.head.status = MemberStatus::left;
  for (std::size_t i = 0; i < 3; ++i) cluster.node(i).core->preload(gone, cluster.now());
  const auto newcomer = cluster.add({0});
  cluster.run_for(1s);
  CHECK(cluster.node(0).core->members().entries().size() == kMaxMembers);
  CHECK(cluster.node(0).core->members().alive() == 3);
  CHECK(cluster.false_deaths() == 0);
  const auto named = [&](std::size_t i, bool by_peer) {
    const auto refusals = cluster.node(i).core->link().take_refusals();
    return std::any_of(refusals.begin(), refusals.end(), [&](const auto& refusal) {
      return refusal.reason == Drop::full && refusal.by_peer == by_peer;
    });
  };
  CHECK(named(0, false));
  CHECK(named(newcomer, true));
}

TEST_CASE("an idle node sends at most 110 packets and 8 KB a second") {
  Cluster cluster{60, 13};
  cluster.start_warm();
  cluster.run_for(15s);  // sessions and subscriptions stand
  cluster.reset_counters();
  cluster.run_for(20s);
  for (std::size_t i = 0; i < 60; ++i) {
    CAPTURE(i);
    CHECK(cluster.node(i).packets / 20 <= 110);
    CHECK(cluster.node(i).bytes / 20 <= 8'000);
  }
}

TEST_SUITE_END();
