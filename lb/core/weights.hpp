#pragma once

#include <cstdint>
#include <map>

#include "base/endpoint.hpp"
#include "lb/core/plan.hpp"

/// Slots as weights, for kernels that keep a weight with each backend instead of a table of slots:
/// a backend weighs as much as it has slots that new connections are sent to. So one plan serves
/// both, and a share is as exact as the size classes are.
namespace muster::lb {

using Weights = std::map<Endpoint, std::uint32_t>;

/// Empty if nothing is balanced.
Weights weights_of(const Applied& applied);

/// What a kernel that holds these weights has applied; those of 0 have no slot. Weights that we
/// cannot have set are cut so that there are at most kMaxSlots slots.
Applied applied_of(const Weights& weights, Policy policy, std::uint32_t affinity_seconds = 0);

/// Whether two records mean the same, in whatever order their slots are.
bool same_shares(const Applied& left, const Applied& right);

}  // namespace muster::lb
