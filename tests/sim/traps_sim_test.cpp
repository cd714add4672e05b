#include <algorithm>

#include <doctest/doctest.h>

#include "tests/sim/cluster.hpp"
#include "tests/sim/seeds.hpp"

// What has brought down other gossip systems, where no other test shows it. The whole list:
// tests/sim/README.md.
using namespace muster;
using namespace muster::gossip;
using namespace std::chrono_literals;
using sim::Cluster;
using sim::NetworkOptions;

namespace {

RecordWrite put(std::size_t shard, std::size_t key, std::size_t size = 100) {
  return {"agent/" + std::to_string(shard), "task-" + std::to_string(key),
          std::vector<std::byte>(size, static_cast<std::byte>(key & 0xFF))};
}

std::uint64_t octets(const Cluster& cluster) {
  std::uint64_t sum = 0;
  for (std::size_t i = 0; i < cluster.size(); ++i) {
    sum += cluster.node(i).bytes + cluster.node(i).stream_bytes;
  }
  return sum;
}

}  // namespace

TEST_SUITE_BEGIN("gossip/sim");

TEST_CASE("who comes back from a long pause accuses nobody, and is not accused of its past") {
  Cluster cluster{20, 31};
  cluster.start_warm();
  cluster.run_for(2s);
  cluster.unhealthy.insert(5);
  for (const Duration away : {300ms, 1'000ms, 4'000ms, 10'000ms}) {
    CAPTURE(away.count());
    cluster.pause(5, away);
    // Everything that came meanwhile is in its socket, and its timers are all due.
    cluster.run_for(away + 1s);
    CHECK(cluster.node(5).core->stats().alerts_raised == 0);
    CHECK(cluster.node(5).core->stats().verdicts == 0);
  }
  CHECK(cluster.node(5).core->stats().late == 4);
  CHECK(cluster.false_deaths() == 0);
}

TEST_CASE("duplicated datagrams spoil no statistics: a death is found in time, and no other") {
  NetworkOptions network;
  network.duplicate_percent = 100;
  network.late_percent = 20;
  Cluster cluster{30, 32, network};
  cluster.start_warm();
  cluster.run_for(2s);
  cluster.cut_off(4);
  const auto took = cluster.run_until([&] { return cluster.unaware_of_death(4) == 0; }, 2s);
  REQUIRE(took);
  CHECK(*took <= 750ms);
  cluster.run_for(5s);
  CHECK(cluster.false_deaths() == 0);
}

TEST_CASE("who left or died is forgotten after a while, and the table stays small") {
  Cluster cluster{6, 33};
  cluster.timing.forget = 3s;
  cluster.start_warm();
  cluster.run_for(1s);
  for (int round = 0; round < 12; ++round) {
    const auto guest = cluster.add({0, 1});
    cluster.run_for(500ms);
    round % 2 == 0 ? cluster.leave(guest) : cluster.kill(guest);
    cluster.run_for(1500ms);
    // Those of the last few seconds, and one that is just being taken for dead.
    for (std::size_t i = 0; i < 6; ++i) {
      CHECK(cluster.node(i).core->members().entries().size() <= 10);
    }
  }
  cluster.run_for(6s);
  for (std::size_t i = 0; i < 6; ++i) {
    const auto& members = cluster.node(i).core->members();
    CHECK(members.entries().size() == 6);
    // Whoever keeps a list by what it is told has forgotten them too.
    for (const NodeUid& uid : cluster.node(i).told) CHECK(members.find(uid) != nullptr);
  }
}

TEST_CASE("a digest fits a datagram whatever the cluster holds, and a newcomer learns all of it") {
  CHECK(encode(Digest{}).size() <= kMaxPayload);
  Cluster cluster{4, 34};
  cluster.start_warm();
  cluster.begin_publishing(0);
  for (std::size_t shard = 0; shard < 3000; shard += 50) {
    std::vector<RecordWrite> writes;
    for (std::size_t i = shard; i < shard + 50; ++i) writes.push_back(put(i, 0));
    cluster.publish(0, std::move(writes));
    cluster.run_for(20ms);
  }
  REQUIRE(cluster.run_until([&] { return cluster.roots_equal(); }, 10s));
  std::vector<MemberRecord> gone;  // members that only the first knows
  const auto profile = cluster.node(1).core->members().find(cluster.node(1).uid)->profile;
  for (std::uint64_t i = 1; i <= 3000; ++i) {
    gone.push_back({{NodeUid{7, i}, 1, 0, MemberStatus::left}, profile});
  }
  cluster.node(0).core->preload(gone, cluster.now());
  const auto late = cluster.add({0, 1});
  REQUIRE(
      cluster.run_until([&] { return cluster.node(late).core->shards().records() == 3000; }, 10s));
  REQUIRE(cluster.run_until([&] { return cluster.views_equal(); }, 10s));
  CHECK(cluster.largest_datagram() <= kMaxDatagram);
}

TEST_CASE("a change costs what has changed, however much there is") {
  const auto cost = [](std::size_t records) {
    Cluster cluster{12, 35};
    cluster.start_warm();
    cluster.run_for(500ms);
    cluster.begin_publishing(0);
    std::vector<RecordWrite> writes;
    for (std::size_t key = 0; key < records; ++key) writes.push_back(put(key % 4, key));
    cluster.publish(0, std::move(writes));
    REQUIRE(cluster.run_until([&] { return cluster.roots_equal(); }, 20s));
    cluster.run_for(3s);
    std::uint64_t before = octets(cluster);
    cluster.run_for(2s);
    const std::uint64_t idle = octets(cluster) - before;
    before += idle;
    for (int change = 0; change < 20; ++change) {
      cluster.publish(0, {put(1, 1, 90 + static_cast<std::size_t>(change))});
      cluster.run_for(100ms);
    }
    const std::uint64_t busy = octets(cluster) - before;
    REQUIRE(cluster.roots_equal());
    return (busy > idle ? busy - idle : 0) / 20 / cluster.size();
  };
  const std::uint64_t small = cost(20);
  const std::uint64_t large = cost(10'000);
  MESSAGE("octets per change and node: ", small, " of 20 records, ", large, " of 10,000");
  CHECK(large < 3'000);
  CHECK(large <= small * 3 / 2);
}

TEST_CASE("what overflows the queue of news comes all the same") {
  Cluster cluster{8, 36};
  cluster.start_warm();
  cluster.run_for(500ms);
  cluster.begin_publishing(0);
  std::vector<RecordWrite> writes;  // one piece of news per shard, more than wait at a time
  for (std::size_t shard = 0; shard < kMaxNews + 2000; ++shard) writes.push_back(put(shard, 0));
  cluster.publish(0, std::move(writes));
  const auto took = cluster.run_until([&] { return cluster.views_equal(); }, 20s);
  REQUIRE(took);
  for (std::size_t i = 0; i < 8; ++i) {
    CHECK(cluster.node(i).core->shards().records() == kMaxNews + 2000);
  }
  CHECK(cluster.false_deaths() == 0);
}

TEST_CASE("two islands that started apart, with one seed each way, become one") {
  Cluster cluster{20, 37};
  cluster.check_false_deaths = false;
  cluster.cut([](auto from, auto to) { return (from < 10) != (to < 10); });
  for (std::size_t i = 0; i < 20; ++i) cluster.start(i, {0, 10});
  cluster.run_for(5s);
  CHECK(cluster.node(3).core->members().alive() == 10);
  CHECK(cluster.node(13).core->members().alive() == 10);
  CHECK(cluster.node(3).core->members().entries().size() == 10);  // they never met
  cluster.heal();
  const auto took = cluster.run_until([&] { return cluster.views_equal(); }, 30s);
  REQUIRE(took);
  MESSAGE("one cluster after ", took->count(), " ms");
  CHECK(*took <= 16s);
}

TEST_CASE("how fast a death is known does not depend on how many there are") {
  for (const std::size_t nodes : {12U, 150U}) {
    CAPTURE(nodes);
    Cluster cluster{nodes, 38};
    cluster.start_warm();
    cluster.run_for(1500ms);
    cluster.cut_off(nodes / 2);
    const auto took =
        cluster.run_until([&] { return cluster.unaware_of_death(nodes / 2) == 0; }, 2s);
    REQUIRE(took);
    CHECK(*took <= 750ms);
    CHECK(cluster.false_deaths() == 0);
  }
}

TEST_SUITE_END();
