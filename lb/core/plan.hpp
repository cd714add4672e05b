#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <span>
#include <variant>
#include <vector>

#include "base/endpoint.hpp"
#include "lb/core/service.hpp"
#include "lb/core/slots.hpp"

namespace muster::lb {

/// Which rule picks the slot: the policy, the number of slots it picks from, and for how long a
/// client keeps what it got.
struct Selector {
  Policy policy = Policy::random;
  std::uint32_t size = 0;
  std::uint32_t affinity_seconds = 0;  // one of kAffinitySeconds, or 0
  friend auto operator<=>(const Selector&, const Selector&) = default;
};

/// What a kernel holds for one Vip, whole or half done by someone who was killed.
struct Applied {
  std::optional<Selector> selector;  // none: connections are not balanced
  bool refuses = false;              // what is not balanced is refused, also outside the Vip range
  FoundSlots slots;                  // never ends with an empty one

  bool empty() const noexcept { return !selector && !refuses && slots.empty(); }
  friend bool operator==(const Applied&, const Applied&) = default;
};
using AppliedTable = std::map<Vip, Applied>;

struct PutSlot {  // must not be there yet
  Vip vip;
  std::uint32_t index;
  Endpoint backend;
};
struct ReplaceSlot {  // must be there
  Vip vip;
  std::uint32_t index;
  Endpoint backend;
};
struct DropSlot {
  Vip vip;
  std::uint32_t index;
};
struct PutSelector {
  Vip vip;
  Selector selector;
};
struct ReplaceSelector {
  Vip vip;
  Selector selector;
};
struct DropSelector {
  Vip vip;
};
struct PutRefusal {
  Vip vip;
};
struct DropRefusal {
  Vip vip;
};
struct PutHairpin {
  IpAddress address;
};
struct DropHairpin {
  IpAddress address;
};
using Command = std::variant<PutSlot, ReplaceSlot, DropSlot, PutSelector, ReplaceSelector,
                             DropSelector, PutRefusal, DropRefusal, PutHairpin, DropHairpin>;

/// Make before break. `add` and `flip` may go in one transaction; `prune` must come after it is
/// committed, because a packet that chose its slot by the old selector still looks that slot up.
/// A driver without transactions may stop after any command: a Vip that has a backend before and
/// after has one in between, too.
struct Plan {
  std::vector<Command> add;
  std::vector<Command> flip;
  std::vector<Command> prune;
  bool empty() const noexcept { return add.empty() && flip.empty() && prune.empty(); }
};

/// What brings one Vip from `applied` to `desired` (none: gone). Pure, deterministic; empty if
/// `applied` already serves `desired`, whatever the order of its slots.
Plan plan(const Vip& vip, const Applied& applied, const std::optional<Service>& desired);

/// `desired` with every backend that `applied` has added to it, or with those of them that are in
/// `only`: what may be programmed as long as nothing, or none of `only`, may be pruned.
std::optional<Service> without_loss(const Vip& vip, const Applied& applied,
                                    std::optional<Service> desired,
                                    const std::set<Endpoint>* only = nullptr);

/// Whether `applied` is what plan() would leave behind for `desired`.
bool serves(const Applied& applied, const std::optional<Service>& desired);

/// What a command does to a table, hairpin commands excepted. False: it does not fit what is
/// there, and a kernel would refuse it, too.
bool apply(const Command& command, AppliedTable& table);
/// The same of many, whether all fit; cheap where those of one Vip are neighbours, and Vips in
/// order.
bool apply(std::span<const Command> commands, AppliedTable& table);

}  // namespace muster::lb
