#include "lb/core/slow_start.hpp"

#include <doctest/doctest.h>

#include "lb/core/plan.hpp"
#include "lb/core/vip_table.hpp"
#include "tests/support/lb_samples.hpp"

namespace muster::lb {
namespace {

using namespace testing;
using std::chrono::seconds;

const Vip kVip = tcp("11.0.0.1:80");
const TimePoint kStart{seconds{1000}};

Endpoint backend(int i) {
  return at("10.0.0." + std::to_string(i) + ":80");
}
std::set<Endpoint> backends(int from, int to) {
  std::set<Endpoint> all;
  for (int i = from; i <= to; ++i) all.insert(backend(i));
  return all;
}

/// The weights of backends 1 to `count`, each declared with 1.
std::vector<int> weights(const SlowStart& slow_start, int count) {
  std::vector<Backend> all;
  for (int i = 1; i <= count; ++i) all.push_back({backend(i), 1});
  slow_start.weigh(kVip, all);
  std::vector<int> found;
  for (const Backend& one : all) found.push_back(one.weight);
  return found;
}
using Weights = std::vector<int>;

TEST_CASE("a backend that begins gets an eighth, a quarter, half, all of its share") {
  SlowStart slow_start;
  slow_start.update(kVip, backends(1, 2), seconds{30}, kStart, true);
  CHECK(weights(slow_start, 2) == Weights{1, 1});
  CHECK_FALSE(slow_start.next().has_value());
  slow_start.update(kVip, backends(1, 3), seconds{30}, kStart, false);
  CHECK(weights(slow_start, 3) == Weights{8, 8, 1});
  CHECK(slow_start.starting(kVip) == backends(3, 3));
  struct Row {
    int at;
    Weights weights;
    bool changes;
  };
  for (const Row& row :
       {Row{9, {8, 8, 1}, false}, Row{10, {8, 8, 2}, true}, Row{19, {8, 8, 2}, false},
        Row{20, {8, 8, 4}, true}, Row{29, {8, 8, 4}, false}, Row{30, {1, 1, 1}, true}}) {
    CAPTURE(row.at);
    CHECK(slow_start.advance(kStart + seconds{row.at}).empty() != row.changes);
    CHECK(weights(slow_start, 3) == row.weights);
  }
  CHECK_FALSE(slow_start.next().has_value());
  CHECK(slow_start.starting() == 0);
}

TEST_CASE("a clock that jumps does not pass the steps one by one") {
  SlowStart slow_start;
  slow_start.update(kVip, backends(1, 1), seconds{30}, kStart, true);
  slow_start.update(kVip, backends(1, 2), seconds{30}, kStart, false);
  CHECK(slow_start.advance(kStart + seconds{25}) == std::vector{kVip});
  CHECK(weights(slow_start, 2) == Weights{8, 4});
  CHECK(slow_start.advance(kStart + seconds{999}) == std::vector{kVip});
  CHECK(weights(slow_start, 2) == Weights{1, 1});
}

TEST_CASE("backends that begin together have equal shares, and change together") {
  SlowStart slow_start;
  // Some ms apart, as a cluster's news come.
  for (int i = 1; i <= 5; ++i) {
    slow_start.update(kVip, backends(1, i), seconds{30}, kStart + Duration{100 * i}, false);
  }
  CHECK(weights(slow_start, 5) == Weights{1, 1, 1, 1, 1});
  std::size_t changes = 0;
  while (const auto due = slow_start.next()) {
    CHECK((due->time_since_epoch() % seconds{1}).count() == 0);
    changes += slow_start.advance(*due).size();
    const auto now = weights(slow_start, 5);
    CHECK(now == Weights(5, now[0]));
  }
  CHECK(changes == 3);
}

TEST_CASE("who goes and comes again begins anew, and nobody else does") {
  SlowStart slow_start;
  slow_start.update(kVip, backends(1, 3), seconds{30}, kStart, true);
  slow_start.update(kVip, backends(1, 2), seconds{30}, kStart, false);
  slow_start.update(kVip, backends(1, 3), seconds{30}, kStart + seconds{1}, false);
  CHECK(weights(slow_start, 3) == Weights{8, 8, 1});
  // Gone while it starts: nothing is left of it.
  slow_start.update(kVip, backends(1, 2), seconds{30}, kStart + seconds{2}, false);
  CHECK(slow_start.starting() == 0);
  CHECK_FALSE(slow_start.next().has_value());
  slow_start.update(kVip, backends(1, 3), seconds{30}, kStart + seconds{3}, false);
  slow_start.update(kVip, backends(1, 3), seconds{30}, kStart + seconds{4}, false);
  CHECK(slow_start.advance(kStart + seconds{13}) == std::vector{kVip});
  slow_start.forget(kVip);
  CHECK(weights(slow_start, 3) == Weights{1, 1, 1});
  CHECK_FALSE(slow_start.next().has_value());
}

TEST_CASE("backends that drain weigh nothing, however warm they are") {
  SlowStart slow_start;
  slow_start.update(kVip, backends(1, 1), seconds{30}, kStart, true);
  slow_start.update(kVip, backends(1, 2), seconds{30}, kStart, false);
  std::vector<Backend> all{{backend(1), 0}, {backend(2), 3}, {backend(3), 0xFFFF}};
  slow_start.weigh(kVip, all);
  CHECK(all[0].weight == 0);
  CHECK(all[1].weight == 3);
  CHECK(all[2].weight == 0xFFFF);
}

TEST_CASE("of backends that start so many do so slowly, the rest at once") {
  SlowStart slow_start;
  std::set<Endpoint> many;
  for (std::size_t i = 0; i < SlowStart::kMaxStarting + 5; ++i) {
    many.insert(
        {ip("10." + std::to_string(i / 250) + ".0." + std::to_string(i % 250 + 1)), port(80)});
  }
  slow_start.update(kVip, backends(1, 1), seconds{30}, kStart, true);
  slow_start.update(kVip, many, seconds{30}, kStart, false);
  CHECK(slow_start.starting() == SlowStart::kMaxStarting);
}

/// A table with a policy, and tasks that come and go.
struct Cluster {
  explicit Cluster(VipPolicy asked) : policy{asked} {}
  Task web(int i) const {
    VipLabel label = literal("11.0.0.1", 80);
    label.policy = policy;
    return task(std::to_string(i), {label}, {to_string(backend(i))});
  }
  void apply(std::vector<Change<Task>> tasks, TimePoint now, bool complete = true) {
    ClusterDelta delta;
    delta.complete = complete;
    delta.tasks = std::move(tasks);
    table.apply(delta, now);
  }
  std::vector<int> weights() const {
    std::vector<int> found;
    const auto service = table.desired(kVip);
    for (const Backend& one : service->backends) found.push_back(one.weight);
    return found;
  }
  VipPolicy policy;
  VipTable table;
};

TEST_CASE("what is there with the first whole state is warm, in however many parts it comes") {
  Cluster cluster{{.slow_start_seconds = 30}};
  cluster.apply({added(cluster.web(1))}, kStart, false);
  cluster.apply({added(cluster.web(2))}, kStart + seconds{5}, false);
  cluster.apply({added(cluster.web(3))}, kStart + seconds{9}, true);
  CHECK(cluster.weights() == Weights{1, 1, 1});
  CHECK_FALSE(cluster.table.next().has_value());
  cluster.apply({added(cluster.web(4))}, kStart + seconds{10});
  CHECK(cluster.weights() == Weights{8, 8, 8, 1});
  CHECK(cluster.table.next() == kStart + seconds{20});
  CHECK(cluster.table.advance(kStart + seconds{20}) == std::vector{kVip});
  CHECK(cluster.weights() == Weights{8, 8, 8, 2});
}

TEST_CASE("a backend that becomes healthy, or whose host is back, starts slowly") {
  Cluster cluster{{.slow_start_seconds = 30}};
  Task ill = cluster.web(2);
  ill.health = Health::unhealthy;
  Task away = cluster.web(3);
  away.host_down = true;
  cluster.apply({added(cluster.web(1)), added(ill), added(away)}, kStart);
  CHECK(cluster.weights() == Weights{1, 0});
  cluster.apply({added(cluster.web(2))}, kStart + seconds{1});
  CHECK(cluster.weights() == Weights{8, 1});
  cluster.apply({added(cluster.web(3))}, kStart + seconds{12});
  cluster.table.advance(kStart + seconds{12});
  CHECK(cluster.weights() == Weights{8, 2, 1});
}

TEST_CASE("a VIP that is new has all of its backends at their whole share at once") {
  Cluster cluster{{.slow_start_seconds = 30}};
  cluster.apply({}, kStart);
  cluster.apply({added(cluster.web(1)), added(cluster.web(2))}, kStart + seconds{5});
  CHECK(cluster.weights() == Weights{1, 1});
}

TEST_CASE("without the policy, and by hash, nobody starts slowly") {
  for (const VipPolicy& policy : {VipPolicy{}, VipPolicy{.spread = VipPolicy::Spread::source_hash,
                                               .slow_start_seconds = 30}}) {
    Cluster cluster{policy};
    cluster.apply({added(cluster.web(1))}, kStart);
    cluster.apply({added(cluster.web(2))}, kStart + seconds{5});
    CHECK(cluster.weights() == Weights{1, 1});
    CHECK_FALSE(cluster.table.next().has_value());
  }
}

TEST_CASE("nothing is remembered of a VIP that goes, or whose policy changes") {
  Cluster cluster{{.slow_start_seconds = 30}};
  cluster.apply({added(cluster.web(1))}, kStart);
  cluster.apply({added(cluster.web(2))}, kStart);
  CHECK(cluster.table.slow_start().starting() == 1);
  SUBCASE("it goes") {
    cluster.apply({removed(cluster.web(1)), removed(cluster.web(2))}, kStart);
  }
  SUBCASE("its policy") {
    cluster.policy = {};
    cluster.apply({added(cluster.web(1)), added(cluster.web(2))}, kStart);
    CHECK(cluster.weights() == Weights{1, 1});
  }
  CHECK(cluster.table.slow_start().starting() == 0);
}

TEST_CASE("the kernel's changes of one that starts are few") {
  Cluster cluster{{.slow_start_seconds = 30}};
  AppliedTable kernel;
  std::size_t commands = 0;
  const auto program = [&] {
    const Plan made = plan(kVip, kernel[kVip], cluster.table.desired(kVip));
    for (const auto* part : {&made.add, &made.flip, &made.prune}) {
      for (const Command& command : *part) REQUIRE(lb::apply(command, kernel));
      commands += part->size();
    }
    return !made.empty();
  };
  std::vector<Change<Task>> old;
  for (int i = 1; i <= 4; ++i) old.push_back(added(cluster.web(i)));
  cluster.apply(old, kStart);
  program();
  commands = 0;
  cluster.apply({added(cluster.web(5))}, kStart);
  CHECK(program());
  int changes = 1;
  while (const auto due = cluster.table.next()) {
    for (const Vip& vip : cluster.table.advance(*due)) changes += vip == kVip && program() ? 1 : 0;
  }
  CHECK(changes == 4);
  // 4 slots, then 33, 17, 9, 5.
  CHECK(commands < 120);
  CHECK(kernel[kVip].slots.size() == 5);
}

}  // namespace
}  // namespace muster::lb
