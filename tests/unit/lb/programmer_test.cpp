#include "lb/io/programmer.hpp"

#include <set>
#include <string>

#include <doctest/doctest.h>

#include "tests/support/fake_driver.hpp"
#include "tests/support/lb_samples.hpp"
#include "tests/support/seeds.hpp"
#include "tests/support/sole_programmer.hpp"

namespace muster::lb {
namespace {

using namespace testing;
using Outcome = Programmer::Outcome;

ClusterDelta delta_of(std::vector<Change<Task>> tasks, bool complete = true) {
  ClusterDelta delta;
  delta.complete = complete;
  delta.tasks = std::move(tasks);
  return delta;
}

/// Works as Balancer does, reading after each error; false if it takes for ever.
bool settle(Programmer& programmer, Driver& driver) {
  for (int i = 0; i < 50; ++i) {
    if (!programmer.knows_kernel()) {
      auto state = driver.read();
      if (state) programmer.adopt(std::move(*state));
      continue;
    }
    if (programmer.step() == Outcome::idle) return true;
  }
  return false;
}

bool serves_all(const Programmer& programmer, const FakeKernel& kernel) {
  const auto vips = programmer.table().vips();
  if (kernel.state.vips.size() != vips.size()) return false;
  for (const Vip& vip : vips) {
    const auto found = kernel.state.vips.find(vip);
    if (found == kernel.state.vips.end()) return false;
    if (!serves(found->second, programmer.table().desired(vip))) return false;
  }
  return true;
}

Task web(int i) {
  return task(std::to_string(i), {literal("10.1.0." + std::to_string(i % 200), 80)},
              {"192.168.0." + std::to_string(1 + i % 7) + ":80"});
}

TEST_CASE("an empty kernel gets the tables, then the VIPs") {
  FakeKernel kernel;
  FakeDriver driver{kernel};
  SoleProgrammer programmer{driver, Policy::random};
  CHECK(programmer.step() == Outcome::must_read);
  programmer.take(delta_of({added(web(1)), added(web(2))}));
  CHECK(settle(programmer, driver));
  CHECK(serves_all(programmer, kernel));
  CHECK(programmer.applied_backends() == 2);
  CHECK(programmer.take_counts().changes == 2);
}

TEST_CASE("a change that is no change writes nothing") {
  FakeKernel kernel;
  FakeDriver driver{kernel};
  SoleProgrammer programmer{driver, Policy::random};
  programmer.take(delta_of({added(web(1))}));
  REQUIRE(settle(programmer, driver));
  const std::size_t writes = kernel.writes;
  for (int i = 0; i < 3; ++i) {
    CHECK(programmer.adopt(*driver.read()) == 0);
    CHECK(settle(programmer, driver));
  }
  CHECK(kernel.writes == writes);
}

TEST_CASE("a restart adopts what is there and writes nothing") {
  FakeKernel kernel;
  FakeDriver driver{kernel};
  std::vector<Change<Task>> tasks;
  for (int i = 1; i < 100; ++i) tasks.push_back(added(web(i)));
  {
    SoleProgrammer programmer{driver, Policy::random};
    programmer.take(delta_of(tasks));
    REQUIRE(settle(programmer, driver));
  }
  const std::size_t writes = kernel.writes;
  SoleProgrammer programmer{driver, Policy::random};
  REQUIRE(settle(programmer, driver));
  // As the state comes in, in parts.
  for (const auto& task : tasks) programmer.take(delta_of({task}, false));
  REQUIRE(settle(programmer, driver));
  CHECK(kernel.writes == writes);
  programmer.take(delta_of({}, true));
  REQUIRE(settle(programmer, driver));
  CHECK(kernel.writes == writes);
  CHECK(serves_all(programmer, kernel));
}

TEST_CASE("nothing is pruned before the first complete state") {
  FakeKernel kernel;
  FakeDriver driver{kernel};
  {
    SoleProgrammer programmer{driver, Policy::random};
    programmer.take(delta_of({added(web(1)), added(web(2)), added(web(201))}));
    REQUIRE(settle(programmer, driver));
  }
  const auto before = kernel.state.vips;
  SoleProgrammer programmer{driver, Policy::random};
  programmer.take(delta_of({added(web(1))}, false));
  REQUIRE(settle(programmer, driver));
  CHECK(kernel.state.vips == before);
  programmer.take(delta_of({}, true));
  REQUIRE(settle(programmer, driver));
  CHECK(kernel.state.vips.size() == 1);
  CHECK(serves_all(programmer, kernel));
}

TEST_CASE("what the kernel was told after the state was kept outlives a restart") {
  FakeKernel kernel;
  FakeDriver driver{kernel};
  const auto backend = [](int i, int last) {
    return task(std::to_string(i), {literal("10.1.0.1", 80)},
                {"192.168.0." + std::to_string(last) + ":80"});
  };
  const Vip vip{Protocol::tcp, *Endpoint::parse("10.1.0.1:80")};
  const auto served = [&] {
    std::set<std::string> out;
    const auto found = kernel.state.vips.find(vip);
    if (found == kernel.state.vips.end()) return out;
    for (const auto& slot : found->second.slots) {
      if (slot) out.insert(to_string(*slot));
    }
    return out;
  };
  using Set = std::set<std::string>;
  {
    SoleProgrammer programmer{driver, Policy::random};
    programmer.take(delta_of({added(backend(1, 1)), added(backend(3, 3))}));
    REQUIRE(settle(programmer, driver));
  }
  // On disk there is still 2, which 3 took the place of.
  SoleProgrammer programmer{driver, Policy::random};
  auto state = driver.read();
  REQUIRE(state.has_value());
  programmer.adopt(std::move(*state));
  programmer.take(delta_of({added(backend(1, 1)), added(backend(2, 2)), added(web(5))}));
  programmer.doubt();
  REQUIRE(settle(programmer, driver));
  CHECK(served() == Set{"192.168.0.1:80", "192.168.0.3:80"});
  CHECK(kernel.state.vips.size() == 2);  // what the kernel had nothing of is served

  SUBCASE("what is said meanwhile is done at once") {
    programmer.take(delta_of({added(backend(4, 4)), removed(backend(1, 1))}));
    REQUIRE(settle(programmer, driver));
    CHECK(served() == Set{"192.168.0.3:80", "192.168.0.4:80"});
    programmer.take(delta_of({added(backend(3, 3)), removed(backend(2, 2))}));
    REQUIRE(settle(programmer, driver));
    CHECK(programmer.trust());
    REQUIRE(settle(programmer, driver));
    CHECK(served() == Set{"192.168.0.3:80", "192.168.0.4:80"});
  }
  SUBCASE("of whom somebody speaks there is no doubt any more") {
    Task ill = backend(2, 2);
    ill.health = Health::unhealthy;
    programmer.take(delta_of({changed(backend(2, 2), ill)}));
    programmer.take(delta_of({changed(ill, backend(2, 2)), added(backend(3, 3))}));
    REQUIRE(settle(programmer, driver));
    CHECK(served() == Set{"192.168.0.1:80", "192.168.0.2:80", "192.168.0.3:80"});
    programmer.take(delta_of({removed(backend(3, 3))}));
    REQUIRE(settle(programmer, driver));
    CHECK(served() == Set{"192.168.0.1:80", "192.168.0.2:80"});
  }
  SUBCASE("and then, if nobody says otherwise, the disk counts") {
    CHECK(programmer.trust());
    REQUIRE(settle(programmer, driver));
    CHECK(served() == Set{"192.168.0.1:80", "192.168.0.2:80"});
    CHECK_FALSE(programmer.trust());
  }
  SUBCASE("a doubtful backend is better than none") {
    programmer.trust();
    REQUIRE(settle(programmer, driver));
    SoleProgrammer next{driver, Policy::random};
    next.adopt(*driver.read());
    next.take(delta_of({added(backend(1, 1)), added(backend(2, 2)), added(backend(6, 6))}));
    next.doubt();
    REQUIRE(settle(next, driver));
    CHECK(served() == Set{"192.168.0.1:80", "192.168.0.2:80"});
    next.take(delta_of({removed(backend(1, 1)), removed(backend(2, 2))}));
    REQUIRE(settle(next, driver));
    CHECK(served() == Set{"192.168.0.6:80"});
  }
}

TEST_CASE("whatever call fails, the next attempts get everything right") {
  for (const int error : {EBUSY, ENOBUFS, EEXIST}) {
    CAPTURE(error);
    for (std::size_t fail_at = 0; fail_at < 14; ++fail_at) {
      CAPTURE(fail_at);
      FakeKernel kernel;
      kernel.fail_at = fail_at;
      kernel.fail_with = error;
      FakeDriver driver{kernel};
      SoleProgrammer programmer{driver, Policy::random};
      programmer.take(delta_of({added(web(1)), added(web(2))}));
      CHECK(settle(programmer, driver));
      Task local = web(3);
      programmer.take(delta_of({removed(web(1)), added(web(201)), added(local)}));
      CHECK(settle(programmer, driver));
      CHECK(serves_all(programmer, kernel));
      CHECK(programmer.quarantined() == 0);
    }
  }
}

TEST_CASE("a VIP the kernel refuses is found and left out, and the others are served") {
  FakeKernel kernel;
  FakeDriver driver{kernel};
  SoleProgrammer programmer{driver, Policy::random};
  kernel.poison = {tcp("10.1.0.17:80"), tcp("10.1.0.60:80")};
  std::vector<Change<Task>> tasks;
  for (int i = 1; i < 100; ++i) tasks.push_back(added(web(i)));
  programmer.take(delta_of(tasks));
  REQUIRE(settle(programmer, driver));
  CHECK(programmer.quarantined() == 2);
  CHECK(programmer.is_quarantined(tcp("10.1.0.17:80")));
  CHECK(kernel.state.vips.size() == 97);
  CHECK(programmer.last_error().find("10.1.0.") != std::string::npos);

  // Healed, and tried again.
  kernel.poison.clear();
  programmer.retry_quarantined();
  REQUIRE(settle(programmer, driver));
  CHECK(serves_all(programmer, kernel));
  CHECK(programmer.last_error().empty());
}

TEST_CASE("a table that was flushed is built again") {
  FakeKernel kernel;
  FakeDriver driver{kernel};
  SoleProgrammer programmer{driver, Policy::random};
  programmer.take(delta_of({added(web(1)), added(web(2))}));
  REQUIRE(settle(programmer, driver));
  kernel.state = {};
  SUBCASE("noticed by a read") {
    CHECK(programmer.adopt(*driver.read()) == 2);
  }
  SUBCASE("noticed by a change") {
    programmer.take(delta_of({added(web(3))}));
  }
  REQUIRE(settle(programmer, driver));
  CHECK(serves_all(programmer, kernel));
}

TEST_CASE("elements that somebody added, changed or took away are put right") {
  FakeKernel kernel;
  FakeDriver driver{kernel};
  SoleProgrammer programmer{driver, Policy::random};
  programmer.take(delta_of({added(web(1)), added(web(2)), added(web(3))}));
  REQUIRE(settle(programmer, driver));
  const auto right = kernel.state.vips;
  kernel.state.vips.erase(tcp("10.1.0.1:80"));
  kernel.state.vips[tcp("10.1.0.2:80")].slots[0] = at("10.6.6.6:6");
  kernel.state.vips[tcp("10.1.0.99:80")].refuses = true;
  kernel.state.hairpin.insert(ip("10.5.5.5"));
  CHECK(programmer.adopt(*driver.read()) == 3);
  REQUIRE(settle(programmer, driver));
  CHECK(kernel.state.vips == right);
  CHECK(kernel.state.hairpin.empty());
}

TEST_CASE("another schema is replaced in one transaction, once the state is complete") {
  FakeKernel kernel;
  FakeDriver driver{kernel};
  kernel.state.schema = KernelState::Schema::other;
  SoleProgrammer programmer{driver, Policy::random};
  programmer.take(delta_of({added(web(1)), added(web(2))}, false));
  REQUIRE(settle(programmer, driver));
  CHECK(kernel.writes == 0);
  programmer.take(delta_of({}, true));
  REQUIRE(settle(programmer, driver));
  CHECK(kernel.writes == 1);
  CHECK(serves_all(programmer, kernel));
}

TEST_CASE("hairpin addresses come with the first VIP that needs them and go with the last") {
  FakeKernel kernel;
  FakeDriver driver{kernel};
  SoleProgrammer programmer{driver, Policy::random};
  programmer.table().set_node({ip("192.168.0.1")});
  Task one = task("1", {literal("10.1.0.1", 80)}, {"172.17.0.2:80"});
  one.agent_addresses = {ip("192.168.0.1")};
  Task two = task("2", {literal("10.1.0.2", 80)}, {"172.17.0.2:80"});
  two.agent_addresses = one.agent_addresses;
  programmer.take(delta_of({added(one), added(two)}));
  REQUIRE(settle(programmer, driver));
  CHECK(kernel.state.hairpin == std::set{ip("172.17.0.2")});
  programmer.take(delta_of({removed(one)}));
  REQUIRE(settle(programmer, driver));
  CHECK(kernel.state.hairpin.size() == 1);
  programmer.take(delta_of({removed(two)}));
  REQUIRE(settle(programmer, driver));
  CHECK(kernel.state.hairpin.empty());
}

TEST_CASE("a changed udp VIP says whom its flows may go on to") {
  FakeKernel kernel;
  FakeDriver driver{kernel};
  SoleProgrammer programmer{driver, Policy::random};
  const Task one = task("1", {literal("10.1.0.1", 53, Protocol::udp)}, {"192.168.0.1:53"});
  const Task two = task("2", {literal("10.1.0.1", 53, Protocol::udp)}, {"192.168.0.2:53"});
  programmer.take(delta_of({added(one), added(two), added(web(5))}));
  REQUIRE(settle(programmer, driver));
  programmer.take_udp_changes();
  programmer.take(delta_of({removed(one)}));
  REQUIRE(settle(programmer, driver));
  CHECK(programmer.take_udp_changes() == UdpKeep{{udp("10.1.0.1:53"), {at("192.168.0.2:53")}}});
  CHECK(programmer.take_udp_changes().empty());
  programmer.take(delta_of({removed(two)}));
  REQUIRE(settle(programmer, driver));
  CHECK(programmer.take_udp_changes() == UdpKeep{{udp("10.1.0.1:53"), {}}});
}

TEST_CASE("random churn with random faults and foreign hands ends in what is wanted") {
  for_each_seed(30, [](std::uint64_t seed) {
    MUSTER_SHOW_SEED(seed);
    Rng rng{seed};
    FakeKernel kernel;
    FakeDriver driver{kernel};
    SoleProgrammer programmer{driver, Policy::random};
    std::map<int, Task> now;
    for (int i = 0; i < 60; ++i) {
      kernel.fail_at = rng.chance(30) ? kernel.calls + 1 + rng.below(4) : 0;
      kernel.fail_with = rng.chance(50) ? ENOBUFS : EBUSY;
      std::vector<Change<Task>> changes;
      const int id = static_cast<int>(rng.below(300));
      if (const auto found = now.find(id); found != now.end()) {
        changes.push_back(removed(found->second));
        now.erase(found);
      } else {
        changes.push_back(added(web(id)));
        now.emplace(id, web(id));
      }
      programmer.take(delta_of(changes));
      if (rng.chance(10)) kernel.state = {};
      if (rng.chance(10)) programmer.distrust();
      REQUIRE(settle(programmer, driver));
    }
    kernel.fail_at = 0;
    programmer.retry_quarantined();
    programmer.distrust();
    REQUIRE(settle(programmer, driver));
    CHECK(serves_all(programmer, kernel));
  });
}

}  // namespace
}  // namespace muster::lb
