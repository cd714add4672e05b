#include "lb/core/plan.hpp"

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
  const auto at = [&table](const Vip& vip) -> Applied& { return table[vip]; };
  const auto done = [&table](const Vip& vip) {
    const auto found = table.find(vip);
    trim(found->second.slots);
    if (found->second.empty()) table.erase(found);
    return true;
  };
  const bool fits =
      std::visit(Overloaded{
                     [&](const PutSlot& c) { return put(at(c.vip).slots, c.index, c.backend); },
                     [&](const ReplaceSlot& c) {
                       if (!has(at(c.vip).slots, c.index)) return false;
                       at(c.vip).slots[c.index] = c.backend;
                       return true;
                     },
                     [&](const DropSlot& c) {
                       if (!has(at(c.vip).slots, c.index)) return false;
                       at(c.vip).slots[c.index].reset();
                       return true;
                     },
                     [&](const PutSelector& c) {
                       if (at(c.vip).selector || !is_size_class(c.selector.size)) return false;
                       at(c.vip).selector = c.selector;
                       return true;
                     },
                     [&](const ReplaceSelector& c) {
                       if (!at(c.vip).selector || !is_size_class(c.selector.size)) return false;
                       at(c.vip).selector = c.selector;
                       return true;
                     },
                     [&](const DropSelector& c) {
                       const bool there = at(c.vip).selector.has_value();
                       at(c.vip).selector.reset();
                       return there;
                     },
                     [&](const PutRefusal& c) { return !std::exchange(at(c.vip).refuses, true); },
                     [&](const DropRefusal& c) { return std::exchange(at(c.vip).refuses, false); },
                     [](const PutHairpin&) { return true; },
                     [](const DropHairpin&) { return true; },
                 },
                 command);
  std::visit(
      [&](const auto& c) {
        if constexpr (requires { c.vip; }) done(c.vip);
      },
      command);
  return fits;
}

}  // namespace muster::lb
