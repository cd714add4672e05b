#include "cluster/core/cluster_view.hpp"

#include <algorithm>
#include <string>

#include <doctest/doctest.h>

#include "base/rng.hpp"
#include "samples.hpp"
#include "tests/support/seeds.hpp"

using namespace muster;
using namespace muster::cluster;
using namespace muster::testing;

namespace {

template <class T>
std::vector<std::byte> bytes_of(const T& value) {
  const auto bytes = encode(value);
  REQUIRE(bytes.has_value());
  return *bytes;
}

RecordWrite put(const Task& task) {
  return {shard_of(task), record_key(key_of(task)), bytes_of(task)};
}
RecordWrite put(const Agent& agent) {
  return {shard_of(agent), record_key(agent.id), bytes_of(agent)};
}
RecordWrite put(const Framework& framework) {
  return {{ShardKind::frameworks, {}}, record_key(framework.id), bytes_of(framework)};
}
RecordWrite put(const Master& master) {
  return {{ShardKind::masters, {}}, record_key(master.endpoint), bytes_of(master)};
}
RecordWrite put(const VipRecord& vip) {
  return {{ShardKind::vips, {}}, record_key(vip.allocation.name), bytes_of(vip)};
}
RecordWrite take_away(RecordWrite write) {
  write.value.reset();
  return write;
}

ClusterDelta apply(ClusterView& view, std::vector<RecordWrite> writes) {
  return view.apply(writes);
}

}  // namespace

TEST_SUITE_BEGIN("cluster/core/cluster_view");

TEST_CASE("a record that cannot be read is a problem, and nothing else is lost") {
  struct Row {
    std::string what;
    RecordWrite write;
  };
  const std::vector<std::byte> junk{std::byte{1}, std::byte{0}};
  const std::vector<Row> rows{
      {"a task of junk", {{ShardKind::agent, AgentId{"a1"}}, record_key(key("t1")), junk}},
      {"a task in the vips", {{ShardKind::vips, {}}, record_key(key("t1")), junk}},
      {"a task's end without a key",
       {{ShardKind::agent, AgentId{"a1"}}, {RecordKind::task, "x"}, {}}},
      {"an agent in another's shard",
       {{ShardKind::agent, AgentId{"a2"}}, record_key(AgentId{"a1"}), bytes_of(make_agent("a1"))}},
      {"a framework in the masters",
       {{ShardKind::masters, {}}, record_key(FrameworkId{"f1"}), bytes_of(make_framework("f1"))}},
      {"a framework of junk", {{ShardKind::frameworks, {}}, record_key(FrameworkId{"f1"}), junk}},
      {"a master without an address", {{ShardKind::masters, {}}, {RecordKind::master, "m"}, {}}},
      {"a VIP of junk", {{ShardKind::vips, {}}, record_key(VipName{"a.x"}), junk}},
  };
  for (const Row& row : rows) {
    CAPTURE(row.what);
    ClusterView view;
    apply(view, {put(make_agent("a1")), put(make_framework("f1")), put(make_task("t1"))});
    const auto delta = apply(view, {row.write, put(make_task("t2"))});
    CHECK(delta.tasks.size() == 1);
    CHECK(delta.agents.empty());
    CHECK(delta.frameworks.empty());
    CHECK(view.tasks().size() == 2);
    CHECK(view.frameworks().size() == 1);
    const auto problems = view.take_problems();
    REQUIRE(problems.size() == 1);
    CHECK(problems.front().kind == "record");
    CHECK(view.take_problems().empty());
  }
}

TEST_CASE("problems are bounded, and so is what they say") {
  ClusterView view;
  const RecordWrite bad{
      {ShardKind::vips, {}}, {RecordKind::vip, std::string(1000, '\n')}, std::vector<std::byte>{}};
  view.apply(std::vector<RecordWrite>(kMaxProblems + 50, bad));
  const auto problems = view.take_problems();
  CHECK(problems.size() == kMaxProblems);
  CHECK(problems.front().where.size() < 300);
  CHECK(problems.front().where.find('\n') == std::string::npos);
}

