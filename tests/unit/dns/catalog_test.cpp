#include <algorithm>
#include <map>
#include <memory>
#include <stdexcept>

#include "base/rng.hpp"
#include "dns_support.hpp"
#include "tests/support/seeds.hpp"

using namespace muster;
using namespace muster::dns;
using namespace muster::dns::testing;

TEST_SUITE_BEGIN("dns/catalog");

namespace {

using Lines = std::vector<std::string>;

Task random_task(Rng& rng, int number) {
  Task task = make_task("task." + std::to_string(number),
                        rng.chance(10) ? "$" : "App." + std::to_string(rng.below(6)));
  if (rng.chance(50)) task.discovery_name = "svc" + std::to_string(rng.below(4)) + ".grp";
  if (rng.chance(20)) task.framework_name = "dev.Spark";
  if (rng.chance(20)) task.state = TaskState::staging;
  task.agent_id = AgentId{"agent-S" + std::to_string(rng.below(3))};
  task.agent_addresses = {ip("10.0.0." + std::to_string(rng.below(3) + 1))};
  task.addresses = task.agent_addresses;
  if (rng.chance(50)) task.addresses = {ip("9.0.0." + std::to_string(rng.below(20) + 1))};
  if (rng.chance(30)) task.addresses.push_back(ip("fd00::" + std::to_string(rng.below(9) + 1)));
  for (std::uint64_t i = rng.below(3); i > 0; --i) {
    const Port number_of = port(30000 + rng.below(5));
    task.host_ports.push_back(number_of);
    TaskPort with{.name = rng.chance(50) ? "http" : "",
                  .protocol = rng.chance(50) ? "tcp" : "",
                  .number = number_of,
                  .discovery = true,
                  .container_port = {},
                  .endpoints = {},
                  .vips = {}};
    if (rng.chance(70))
      with.endpoints = {{rng.chance(50) ? task.agent_addresses[0] : task.addresses[0], number_of}};
    task.ports.push_back(with);
  }
  return task;
}

// The whole of a snapshot: every name, with the octets that are served for it.
std::map<std::string, std::string> contents(const ZoneSnapshot& zones) {
  std::map<std::string, std::string> out;
  zones.for_each([&](NodeView node) {
    std::string text = std::to_string(node.zone());
    for (std::size_t i = 0; i < node.set_count(); ++i) {
      const RenderedSet set = node.set(i);
      text += ' ' + std::to_string(set.type) + ':' + std::to_string(set.count) + ':' +
              std::to_string(set.additional_count) + ':';
      text.append(reinterpret_cast<const char*>(node.answers(set)), set.answers_size);
      text.append(reinterpret_cast<const char*>(node.additional(set)), set.additional_size);
    }
    out.emplace(node.name(), text);
  });
  CHECK(out.size() == zones.size());
  return out;
}

template <class Key, class T>
struct Truth {
  std::map<Key, std::shared_ptr<const T>> all;

  void set(std::vector<Change<T>>& changes, const Key& key, std::shared_ptr<const T> value) {
    const auto known = all.find(key);
    std::shared_ptr<const T> before = known == all.end() ? nullptr : known->second;
    if (before == nullptr && value == nullptr) return;
    if (before != nullptr && value != nullptr && *before == *value) return;
    changes.push_back({before, value});
    if (value != nullptr) {
      all[key] = value;
    } else {
      all.erase(key);
    }
  }
};

}  // namespace

TEST_CASE("a domain or alias that is no name is refused at the start") {
  CHECK_THROWS_AS(Catalog{{.domain = "a..b"}}, std::invalid_argument);
  CHECK_THROWS_AS(Catalog{{.domain = ""}}, std::invalid_argument);
  CHECK_THROWS_AS((Catalog{{.aliases = {{"x.example", "no.zone"}}}}), std::invalid_argument);
}

