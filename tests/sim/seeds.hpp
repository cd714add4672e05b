#pragma once

#include <cstdint>
#include <cstdlib>
#include <string>

#include "tests/support/seeds.hpp"

namespace muster::gossip::sim {

/// Runs `property` over `count` seeds from `from` on; MUSTER_SIM_SEEDS=1000 sets another count,
/// MUSTER_SIM_FIRST=5000 moves `from` on by so many, MUSTER_SEED=17 runs that one alone. A failure
/// names its seed (MUSTER_SHOW_SEED).
template <class Property>
void for_seeds(std::uint64_t from, std::uint64_t count, Property property) {
  if (const char* runs = std::getenv("MUSTER_SIM_SEEDS"); runs != nullptr) {
    count = std::stoull(runs);
  }
  if (const char* first = std::getenv("MUSTER_SIM_FIRST"); first != nullptr) {
    from += std::stoull(first);
  }
  const bool only = std::getenv("MUSTER_SEED") != nullptr;
  muster::testing::for_each_seed(
      count, [&](std::uint64_t seed) { property(only ? seed : from + seed - 1); });
}

}  // namespace muster::gossip::sim
