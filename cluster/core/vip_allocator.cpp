#include "cluster/core/vip_allocator.hpp"

#include <algorithm>
#include <tuple>
#include <utility>

namespace muster::cluster {
namespace {

constexpr std::size_t kMaxAllocatorProblems = 64;

// By the clock first: in the halves of a partition the numbers are counted apart.
bool older(const VipRecord& a, const VipRecord& b) {
  return std::tie(a.term, a.since_seconds, a.sequence, a.allocation.name) <
         std::tie(b.term, b.since_seconds, b.sequence, b.allocation.name);
}

}  // namespace

std::vector<VipUse> vip_uses(const Task& task) {
  std::vector<VipUse> uses;
  for (const TaskPort& port : task.ports) {
    if (port.vips.empty()) continue;
    const auto has = [&port](Family family) {
      return std::any_of(port.endpoints.begin(), port.endpoints.end(),
                         [family](const Endpoint& e) { return e.address.family() == family; });
    };
    const bool v4 = has(Family::v4);
    const bool v6 = has(Family::v6);
    for (const VipLabel& label : port.vips) uses.push_back({label.host, v4, v6});
  }
  return uses;
}

void VipAllocator::use(const VipUse& use) {
  if (const auto* address = std::get_if<IpAddress>(&use.host)) {
    const bool first = ++explicit_[*address] == 1;
    const auto owner = owner_.find(*address);
    if (first && owner != owner_.end()) {
      complain("vip_address", "VIP " + address->to_string(),
               "the address was given to the named VIP " + owner->second.str() +
                   " before; explicit VIPs should be outside the range of named ones");
    }
    return;
  }
  const auto& name = std::get<VipName>(use.host);
  Uses& uses = uses_[name];
  ++uses.all;
  uses.v4 += use.v4 ? 1U : 0U;
  uses.v6 += use.v6 ? 1U : 0U;
  touched_.insert(name);
}

void VipAllocator::release(const VipUse& use) {
  if (const auto* address = std::get_if<IpAddress>(&use.host)) {
    const auto count = explicit_.find(*address);
    if (count == explicit_.end()) return;
    if (--count->second == 0) {
      explicit_.erase(count);
      freed_ = true;
    }
    return;
  }
  const auto& name = std::get<VipName>(use.host);
  const auto uses = uses_.find(name);
  if (uses == uses_.end()) return;
  --uses->second.all;
  uses->second.v4 -= use.v4 ? 1U : 0U;
  uses->second.v6 -= use.v6 ? 1U : 0U;
  touched_.insert(name);
}

std::vector<VipAllocator::Changed> VipAllocator::settle(std::int64_t wall_seconds,
                                                        std::size_t limit) {
  std::vector<Changed> changed;
  note_ended(changed);
  if (wanting_.empty() && std::exchange(freed_, false)) {
    touched_.insert(starved_.begin(), starved_.end());
  }
  // What is there already first, so that nothing in use can be evicted for something new.
  for (; !touched_.empty() && limit > 0; --limit) {
    settle_touched(touched_.extract(touched_.begin()).value(), wall_seconds, changed);
  }
  if (!touched_.empty()) return changed;
  for (; !wanting_.empty() && limit > 0; --limit) {
    settle_wanting(wanting_.extract(wanting_.begin()).value(), wall_seconds, changed);
  }
  if (!wanting_.empty()) return changed;
  for (const VipName& name : std::exchange(disputed_, {})) {
    const auto entry = entries_.find(name);
    if (entry != entries_.end()) changed.emplace_back(name, entry->second);
  }
  return changed;
}

void VipAllocator::note_ended(std::vector<Changed>& changed) {
  for (VipName& name : ended_) changed.emplace_back(std::move(name), std::nullopt);
  ended_.clear();
}

void VipAllocator::settle_touched(const VipName& name, std::int64_t wall_seconds,
                                  std::vector<Changed>& changed) {
  const auto uses = uses_.find(name);
  const bool used = uses != uses_.end() && uses->second.all > 0;
  if (!used) {
    if (uses != uses_.end()) uses_.erase(uses);
    starved_.erase(name);
    wanting_.erase(name);
  }
  const auto entry = entries_.find(name);
  if (entry == entries_.end()) {
    if (used) wanting_.insert(name);
    return;
  }
  auto& unused_since = entry->second.unused_since_seconds;
  if (used != unused_since.has_value()) {
    if (used) wanting_.insert(name);  // perhaps a further family
    return;
  }
  if (used) {
    unused_.erase({*unused_since, name});
    unused_since.reset();
    wanting_.insert(name);
  } else {
    unused_since = wall_seconds;
    unused_.emplace(wall_seconds, name);
  }
  changed.emplace_back(name, entry->second);
}

void VipAllocator::settle_wanting(const VipName& name, std::int64_t wall_seconds,
                                  std::vector<Changed>& changed) {
  const auto known = entries_.find(name);
  VipRecord record = known != entries_.end() ? known->second : VipRecord{};
  record.allocation.name = name;
  const bool gained = assign(record, uses_[name]);
  note_ended(changed);
  if (!gained) return;
  if (known == entries_.end()) {
    record.sequence = next_sequence_++;
    record.since_seconds = wall_seconds;
  }
  entries_.insert_or_assign(name, record);
  changed.emplace_back(name, std::move(record));
  disputed_.erase(name);
}

void VipAllocator::claim(const VipRecord& theirs, std::int64_t wall_seconds) {
  const VipName& name = theirs.allocation.name;
  const auto known = entries_.find(name);
  if (known == entries_.end() && entries_.size() >= options_.max_allocations) return;
  VipRecord record = theirs;
  record.former.clear();
  if (known != entries_.end()) record = known->second;
  const bool wins = known == entries_.end() || older(theirs, record);
  if (known == entries_.end()) record.allocation = {name, {}, {}};
  const auto settle = [&](const std::optional<IpAddress>& theirs_at, std::optional<IpAddress>& at,
                          const AddressRange& range) {
    if (!theirs_at || theirs_at == at) return;
    const bool takes = (wins || !at) && range.contains(*theirs_at) &&
                       take_address(*theirs_at, theirs, wall_seconds);
    if (!takes) return retire(record, *theirs_at, wall_seconds);
    unindex_former(record);
    std::erase(record.former, *theirs_at);  // it comes back
    index_former(record);
    if (at) {
      owner_.erase(*at);
      retire(record, *at, wall_seconds);
    }
    at = theirs_at;
    owner_.insert_or_assign(*at, name);
  };
  settle(theirs.allocation.v4, record.allocation.v4, options_.v4);
  settle(theirs.allocation.v6, record.allocation.v6, options_.v6);
  if (wins) {
    record.since_seconds = theirs.since_seconds;
    record.sequence = theirs.sequence;
    next_sequence_ = std::max(next_sequence_, theirs.sequence + 1);
  }
  if (known == entries_.end()) record.unused_since_seconds.reset();  // settle() finds out
  touched_.insert(name);
  disputed_.insert(name);
  freed_ = true;
  entries_.insert_or_assign(name, std::move(record));
}

/// Free, or another name's by a younger allocation, which then loses it.
bool VipAllocator::take_address(const IpAddress& address, const VipRecord& claim,
                                std::int64_t wall_seconds) {
  if (explicit_.contains(address)) return false;
  const auto owner = owner_.find(address);
  if (owner == owner_.end()) return true;
  const VipName name = owner->second;
  VipRecord& loser = entries_.at(name);
  if (older(loser, claim)) return false;
  owner_.erase(owner);
  auto& slot = address.is_v4() ? loser.allocation.v4 : loser.allocation.v6;
  slot.reset();
  touched_.insert(name);
  if (loser.unused_since_seconds) {
    ended_.push_back(name);
    drop(name);
  } else {
    retire(loser, address, wall_seconds);
    disputed_.insert(name);
  }
  return true;
}

void VipAllocator::retire(VipRecord& record, const IpAddress& address, std::int64_t wall_seconds) {
  unindex_former(record);
  auto& former = record.former;
  std::erase(former, address);
  if (former.size() >= kMaxFormerAddresses) former.erase(former.begin());
  former.push_back(address);
  record.former_until_seconds = wall_seconds + options_.former.count();
  index_former(record);
}

void VipAllocator::index_former(const VipRecord& record) {
  if (record.former.empty()) return;
  for (const IpAddress& at : record.former) former_.insert_or_assign(at, record.allocation.name);
  former_until_.emplace(record.former_until_seconds, record.allocation.name);
}

void VipAllocator::unindex_former(const VipRecord& record) {
  for (const IpAddress& at : record.former) former_.erase(at);
  former_until_.erase({record.former_until_seconds, record.allocation.name});
}

/// Fills the families that are used and have no address yet; true if one was found.
bool VipAllocator::assign(VipRecord& record, const Uses& uses) {
  const VipName& name = record.allocation.name;
  bool gained = false;
  bool failed = false;
  const auto fill = [&](std::size_t count, std::optional<IpAddress>& slot,
                        const AddressRange& range) {
    if (count == 0 || slot) return;
    slot = choose(name, range);
    if (!slot) {
      failed = true;
      return;
    }
    owner_.emplace(*slot, name);
    gained = true;
  };
  fill(uses.v4, record.allocation.v4, options_.v4);
  fill(uses.v6, record.allocation.v6, options_.v6);
  if (!failed) {
    starved_.erase(name);
  } else if (starved_.insert(name).second) {
    complain("vip_range", "VIP " + name.str(),
             "no address is free in the range; a larger one, or fewer VIPs");
  }
  return gained;
}

std::optional<IpAddress> VipAllocator::choose(const VipName& name, const AddressRange& range) {
  const bool known = entries_.contains(name);
  for (;;) {
    const bool room = known || entries_.size() < options_.max_allocations;
    if (room) {
      // Of more addresses than are taken, one is free: no more need to be looked at.
      const std::size_t limit = owner_.size() + explicit_.size() + former_.size() + 1;
      const IpAddress start = preferred_address(name.str(), range);
      IpAddress address = start;
      for (std::size_t i = 0; i < limit; ++i) {
        const bool free = !owner_.contains(address) && !explicit_.contains(address);
        if (free && !former_.contains(address)) return address;
        address = next_address(address, range);
        if (address == start) break;
      }
    }
    if (!evict_oldest_unused(room ? &range : nullptr)) return std::nullopt;
  }
}

/// With a range: the oldest that has an address in it.
bool VipAllocator::evict_oldest_unused(const AddressRange* range) {
  for (const auto& [since, name] : unused_) {
    const VipAllocation& allocation = entries_.at(name).allocation;
    const bool helps = range == nullptr || (allocation.v4 && range->contains(*allocation.v4)) ||
                       (allocation.v6 && range->contains(*allocation.v6));
    if (!helps) continue;
    ended_.push_back(name);
    drop(VipName{name});
    return true;
  }
  return false;
}

std::vector<VipAllocator::Changed> VipAllocator::expire(std::int64_t wall_seconds) {
  std::vector<Changed> changed;
  while (!unused_.empty() && unused_.begin()->first <= wall_seconds - options_.retention.count()) {
    const VipName name = unused_.begin()->second;
    drop(name);
    changed.emplace_back(name, std::nullopt);
  }
  while (!former_until_.empty() && former_until_.begin()->first <= wall_seconds) {
    const VipName name = former_until_.begin()->second;
    VipRecord& record = entries_.at(name);
    unindex_former(record);
    record.former.clear();
    record.former_until_seconds = 0;
    changed.emplace_back(name, record);
  }
  return changed;
}

std::optional<std::int64_t> VipAllocator::next_expiry() const {
  std::optional<std::int64_t> next;
  if (!unused_.empty()) next = unused_.begin()->first + options_.retention.count();
  if (!former_until_.empty() && (!next || former_until_.begin()->first < *next)) {
    next = former_until_.begin()->first;
  }
  return next;
}

bool VipAllocator::adopt(const VipRecord& given) {
  VipRecord record = given;
  const VipName& name = record.allocation.name;
  if (entries_.contains(name)) drop(name);
  touched_.insert(name);
  next_sequence_ = std::max(next_sequence_, record.sequence + 1);
  const auto keep = [&](std::optional<IpAddress>& slot, const AddressRange& range) {
    if (!slot) return;
    const auto owner = owner_.find(*slot);
    if (!range.contains(*slot)) {
      slot.reset();  // the configured range has changed
    } else if (owner != owner_.end()) {
      const VipName other = owner->second;
      if (older(entries_.at(other), record)) {
        slot.reset();
      } else {
        ended_.push_back(other);
        touched_.insert(other);
        drop(other);
      }
    }
  };
  keep(record.allocation.v4, options_.v4);
  keep(record.allocation.v6, options_.v6);
  const bool room = entries_.size() < options_.max_allocations;
  if (!room || (!record.allocation.v4 && !record.allocation.v6)) {
    ended_.push_back(name);
    return false;
  }
  for (const auto& slot : {record.allocation.v4, record.allocation.v6}) {
    if (slot) owner_.emplace(*slot, name);
  }
  if (record.unused_since_seconds) unused_.emplace(*record.unused_since_seconds, name);
  index_former(record);
  entries_.emplace(name, record);
  return true;
}

void VipAllocator::drop(const VipName& name) {
  const auto entry = entries_.find(name);
  if (entry == entries_.end()) return;
  const VipRecord& record = entry->second;
  if (record.allocation.v4) owner_.erase(*record.allocation.v4);
  if (record.allocation.v6) owner_.erase(*record.allocation.v6);
  if (record.unused_since_seconds) unused_.erase({*record.unused_since_seconds, name});
  unindex_former(record);
  entries_.erase(entry);
  freed_ = true;
}

std::vector<Problem> VipAllocator::take_problems() {
  return std::exchange(problems_, {});
}

void VipAllocator::complain(std::string kind, std::string where, std::string what) {
  if (problems_.size() >= kMaxAllocatorProblems) return;
  problems_.push_back({std::move(kind), std::move(where), std::move(what)});
}

}  // namespace muster::cluster
