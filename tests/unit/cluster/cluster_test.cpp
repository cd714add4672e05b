#include "cluster/core/cluster.hpp"

#include <algorithm>
#include <limits>

#include <doctest/doctest.h>

#include "samples.hpp"

using namespace muster;
using namespace muster::cluster;
using namespace muster::testing;
using namespace std::chrono_literals;

namespace {

constexpr TimePoint kStart{1000s};
constexpr Cluster::WallTime kWall{1'700'000'000s};

ClusterDelta observe(Cluster& cluster, const Observation& observation, TimePoint now = kStart) {
  return cluster.observe(observation, now, kWall + (now - kStart));
}

ClusterDelta on_timer(Cluster& cluster, TimePoint now) {
  return cluster.on_timer(now, kWall + (now - kStart));
}

void restore(Cluster& cluster, const std::vector<std::byte>& saved) {
  const auto delta = cluster.restore(saved, kStart, kWall);
  REQUIRE(delta.has_value());
}

}  // namespace

TEST_SUITE_BEGIN("cluster/core/cluster");

TEST_CASE("a saved state that is not whole is refused, and nothing of it taken") {
  Cluster source;
  observe(source, make_snapshot(20));
  const std::vector<std::byte> good = source.save();
  const auto fails = [](std::vector<std::byte> bytes) {
    Cluster cluster;
    const auto restored = cluster.restore(bytes, kStart, kWall);
    CHECK(cluster.view().tasks().empty());
    CHECK_FALSE(cluster.status(kStart).complete);
    return !restored.has_value();
  };
  CHECK(fails({}));
  CHECK(fails({good.begin(), good.begin() + 12}));
  for (const std::size_t cut : {std::size_t{1}, std::size_t{9}, good.size() / 2}) {
    CHECK(fails({good.begin(), good.end() - static_cast<std::ptrdiff_t>(cut)}));
  }
  std::vector<std::byte> longer = good;
  longer.push_back(std::byte{0});
  CHECK(fails(longer));
  for (std::size_t i = 0; i < good.size(); i += 7) {
    std::vector<std::byte> changed = good;
    changed[i] ^= std::byte{4};
    CHECK(fails(changed));
  }
}

TEST_CASE("a restored state serves at once, and the first snapshot moves only what changed") {
  Cluster first;
  Observation snapshot = make_snapshot(50);
  snapshot.masters = {{{ip("10.0.0.9"), port(5050)}, "m", true}};
  const auto all = observe(first, snapshot);
  CHECK(all.complete);
  CHECK(all.tasks.size() == 50);
  CHECK(all.vips.size() == 1);

  Cluster second;
  const auto restored = second.restore(first.save(), kStart, kWall);
  REQUIRE(restored.has_value());
  CHECK(restored->complete);
  CHECK(restored->tasks.size() == 50);
  CHECK(restored->masters.size() == 1);
  CHECK(second.save() == first.save());
  CHECK(second.status(kStart).complete);
  CHECK_FALSE(second.status(kStart).observed);
  CHECK(observe(second, snapshot).empty());
  CHECK(second.status(kStart).observed);
  CHECK(second.take_problems().empty());
}

TEST_CASE("a save in slices is as good as one at once, also when things change meanwhile") {
  Cluster cluster;
  observe(cluster, make_snapshot(100));
  SaveJob job;
  std::size_t slices = 0;
  while (!job.collect(cluster, 30)) ++slices;
  CHECK(slices == 3);
  CHECK(job.write() == cluster.save());

  SaveJob second;
  CHECK_FALSE(second.collect(cluster, 50));
  Observation meanwhile = gone("t0", GoneReason::terminal);
  meanwhile.tasks_gone.push_back({key("t99"), GoneReason::terminal});
  meanwhile.agents = {make_agent("a2")};
  meanwhile.tasks = {make_task("t00", "a2"), make_task("t999", "a2")};
  observe(cluster, meanwhile, kStart + 1s);
  while (!second.collect(cluster, 50)) {
  }
  Cluster copy;
  restore(copy, second.write());
  CHECK(copy.view().tasks().contains(key("t0")));  // saved before it went
  CHECK_FALSE(copy.view().tasks().contains(key("t99")));
  CHECK_FALSE(copy.view().tasks().contains(key("t00")));  // came behind the collector
  CHECK(copy.view().tasks().contains(key("t999")));
  CHECK(copy.view().waiting().empty());
}

TEST_CASE("a state is complete with the first snapshot of a master that waits for nobody") {
  Cluster cluster;
  Observation recovering = make_snapshot(0);
  recovering.recovering = true;
  CHECK_FALSE(observe(cluster, recovering).complete);
  CHECK_FALSE(cluster.status(kStart).complete);
  CHECK(cluster.status(kStart).recovering);
  Cluster restored;
  restore(restored, cluster.save());
  CHECK_FALSE(restored.status(kStart).complete);
  Observation event;
  CHECK(observe(cluster, event).complete);
  Cluster only_events;
  CHECK_FALSE(observe(only_events, event).complete);
}

TEST_CASE("a failover of the master takes nothing away that comes back") {
  Cluster cluster;
  observe(cluster, make_snapshot(100));
  Observation empty;
  empty.snapshot = true;
  empty.recovering = true;
  CHECK(observe(cluster, empty, kStart + 1s).empty());
  auto status = cluster.status(kStart + 1s);
  CHECK(status.held_tasks == 100);
  CHECK(status.held_agents == 1);
  CHECK(status.held_frameworks == 1);
  CHECK(*status.held_since == kStart + 1s);

  Observation back;
  back.agents = {make_agent("a1")};
  back.recovering = false;  // the last agent is announced before its tasks are
  CHECK(observe(cluster, back, kStart + 3s).empty());
  Observation tasks;
  tasks.frameworks = {make_framework("f1")};
  for (int i = 0; i < 97; ++i) tasks.tasks.push_back(make_task("t" + std::to_string(i)));
  CHECK(observe(cluster, tasks, kStart + 3s).empty());
  CHECK(cluster.status(kStart + 3s).held_tasks == 3);
  REQUIRE(cluster.next_deadline());
  const auto delta = on_timer(cluster, *cluster.next_deadline());
  CHECK(delta.tasks.size() == 3);
  CHECK(cluster.view().tasks().size() == 97);
  CHECK_FALSE(cluster.status(kStart + 1min).held_since);
}

TEST_CASE("rights that were lost look like an empty cluster, which is believed after ten minutes") {
  Cluster cluster;
  observe(cluster, make_snapshot(5000));
  Observation nothing;
  nothing.snapshot = true;
  for (int minute = 1; minute <= 10; ++minute) {  // polled, not streamed
    CHECK(observe(cluster, nothing, kStart + minute * 1min).tasks.empty());
  }
  CHECK(*cluster.next_deadline() == kStart + 11min);
  std::size_t calls = 0;
  while (!cluster.view().tasks().empty()) {
    REQUIRE(cluster.next_deadline());
    on_timer(cluster, std::max(*cluster.next_deadline(), kStart + 11min));
    REQUIRE(++calls < 10);
  }
  CHECK(calls > 1);  // in portions, so that no call is long
  // With the last tasks their agent and framework went.
  CHECK(cluster.view().agents().empty());
  CHECK(cluster.view().frameworks().empty());
}

TEST_CASE("tasks that are named again are held no more, unchanged and unannounced") {
  Cluster cluster;
  const Observation full = make_snapshot(100);
  observe(cluster, full);
  observe(cluster, make_snapshot(60), kStart + 1s);
  CHECK(cluster.status(kStart).held_tasks == 40);
  CHECK(observe(cluster, full, kStart + 6s).empty());
  CHECK(cluster.status(kStart).held_tasks == 0);
  CHECK_FALSE(cluster.next_deadline());
}

TEST_CASE("explicit ends always apply, also to what is held") {
  Cluster cluster;
  observe(cluster, make_snapshot(100));
  observe(cluster, make_snapshot(10), kStart + 1s);
  CHECK(cluster.status(kStart).held_tasks == 90);
  auto delta = observe(cluster, gone("t50", GoneReason::terminal), kStart + 2s);
  CHECK(delta.tasks.size() == 1);
  Observation torn_down;
  torn_down.frameworks_gone = {FrameworkId{"f1"}};
  delta = observe(cluster, torn_down, kStart + 3s);
  CHECK(delta.tasks.size() == 99);
  CHECK(delta.frameworks.size() == 1);
  CHECK(cluster.view().tasks().empty());
}

TEST_CASE("a lost agent of three acts at once") {
  Cluster cluster;
  Observation snapshot = make_snapshot(2);
  snapshot.agents.push_back(make_agent("a2"));
  snapshot.tasks.push_back(make_task("x", "a2"));
  observe(cluster, snapshot);
  const auto delta = observe(cluster, gone("x", GoneReason::lost), kStart + 1s);
  REQUIRE(delta.tasks.size() == 1);
  CHECK(delta.tasks[0].before->id == TaskId{"x"});
  CHECK(delta.tasks[0].after == nullptr);
}

TEST_CASE("an agent's record stays until its last task has gone") {
  Cluster cluster;
  observe(cluster, make_snapshot(20));
  Observation leaves;
  leaves.agents_gone = {AgentId{"a1"}};
  CHECK(observe(cluster, leaves, kStart + 1s).empty());  // all 20 are held as lost
  CHECK(cluster.status(kStart).held_tasks == 20);
  CHECK(cluster.view().agents().size() == 1);
  Observation ends;
  for (int i = 0; i < 20; ++i) {
    ends.tasks_gone.push_back({key("t" + std::to_string(i)), GoneReason::terminal});
  }
  const auto delta = observe(cluster, ends, kStart + 2s);
  CHECK(delta.tasks.size() == 20);
  CHECK(delta.agents.size() == 1);
  CHECK(cluster.view().frameworks().size() == 1);

  Observation returns;
  returns.agents = {make_agent("a1")};
  returns.tasks = {make_task("t0")};
  CHECK(observe(cluster, returns, kStart + 3s).tasks.size() == 1);
}

TEST_CASE("what is gone and there in one observation is there") {
  Cluster cluster;
  observe(cluster, make_snapshot(1));
  Observation both = gone("t0", GoneReason::terminal);
  both.agents_gone = {AgentId{"a1"}};
  both.agents = {make_agent("a1")};
  both.tasks = {make_task("t0")};
  CHECK(observe(cluster, both, kStart + 1s).empty());
  CHECK(cluster.view().tasks().size() == 1);
}

TEST_CASE("a task announced before its agent waits for it") {
  Cluster cluster;
  observe(cluster, make_snapshot(1));
  Observation early;
  early.tasks = {make_task("x", "a9")};
  CHECK(observe(cluster, early, kStart + 1s).empty());
  CHECK(cluster.status(kStart).waiting_tasks == 1);
  Observation late;
  late.agents = {make_agent("a9")};
  const auto delta = observe(cluster, late, kStart + 2s);
  CHECK(delta.tasks.size() == 1);
  CHECK(delta.agents.size() == 1);
  CHECK(cluster.status(kStart).waiting_tasks == 0);
}

TEST_CASE("a task that cannot be written is a problem and costs nothing else") {
  Cluster cluster;
  Observation snapshot = make_snapshot(3);
  snapshot.tasks[1].name = std::string(kMaxTextBytes + 1, 'x');
  CHECK(observe(cluster, snapshot).tasks.size() == 2);
  const auto problems = cluster.take_problems();
  REQUIRE(problems.size() == 1);
  CHECK(problems[0].kind == "task");
  CHECK(problems[0].where == "task t1 of framework f1");
  // Of one that was good before, the last good state stays.
  snapshot.tasks[0].name = snapshot.tasks[1].name;
  CHECK(observe(cluster, snapshot, kStart + 1s).empty());
  CHECK(cluster.view().tasks().size() == 2);
}

TEST_CASE("more tasks than allowed are refused one by one") {
  ClusterOptions options;
  options.max_tasks = 2;
  Cluster cluster{options};
  CHECK(observe(cluster, make_snapshot(5)).tasks.size() == 2);
  CHECK(cluster.take_problems().size() == 3);
}

std::size_t unused_vips(const Cluster& cluster) {
  const auto& records = cluster.view().vip_records();
  return static_cast<std::size_t>(std::count_if(records.begin(), records.end(), [](const auto& r) {
    return r.second.unused_since_seconds.has_value();
  }));
}

TEST_CASE("a VIP's address outlives its backends by a day, and a restart") {
  Cluster cluster;
  observe(cluster, make_snapshot(1));
  const auto allocation = cluster.view().vips().at(VipName{"web.marathon"});
  CHECK(allocation->v4 == preferred_address("web.marathon", default_vip_range_v4()));
  auto delta = observe(cluster, gone("t0", GoneReason::terminal), kStart + 1h);
  CHECK(delta.vips.empty());
  CHECK(unused_vips(cluster) == 1);
  CHECK(*cluster.next_deadline() == kStart + 25h);
  CHECK(on_timer(cluster, kStart + 24h).empty());

  Cluster second;
  REQUIRE(second.restore(cluster.save(), kStart + 24h, kWall + 24h).has_value());
  CHECK(unused_vips(second) == 1);
  CHECK(*second.next_deadline() == kStart + 25h);
  delta = on_timer(second, kStart + 25h);
  REQUIRE(delta.vips.size() == 1);
  CHECK(delta.vips[0].after == nullptr);
}

TEST_CASE("masters are what was said last") {
  Cluster cluster;
  Observation observation;
  const Master one{{ip("10.0.0.1"), port(5050)}, "m1", true};
  const Master two{{ip("10.0.0.2"), port(5050)}, "m2", false};
  observation.masters = {one, two};
  CHECK(observe(cluster, observation).masters.size() == 2);
  CHECK(observe(cluster, observation).empty());
  CHECK(observe(cluster, Observation{}).empty());
  observation.masters = {two};
  CHECK(observe(cluster, observation).masters.size() == 1);
  CHECK(cluster.view().masters().size() == 1);
}

TEST_CASE("an observation in slices is complete with its last one") {
  Cluster cluster;
  Cluster whole;
  observe(whole, make_snapshot(1000));
  cluster.begin(std::make_shared<const Observation>(make_snapshot(1000)), kStart, kWall);
  std::size_t slices = 0;
  std::size_t tasks = 0;
  while (cluster.busy()) {
    const auto delta = cluster.advance(100, kStart, kWall);
    CHECK(delta.tasks.size() <= 100);
    CHECK(delta.complete == !cluster.busy());
    tasks += delta.tasks.size();
    on_timer(cluster, kStart);
    ++slices;
  }
  CHECK(slices >= 10);
  CHECK(tasks == 1000);
  CHECK(cluster.save() == whole.save());

  // An event in the middle of the next snapshot waits its turn, and is in the end what counts.
  cluster.begin(std::make_shared<const Observation>(make_snapshot(900)), kStart + 1s, kWall);
  cluster.advance(10, kStart + 1s, kWall);
  CHECK(observe(cluster, gone("t5", GoneReason::terminal), kStart + 2s).tasks.empty());
  CHECK(cluster.busy());
  while (cluster.busy()) cluster.advance(100, kStart + 2s, kWall);
  CHECK(cluster.view().tasks().size() == 899);
}

TEST_CASE("more events than may wait behind a snapshot are not lost") {
  Cluster cluster;
  cluster.begin(std::make_shared<const Observation>(make_snapshot(50)), kStart, kWall);
  cluster.advance(10, kStart, kWall);
  for (std::size_t i = 0; i < kMaxWaitingObservations; ++i) {
    CHECK(observe(cluster, gone("t5", GoneReason::terminal)).tasks.empty());
  }
  const auto delta = observe(cluster, gone("t6", GoneReason::terminal));
  CHECK_FALSE(cluster.busy());
  CHECK(delta.complete);
  CHECK(cluster.view().tasks().size() == 48);
}

TEST_SUITE_END();
