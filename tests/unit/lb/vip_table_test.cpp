#include "lb/core/vip_table.hpp"

#include <doctest/doctest.h>

#include "tests/support/lb_samples.hpp"
#include "tests/support/seeds.hpp"

namespace muster::lb {
namespace {

using namespace testing;

ClusterDelta tasks(std::vector<Change<Task>> changes) {
  ClusterDelta delta;
  delta.complete = true;
  delta.tasks = std::move(changes);
  return delta;
}
ClusterDelta allocations(std::vector<Change<VipAllocation>> changes) {
  ClusterDelta delta;
  delta.complete = true;
  delta.vips = std::move(changes);
  return delta;
}

std::vector<Backend> backends_of(const VipTable& table, const Vip& vip) {
  const auto service = table.desired(vip);
  REQUIRE(service);
  return service->backends;
}

TEST_CASE("an address VIP takes the backends of its own family") {
  VipTable table;
  const auto touched = table.apply(tasks(
      {added(task("1", {literal("10.1.2.3", 80)}, {"192.168.0.1:31000", "[fd00::1]:31000"}))}));
  CHECK(touched == std::vector{tcp("10.1.2.3:80")});
  CHECK(backends_of(table, tcp("10.1.2.3:80")) ==
        std::vector<Backend>{{at("192.168.0.1:31000"), 1}});
  CHECK(table.desired(tcp("10.1.2.3:80"))->name == "10.1.2.3:80");
}

TEST_CASE("a named VIP appears with its allocation and serves each family on its own address") {
  VipTable table;
  const Task one = task("1", {named("web.marathon", 80)}, {"192.168.0.1:31000", "[fd00::1]:31000"});
  CHECK(table.apply(tasks({added(one)})).empty());
  CHECK(table.size() == 0);
  const auto touched =
      table.apply(allocations({added(allocation("web.marathon", "11.0.0.1", "fd01:c::1"))}));
  CHECK(touched == std::vector{tcp("11.0.0.1:80"), tcp("[fd01:c::1]:80")});
  CHECK(backends_of(table, tcp("11.0.0.1:80")) ==
        std::vector<Backend>{{at("192.168.0.1:31000"), 1}});
  CHECK(backends_of(table, tcp("[fd01:c::1]:80")) ==
        std::vector<Backend>{{at("[fd00::1]:31000"), 1}});
  CHECK(table.desired(tcp("11.0.0.1:80"))->name == "web.marathon");
}

TEST_CASE("a VIP without a fit backend stays, to refuse at once") {
  VipTable table;
  Task staging = task("1", {literal("10.1.2.3", 80)}, {"192.168.0.1:31000"});
  staging.state = TaskState::staging;
  table.apply(tasks({added(staging)}));
  CHECK(backends_of(table, tcp("10.1.2.3:80")).empty());

  Task unhealthy = staging;
  unhealthy.state = TaskState::running;
  unhealthy.health = Health::unhealthy;
  CHECK(table.apply(tasks({changed(staging, unhealthy)})).size() == 1);
  CHECK(backends_of(table, tcp("10.1.2.3:80")) ==
        std::vector<Backend>{{at("192.168.0.1:31000"), 0}});

  CHECK(table.apply(tasks({removed(unhealthy)})).size() == 1);
  CHECK_FALSE(table.desired(tcp("10.1.2.3:80")));
  CHECK(table.vips().empty());
}

TEST_CASE("backends on a dead host leave, but for where nothing else is left") {
  VipTable table;
  const Vip vip = tcp("10.1.2.3:80");
  const Task one = task("1", {literal("10.1.2.3", 80)}, {"192.168.0.1:31000"});
  const Task two = task("2", {literal("10.1.2.3", 80)}, {"192.168.0.2:31000"});
  table.apply(tasks({added(one), added(two)}));
  Task dead_one = one;
  dead_one.host_down = true;
  CHECK(table.apply(tasks({changed(one, dead_one)})) == std::vector{vip});
  CHECK(backends_of(table, vip) == std::vector<Backend>{{at("192.168.0.2:31000"), 1}});
  Task dead_two = two;
  dead_two.host_down = true;
  table.apply(tasks({changed(two, dead_two)}));
  CHECK(backends_of(table, vip).size() == 2);
  // One that is only unfit helps nobody either.
  Task unfit = two;
  unfit.health = Health::unhealthy;
  table.apply(tasks({changed(dead_two, unfit)}));
  CHECK(backends_of(table, vip) ==
        std::vector<Backend>{{at("192.168.0.1:31000"), 1}, {at("192.168.0.2:31000"), 0}});
  table.apply(tasks({changed(dead_one, one)}));
  CHECK(backends_of(table, vip).size() == 2);
}

TEST_CASE("one endpoint of two tasks has the greater weight") {
  VipTable table;
  Task killing = task("1", {literal("10.1.2.3", 80)}, {"192.168.0.1:31000"});
  killing.state = TaskState::killing;
  table.apply(tasks({added(killing)}));
  const Task next = task("2", {literal("10.1.2.3", 80)}, {"192.168.0.1:31000"});
  table.apply(tasks({added(next)}));
  CHECK(backends_of(table, tcp("10.1.2.3:80")) ==
        std::vector<Backend>{{at("192.168.0.1:31000"), 1}});
  table.apply(tasks({removed(next)}));
  CHECK(backends_of(table, tcp("10.1.2.3:80")) ==
        std::vector<Backend>{{at("192.168.0.1:31000"), 0}});
}

TEST_CASE("an update that changes nothing for a VIP touches nothing") {
  VipTable table;
  const Task before = task("1", {literal("10.1.2.3", 80)}, {"192.168.0.1:31000"});
  table.apply(tasks({added(before)}));
  Task after = before;
  after.health = Health::healthy;
  CHECK(table.apply(tasks({changed(before, after)})).empty());
}

TEST_CASE("tcp and udp, and each port, are VIPs of their own") {
  VipTable table;
  table.apply(allocations({added(allocation("dns.marathon", "11.0.0.1"))}));
  table.apply(
      tasks({added(task("1", {named("dns.marathon", 53)}, {"192.168.0.1:53"})),
             added(task("2", {named("dns.marathon", 53, Protocol::udp)}, {"192.168.0.2:53"}))}));
  CHECK(table.vips() == std::vector{tcp("11.0.0.1:53"), udp("11.0.0.1:53")});
  CHECK(backends_of(table, udp("11.0.0.1:53")) == std::vector<Backend>{{at("192.168.0.2:53"), 1}});
}

TEST_CASE("a name is served at a former address too, but after the one whose address it is") {
  VipTable table;
  table.apply(allocations({added(allocation("web.marathon", "11.0.0.2")),
                           added(allocation("api.marathon", "11.0.0.1"))}));
  table.apply(tasks({added(
      task("t1", {named("web.marathon", 80), named("web.marathon", 81)}, {"10.0.0.1:8000"}))}));
  ClusterDelta lost;
  lost.former_vips = {{nullptr, std::make_shared<const FormerVip>(
                                    FormerVip{VipName{"web.marathon"}, {ip("11.0.0.1")}})}};
  CHECK(table.apply(lost).size() == 4);
  CHECK(table.name_of(tcp("11.0.0.1:80")) == "web.marathon");
  CHECK(table.name_of(tcp("11.0.0.2:80")) == "web.marathon");
  table.apply(tasks({added(task("t2", {named("api.marathon", 80)}, {"10.0.0.2:8000"}))}));
  CHECK(table.name_of(tcp("11.0.0.1:80")) == "api.marathon");
  CHECK(table.name_of(tcp("11.0.0.1:81")) == "web.marathon");
  CHECK(table.take_problems().empty());
  std::swap(lost.former_vips[0].before, lost.former_vips[0].after);
  table.apply(lost);
  CHECK_FALSE(table.desired(tcp("11.0.0.1:81")));
  CHECK(table.name_of(tcp("11.0.0.1:80")) == "api.marathon");
  CHECK(table.vips() ==
        std::vector<Vip>{tcp("11.0.0.1:80"), tcp("11.0.0.2:80"), tcp("11.0.0.2:81")});
}

TEST_CASE("an allocation that moves takes the VIP along") {
  VipTable table;
  table.apply(allocations({added(allocation("web.marathon", "11.0.0.1"))}));
  table.apply(tasks({added(task("1", {named("web.marathon", 80)}, {"192.168.0.1:1"}))}));
  const auto touched = table.apply(allocations(
      {changed(allocation("web.marathon", "11.0.0.1"), allocation("web.marathon", "11.0.0.2"))}));
  CHECK(touched == std::vector{tcp("11.0.0.1:80"), tcp("11.0.0.2:80")});
  CHECK_FALSE(table.desired(tcp("11.0.0.1:80")));
  CHECK(backends_of(table, tcp("11.0.0.2:80")).size() == 1);
}

TEST_CASE("an address claimed twice goes to who wrote it out, and backends do not mix") {
  VipTable table;
  table.apply(allocations({added(allocation("web.marathon", "11.0.0.1"))}));
  table.apply(tasks({added(task("1", {named("web.marathon", 80)}, {"192.168.0.1:1"})),
                     added(task("2", {literal("11.0.0.1", 80)}, {"192.168.0.2:1"}))}));
  CHECK(backends_of(table, tcp("11.0.0.1:80")) == std::vector<Backend>{{at("192.168.0.2:1"), 1}});
  const auto problems = table.take_problems();
  REQUIRE(problems.size() == 1);
  CHECK(problems[0].kind == "vip_conflict");
  table.apply(tasks({removed(task("2", {}, {}))}));
  CHECK(backends_of(table, tcp("11.0.0.1:80")) == std::vector<Backend>{{at("192.168.0.1:1"), 1}});
}

TEST_CASE("addresses that no backend or VIP can have are left out") {
  VipTable table;
  table.apply(tasks({added(task("1",
                                {literal("10.1.2.3", 80), literal("127.0.0.1", 80),
                                 literal("224.0.0.1", 80), literal("0.0.0.0", 80)},
                                {"0.0.0.0:1", "224.0.0.1:1", "10.1.2.3:80"}))}));
  CHECK(table.vips() == std::vector{tcp("10.1.2.3:80")});
  CHECK(backends_of(table, tcp("10.1.2.3:80")).empty());
}

TEST_CASE("on its own node a published port is served at the container") {
  Task one = task("1", {literal("10.1.2.3", 80)}, {"192.168.0.1:31000"});
  one.agent_addresses = {ip("192.168.0.1")};
  one.addresses = {ip("172.17.0.2")};
  one.ports[0].container_port = port(8080);
  SUBCASE("here") {
    VipTable table;
    table.set_node({ip("192.168.0.1")});
    table.apply(tasks({added(one)}));
    CHECK(backends_of(table, tcp("10.1.2.3:80")) ==
          std::vector<Backend>{{at("172.17.0.2:8080"), 1}});
    CHECK(table.desired(tcp("10.1.2.3:80"))->hairpin == std::vector{ip("172.17.0.2")});
  }
  SUBCASE("elsewhere") {
    VipTable table;
    table.set_node({ip("192.168.0.2")});
    table.apply(tasks({added(one)}));
    CHECK(backends_of(table, tcp("10.1.2.3:80")) ==
          std::vector<Backend>{{at("192.168.0.1:31000"), 1}});
    CHECK(table.desired(tcp("10.1.2.3:80"))->hairpin.empty());
  }
}

// One table that lived through all changes, one that heard only of the end.
TEST_CASE("any history of changes leads to what its end alone leads to") {
  for_each_seed(50, [](std::uint64_t seed) {
    MUSTER_SHOW_SEED(seed);
    Rng rng{seed};
    VipTable lived;
    std::map<std::string, Task> now;
    std::map<std::string, VipAllocation> allocated;
    std::map<Vip, std::optional<Service>> told;
    for (int i = 0; i < 200; ++i) {
      ClusterDelta delta;
      if (rng.chance(20)) {
        const std::string name = "n" + std::to_string(rng.below(4));
        const auto before = allocated.find(name);
        if (before != allocated.end() && rng.chance(40)) {
          delta.vips.push_back(removed(before->second));
          allocated.erase(before);
        } else {
          const auto next = allocation(name, "11.0.0." + std::to_string(1 + rng.below(4)));
          if (before != allocated.end() && before->second == next) continue;
          delta.vips.push_back(before == allocated.end() ? added(next)
                                                         : changed(before->second, next));
          allocated.insert_or_assign(name, next);
        }
      } else {
        const std::string id = std::to_string(rng.below(10));
        Task next = task(id,
                         {named("n" + std::to_string(rng.below(4)), 80 + rng.below(2)),
                          literal("11.0.0." + std::to_string(1 + rng.below(6)), 80)},
                         {"10.0.0." + std::to_string(1 + rng.below(5)) + ":80"});
        next.state = rng.chance(80) ? TaskState::running : TaskState::killing;
        const auto before = now.find(id);
        if (before != now.end() && rng.chance(30)) {
          delta.tasks.push_back(removed(before->second));
          now.erase(before);
        } else {
          if (before != now.end() && before->second == next) continue;
          delta.tasks.push_back(before == now.end() ? added(next) : changed(before->second, next));
          now.insert_or_assign(id, next);
        }
      }
      for (const Vip& vip : lived.apply(delta)) told[vip] = lived.desired(vip);
    }
    VipTable fresh;
    ClusterDelta all;
    for (const auto& [id, one] : now) all.tasks.push_back(added(one));
    for (const auto& [name, one] : allocated) all.vips.push_back(added(one));
    fresh.apply(all);
    CHECK(lived.vips() == fresh.vips());
    for (const Vip& vip : fresh.vips()) CHECK(lived.desired(vip) == fresh.desired(vip));
    // Whoever only looked at touched Vips knows the end, too.
    for (const auto& [vip, service] : told) CHECK(service == fresh.desired(vip));
  });
}

}  // namespace
}  // namespace muster::lb
