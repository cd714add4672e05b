#include "lb/core/weights.hpp"

#include <algorithm>

#include "lb/core/slots.hpp"

namespace muster::lb {

Weights weights_of(const Applied& applied) {
  Weights weights;
  if (!applied.selector) return weights;
  const std::size_t used = std::min<std::size_t>(applied.selector->size, applied.slots.size());
  for (std::size_t i = 0; i < used; ++i) {
    if (applied.slots[i]) ++weights[*applied.slots[i]];
  }
  return weights;
}

Applied applied_of(const Weights& weights, Policy policy, std::uint32_t affinity_seconds) {
  Applied applied;
  for (const auto& [endpoint, weight] : weights) {
    const std::size_t room = kMaxSlots - applied.slots.size();
    applied.slots.insert(applied.slots.end(), std::min<std::size_t>(weight, room), endpoint);
  }
  if (!applied.slots.empty()) {
    applied.selector =
        Selector{policy, static_cast<std::uint32_t>(applied.slots.size()), affinity_seconds};
  }
  return applied;
}

bool same_shares(const Applied& left, const Applied& right) {
  if (left == right) return true;
  if (left.selector != right.selector || left.refuses != right.refuses) return false;
  FoundSlots a = left.slots;
  FoundSlots b = right.slots;
  std::sort(a.begin(), a.end());
  std::sort(b.begin(), b.end());
  return a == b;
}

}  // namespace muster::lb
