#include "lb/io/ipvs_plan.hpp"

#include <doctest/doctest.h>

#include "lb/core/weights.hpp"
#include "tests/support/lb_samples.hpp"
#include "tests/support/seeds.hpp"

namespace muster::lb::ipvs {
namespace {

using namespace testing;
using Kind = Change::Kind;

const Vip kVip = tcp("11.0.0.1:80");

/// As the kernel would, refusing what it would refuse.
bool carry_out(const Change& change, std::map<Vip, Kept>& kernel) {
  const auto found = kernel.find(change.vip);
  if (change.kind == Kind::put_service) {
    return kernel
        .try_emplace(change.vip, Kept{std::string{change.scheduler}, change.affinity_seconds, {}})
        .second;
  }
  if (found == kernel.end()) return false;
  Weights& weights = found->second.weights;
  switch (change.kind) {
    case Kind::set_service:
      found->second.scheduler = change.scheduler;
      found->second.affinity_seconds = change.affinity_seconds;
      return true;
    case Kind::put_backend:
      return weights.try_emplace(*change.backend, change.weight).second;
    case Kind::set_backend:
      return weights.contains(*change.backend) && (weights[*change.backend] = change.weight, true);
    case Kind::drop_backend:
      return weights.erase(*change.backend) == 1;
    case Kind::drop_service:
      return kernel.erase(change.vip) == 1;
    case Kind::put_service:
      break;
  }
  return false;
}

Weights active(const Weights& weights) {
  Weights only;
  for (const auto& [endpoint, weight] : weights) {
    if (weight > 0) only[endpoint] = weight;
  }
  return only;
}

TEST_CASE("any weights become any other, and who has a backend before and after never has none") {
  for_each_seed(500, [](std::uint64_t seed) {
    MUSTER_SHOW_SEED(seed);
    Rng rng{seed};
    const Vip vip{rng.chance(50) ? Protocol::tcp : Protocol::udp, kVip.endpoint};
    std::map<Vip, Kept> kernel;
    for (int step = 0; step < 10; ++step) {
      const auto backends = some_backends(rng, 1 + rng.below(8), 3);
      const Plan plan = lb::plan(vip, {}, service(vip, backends));
      AppliedTable table;
      for (const auto* part : {&plan.add, &plan.flip}) {
        for (const Command& command : *part) REQUIRE(lb::apply(command, table));
      }
      const Weights wanted = weights_of(table[vip]);
      const auto kept = kernel.find(vip);
      const bool had = kept != kernel.end() && !active(kept->second.weights).empty();
      const Scheduling scheduling{rng.chance(20) ? "wrr" : "wlc", rng.chance(20) ? 60U : 0U};
      std::vector<Change> changes;
      plan_changes(vip, scheduling, kept == kernel.end() ? nullptr : &kept->second, wanted,
                   changes);
      for (const Change& change : changes) {
        REQUIRE(carry_out(change, kernel));
        if (had && !wanted.empty()) CHECK_FALSE(active(kernel[vip].weights).empty());
      }
      if (wanted.empty() && !kernel.contains(vip)) continue;
      CHECK(active(kernel[vip].weights) == wanted);
      if (!wanted.empty()) {
        CHECK(kernel[vip].scheduler == scheduling.scheduler);
        CHECK(kernel[vip].affinity_seconds == scheduling.affinity_seconds);
      }
      // Only udp lets go at once.
      if (vip.protocol == Protocol::udp) CHECK(kernel[vip].weights == wanted);
      changes.clear();
      plan_changes(vip, scheduling, &kernel[vip], wanted, changes);
      CHECK(changes.empty());
    }
  });
}

TEST_CASE("weights and slots say the same, whatever the order") {
  for_each_seed(300, [](std::uint64_t seed) {
    MUSTER_SHOW_SEED(seed);
    Rng rng{seed};
    const Service wanted = service(kVip, some_backends(rng, 1 + rng.below(90), 4));
    const Plan made = lb::plan(kVip, {}, wanted);
    AppliedTable table;
    for (const auto* part : {&made.add, &made.flip}) {
      for (const Command& command : *part) REQUIRE(lb::apply(command, table));
    }
    Applied read = applied_of(weights_of(table[kVip]), Policy::random);
    read.refuses = table[kVip].refuses;
    CHECK(same_shares(read, table[kVip]));
    CHECK(serves(read, wanted));
    if (read.slots.empty()) return;
    read.slots.back() = at("10.255.255.255:1");
    CHECK_FALSE(same_shares(read, table[kVip]));
  });
}

TEST_CASE("weights that nobody of ours has set are cut, and put right") {
  const Weights absurd{{at("10.0.0.1:1"), 4'000'000'000U}, {at("10.0.0.2:1"), 7}};
  const Applied applied = applied_of(absurd, Policy::random);
  CHECK(applied.slots.size() == kMaxSlots);
  const Service wanted = service(kVip, {{at("10.0.0.1:1"), 1}, {at("10.0.0.2:1"), 1}});
  CHECK_FALSE(serves(applied, wanted));
  AppliedTable table{{kVip, applied}};
  const Plan mended = lb::plan(kVip, applied, wanted);
  for (const auto* part : {&mended.add, &mended.flip, &mended.prune}) {
    for (const Command& command : *part) REQUIRE(lb::apply(command, table));
  }
  CHECK(weights_of(table[kVip]) == Weights{{at("10.0.0.1:1"), 1}, {at("10.0.0.2:1"), 1}});
}

TEST_CASE("an address is in a prefix or not, to the bit") {
  const auto in = [](const char* prefix, const char* address) {
    return Prefix::parse(prefix)->contains(ip(address));
  };
  CHECK(in("11.0.0.0/8", "11.255.255.255"));
  CHECK_FALSE(in("11.0.0.0/8", "12.0.0.0"));
  CHECK(in("10.32.0.0/11", "10.63.255.255"));
  CHECK_FALSE(in("10.32.0.0/11", "10.64.0.0"));
  CHECK(in("10.1.1.1/32", "10.1.1.1"));
  CHECK_FALSE(in("10.1.1.1/32", "10.1.1.0"));
  CHECK(in("fd01:c::/64", "fd01:c::ffff"));
  CHECK_FALSE(in("fd01:c::/64", "fd01:c:0:1::"));
  CHECK_FALSE(in("11.0.0.0/8", "::"));
}

}  // namespace
}  // namespace muster::lb::ipvs
