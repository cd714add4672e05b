#include <set>
#include <string>

#include <doctest/doctest.h>

#include "tests/sim/seeds.hpp"
#include "tests/sim/whole.hpp"

// Agents that speak for themselves: each node asks the agent beside it.
using namespace muster;
using namespace muster::testing;
using namespace std::chrono_literals;

namespace {

constexpr std::size_t kNodes = 7;  // four of them beside an agent

/// What the agent of a node says is what the world holds of it, whoever can reach the master.
Whole::AgentOf agents_in(World& world, std::set<std::size_t>* mute = nullptr) {
  return [&world, mute](std::size_t i) -> std::optional<Observation> {
    if (i >= 4 || (mute != nullptr && mute->contains(i))) return std::nullopt;
    return world.of_agent(static_cast<unsigned>(i));
  };
}

/// Task records under who observes the master.
std::size_t observed_tasks(Whole& whole, std::size_t at) {
  std::size_t count = 0;
  for (const auto& [id, shard] : whole.net.node(at).core->shards().shards()) {
    if (id.front() != static_cast<char>(cluster::ShardKind::agent)) continue;
    for (const auto& [key, value] : shard.records) {
      if (key.front() == static_cast<char>(cluster::RecordKind::task)) ++count;
    }
  }
  return count;
}

std::size_t told_shards(Whole& whole, std::size_t at) {
  std::size_t count = 0;
  for (const auto& [id, shard] : whole.net.node(at).core->shards().shards()) {
    const bool told = id.front() == static_cast<char>(cluster::ShardKind::agent_tasks);
    if (told && !shard.records.empty()) ++count;
  }
  return count;
}

/// From now on no running node may see fewer tasks than there are, not for a moment.
void never_less(Whole& whole, const World& world) {
  whole.after_turn = [&] {
    for (const auto& [i, seat] : whole.seats) {
      if (!whole.net.node(i).running()) continue;
      const auto& tasks = seat->cluster.view().tasks();
      for (const auto& [key, task] : world.tasks) {
        if (tasks.contains(key)) continue;
        CAPTURE(i);
        CAPTURE(key.task.str());
        REQUIRE(tasks.contains(key));
      }
    }
  };
}

}  // namespace

TEST_SUITE_BEGIN("agents that speak for themselves");

TEST_CASE("what agents run reaches all, published by none, also while there is no master") {
  gossip::sim::for_seeds(1, 3, [](std::uint64_t seed) {
    MUSTER_SHOW_SEED(seed);
    World world;
    fill(world, 40);
    bool master = true;
    Whole whole{kNodes, seed, agents_in(world)};
    whole.reach_of = [&](std::size_t) { return master ? &world : nullptr; };
    whole.run_for(8s);
    REQUIRE(whole.publishers().size() == 1);
    CHECK(whole.equal(world));
    never_less(whole, world);
    whole.run_for(20s);
    CHECK(observed_tasks(whole, 5) == 0);
    CHECK(told_shards(whole, 5) == 4);
    for (const auto& [i, seat] : whole.seats) {
      CHECK(seat->cluster.status(whole.net.now()).complete);
      CHECK(seat->cluster.status(whole.net.now()).speakers == 4);
    }
    whole.after_turn = nullptr;
    master = false;
    whole.kill(whole.publishers().front());
    world.add("late", "app0.marathon", 1);
    world.add("other", "other.marathon", 2);
    world.remove("t7");
    whole.run_for(3s);
    for (const auto& [i, seat] : whole.seats) {
      const auto& view = seat->cluster.view();
      CAPTURE(i);
      const bool beside_dead = !whole.seats.contains(1) || !whole.seats.contains(2);
      if (beside_dead) continue;  // whose daemon is the dead one
      CHECK(view.tasks().contains(key("late")));
      CHECK(view.tasks().contains(key("other")));
    }
  });
}

TEST_CASE("a daemon that restarts, with its disk or without, takes nothing away") {
  for (const bool disk : {true, false}) {
    CAPTURE(disk);
    World world;
    fill(world, 40);
    Whole whole{kNodes, 1, agents_in(world)};
    whole.reach_of = [&](std::size_t) { return &world; };
    whole.run_for(25s);
    REQUIRE(whole.equal(world));
    const auto saved = whole.seats.at(2)->cluster.save();
    whole.kill(2);
    never_less(whole, world);
    whole.run_for(2s);
    whole.after_turn = nullptr;
    whole.restart(2, disk ? saved : std::vector<std::byte>{});
    if (disk) never_less(whole, world);
    whole.run_for(10s);
    CHECK(whole.equal(world));
    world.add("later", "later.marathon", 2);
    whole.after_turn = nullptr;
    whole.run_for(3s);
    CHECK(whole.equal(world));
    CHECK(whole.publishers().size() == 1);
  }
}