TEST_CASE("a record that two tasks give stays until both are gone") {
  Catalog catalog{{}};
  ClusterDelta both = complete_delta();
  both.tasks = {came(make_task("a.1", "web")), came(make_task("a.2", "web"))};
  catalog.apply(both);
  ClusterDelta one;
  one.tasks = {went(make_task("a.1", "web"))};
  CHECK(ask(*catalog.apply(one), "web.marathon.mesos", type::kA).data(1) == Lines{"10.0.0.5"});
  ClusterDelta two;
  two.tasks = {went(make_task("a.2", "web"))};
  const auto zones = catalog.apply(two);
  CHECK(ask(*zones, "web.marathon.mesos", type::kA).rcode == rcode::kNxDomain);
  CHECK(ask(*zones, "marathon.mesos", type::kA).rcode == rcode::kNxDomain);
}

TEST_CASE("the serial moves with a change and only with one") {
  Catalog catalog{{.first_serial = 7}};
  const auto first = catalog.apply(complete_delta());
  CHECK(catalog.apply(complete_delta()) == first);
  ClusterDelta delta;
  delta.tasks = {came(make_task("a.1", "web"))};
  CHECK(catalog.apply(delta)->serial() == first->serial() + 1);
}

TEST_CASE("a former snapshot stays as it was") {
  Catalog catalog{{}};
  ClusterDelta delta = complete_delta();
  delta.tasks = {came(make_task("a.1", "web"))};
  const auto before = catalog.apply(delta);
  const auto kept = contents(*before);
  Task moved = make_task("a.1", "web");
  moved.addresses = {ip("10.9.9.9")};
  ClusterDelta change;
  change.tasks = {became(make_task("a.1", "web"), moved)};
  const auto after = catalog.apply(change);
  CHECK(contents(*before) == kept);
  CHECK(ask(*after, "web.marathon.mesos", type::kA).data(1) == Lines{"10.9.9.9"});
}

TEST_CASE("an SRV answer follows its target's address") {
  Catalog catalog{{}};
  ClusterDelta delta = complete_delta();
  // The leader's SRV record does not change when its address does.
  delta.masters = {came(Master{{ip("10.0.0.1"), port(5050)}, "m1", true}),
                   came(Master{{ip("10.0.0.2"), port(5050)}, "m2", false})};
  CHECK(ask(*catalog.apply(delta), "_leader._tcp.mesos", type::kSrv).data(3) == Lines{"10.0.0.1"});
  ClusterDelta change;
  change.masters = {became(Master{{ip("10.0.0.1"), port(5050)}, "m1", true},
                           Master{{ip("10.0.0.1"), port(5050)}, "m1", false}),
                    became(Master{{ip("10.0.0.2"), port(5050)}, "m2", false},
                           Master{{ip("10.0.0.2"), port(5050)}, "m2", true})};
  CHECK(ask(*catalog.apply(change), "_leader._tcp.mesos", type::kSrv).data(3) == Lines{"10.0.0.2"});
}

