#include <algorithm>
#include <map>
#include <set>

#include <doctest/doctest.h>

#include "base/rng.hpp"
#include "cluster/core/cluster.hpp"
#include "samples.hpp"
#include "tests/support/seeds.hpp"

using namespace muster;
using namespace muster::cluster;
using namespace muster::testing;
using namespace std::chrono_literals;

namespace {

constexpr Cluster::WallTime kWall{1'700'000'000s};

/// What a master has told so far, and random further things for it to tell.
class Told {
 public:
  explicit Told(Rng& rng) : rng_{rng} {
    for (int i = 0; i < 6; ++i)
      agents["a" + std::to_string(i)] = make_agent("a" + std::to_string(i));
    for (int i = 0; i < 3; ++i) {
      frameworks["f" + std::to_string(i)] = make_framework("f" + std::to_string(i));
    }
  }

  Observation next() {
    Observation observation;
    const std::uint64_t what = rng_.below(100);
    if (what < 12) {
      observation = snapshot();
    } else if (what < 60) {
      for (std::uint64_t i = 0; i <= rng_.below(8); ++i) put(observation);
    } else if (what < 75) {
      drop_some(observation, GoneReason::terminal, 1 + rng_.below(4));
    } else if (what < 90) {
      drop_some(observation, GoneReason::lost, 1 + rng_.below(25));
    } else if (what < 93) {
      drop_framework(observation);
    } else {
      recovering = !recovering;
    }
    observation.recovering = recovering;
    return observation;
  }

  std::map<std::string, Agent> agents;
  std::map<std::string, Framework> frameworks;
  std::map<TaskKey, Task> tasks;
  bool recovering = false;

 private:
  Observation snapshot() {
    recovering = rng_.chance(40);
    if (rng_.chance(60)) {  // something is missing, for whatever reason
      const auto keep = static_cast<std::uint32_t>(rng_.below(100));
      std::erase_if(tasks, [&](const auto&) { return !rng_.chance(keep); });
    }
    Observation all;
    all.snapshot = true;
    for (const auto& [id, agent] : agents) all.agents.push_back(agent);
    for (const auto& [id, framework] : frameworks) all.frameworks.push_back(framework);
    for (const auto& [id, task] : tasks) all.tasks.push_back(task);
    return all;
  }

  void put(Observation& out) {
    const std::string framework = "f" + std::to_string(rng_.below(3));
    if (!frameworks.contains(framework)) {
      frameworks[framework] = make_framework(framework);
      out.frameworks.push_back(frameworks[framework]);
    }
    Task task = make_task("t" + std::to_string(rng_.below(80)), "a" + std::to_string(rng_.below(6)),
                          framework);
    task.health = rng_.chance(50) ? Health::healthy : Health::unhealthy;
    task.ports[0].vips[0].host = VipName{"v" + std::to_string(rng_.below(10))};
    if (rng_.chance(20)) task.ports[0].endpoints.push_back({ip("fd01::1"), port(31000)});
    if (rng_.chance(10)) task.ports.clear();
    out.tasks.push_back(task);
    tasks.insert_or_assign(key_of(task), task);
  }

  void drop_some(Observation& out, GoneReason reason, std::uint64_t count) {
    for (std::uint64_t i = 0; i < count && !tasks.empty(); ++i) {
      const auto victim =
          std::next(tasks.begin(), static_cast<std::ptrdiff_t>(rng_.below(tasks.size())));
      out.tasks_gone.push_back({victim->first, reason});
      tasks.erase(victim);
    }
  }

  void drop_framework(Observation& out) {
    const std::string id = "f" + std::to_string(rng_.below(3));
    frameworks.erase(id);
    out.frameworks_gone.emplace_back(id);
    std::erase_if(tasks, [&](const auto& task) { return task.first.framework.str() == id; });
  }

  Rng& rng_;
};

void check_vips(const Cluster& cluster) {
  std::set<IpAddress> taken;
  for (const auto& [name, allocation] : cluster.view().vips()) {
    const bool alone = (!allocation->v4 || taken.insert(*allocation->v4).second) &&
                       (!allocation->v6 || taken.insert(*allocation->v6).second);
    if (!alone) FAIL(name.str());  // a REQUIRE for each would be most of the time
  }
  for (const auto& [id, task] : cluster.view().tasks()) {
    for (const TaskPort& declared : task->ports) {
      const auto& name = std::get<VipName>(declared.vips.at(0).host);
      const auto allocation = cluster.view().vips().find(name);
      const bool served = allocation != cluster.view().vips().end() && allocation->second->v4 &&
                          (declared.endpoints.size() < 2 || allocation->second->v6);
      if (!served) FAIL(name.str());
    }
  }
}

/// The view is what was told and what is held, no more and no less.
void check_view(const Cluster& cluster, const Told& told, TimePoint now) {
  const auto& view = cluster.view().tasks();
  for (const auto& [id, task] : told.tasks) {
    const auto seen = view.find(id);
    if (seen == view.end() || *seen->second != task) FAIL(id.task.str());
  }
  REQUIRE(view.size() - told.tasks.size() == cluster.status(now).held_tasks);
  REQUIRE(cluster.view().waiting().empty());
}

}  // namespace

TEST_SUITE_BEGIN("cluster/core/cluster properties");

TEST_CASE("without a hold the view is what was told, after every observation") {
  for_each_seed(40, [](std::uint64_t seed) {
    MUSTER_SHOW_SEED(seed);
    Rng rng{seed};
    Told told{rng};
    ClusterOptions options;
    options.hold_down.max_percent = 100;
    Cluster cluster{options};
    std::map<TaskKey, Task> from_deltas;
    TimePoint now{1000s};
    for (int step = 0; step < 80; ++step) {
      Observation observation = told.next();
      told.recovering = observation.recovering = false;
      if (step == 0)
        observation.agents = {make_agent("a0"), make_agent("a1"), make_agent("a2"),
                              make_agent("a3"), make_agent("a4"), make_agent("a5")};
      if (step == 0)
        observation.frameworks = {make_framework("f0"), make_framework("f1"), make_framework("f2")};
      for (const auto& [before, after] : cluster.observe(observation, now, kWall).tasks) {
        REQUIRE((before || after));
        const TaskKey id = key_of(after ? *after : *before);
        REQUIRE(from_deltas.contains(id) == (before != nullptr));
        from_deltas.erase(id);
        if (after) from_deltas.emplace(id, *after);
      }
      REQUIRE(from_deltas == told.tasks);
      check_view(cluster, told, now);
      check_vips(cluster);
      REQUIRE(cluster.status(now).held_tasks == 0);
      now += 1s;
    }
  });
}

TEST_CASE("with holds the view is what was told and what is held, and all holds end") {
  for_each_seed(25, [](std::uint64_t seed) {
    MUSTER_SHOW_SEED(seed);
    Rng rng{seed};
    Told told{rng};
    Cluster cluster;
    Cluster sliced;
    TimePoint now{1000s};
    Observation first;
    for (const auto& [id, agent] : told.agents) first.agents.push_back(agent);
    for (const auto& [id, framework] : told.frameworks) first.frameworks.push_back(framework);
    cluster.observe(first, now, kWall);
    sliced.observe(first, now, kWall);
    for (int step = 0; step < 80; ++step) {
      const Observation observation = told.next();
      cluster.observe(observation, now, kWall);
      sliced.begin(std::make_shared<const Observation>(observation), now, kWall);
      while (sliced.busy()) sliced.advance(1 + rng.below(9), now, kWall);
      check_view(cluster, told, now);
      check_vips(cluster);
      if (rng.chance(20)) REQUIRE(sliced.save() == cluster.save());
      now += Duration{rng.below(40'000)};
      if (rng.chance(50)) {
        cluster.on_timer(now, kWall);
        sliced.on_timer(now, kWall);
      }
    }
    if (told.recovering) {
      Observation recovered;
      cluster.observe(recovered, now, kWall);
    }
    const TimePoint limit = now + 11min;
    while (cluster.status(now).held_since) {
      REQUIRE(cluster.next_deadline());
      now = std::max(now, *cluster.next_deadline());
      REQUIRE(now <= limit);
      cluster.on_timer(now, kWall);
    }
    check_view(cluster, told, now);
  });
}

TEST_CASE("restore(save()) is the same state at any moment, and goes on the same way") {
  for_each_seed(25, [](std::uint64_t seed) {
    MUSTER_SHOW_SEED(seed);
    Rng rng{seed};
    Told told{rng};
    Cluster cluster;
    TimePoint now{1000s};
    for (int step = 0; step < 40; ++step) {
      cluster.observe(told.next(), now, kWall);
      now += 1s;
      if (!rng.chance(20)) continue;
      const auto saved = cluster.save();
      Cluster copy;
      const auto delta = copy.restore(saved, now, kWall);
      REQUIRE(delta.has_value());
      REQUIRE(delta->tasks.size() == cluster.view().tasks().size());
      REQUIRE(copy.save() == saved);
      REQUIRE(copy.take_problems().empty());
      REQUIRE(copy.status(now).complete == cluster.status(now).complete);
      REQUIRE(copy.view().vip_records() == cluster.view().vip_records());
      for (const auto& [id, task] : cluster.view().tasks()) {
        if (*copy.view().tasks().at(id) != *task) FAIL(id.task.str());
      }
    }
  });
}

TEST_SUITE_END();