TEST_CASE("a publisher that dies is replaced, and agents speak on") {
  gossip::sim::for_seeds(1, 3, [](std::uint64_t seed) {
    MUSTER_SHOW_SEED(seed);
    World world;
    fill(world, 40);
    Whole whole{kNodes, seed, agents_in(world)};
    whole.reach_of = [&](std::size_t) { return &world; };
    whole.run_for(25s);
    REQUIRE(whole.equal(world));
    const auto before = whole.seats.at(whole.publishers().front())->cluster.view().vip_records();
    whole.kill(whole.publishers().front());
    never_less(whole, world);
    whole.run_for(20s);
    REQUIRE(whole.publishers().size() == 1);
    CHECK(whole.seats.begin()->second->cluster.view().vip_records() == before);
    CHECK(observed_tasks(whole, whole.publishers().front()) == 0);
  });
}

TEST_CASE("both halves of a partition hear their own agents, and all of them after the heal") {
  gossip::sim::for_seeds(1, 2, [](std::uint64_t seed) {
    MUSTER_SHOW_SEED(seed);
    World world;
    fill(world, 40);
    Whole whole{kNodes, seed, agents_in(world)};
    whole.net.check_false_deaths = false;
    whole.reach_of = [&](std::size_t) { return &world; };
    whole.run_for(20s);
    whole.net.cut([](std::size_t a, std::size_t b) { return (a < 2) != (b < 2); });
    whole.run_for(5s);
    world.add("left", "left.marathon", 0);
    world.add("right", "right.marathon", 3);
    whole.run_for(5s);
    CHECK(whole.seats.at(1)->cluster.view().tasks().contains(key("left")));
    CHECK(whole.seats.at(5)->cluster.view().tasks().contains(key("right")));
    whole.net.heal();
    whole.run_for(40s);
    CHECK(whole.publishers().size() == 1);
    CHECK(whole.equal(world));
    CHECK(observed_tasks(whole, 5) == 0);
    CHECK(told_shards(whole, 5) == 4);
  });
}

TEST_CASE("an agent that Mesos gives up takes its tasks from sight, and brings them back") {
  World world;
  fill(world, 40);
  world.add("a", "few.marathon", 4);  // few enough to be believed at once
  world.agents.insert(4);
  Whole whole{kNodes, 1, [&](std::size_t i) -> std::optional<Observation> {
                if (i > 4) return std::nullopt;
                return world.of_agent(static_cast<unsigned>(i));
              }};
  whole.reach_of = [&](std::size_t) { return &world; };
  whole.run_for(20s);
  REQUIRE(whole.equal(world));
  world.agents.erase(4);
  ++world.changes;
  whole.run_for(2s);
  for (const auto& [i, seat] : whole.seats) {
    CHECK_FALSE(seat->cluster.view().tasks().contains(key("a")));
    CHECK(seat->cluster.view().tasks().size() == 40);
  }
  world.agents.insert(4);
  ++world.changes;
  whole.run_for(2s);
  CHECK(whole.equal(world));
}

TEST_CASE("a master that has lost its agents takes no service down") {
  for (const bool recovering : {false, true}) {
    CAPTURE(recovering);
    World world;
    fill(world, 40);
    Whole whole{kNodes, 1, agents_in(world)};
    World empty = world;
    empty.agents.clear();
    empty.recovering = recovering;
    World* answers = &world;
    whole.reach_of = [&](std::size_t) { return answers; };
    whole.run_for(20s);
    REQUIRE(whole.equal(world));
    never_less(whole, world);
    empty.changes = world.changes + 1;
    answers = &empty;
    whole.run_for(20s);
    world.changes = empty.changes + 1;
    answers = &world;
    whole.run_for(20s);
    CHECK(whole.equal(world));
  }
}

