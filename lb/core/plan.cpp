#include "lb/core/plan.hpp"

#include <iterator>
#include <utility>

namespace muster::lb {
namespace {

template <class... Fs>
struct Overloaded : Fs... {
  using Fs::operator()...;
};
template <class... Fs>
Overloaded(Fs...) -> Overloaded<Fs...>;  // Clang 14 does not deduce aggregates yet

void plan_slots(const Vip& vip, const FoundSlots& found, const Slots& wanted, Plan& plan) {
  for (std::uint32_t i = 0; i < wanted.size(); ++i) {
    if (i >= found.size() || !found[i]) {
      plan.add.emplace_back(PutSlot{vip, i, wanted[i]});
    } else if (*found[i] != wanted[i]) {
      plan.flip.emplace_back(ReplaceSlot{vip, i, wanted[i]});
    }
  }
  for (std::uint32_t i = static_cast<std::uint32_t>(wanted.size()); i < found.size(); ++i) {
    if (found[i]) plan.prune.emplace_back(DropSlot{vip, i});
  }
}

void plan_selector(const Vip& vip, const Applied& applied, Selector wanted, Plan& plan) {
  if (!applied.selector) {
    plan.flip.emplace_back(PutSelector{vip, wanted});
  } else if (*applied.selector != wanted) {
    plan.flip.emplace_back(ReplaceSelector{vip, wanted});
  }
}

void trim(FoundSlots& slots) {
  while (!slots.empty() && !slots.back()) slots.pop_back();
}

bool put(FoundSlots& slots, std::uint32_t index, const Endpoint& backend) {
  if (index >= kMaxSlots || (index < slots.size() && slots[index])) return false;
  if (index >= slots.size()) slots.resize(index + 1);
  slots[index] = backend;
  return true;
}

Slots slots_of(const FoundSlots& found, const Service& desired) {
  return desired.policy == Policy::source_hash ? stable_slots(desired.backends)
                                               : fit_slots(found, desired.backends);
}

bool has(const FoundSlots& slots, std::uint32_t index) {
  return index < slots.size() && slots[index].has_value();
}

/// None of commands that are about an address.
const Vip* vip_of(const Command& command) {
  return std::visit(
      [](const auto& one) -> const Vip* {
        if constexpr (requires { one.vip; }) {
          return &one.vip;
        } else {
          return nullptr;
        }
      },
      command);
}

bool change(const Command& command, Applied& applied) {
  return std::visit(Overloaded{
                        [&](const PutSlot& c) { return put(applied.slots, c.index, c.backend); },
                        [&](const ReplaceSlot& c) {
                          if (!has(applied.slots, c.index)) return false;
                          applied.slots[c.index] = c.backend;
                          return true;
                        },
                        [&](const DropSlot& c) {
                          if (!has(applied.slots, c.index)) return false;
                          applied.slots[c.index].reset();
                          return true;
                        },
                        [&](const PutSelector& c) {
                          if (applied.selector || !is_size_class(c.selector.size)) return false;
                          applied.selector = c.selector;
                          return true;
                        },
                        [&](const ReplaceSelector& c) {
                          if (!applied.selector || !is_size_class(c.selector.size)) return false;
                          applied.selector = c.selector;
                          return true;
                        },
                        [&](const DropSelector&) {
                          const bool there = applied.selector.has_value();
                          applied.selector.reset();
                          return there;
                        },
                        [&](const PutRefusal&) { return !std::exchange(applied.refuses, true); },
                        [&](const DropRefusal&) { return std::exchange(applied.refuses, false); },
                        [](const PutHairpin&) { return true; },
                        [](const DropHairpin&) { return true; },
                    },
                    command);
}

}  // namespace

Plan plan(const Vip& vip, const Applied& applied, const std::optional<Service>& desired) {
  Plan plan;
  const Slots wanted = desired ? slots_of(applied.slots, *desired) : Slots{};
  const bool refuses = desired && wanted.empty();
  plan_slots(vip, applied.slots, wanted, plan);
  // Refuse first and stop balancing then, or the other way round: at no time does a connection
  // slip through to whoever has the address outside.
  if (refuses && !applied.refuses) plan.flip.emplace_back(PutRefusal{vip});
  if (!wanted.empty()) {
    const Selector selector{desired->policy, static_cast<std::uint32_t>(wanted.size()),
                            desired->affinity_seconds};
    plan_selector(vip, applied, selector, plan);
  } else if (applied.selector) {
    plan.flip.emplace_back(DropSelector{vip});
  }
  if (!refuses && applied.refuses) plan.flip.emplace_back(DropRefusal{vip});
  return plan;
}

std::optional<Service> without_loss(const Vip& vip, const Applied& applied,
                                    std::optional<Service> desired,
                                    const std::set<Endpoint>* only) {
  if (!applied.selector) {
    if (!desired && applied.refuses) return Service{.vip = vip};
    return desired;
  }
  if (!desired) {
    desired = Service{.vip = vip,
                      .policy = applied.selector->policy,
                      .affinity_seconds = applied.selector->affinity_seconds};
  }
  std::map<Endpoint, std::uint16_t> merged;
  for (const Backend& backend : desired->backends) merged[backend.endpoint] = backend.weight;
  for (std::uint32_t i = 0; i < applied.selector->size && i < applied.slots.size(); ++i) {
    if (!applied.slots[i] || (only != nullptr && !only->contains(*applied.slots[i]))) continue;
    // Known to be draining is known: only what nobody has spoken of yet is kept alive.
    merged.try_emplace(*applied.slots[i], std::uint16_t{1});
  }
  desired->backends.clear();
  for (const auto& [endpoint, weight] : merged) desired->backends.push_back({endpoint, weight});
  return desired;
}

bool serves(const Applied& applied, const std::optional<Service>& desired) {
  if (!desired) return applied.empty();
  return plan(desired->vip, applied, desired).empty();
}

bool apply(const Command& command, AppliedTable& table) {
  return apply(std::span{&command, 1}, table);
}

bool apply(std::span<const Command> commands, AppliedTable& table) {
  bool all = true;
  auto at = table.end();
  const auto leave = [&] {
    if (at == table.end()) return;
    trim(at->second.slots);
    at = at->second.empty() ? table.erase(at) : std::next(at);
  };
  for (const Command& command : commands) {
    const Vip* vip = vip_of(command);
    if (vip == nullptr) continue;
    if (at == table.end() || at->first != *vip) {
      leave();
      at = table.try_emplace(at, *vip);
    }
    all = change(command, at->second) && all;
  }
  leave();
  return all;
}

}  // namespace muster::lb
