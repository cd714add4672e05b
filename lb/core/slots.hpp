#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "base/endpoint.hpp"

namespace muster::lb {

/// A Vip's slot table: a new connection takes one of N slots, and each slot is one backend. The
/// kernel's rules need N as a constant, so there is one rule per *size class*: every N to 64, and
/// powers of two above.
using Slots = std::vector<Endpoint>;
/// As found in a kernel: a slot may be missing.
using FoundSlots = std::vector<std::optional<Endpoint>>;

inline constexpr std::uint32_t kMaxExactSlots = 64;
/// Above the exact classes a backend has at least so many slots while the table can grow: one
/// slot too many or too few is then at most an eighth of its share.
inline constexpr std::uint32_t kSlotsPerBackend = 8;
inline constexpr std::uint32_t kMaxSlots = 8192;

/// All size classes, ascending. Part of the kernel's schema.
std::span<const std::uint32_t> size_classes() noexcept;
bool is_size_class(std::uint32_t size) noexcept;

/// The size class for these backends; 0 if none has a weight.
std::uint32_t slot_count(std::span<const Backend> backends);

/// A table for `backends` (sorted, no endpoint twice) that differs from `previous` in as few
/// slots as their shares allow.
///
/// Up to 64 slots shares are exact. Above, a backend has its share rounded down or up, and never
/// less than one slot. If `previous` already fits it comes back as it is. A new table is
/// interleaved, so that round robin spreads a weighted backend evenly. Deterministic.
/// The order of slots means nothing to random and round robin; for hash policies see
/// stable_slots().
Slots fit_slots(const FoundSlots& previous, std::span<const Backend> backends);

/// So many slots at least a hash policy with more than one backend has: the table keeps its size,
/// and clients their slots, while backends come and go.
inline constexpr std::uint32_t kLeastStableSlots = 512;

/// A table that follows from `backends` alone, so that all nodes have the same one, and in which
/// few slots change hands when a backend comes or goes (Maglev, NSDI 2016 §3.4): each backend in
/// turn takes the next free slot of an order of its own. Shares as with fit_slots().
Slots stable_slots(std::span<const Backend> backends);

}  // namespace muster::lb