TEST_CASE("changes taken one by one end where a build from nothing does") {
  muster::testing::for_each_seed(20, [](std::uint64_t seed) {
    MUSTER_SHOW_SEED(seed);
    Rng rng{seed};
    Catalog stepwise{{.hash_seed = seed}};
    Truth<int, Task> tasks;
    Truth<int, Agent> agents;
    Truth<int, Framework> frameworks;
    Truth<int, Master> masters;
    Truth<int, VipAllocation> vips;
    for (int round = 0; round < 25; ++round) {
      ClusterDelta delta;
      for (std::uint64_t i = rng.below(8); i > 0; --i) {
        const int key = static_cast<int>(rng.below(25));
        const bool gone = rng.chance(35);
        const auto octet = std::to_string(rng.below(3) + 1);
        tasks.set(delta.tasks, key,
                  gone ? nullptr : std::make_shared<const Task>(random_task(rng, key)));
        const int few = key % 4;
        agents.set(delta.agents, few,
                   gone ? nullptr
                        : std::make_shared<const Agent>(Agent{AgentId{"a-S" + std::to_string(few)},
                                                              "host" + octet + ".example",
                                                              {ip("10.0.0." + octet)},
                                                              port(5051)}));
        frameworks.set(delta.frameworks, few,
                       gone ? nullptr
                            : std::make_shared<const Framework>(
                                  Framework{FrameworkId{std::to_string(few)}, "marathon", "",
                                            Endpoint{ip("10.0.0." + octet), port(8080)}}));
        masters.set(
            delta.masters, few,
            gone ? nullptr
                 : std::make_shared<const Master>(Master{
                       {ip("10.0.1." + std::to_string(few)), port(5050)}, "m", rng.chance(50)}));
        vips.set(delta.vips, few,
                 gone ? nullptr
                      : std::make_shared<const VipAllocation>(
                            VipAllocation{VipName{"v" + std::to_string(few) + ".fw"},
                                          ip("11.0.0." + octet), std::nullopt}));
      }
      // Half of them through stage(), as a large delta goes.
      if (rng.chance(50)) {
        for (std::size_t at = 0; at < Catalog::changes_in(delta); at += 3) {
          stepwise.stage(delta, at, 3);
          if (rng.chance(30)) stepwise.publish(false);
        }
        stepwise.publish(false);
      } else {
        stepwise.apply(delta);
      }
    }
    ClusterDelta whole;
    const auto all = [](auto& changes, const auto& truth) {
      for (const auto& [key, value] : truth.all) changes.push_back({nullptr, value});
    };
    all(whole.tasks, tasks);
    all(whole.agents, agents);
    all(whole.frameworks, frameworks);
    all(whole.masters, masters);
    all(whole.vips, vips);
    Catalog fresh{{.hash_seed = seed + 1}};
    fresh.apply(whole);
    CHECK(contents(*stepwise.snapshot()) == contents(*fresh.snapshot()));
    CHECK(stepwise.list(100000) == fresh.list(100000));
    CHECK(stepwise.records() == fresh.records());
    // And when all goes, nothing of it stays.
    ClusterDelta nothing;
    const auto none = [](auto& changes, const auto& truth) {
      for (const auto& [key, value] : truth.all) changes.push_back({value, nullptr});
    };
    none(nothing.tasks, tasks);
    none(nothing.agents, agents);
    none(nothing.frameworks, frameworks);
    none(nothing.masters, masters);
    none(nothing.vips, vips);
    CHECK(contents(*stepwise.apply(nothing)) == contents(*Catalog{{}}.snapshot()));
  });
}

TEST_CASE("the table finds every name through growing and shrinking") {
  Catalog catalog{{.hash_seed = 3}};
  constexpr int kTasks = 600;
  ClusterDelta delta = complete_delta();
  for (int i = 0; i < kTasks; ++i) {
    delta.tasks.push_back(came(make_task("t." + std::to_string(i), "n" + std::to_string(i))));
  }
  catalog.apply(delta);
  CHECK(catalog.names() > kTasks * 5);
  for (int i = 0; i < kTasks; ++i) {
    REQUIRE(ask(*catalog.snapshot(), "n" + std::to_string(i) + ".marathon.mesos", type::kA).rcode ==
            rcode::kNoError);
  }
  ClusterDelta half;
  for (int i = 0; i < kTasks; i += 2) {
    half.tasks.push_back(went(make_task("t." + std::to_string(i), "n" + std::to_string(i))));
  }
  catalog.apply(half);
  for (int i = 0; i < kTasks; ++i) {
    REQUIRE(ask(*catalog.snapshot(), "n" + std::to_string(i) + ".marathon.mesos", type::kA).rcode ==
            (i % 2 == 0 ? rcode::kNxDomain : rcode::kNoError));
  }
}

TEST_CASE("records are listed by name, as many as asked for") {
  Catalog catalog{{}};
  CHECK(catalog.list(0).empty());
  CHECK(catalog.list(2).size() == 2);
  const auto all = catalog.list(1000);
  CHECK(std::find(all.begin(), all.end(), RecordView{"ready.spartan.", "A", "127.0.0.1"}) !=
        all.end());
}

TEST_SUITE_END();