TEST_CASE("a kind of a later version is ignored") {
  ClusterView view;
  const RecordWrite later{{ShardKind::vips, {}},
                          {static_cast<RecordKind>(99), "x"},
                          std::vector<std::byte>{std::byte{7}}};
  CHECK(view.apply(std::vector{later, take_away(later)}).empty());
  CHECK(view.take_problems().empty());
}

TEST_CASE("a task is seen when its agent and framework are there, whichever comes last") {
  std::vector<RecordWrite> writes{put(make_agent("a1")), put(make_framework("f1")),
                                  put(make_task("t1"))};
  std::vector<int> order{0, 1, 2};
  do {
    ClusterView view;
    ClusterDelta last;
    for (const int i : order) {
      CHECK(view.tasks().empty());
      last = apply(view, {writes[static_cast<std::size_t>(i)]});
    }
    REQUIRE(last.tasks.size() == 1);
    CHECK(last.tasks[0].before == nullptr);
    CHECK(*last.tasks[0].after == make_task("t1"));
    CHECK(view.waiting().empty());
  } while (std::next_permutation(order.begin(), order.end()));
}

TEST_CASE("a task goes when its agent's record does, and comes back with it") {
  ClusterView view;
  apply(view, {put(make_agent("a1")), put(make_framework("f1")), put(make_task("t1"))});
  auto delta = apply(view, {take_away(put(make_agent("a1")))});
  REQUIRE(delta.tasks.size() == 1);
  CHECK(delta.tasks[0].after == nullptr);
  CHECK(view.waiting().size() == 1);
  delta = apply(view, {put(make_agent("a1"))});
  REQUIRE(delta.tasks.size() == 1);
  CHECK(*delta.tasks[0].after == make_task("t1"));
  // Both within one batch: as if nothing had been.
  CHECK(apply(view, {take_away(put(make_agent("a1"))), put(make_agent("a1"))}).empty());
}

TEST_CASE("an agent's new address and a framework's new name reach their tasks") {
  ClusterView view;
  apply(view, {put(make_agent("a1")), put(make_agent("a2")), put(make_framework("f1")),
               put(make_task("t1")), put(make_task("t2", "a2"))});
  Agent moved = make_agent("a1");
  moved.addresses = {ip("10.0.0.7")};
  auto delta = apply(view, {put(moved)});
  REQUIRE(delta.tasks.size() == 1);
  CHECK(delta.tasks[0].after->agent_addresses == moved.addresses);
  CHECK(delta.tasks[0].before->agent_addresses == make_agent("a1").addresses);

  Framework renamed = make_framework("f1");
  renamed.name = "other";
  delta = apply(view, {put(renamed)});
  CHECK(delta.tasks.size() == 2);
  CHECK(view.task(key("t2"))->framework_name == "other");

  Framework elsewhere = renamed;
  elsewhere.hostname = "m2";
  delta = apply(view, {put(elsewhere)});
  CHECK(delta.tasks.empty());
  CHECK(delta.frameworks.size() == 1);
}

TEST_CASE("a batch says only what differs in the end") {
  ClusterView view;
  apply(view, {put(make_agent("a1")), put(make_framework("f1")), put(make_task("t1"))});
  Task killing = make_task("t1");
  killing.state = TaskState::killing;
  CHECK(apply(view, {put(make_task("t1"))}).empty());
  CHECK(apply(view, {put(killing), put(make_task("t1"))}).empty());
  CHECK(apply(view, {put(make_task("t2")), take_away(put(make_task("t2")))}).empty());
  const auto delta = apply(view, {take_away(put(make_task("t1"))), put(killing)});
  REQUIRE(delta.tasks.size() == 1);
  CHECK(delta.tasks[0].before->state == TaskState::running);
  CHECK(delta.tasks[0].after->state == TaskState::killing);
}

