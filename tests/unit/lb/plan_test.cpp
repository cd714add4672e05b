#include "lb/core/plan.hpp"

#include <doctest/doctest.h>

#include "tests/support/lb_samples.hpp"
#include "tests/support/seeds.hpp"

namespace muster::lb {
namespace {

using namespace testing;

const Vip kVip = tcp("11.0.0.1:80");

std::vector<Command> all_of(const Plan& plan) {
  std::vector<Command> commands = plan.add;
  commands.insert(commands.end(), plan.flip.begin(), plan.flip.end());
  commands.insert(commands.end(), plan.prune.begin(), plan.prune.end());
  return commands;
}

Applied after(const Plan& plan, const Applied& before) {
  AppliedTable table;
  if (!before.empty()) table[kVip] = before;
  for (const Command& command : all_of(plan)) REQUIRE(lb::apply(command, table));
  return table.contains(kVip) ? table.at(kVip) : Applied{};
}

/// Every slot a packet could be sent to has a backend.
bool answers(const Applied& applied) {
  if (!applied.selector) return false;
  for (std::uint32_t i = 0; i < applied.selector->size; ++i) {
    if (i >= applied.slots.size() || !applied.slots[i]) return false;
  }
  return true;
}

std::optional<Service> some_service(Rng& rng) {
  if (rng.chance(10)) return std::nullopt;
  Service made = service(kVip, some_backends(rng, 1 + rng.below(rng.chance(3) ? 100 : 8), 2));
  made.policy = rng.chance(50) ? Policy::random : Policy::round_robin;
  return made;
}

/// As a kernel looks when whoever programmed it was killed, or somebody else had a hand in it.
Applied mangled(Rng& rng, Applied applied) {
  if (rng.chance(30)) applied.selector.reset();
  if (rng.chance(20)) applied.refuses = !applied.refuses;
  for (auto& slot : applied.slots) {
    if (rng.chance(20)) slot.reset();
  }
  if (rng.chance(30)) {
    applied.slots.resize(applied.slots.size() + 1 + rng.below(3));
    applied.slots.back() = at("10.9.9.9:9");
  }
  while (!applied.slots.empty() && !applied.slots.back()) applied.slots.pop_back();
  return applied;
}

TEST_CASE("a new VIP gets its slots before its selector") {
  const Plan made = plan(kVip, {}, service(kVip, {{at("10.0.0.1:1"), 1}, {at("10.0.0.2:1"), 1}}));
  CHECK(made.add.size() == 2);
  CHECK(made.flip.size() == 1);
  CHECK(made.prune.empty());
}

TEST_CASE("a VIP without a fit backend refuses, and one that is gone leaves nothing") {
  const Service two = service(kVip, {{at("10.0.0.1:1"), 1}, {at("10.0.0.2:1"), 1}});
  const Applied serving = after(plan(kVip, {}, two), {});
  const Service drained = service(kVip, {{at("10.0.0.1:1"), 0}});
  const Applied refusing = after(plan(kVip, serving, drained), serving);
  CHECK(refusing == Applied{.selector = {}, .refuses = true, .slots = {}});
  CHECK(after(plan(kVip, refusing, std::nullopt), refusing).empty());
  CHECK(after(plan(kVip, refusing, two), refusing) == serving);
}

TEST_CASE("a plan leads to what is wanted, whatever was there, and then there is none left") {
  for_each_seed(2000, [](std::uint64_t seed) {
    MUSTER_SHOW_SEED(seed);
    Rng rng{seed};
    const auto first = some_service(rng);
    Applied before = after(plan(kVip, {}, first), {});
    if (rng.chance(50)) before = mangled(rng, before);
    const auto wanted = some_service(rng);
    const Applied now = after(plan(kVip, before, wanted), before);
    CHECK(serves(now, wanted));
    CHECK(plan(kVip, now, wanted).empty());
    if (!wanted) CHECK(now.empty());
    if (wanted && now.selector) {
      CHECK(answers(now));
      CHECK(now.slots.size() == now.selector->size);
      CHECK(now.selector->policy == wanted->policy);
      CHECK_FALSE(now.refuses);
    }
  });
}

TEST_CASE("at every point of a change a VIP that has a backend before and after has one") {
  for_each_seed(300, [](std::uint64_t seed) {
    MUSTER_SHOW_SEED(seed);
    Rng rng{seed};
    const auto first = some_service(rng);
    const auto second = some_service(rng);
    const Applied before = after(plan(kVip, {}, first), {});
    const Plan made = plan(kVip, before, second);
    const Applied end = after(made, before);
    AppliedTable table;
    if (!before.empty()) table[kVip] = before;
    for (const Command& command : all_of(made)) {
      REQUIRE(lb::apply(command, table));
      const Applied between = table.contains(kVip) ? table.at(kVip) : Applied{};
      if (answers(before) && answers(end)) CHECK(answers(between));
      // Nor does it ever turn into an address nobody looks after.
      if (!before.empty() && !end.empty()) CHECK((between.selector || between.refuses));
    }
  });
}

TEST_CASE("a packet that chose by the old selector finds its slot until the prune") {
  const Service three =
      service(kVip, {{at("10.0.0.1:1"), 1}, {at("10.0.0.2:1"), 1}, {at("10.0.0.3:1"), 1}});
  const Service one = service(kVip, {{at("10.0.0.2:1"), 1}});
  AppliedTable table;
  table[kVip] = after(plan(kVip, {}, three), {});
  const Plan made = plan(kVip, table[kVip], one);
  for (const Command& command : made.add) lb::apply(command, table);
  for (const Command& command : made.flip) lb::apply(command, table);
  REQUIRE(table[kVip].slots.size() == 3);
  CHECK(table[kVip].slots[2].has_value());
  CHECK(made.prune.size() == 2);
}

TEST_CASE("before the state is complete nothing is lost") {
  const Applied before =
      after(plan(kVip, {}, service(kVip, {{at("10.0.0.1:1"), 1}, {at("10.0.0.2:1"), 1}})), {});
  SUBCASE("nobody has spoken of the VIP") {
    const auto kept = without_loss(kVip, before, std::nullopt);
    CHECK(plan(kVip, before, kept).empty());
  }
  SUBCASE("only one of its backends is known yet") {
    const auto kept = without_loss(kVip, before, service(kVip, {{at("10.0.0.2:1"), 1}}));
    CHECK(plan(kVip, before, kept).empty());
  }
  SUBCASE("a new backend joins, and one is known to drain") {
    const auto kept =
        without_loss(kVip, before, service(kVip, {{at("10.0.0.1:1"), 0}, {at("10.0.0.3:1"), 1}}));
    const Applied now = after(plan(kVip, before, kept), before);
    CHECK(now.slots == FoundSlots{at("10.0.0.3:1"), at("10.0.0.2:1")});
  }
  SUBCASE("one that refuses goes on refusing") {
    const Applied refusing{.selector = {}, .refuses = true, .slots = {}};
    CHECK(plan(kVip, refusing, without_loss(kVip, refusing, std::nullopt)).empty());
  }
}

TEST_CASE("commands that do not fit what is there are refused") {
  AppliedTable table;
  CHECK_FALSE(lb::apply(DropSlot{kVip, 0}, table));
  CHECK_FALSE(lb::apply(ReplaceSlot{kVip, 0, at("10.0.0.1:1")}, table));
  CHECK_FALSE(lb::apply(DropSelector{kVip}, table));
  CHECK_FALSE(lb::apply(PutSelector{kVip, {Policy::random, 65}}, table));
  CHECK_FALSE(lb::apply(PutSlot{kVip, kMaxSlots, at("10.0.0.1:1")}, table));
  CHECK(table.empty());
  CHECK(lb::apply(PutSlot{kVip, 0, at("10.0.0.1:1")}, table));
  CHECK_FALSE(lb::apply(PutSlot{kVip, 0, at("10.0.0.2:1")}, table));
}

}  // namespace
}  // namespace muster::lb
