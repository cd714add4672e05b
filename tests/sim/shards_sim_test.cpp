#include <doctest/doctest.h>

#include "tests/sim/cluster.hpp"
#include "tests/sim/seeds.hpp"

using namespace muster;
using namespace muster::gossip;
using namespace std::chrono_literals;
using sim::Cluster;
using sim::NetworkOptions;

namespace {

std::vector<std::byte> value(std::uint64_t n, std::size_t size = 40) {
  std::vector<std::byte> bytes(size);
  for (std::size_t i = 0; i < size; ++i)
    bytes[i] = static_cast<std::byte>((n >> (8 * (i % 8))) & 0xFF);
  return bytes;
}

RecordWrite put(std::size_t shard, std::size_t key, std::uint64_t n, std::size_t size = 40) {
  return {"agent/" + std::to_string(shard), "task-" + std::to_string(key), value(n, size)};
}
RecordWrite remove(std::size_t shard, std::size_t key) {
  return {"agent/" + std::to_string(shard), "task-" + std::to_string(key), std::nullopt};
}

// What the records handed out add up to is what the store holds, on every node.
void check_replicas(const Cluster& cluster) {
  for (std::size_t i = 0; i < cluster.size(); ++i) {
    if (!cluster.node(i).running()) continue;
    CAPTURE(i);
    std::size_t records = 0;
    for (const auto& [id, shard] : cluster.node(i).core->shards().shards()) {
      const auto told = cluster.node(i).replica.find(id);
      if (shard.records.empty()) continue;
      REQUIRE(told != cluster.node(i).replica.end());
      CHECK(told->second == shard.records);
      records += shard.records.size();
    }
    CHECK(records == cluster.node(i).core->shards().records());
  }
}

void random_writes(std::uint64_t seed) {
  MUSTER_SHOW_SEED(seed);
  NetworkOptions network;
  network.loss_percent = static_cast<std::uint32_t>(seed % 4) * 10;
  network.duplicate_percent = 5;
  network.late_percent = 10;
  const std::size_t nodes = 3 + seed % 8;
  Cluster cluster{nodes, seed, network};
  Rng rng{seed};
  cluster.start_warm();
  cluster.run_for(300ms);
  cluster.begin_publishing(0);
  for (int step = 0; step < 25; ++step) {
    std::vector<RecordWrite> writes;
    for (std::size_t n = 1 + rng.below(6); n > 0; --n) {
      const std::size_t shard = rng.below(4);
      const std::size_t key = rng.below(12);
      const std::size_t size = rng.chance(5) ? 3000 : 40;
      writes.push_back(rng.chance(30) ? remove(shard, key) : put(shard, key, rng.next(), size));
    }
    cluster.publish(0, std::move(writes));
    cluster.run_for(Duration{rng.below(60)});
  }
  const auto took = cluster.run_until([&] { return cluster.views_equal(); }, 8s);
  REQUIRE(took);
  check_replicas(cluster);
}

void both_halves_publish(std::uint64_t seed) {
  MUSTER_SHOW_SEED(seed);
  Cluster cluster{10, seed};
  cluster.start_warm();
  cluster.run_for(500ms);
  cluster.begin_publishing(1);
  for (std::size_t s = 0; s < 6; ++s) cluster.publish(1, {put(s, 0, 1), put(s, 1, 1)});
  cluster.run_for(1s);
  REQUIRE(cluster.roots_equal());
  cluster.check_false_deaths = false;
  cluster.cut([](auto from, auto to) { return (from < 5) != (to < 5); });
  cluster.run_for(3s);
  cluster.begin_publishing(7);  // the other half elects its own, under a higher term
  cluster.publish(1, {put(0, 0, 2), put(8, 0, 2)});
  cluster.publish(7, {put(0, 1, 3), remove(1, 0), put(9, 0, 3)});
  cluster.run_for(2s);
  cluster.heal();
  const auto took = cluster.run_until([&] { return cluster.views_equal(); }, 20s);
  REQUIRE(took);
  check_replicas(cluster);
  CHECK(cluster.node(1).superseded == 1);
  CHECK(cluster.node(7).superseded == 0);
  const auto& won = cluster.node(3).core->shards();
  // The higher term's content, whole; what only the other had is kept, under the winner's name.
  CHECK(won.find("agent/0")->records.at("task-0") == value(1));
  CHECK(won.find("agent/0")->records.at("task-1") == value(3));
  CHECK(won.find("agent/9") != nullptr);
  REQUIRE(won.find("agent/8") != nullptr);
  CHECK(won.find("agent/8")->head.term.publisher == cluster.node(7).uid);
  // The loser's writes go nowhere.
  cluster.publish(1, {put(3, 3, 9)});
  cluster.run_for(500ms);
  CHECK_FALSE(cluster.node(3).core->shards().find("agent/3")->records.contains("task-3"));
}

}  // namespace

TEST_SUITE_BEGIN("gossip/sim");

TEST_CASE("every write reaches every node, in whatever order datagrams come") {
  sim::for_seeds(1, 40, random_writes);
}

TEST_CASE("both halves of a partition publish, and at the heal the higher term wins everywhere") {
  sim::for_seeds(1, 8, both_halves_publish);
}