TEST_CASE("a task that moved is not taken away by the agent it left") {
  ClusterView view;
  apply(view, {put(make_agent("a1")), put(make_agent("a2")), put(make_framework("f1")),
               put(make_task("t1", "a1"))});
  auto delta = apply(view, {put(make_task("t1", "a2"))});
  REQUIRE(delta.tasks.size() == 1);
  CHECK(apply(view, {take_away(put(make_task("t1", "a1")))}).empty());
  CHECK(view.task(key("t1"))->agent_id == AgentId{"a2"});
  CHECK(apply(view, {take_away(put(make_agent("a1")))}).tasks.empty());
  CHECK(apply(view, {take_away(put(make_task("t1", "a2")))}).tasks.size() == 1);
}

TEST_CASE("masters and VIPs come, change and go") {
  ClusterView view;
  Master master{{ip("10.0.0.1"), port(5050)}, "m1", false};
  const VipRecord vip{{VipName{"a.x"}, ip("11.0.0.1"), {}}, 0, 1, 5, {}, {}};
  auto delta = apply(view, {put(master), put(vip)});
  CHECK(delta.masters.size() == 1);
  CHECK(delta.vips.size() == 1);
  master.leading = true;
  VipRecord unused = vip;
  unused.unused_since_seconds = 9;
  delta = apply(view, {put(master), put(unused)});
  CHECK(delta.masters.size() == 1);
  CHECK(delta.vips.empty());  // what is told about it is the same
  delta = apply(view, {take_away(put(master)), take_away(put(vip))});
  CHECK(delta.masters.size() == 1);
  CHECK(delta.vips.size() == 1);
  CHECK(view.masters().empty());
  CHECK(view.vips().empty());
}

TEST_CASE("the view depends on the records alone, and deltas add up to it") {
  for_each_seed(100, [](std::uint64_t seed) {
    MUSTER_SHOW_SEED(seed);
    Rng rng{seed};
    std::map<std::pair<ShardId, RecordKey>, RecordWrite> records;
    std::map<TaskKey, Task> from_deltas;
    ClusterView view;
    const auto named = [&rng](const char* prefix, std::uint64_t count) {
      return prefix + std::to_string(rng.below(count));
    };
    for (int step = 0; step < 60; ++step) {
      std::vector<RecordWrite> batch;
      for (std::uint64_t i = 0; i <= rng.below(6); ++i) {
        RecordWrite write;
        const std::string agent = named("a", 4);
        const std::string framework = named("f", 3);
        switch (rng.below(4)) {
          case 0: {
            Agent value = make_agent(agent);
            value.addresses = {ip(rng.chance(50) ? "10.0.0.1" : "10.0.0.2")};
            write = put(value);
            break;
          }
          case 1: {
            Framework value = make_framework(framework);
            value.name = named("name", 2);
            write = put(value);
            break;
          }
          default:  // a task keeps to one agent: what two shards would mean depends on the order
            write = put(make_task(agent + named("t", 5), agent, framework));
        }
        if (rng.chance(30)) write = take_away(write);
        records[{write.shard, write.key}] = write;
        batch.push_back(write);
      }
      for (const auto& [before, after] : view.apply(batch).tasks) {
        const TaskKey id = key_of(after ? *after : *before);
        const auto known = from_deltas.find(id);
        REQUIRE((known != from_deltas.end()) == (before != nullptr));
        if (before) REQUIRE(known->second == *before);
        if (after) {
          from_deltas.insert_or_assign(id, *after);
        } else {
          from_deltas.erase(id);
        }
      }
    }
    ClusterView other;
    std::vector<RecordWrite> all;
    for (const auto& [id, write] : records) all.push_back(write);
    for (std::size_t i = all.size(); i > 1; --i) std::swap(all[i - 1], all[rng.below(i)]);
    for (const RecordWrite& write : all) other.apply(std::vector{write});
    REQUIRE(view.tasks().size() == other.tasks().size());
    REQUIRE(view.tasks().size() == from_deltas.size());
    CHECK(view.waiting().size() == other.waiting().size());
    for (const auto& [id, task] : view.tasks()) {
      CHECK(*task == *other.tasks().at(id));
      CHECK(*task == from_deltas.at(id));
    }
  });
}

TEST_SUITE_END();
