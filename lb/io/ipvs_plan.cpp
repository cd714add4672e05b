#include "lb/io/ipvs_plan.hpp"

#include <variant>

namespace muster::lb::ipvs {
namespace {

using Kind = Change::Kind;

template <class Set, class Items>
void add_all(Set& set, const Items& items) {
  for (const auto& item : items) set.insert(item);
}
template <class Set, class Items>
void erase_all(Set& set, const Items& items) {
  for (const auto& item : items) set.erase(item);
}

}  // namespace

std::size_t Edits::size() const noexcept {
  return vips.added.size() + vips.removed.size() + refused.added.size() + refused.removed.size() +
         addresses_added.size() + addresses_removed.size() + hairpin.size();
}

void carry_out(const Edits& edits, GuardSets& sets) {
  add_all(sets.vips, edits.vips.added);
  erase_all(sets.vips, edits.vips.removed);
  add_all(sets.refused, edits.refused.added);
  erase_all(sets.refused, edits.refused.removed);
  add_all(sets.addresses, edits.addresses_added);
  erase_all(sets.addresses, edits.addresses_removed);
  for (const Command& command : edits.hairpin) {
    if (const auto* put = std::get_if<PutHairpin>(&command)) sets.hairpin.insert(put->address);
    if (const auto* drop = std::get_if<DropHairpin>(&command)) sets.hairpin.erase(drop->address);
  }
}

void plan_changes(const Vip& vip, const Scheduling& scheduling, const Kept* kept,
                  const Weights& wanted, std::vector<Change>& changes) {
  const auto service = [&](Kind kind) {
    changes.push_back({.kind = kind,
                       .vip = vip,
                       .scheduler = scheduling.scheduler,
                       .affinity_seconds = scheduling.affinity_seconds});
  };
  if (kept == nullptr) {
    if (wanted.empty()) return;
    service(Kind::put_service);
  } else if (!wanted.empty() && (kept->scheduler != scheduling.scheduler ||
                                 kept->affinity_seconds != scheduling.affinity_seconds)) {
    service(Kind::set_service);
  }
  const auto change = [&](Kind kind, const Endpoint& backend, std::uint32_t weight) {
    changes.push_back({.kind = kind, .vip = vip, .backend = backend, .weight = weight});
  };
  for (const auto& [backend, weight] : wanted) {
    const auto there = kept ? kept->weights.find(backend) : Weights::const_iterator{};
    if (kept == nullptr || there == kept->weights.end()) {
      change(Kind::put_backend, backend, weight);
    } else if (there->second != weight) {
      change(Kind::set_backend, backend, weight);
    }
  }
  if (kept == nullptr) return;
  for (const auto& [backend, weight] : kept->weights) {
    if (wanted.contains(backend)) continue;
    if (vip.protocol == Protocol::udp) {
      change(Kind::drop_backend, backend, 0);
    } else if (weight > 0) {
      change(Kind::set_backend, backend, 0);
    }
  }
}

}  // namespace muster::lb::ipvs
