#pragma once

#include <cstddef>
#include <map>
#include <string_view>
#include <vector>

#include "lb/core/weights.hpp"
#include "lb/io/ipvs.hpp"
#include "lb/io/ipvs_kernel.hpp"
#include "lb/io/nft_elements.hpp"

/// What has to be written, and where, to get from what is known to what is wished. No system calls.
namespace muster::lb::ipvs {

/// What a transaction makes of the Vips it names.
struct Wish {
  std::map<Vip, Applied> vips;  // empty: gone
  std::vector<Command> hairpin;
};

/// Elements to change in the guard's sets.
struct Edits {
  nft::KeyChanges vips;
  nft::KeyChanges refused;
  std::vector<IpAddress> addresses_added;
  std::vector<IpAddress> addresses_removed;
  std::vector<Command> hairpin;

  std::size_t size() const noexcept;
  bool empty() const noexcept { return size() == 0; }
};

/// What the sets hold after `edits`.
void carry_out(const Edits& edits, GuardSets& sets);

/// How a service spreads; `scheduler` must outlive the changes made with it.
struct Scheduling {
  std::string_view scheduler;
  std::uint32_t affinity_seconds = 0;
};

/// How to get from what is kept for one Vip (null: nothing) to these weights: more first, then
/// less. What is no longer wanted stays with weight 0, but for udp, whose flows never say that
/// they have ended.
void plan_changes(const Vip& vip, const Scheduling& scheduling, const Kept* kept,
                  const Weights& wanted, std::vector<Change>& changes);

}  // namespace muster::lb::ipvs
