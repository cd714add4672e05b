#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <utility>
#include <vector>

#include "base/endpoint.hpp"
#include "base/result.hpp"
#include "lb/bpf/layout.h"
#include "lb/core/plan.hpp"
#include "lb/io/bpf_kernel.hpp"

/// What the programs' maps hold, and how it is brought to what nftables holds.
namespace muster::lb::bpf {

muster_bpf_endpoint encode(const Vip& vip) noexcept;
/// None: nothing that we can have written.
std::optional<Vip> decode(const muster_bpf_endpoint& endpoint) noexcept;

/// Whether the programs can do for this Vip what nftables does. If not, it is not in the maps.
bool can_balance(const Applied& applied) noexcept;

struct Content {
  std::map<Vip, std::uint32_t> balanced;  // and its number of slots
  std::map<Vip, FoundSlots> slots;
  std::map<Vip, std::vector<std::uint64_t>> connections;  // by slot
  std::uint64_t suspicions = 0;  // times a Vip was handed to nftables for a while
};

/// May be torn if the maps are written meanwhile.
Result<Content> read(const Maps& maps);

struct SlotPut {
  Vip vip;
  std::uint32_t index;
  Endpoint backend;
};

/// Written in this order: a Vip that is balanced has all of its slots at any moment.
struct Writes {
  std::vector<SlotPut> puts;
  std::vector<std::pair<Vip, std::uint32_t>> balance;
  std::vector<Vip> leave;  // to nftables
  std::vector<std::pair<Vip, std::uint32_t>> drops;
  bool empty() const noexcept {
    return puts.empty() && balance.empty() && leave.empty() && drops.empty();
  }
};

/// What brings the maps from `found` to `wanted`: at most `most` slots and Vips of it, the rest of
/// which is left to nftables till the next time.
Writes difference(const AppliedTable& wanted, const Content& found, std::size_t most);

/// Carries out `writes`. What does not fit is left to nftables: those Vips are returned.
std::set<Vip> write(const Maps& maps, const Writes& writes);

}  // namespace muster::lb::bpf
