#pragma once

#include <algorithm>

#include <doctest/doctest.h>

#include "lb/core/weights.hpp"
#include "lb/io/driver.hpp"
#include "lb/io/programmer.hpp"
#include "tests/support/lb_samples.hpp"
#include "tests/support/seeds.hpp"

namespace muster::testing {

/// What every driver does, and its fake: the same suite runs on both, so that what the other
/// tests learn from the fake is true. `driver` is open, and nothing of ours is in its kernel.
class DriverContract {
 public:
  explicit DriverContract(lb::Driver& driver) : driver_{driver} {}

  void run() {
    starts_absent();
    writes_and_reads_back();
    is_all_or_nothing();
    refuses_what_does_not_fit();
    follows_random_plans();
    resets_with_contents();
    cleans_up();
  }

 private:
  using Schema = lb::KernelState::Schema;

  lb::KernelState read() {
    auto state = driver_.read();
    REQUIRE_MESSAGE(state.has_value(), state.error().message());
    driver_.adopt(*state);
    return *std::move(state);
  }

  /// The order of slots is a driver's own business.
  static bool same(const lb::AppliedTable& left, const lb::AppliedTable& right) {
    return std::equal(left.begin(), left.end(), right.begin(), right.end(),
                      [](const auto& a, const auto& b) {
                        return a.first == b.first && lb::same_shares(a.second, b.second);
                      });
  }

  void starts_absent() {
    CHECK(read().schema == Schema::absent);
    CHECK_FALSE(driver_.apply({.commands = {lb::PutRefusal{tcp("10.1.1.1:1")}}}).has_value());
    REQUIRE(driver_.apply({.reset = true}).has_value());
    const auto state = read();
    CHECK(state.schema == Schema::current);
    CHECK(state.vips.empty());
    CHECK(driver_.apply({}).has_value());
  }

  void writes_and_reads_back() {
    const std::vector<lb::Command> commands{
        lb::PutSlot{tcp("11.0.0.1:80"), 0, at("10.0.0.1:8080")},
        lb::PutSlot{tcp("11.0.0.1:80"), 1, at("10.0.0.2:8081")},
        lb::PutSelector{tcp("11.0.0.1:80"), {lb::Policy::random, 2}},
        lb::PutSlot{udp("[fd01:c::1]:53"), 0, at("[fd00::1]:5353")},
        lb::PutSelector{udp("[fd01:c::1]:53"), {lb::Policy::round_robin, 1}},
        lb::PutSlot{tcp("11.0.0.3:80"), 0, at("10.0.0.1:8080")},
        lb::PutSlot{tcp("11.0.0.3:80"), 1, at("10.0.0.2:8080")},
        lb::PutSelector{tcp("11.0.0.3:80"), {lb::Policy::source_hash, 2, 600}},
        lb::PutRefusal{udp("10.9.9.9:9")},
        lb::PutRefusal{tcp("[fd00::9]:9")},
        lb::PutHairpin{ip("172.17.0.2")},
        lb::PutHairpin{ip("fd00::2")}};
    REQUIRE(driver_.apply({.commands = commands}).has_value());
    lb::AppliedTable expected;
    for (const auto& command : commands) REQUIRE(lb::apply(command, expected));
    const auto state = read();
    CHECK(state.schema == Schema::current);
    CHECK(same(state.vips, expected));
    CHECK(state.hairpin == std::set{ip("172.17.0.2"), ip("fd00::2")});
  }

  void is_all_or_nothing() {
    const auto before = read();
    // The second does not fit.
    CHECK_FALSE(driver_
                    .apply({.commands = {lb::PutSlot{tcp("11.0.0.7:80"), 0, at("10.0.0.1:1")},
                                         lb::DropSlot{tcp("11.0.0.8:80"), 0}}})
                    .has_value());
    const auto after = read();
    CHECK(after.schema == Schema::current);
    CHECK(same(after.vips, before.vips));
  }

  void refuses_what_does_not_fit() {
    const Vip there = tcp("11.0.0.1:80");
    const Vip missing = tcp("11.0.0.2:80");
    const lb::Selector two{lb::Policy::random, 2};
    for (const lb::Command& command : std::vector<lb::Command>{
             lb::PutSlot{there, 0, at("10.0.0.9:1")}, lb::ReplaceSlot{there, 7, at("10.0.0.9:1")},
             lb::DropSlot{there, 7}, lb::PutSelector{there, two}, lb::ReplaceSelector{missing, two},
             lb::DropSelector{missing}, lb::DropRefusal{missing}, lb::PutRefusal{udp("10.9.9.9:9")},
             lb::PutHairpin{ip("172.17.0.2")}, lb::DropHairpin{ip("172.17.0.3")}}) {
      CAPTURE(command.index());
      CHECK_FALSE(driver_.apply({.commands = {command}}).has_value());
    }
  }

  void follows_random_plans() {
    lb::AppliedTable expected = read().vips;
    for_each_seed(60, [&](std::uint64_t seed) {
      MUSTER_SHOW_SEED(seed);
      Rng rng{seed};
      const Vip vip{rng.chance(50) ? Protocol::tcp : Protocol::udp,
                    at("11.1.0." + std::to_string(rng.below(5)) + ":80")};
      std::optional<lb::Service> wanted;
      if (!rng.chance(15)) wanted = service(vip, some_backends(rng, 1 + rng.below(90), 2));
      const auto plan = lb::plan(vip, expected[vip], wanted);
      lb::Transaction make;
      make.commands = plan.add;
      make.commands.insert(make.commands.end(), plan.flip.begin(), plan.flip.end());
      const auto made = driver_.apply(make);
      REQUIRE_MESSAGE(made.has_value(), made.error().message() << " " << driver_.detail());
      REQUIRE(driver_.apply({.commands = plan.prune}).has_value());
      for (const auto& command : make.commands) REQUIRE(lb::apply(command, expected));
      for (const auto& command : plan.prune) REQUIRE(lb::apply(command, expected));
      if (expected.contains(vip) && expected[vip].empty()) expected.erase(vip);
    });
    CHECK(same(read().vips, expected));
    CHECK(read().schema == Schema::current);
  }

  void resets_with_contents() {
    REQUIRE(driver_.apply({.reset = true, .commands = {lb::PutRefusal{tcp("10.1.1.1:1")}}})
                .has_value());
    const auto state = read();
    CHECK(state.schema == Schema::current);
    CHECK(state.vips.size() == 1);
    CHECK(state.hairpin.empty());
  }

  void cleans_up() {
    const auto removed = driver_.cleanup();
    REQUIRE(removed.has_value());
    CHECK_FALSE(removed->empty());
    CHECK(read().schema == Schema::absent);
  }

  lb::Driver& driver_;
};

}  // namespace muster::testing
