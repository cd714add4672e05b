#include <chrono>

#include <doctest/doctest.h>

#include "cluster/core/cluster.hpp"
#include "samples.hpp"

using namespace muster;
using namespace muster::cluster;
using namespace muster::testing;
using namespace std::chrono_literals;

namespace {

constexpr TimePoint kStart{1000s};
constexpr Cluster::WallTime kWall{1'700'000'000s};

/// A cluster of one node, and what is told of its agent.
struct Alone {
  Cluster cluster;
  TimePoint now = kStart;

  Cluster::WallTime wall() const {
    return kWall + std::chrono::duration_cast<std::chrono::seconds>(now - kStart);
  }
  ClusterDelta master(const Observation& seen) { return cluster.observe(seen, now, wall()); }
  ClusterDelta agent(const Observation& seen) {
    ClusterDelta delta = cluster.observe_agent(seen, now, wall());
    cluster.on_timer(now, wall());
    return delta;
  }
  void pass(Duration time) {
    for (const TimePoint end = now + time; now < end; now += 1s) cluster.on_timer(now, wall());
  }
};

/// What agent a1 says: `tasks` tasks t0, t1, ...
Observation says(int tasks) {
  return make_snapshot(tasks);
}

RecordWrite task_write(ShardKind kind, const Task& task) {
  return {{kind, task.agent_id}, record_key(key_of(task)), *encode(task)};
}

RecordWrite without_value(RecordWrite write) {
  write.value.reset();
  return write;
}

}  // namespace

TEST_SUITE_BEGIN("cluster/core/agents");

TEST_CASE("that somebody speaks for an agent is a record like others, wrong ones are refused") {
  const SpeakerRecord record{"node-1", true};
  const auto bytes = encode(record);
  REQUIRE(bytes.has_value());
  CHECK(*decode_speaker(speaker_key(), *bytes) == record);
  CHECK(decode_speaker(complete_key(), *bytes).error() == DecodeError::bad_key);
  CHECK(decode_speaker(speaker_key(), {}).error() == DecodeError::truncated);
  ClusterView view;
  view.apply(std::vector<RecordWrite>{{{ShardKind::agent, AgentId{"a1"}}, speaker_key(), *bytes}});
  CHECK(view.speakers().empty());
  CHECK(view.take_problems().size() == 1);
}

TEST_CASE("what the agent's node says goes before what the master says, in whatever order") {
  Task by_master = make_task("t1");
  by_master.name = "old";
  Task by_agent = make_task("t1");
  by_agent.name = "new";
  const auto master = task_write(ShardKind::agent, by_master);
  const auto agent = task_write(ShardKind::agent_tasks, by_agent);
  const std::vector<RecordWrite> owners{
      {{ShardKind::agent, AgentId{"a1"}}, record_key(AgentId{"a1"}), *encode(make_agent("a1"))},
      {{ShardKind::frameworks, {}}, record_key(FrameworkId{"f1"}), *encode(make_framework("f1"))}};
  for (const bool agent_first : {false, true}) {
    CAPTURE(agent_first);
    ClusterView view;
    view.apply(owners);
    view.apply(std::vector{agent_first ? agent : master});
    view.apply(std::vector{agent_first ? master : agent});
    CHECK(view.task(key("t1"))->name == "new");
    CHECK(view.shadowed().size() == 1);
    CHECK(view.told_by(AgentId{"a1"}) == std::vector<TaskKey>{key("t1")});
    // Each can be read back, as it was written.
    CHECK(view.read(master.shard, master.key) == master);
    CHECK(view.read(agent.shard, agent.key) == agent);
    ClusterView other = view;
    view.apply(std::vector{without_value(agent)});
    REQUIRE(view.task(key("t1")) != nullptr);
    CHECK(view.task(key("t1"))->name == "old");
    CHECK(view.told_by(AgentId{"a1"}).empty());
    other.apply(std::vector{without_value(master)});
    CHECK(other.task(key("t1"))->name == "new");
    other.apply(std::vector{without_value(agent)});
    CHECK(other.task(key("t1")) == nullptr);
  }
}

TEST_CASE("a node by itself serves what its agent says, ahead of the master") {
  Alone node;
  node.master(make_snapshot(3));
  node.agent(says(4));  // one has just started
  CHECK(node.cluster.view().tasks().size() == 4);
  CHECK(node.cluster.status(node.now).own_tasks == 4);
  CHECK(node.cluster.status(node.now).own_agent == AgentId{"a1"});
  node.pass(15s);
  CHECK(node.cluster.view().shadowed().empty());
  // The master's words about them count no more, its silence neither.
  node.master(gone("t0", GoneReason::terminal));
  node.master(make_snapshot(1));
  CHECK(node.cluster.view().tasks().size() == 4);
  Observation ended = says(3);
  ended.tasks_gone = {{key("t3"), GoneReason::terminal}};
  node.agent(ended);
  CHECK(node.cluster.view().tasks().size() == 3);
}

TEST_CASE("a VIP of told tasks has an address, and keeps it through the handing over") {
  Alone node;
  node.master(make_snapshot(2));
  const auto before = node.cluster.view().vips().at(VipName{"web.marathon"});
  node.agent(says(2));
  node.pass(20s);
  CHECK(*node.cluster.view().vips().at(VipName{"web.marathon"}) == *before);
  CHECK_FALSE(node.cluster.view().vip_records().at(VipName{"web.marathon"}).unused_since_seconds);
  // One that only the agent knows of gets one too.
  Observation more = says(2);
  more.tasks.push_back(make_task("n"));
  more.tasks.back().ports[0].vips = {{VipName{"new.marathon"}, port(80), Protocol::tcp}};
  node.agent(more);
  node.pass(1s);
  CHECK(node.cluster.view().vips().contains(VipName{"new.marathon"}));
}

TEST_CASE("a framework's record stays while an agent runs its tasks, whatever the master lists") {
  Alone node;
  Observation two = make_snapshot(2);
  two.frameworks.push_back(make_framework("f2"));
  node.master(two);
  node.agent(says(2));
  node.pass(20s);
  Observation none = two;
  none.frameworks.clear();
  none.tasks.clear();
  node.master(none);
  CHECK(node.cluster.view().tasks().size() == 2);
  CHECK(node.cluster.view().frameworks().size() == 1);
}

TEST_CASE("an agent is held for the tasks it was told of, and believed when it has few") {
  Alone node;
  Observation all = make_snapshot(0);
  all.agents.push_back(make_agent("a2"));
  node.master(all);
  node.agent(says(20));
  node.pass(20s);
  Observation lost = all;
  lost.agents.erase(lost.agents.begin());  // a1, where all tasks are
  node.master(lost);
  CHECK(node.cluster.view().tasks().size() == 20);
  CHECK(node.cluster.status(node.now).held_agents == 1);
  lost = all;
  lost.agents.pop_back();
  node.master(lost);
  CHECK(node.cluster.view().agents().size() == 1);
  CHECK(node.cluster.view().tasks().size() == 20);
}

TEST_CASE("after Mesos gave an agent up its tasks wait unseen, and are seen with its next word") {
  Alone node;
  node.master(make_snapshot(0));
  node.agent(says(3));
  node.pass(20s);
  Observation removed;
  removed.agents_gone = {AgentId{"a1"}};
  node.master(removed);
  CHECK(node.cluster.view().tasks().empty());
  CHECK(node.cluster.view().waiting().size() == 3);
  node.master(make_snapshot(0));
  CHECK(node.cluster.view().tasks().size() == 3);
}

TEST_CASE("tasks that the master loses sight of make it be asked anew, once in a while") {
  Alone node;
  node.master(make_snapshot(3));
  node.agent(says(3));
  node.pass(20s);
  CHECK_FALSE(node.cluster.take_wants_snapshot(node.now));
  node.master(gone("t1", GoneReason::lost));
  CHECK(node.cluster.take_wants_snapshot(node.now));
  node.master(gone("t2", GoneReason::lost));
  CHECK_FALSE(node.cluster.take_wants_snapshot(node.now));
  CHECK(node.cluster.take_wants_snapshot(node.now + Cluster::kAskAnew));
  CHECK(node.cluster.view().tasks().size() == 3);
}

TEST_CASE("a state on disk brings back what the agent was told to run") {
  Alone node;
  node.master(make_snapshot(0));
  node.agent(says(30));
  node.pass(20s);
  const auto bytes = node.cluster.save();
  Alone again;
  REQUIRE(again.cluster.restore(bytes, again.now, again.wall()).has_value());
  CHECK(again.cluster.view().tasks().size() == 30);
  again.master(make_snapshot(0));
  again.agent(says(5));  // suddenly much less: held
  CHECK(again.cluster.view().tasks().size() == 30);
  CHECK(again.cluster.status(again.now).own_held == 25);
  // Or nobody asks the agent any more: then the master's word is the last.
  Alone other;
  REQUIRE(other.cluster.restore(bytes, other.now, other.wall()).has_value());
  other.master(make_snapshot(3));
  other.pass(20s);
  CHECK(other.cluster.view().tasks().size() == 3);
  CHECK(other.cluster.view().told_by(AgentId{"a1"}).empty());
}

TEST_CASE("what is on disk of an agent stays while its shard arrives, in whatever order") {
  Alone node;
  node.master(make_snapshot(0));
  node.agent(says(3));
  const auto bytes = node.cluster.save();
  ClusterOptions replicated;
  replicated.replicated = true;
  const ShardId shard{ShardKind::agent_tasks, AgentId{"a1"}};
  const RecordWrite speaker{shard, speaker_key(), *encode(SpeakerRecord{"n", false})};
  std::vector<RecordWrite> tasks;
  for (int i = 0; i < 2; ++i) {
    tasks.push_back(task_write(ShardKind::agent_tasks, make_task("t" + std::to_string(i))));
  }
  for (const bool one_batch : {true, false}) {
    CAPTURE(one_batch);
    Cluster follower{replicated};
    REQUIRE(follower.restore(bytes, kStart, kWall).has_value());
    std::vector<RecordWrite> writes{speaker};
    if (one_batch) {
      writes.insert(writes.end(), tasks.begin(), tasks.end());
      follower.replicate(writes, kStart);
    } else {
      follower.replicate(writes, kStart);
      CHECK(follower.view().tasks().size() == 3);
      follower.replicate(tasks, kStart + 100ms);
    }
    CHECK(follower.view().tasks().size() == 3);
    REQUIRE(follower.next_deadline());
    follower.on_timer(kStart + Cluster::kDropUnconfirmed, kWall);
    CHECK(follower.view().tasks().size() == 2);  // and what its node does not know goes
  }
}

TEST_SUITE_END();
