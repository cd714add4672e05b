// The part of the ipvs driver that carries out transactions.

#include <array>
#include <cerrno>
#include <utility>
#include <variant>

#include "base/assert.hpp"
#include "lb/io/ipvs_driver_impl.hpp"
#include "lb/io/nft_elements.hpp"
#include "lb/io/nft_link.hpp"

namespace muster::lb {
namespace {

using ipvs::Change;
using ipvs::Edits;
using ipvs::Wish;
using Kind = ipvs::Change::Kind;

constexpr std::array kFamilies{Family::v4, Family::v6};

}  // namespace

/// The commands' outcome, or the first that does not fit what is there.
Result<Wish> IpvsDriver::fit(const Transaction& transaction) const {
  Wish wish;
  std::set<IpAddress> hairpin = transaction.reset ? std::set<IpAddress>{} : known_.sets.hairpin;
  AppliedTable next;
  for (const Command& command : transaction.commands) {
    bool fits = true;
    if (const auto* put = std::get_if<PutHairpin>(&command)) {
      fits = hairpin.insert(put->address).second;
      wish.hairpin.push_back(command);
    } else if (const auto* drop = std::get_if<DropHairpin>(&command)) {
      fits = hairpin.erase(drop->address) == 1;
      wish.hairpin.push_back(command);
    } else {
      const Vip vip = std::visit(
          [](const auto& c) -> Vip {
            if constexpr (requires { c.vip; }) return c.vip;
            MUSTER_ASSERT(false);
          },
          command);
      if (wish.vips.try_emplace(vip).second && !transaction.reset) {
        const auto found = shadow_.find(vip);
        if (found != shadow_.end()) next.insert(*found);
      }
      fits = lb::apply(command, next);
    }
    if (!fits) return netlink::errno_code(ENOENT);
  }
  for (auto& [vip, applied] : wish.vips) {
    const auto found = next.find(vip);
    if (found != next.end()) applied = std::move(found->second);
    if (applied.selector && known_.foreign.contains(vip)) return netlink::errno_code(EEXIST);
  }
  return wish;
}

Result<void> IpvsDriver::write_guard(bool reset, const Edits& edits) {
  if (!reset && edits.empty()) return {};
  netlink::Writer out;
  nft::begin_batch(out, nft_->next_sequence());
  if (reset) {
    for (const Family family : kFamilies) {
      nft::write_removal(out, *nft_, layout_.table, family);
      ipvs::write_guard(out, *nft_, layout_.guard(family));
    }
  }
  nft::write_vips(out, *nft_, layout_.table, nft::Set::vips, edits.vips);
  nft::write_vips(out, *nft_, layout_.table, nft::Set::refused, edits.refused);
  nft::write_addresses(out, *nft_, layout_.table, ipvs::kAddressesSet, edits.addresses_added,
                       edits.addresses_removed);
  nft::write_commands(out, *nft_, layout_.table, edits.hairpin);
  const auto done = edits.size() < nft::kNoticedCommands
                        ? nft::commit(*nft_, out)
                        : nft::commit_unnoticed(*nft_, out, *monitor_);
  detail_ = nft_->detail();
  if (!done) return done;
  if (reset) known_.sets = {};
  ipvs::carry_out(edits, known_.sets);
  return done;
}

/// What the guard must know before IPVS does: that a service is ours, and what is refused from now
/// on, so that no connection slips through to whoever has the address outside.
Edits IpvsDriver::before(const Wish& wish, bool reset) const {
  const ipvs::GuardSets none;
  const ipvs::GuardSets& there = reset ? none : known_.sets;
  std::set<Vip> vips;
  std::set<IpAddress> addresses;
  const auto claim = [&](const Vip& vip) {
    if (!there.vips.contains(vip)) vips.insert(vip);
    const IpAddress& address = vip.endpoint.address;
    if (outside_range(address) && !there.addresses.contains(address)) addresses.insert(address);
  };
  Edits edits;
  if (reset) {
    for (const auto& [vip, kept] : known_.services) claim(vip);
  }
  for (const auto& [vip, applied] : wish.vips) {
    if (applied.selector) claim(vip);
    if (!applied.refuses || there.refused.contains(vip)) continue;
    edits.refused.added.push_back(vip);
    const IpAddress& address = vip.endpoint.address;
    if (outside_range(address) && !there.addresses.contains(address)) addresses.insert(address);
  }
  edits.vips.added.assign(vips.begin(), vips.end());
  edits.addresses_added.assign(addresses.begin(), addresses.end());
  edits.hairpin = wish.hairpin;
  return edits;
}

Edits IpvsDriver::after(const Wish& wish) const {
  Edits edits;
  for (const auto& [vip, applied] : wish.vips) {
    if (!applied.refuses && known_.sets.refused.contains(vip)) edits.refused.removed.push_back(vip);
  }
  return edits;
}

void IpvsDriver::note_drains(const std::vector<Change>& changes) {
  for (const Change& change : changes) {
    if (change.kind == Kind::put_service || change.kind == Kind::set_service) {
      ipvs::Kept& kept = known_.services[change.vip];
      kept.scheduler = change.scheduler;
      kept.affinity_seconds = change.affinity_seconds;
      continue;
    }
    const std::pair key{change.vip, *change.backend};
    Weights& weights = known_.services[change.vip].weights;
    known_.idle.erase(key);
    drains_.erase(key);
    if (change.kind == Kind::drop_backend) {
      weights.erase(*change.backend);
      continue;
    }
    weights[*change.backend] = change.weight;
    if (change.weight == 0) drains_[key] = Clock::now() + config_.drain;
  }
}

Result<void> IpvsDriver::balance(const Wish& wish, bool reset) {
  std::vector<Change> changes;
  const auto plan = [&](const Vip& vip, const Applied& applied) {
    const auto kept = known_.services.find(vip);
    const Selector selector =
        applied.selector.value_or(Selector{config_.policy, 0, 0});  // matters if there are weights
    ipvs::plan_changes(vip, {scheduler_of(selector.policy), selector.affinity_seconds},
                       kept != known_.services.end() ? &kept->second : nullptr, weights_of(applied),
                       changes);
  };
  for (const auto& [vip, applied] : wish.vips) plan(vip, applied);
  // A reset says all there is to be; but one that says nothing only clears the ground for what
  // follows, and whoever is served meanwhile stays served.
  if (reset && !wish.vips.empty()) {
    for (const auto& [vip, kept] : known_.services) {
      if (!wish.vips.contains(vip)) plan(vip, Applied{});
    }
  }
  if (changes.empty()) return {};
  const auto done = ipvs_->commit(changes);
  if (!done) {
    detail_ = ipvs_->detail();
    return done;
  }
  note_drains(changes);
  return {};
}

Result<void> IpvsDriver::apply(const Transaction& transaction) {
  MUSTER_ASSERT(ipvs_);
  if (!transaction.reset && transaction.commands.empty()) return {};
  if (transaction.reset) {
    // What was adopted says nothing about a table that is not ours.
    auto now = ipvs::read_kernel(layout_, expected_);
    if (!now) return now.error();
    known_ = std::move(*now);
    shadow_.clear();
  }
  const auto wish = fit(transaction);
  if (!wish) return wish.error();
  const Edits first = before(*wish, transaction.reset);
  if (const auto done = write_guard(transaction.reset, first); !done) return done;
  if (const auto done = balance(*wish, transaction.reset); !done) return done;
  if (const auto done = route_addresses(first.addresses_added); !done) return done;
  if (const auto done = write_guard(false, after(*wish)); !done) return done;
  for (const auto& [vip, applied] : wish->vips) {
    if (applied.empty()) {
      shadow_.erase(vip);
    } else {
      shadow_.insert_or_assign(vip, applied);
    }
  }
  return {};
}

}  // namespace muster::lb