TEST_CASE("a node away while a shard was emptied and forgotten does not bring it back") {
  Cluster cluster{8, 24};
  cluster.timing.forget_empty = 5s;
  cluster.start_warm();
  cluster.run_for(300ms);
  cluster.begin_publishing(0);
  for (std::size_t s = 0; s < 4; ++s) cluster.publish(0, {put(s, 0, 1), put(s, 1, 1)});
  cluster.run_for(1s);
  REQUIRE(cluster.roots_equal());
  cluster.check_false_deaths = false;
  cluster.cut([](auto from, auto to) { return (from == 5) != (to == 5); });
  cluster.run_for(2s);
  cluster.publish(0, {remove(1, 0), remove(1, 1), remove(2, 0), remove(2, 1)});
  cluster.run_for(10s);
  for (const std::size_t i : {0U, 3U, 7U}) {
    CHECK(cluster.node(i).core->shards().find("agent/1") == nullptr);
  }
  cluster.publish(0, {put(2, 7, 9)});  // this one is used again
  REQUIRE(cluster.node(5).core->shards().find("agent/1") != nullptr);
  cluster.heal();
  const auto took = cluster.run_until(
      [&] { return cluster.views_equal() && cluster.node(5).core->shards().records() == 5; }, 20s);
  REQUIRE(took);
  cluster.run_for(1s);
  check_replicas(cluster);
  for (std::size_t i = 0; i < cluster.size(); ++i) {
    CAPTURE(i);
    const auto& shards = cluster.node(i).core->shards();
    CHECK(shards.records() == 5);
    CHECK((shards.find("agent/1") == nullptr || shards.find("agent/1")->records.empty()));
    CHECK(shards.find("agent/2")->records.size() == 1);
  }
}

TEST_CASE("shards that come and go leave a bounded table on every node") {
  Cluster cluster{4, 25};
  cluster.start_warm();
  cluster.run_for(300ms);
  cluster.begin_publishing(0);
  for (std::size_t s = 0; s < 6000; ++s) {
    cluster.publish(0, {put(s, 0, s)});
    if (s >= 50) cluster.publish(0, {remove(s - 50, 0)});
    if (s % 20 == 0) cluster.run_for(20ms);
  }
  cluster.run_for(3s);
  REQUIRE(cluster.roots_equal());
  for (std::size_t i = 0; i < cluster.size(); ++i) {
    CAPTURE(i);
    CHECK(cluster.node(i).core->shards().records() == 50);
    CHECK(cluster.node(i).core->shards().shards().size() <= kMaxEmptyShards + 50);
  }
}

TEST_CASE("a takeover with equal content moves no content") {
  Cluster cluster{8, 21};
  cluster.start_warm();
  cluster.run_for(300ms);
  cluster.begin_publishing(0);
  for (std::size_t s = 0; s < 30; ++s) cluster.publish(0, {put(s, 0, s, 900)});
  cluster.run_for(1s);
  REQUIRE(cluster.roots_equal());
  std::size_t changes = 0;
  cluster.on_record = [&](auto, const RecordWrite&) { ++changes; };
  cluster.kill(0);
  cluster.begin_publishing(5);
  cluster.run_for(2s);
  CHECK(cluster.roots_equal());
  CHECK(changes == 0);
  CHECK(cluster.node(2).core->shards().find("agent/3")->head.term.publisher == cluster.node(5).uid);
}

TEST_CASE("a node that joins late has 20,000 records within 1 s") {
  Cluster cluster{6, 22};
  cluster.start_warm();
  cluster.run_for(300ms);
  cluster.begin_publishing(0);
  for (std::size_t s = 0; s < 100; ++s) {
    std::vector<RecordWrite> writes;
    for (std::size_t k = 0; k < 200; ++k) writes.push_back(put(s, k, s * 1000 + k, 200));
    cluster.publish(0, std::move(writes));
  }
  REQUIRE(cluster.run_until([&] { return cluster.roots_equal(); }, 10s));
  const auto late = cluster.add({0, 1});
  const auto took =
      cluster.run_until([&] { return cluster.node(late).core->shards().records() == 20'000; }, 5s);
  REQUIRE(took);
  MESSAGE("20,000 records after ", took->count(), " ms");
  CHECK(*took <= 1s);
  REQUIRE(cluster.run_until([&] { return cluster.views_equal(); }, 5s));
  check_replicas(cluster);
}

TEST_CASE("a server dying in the middle of a transfer costs a retry and nothing else") {
  NetworkOptions network;
  network.stream_bytes_per_second = 2e6;
  Cluster cluster{5, 23, network};
  cluster.start_warm();
  cluster.run_for(300ms);
  cluster.begin_publishing(0);
  std::vector<RecordWrite> writes;
  for (std::size_t k = 0; k < 2000; ++k) writes.push_back(put(0, k, k, 300));
  cluster.publish(0, std::move(writes));
  REQUIRE(cluster.run_until([&] { return cluster.roots_equal(); }, 20s));
  const auto late = cluster.add({0});
  cluster.run_for(150ms);
  cluster.cut_off(0);
  REQUIRE(
      cluster.run_until([&] { return cluster.node(late).core->shards().records() == 2000; }, 30s));
}

TEST_SUITE_END();