TEST_CASE("an agent that suddenly leaves out what it ran is not believed, but its ends are") {
  World world;
  fill(world, 60);
  bool forgets = false;
  Whole whole{kNodes, 1, [&](std::size_t i) -> std::optional<Observation> {
                if (i >= 4) return std::nullopt;
                Observation said = world.of_agent(static_cast<unsigned>(i));
                if (forgets && i == 1) said.tasks.clear();
                return said;
              }};
  whole.reach_of = [&](std::size_t) { return &world; };
  whole.run_for(20s);
  forgets = true;
  never_less(whole, world);
  whole.run_for(30s);
  CHECK(whole.seats.at(1)->cluster.status(whole.net.now()).own_held == 15);
  forgets = false;
  whole.run_for(2s);
  CHECK(whole.seats.at(1)->cluster.status(whole.net.now()).own_held == 0);
  whole.after_turn = nullptr;
  for (int i = 1; i < 60; i += 4) world.remove("t" + std::to_string(i));  // all that it runs
  whole.run_for(1s);
  CHECK(whole.equal(world));
}

TEST_CASE("an agent with another id has nothing left of what it ran") {
  World world;
  fill(world, 40);
  bool anew = false;
  Whole whole{kNodes, 1, [&](std::size_t i) -> std::optional<Observation> {
                if (i >= 4) return std::nullopt;
                return world.of_agent(i == 3 && anew ? 4 : static_cast<unsigned>(i));
              }};
  whole.reach_of = [&](std::size_t) { return &world; };
  whole.run_for(20s);
  anew = true;
  for (int i = 3; i < 40; i += 4) world.remove("t" + std::to_string(i));
  world.agents.insert(4);
  world.add("first", "first.marathon", 4);
  whole.run_for(3s);
  CHECK(whole.equal(world));
  CHECK(told_shards(whole, 6) == 4);
}

TEST_CASE("a node that leaves it to the master again hands its tasks over without a gap") {
  World world;
  fill(world, 40);
  Whole whole{kNodes, 1, agents_in(world)};
  whole.reach_of = [&](std::size_t) { return &world; };
  whole.run_for(20s);
  REQUIRE(whole.equal(world));
  const auto saved = whole.seats.at(1)->cluster.save();
  whole.kill(1);
  whole.silent.insert(1);
  never_less(whole, world);
  whole.restart(1, saved);
  whole.run_for(70s);  // the master is asked anew every 30 s at most
  CHECK(whole.equal(world));
  CHECK(told_shards(whole, 6) == 3);
  CHECK(observed_tasks(whole, 6) == 10);
}

TEST_CASE("when all start from their disks, nothing goes before who speaks for it has spoken") {
  World world;
  fill(world, 40);
  std::set<std::size_t> mute;
  Whole whole{kNodes, 1, agents_in(world, &mute)};
  bool master = true;
  whole.reach_of = [&](std::size_t) { return master ? &world : nullptr; };
  whole.run_for(20s);
  REQUIRE(whole.equal(world));
  std::map<std::size_t, std::vector<std::byte>> disks;
  for (const auto& [i, seat] : whole.seats) disks[i] = seat->cluster.save();
  for (std::size_t i = 0; i < kNodes; ++i) whole.kill(i);
  mute = {2};  // this agent does not answer for now
  master = false;
  for (std::size_t i = 0; i < kNodes; ++i) whole.restart(i, disks.at(i));
  never_less(whole, world);
  whole.run_for(10s);
  master = true;
  whole.run_for(30s);
  CHECK(whole.equal(world));
  CHECK(told_shards(whole, 6) == 3);
  CHECK(observed_tasks(whole, 6) == 10);  // who publishes tells what that agent runs
  mute.clear();
  whole.run_for(20s);
  CHECK(told_shards(whole, 6) == 4);
  CHECK(observed_tasks(whole, 6) == 0);
}

TEST_CASE("two nodes that ask one agent do each other no harm") {
  World world;
  fill(world, 40);
  Whole whole{kNodes, 1, [&](std::size_t i) -> std::optional<Observation> {
                if (i > 4) return std::nullopt;
                return world.of_agent(i == 4 ? 0 : static_cast<unsigned>(i));
              }};
  whole.reach_of = [&](std::size_t) { return &world; };
  whole.run_for(20s);
  REQUIRE(whole.equal(world));
  never_less(whole, world);
  whole.run_for(120s);
  CHECK(whole.equal(world));
  CHECK(whole.net.node(0).lost.size() + whole.net.node(4).lost.size() < 20);
}

TEST_SUITE_END();
