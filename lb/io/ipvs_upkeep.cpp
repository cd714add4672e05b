// The part of the ipvs driver that comes after a transaction and with each comparison: routes, and
// taking away what has drained.

#include <algorithm>
#include <array>
#include <iterator>
#include <utility>

#include <linux/rtnetlink.h>

#include "lb/io/ipvs_driver_impl.hpp"
#include "lb/io/nft_link.hpp"

namespace muster::lb {
namespace {

using ipvs::Change;
using ipvs::Edits;
using Kind = ipvs::Change::Kind;

constexpr std::array kFamilies{Family::v4, Family::v6};

}  // namespace

bool IpvsDriver::outside_range(const IpAddress& address) const {
  const auto& range = layout_.range(address.family());
  return !range || !range->contains(address);
}

routes::Route IpvsDriver::route_to(const Prefix& destination, const IpAddress& source) const {
  return {.destination = destination,
          .source = source,
          .table = RT_TABLE_LOCAL,
          .interface = routes::kLoopback,
          .local = true};
}

/// Only once publish_routes() has said from which address; it catches up with those before.
Result<void> IpvsDriver::route_addresses(const std::vector<IpAddress>& addresses) {
  for (const IpAddress& address : addresses) {
    const auto source = source_of(address.family());
    if (!source) continue;
    const Prefix all{address, static_cast<std::uint8_t>(address.octets().size() * 8)};
    const auto done = routes::change(*routes_, routes::kIpvs, route_to(all, *source), true);
    if (!done) return done.error();
  }
  return {};
}

std::set<IpAddress> IpvsDriver::addresses_wanted() const {
  std::set<IpAddress> wanted;
  for (const auto* vips : {&known_.sets.vips, &known_.sets.refused}) {
    for (const Vip& vip : *vips) {
      if (outside_range(vip.endpoint.address)) wanted.insert(vip.endpoint.address);
    }
  }
  return wanted;
}

/// Each service of ours is claimed, and nothing else is.
Result<void> IpvsDriver::mend_claims() {
  Edits edits;
  for (const auto& [vip, kept] : known_.services) {
    if (!known_.sets.vips.contains(vip)) edits.vips.added.push_back(vip);
  }
  for (const Vip& vip : known_.sets.vips) {
    if (!known_.services.contains(vip)) edits.vips.removed.push_back(vip);
  }
  return write_guard(false, edits);
}

/// Takes away backends that have drained, services without any, and what was there for their sake.
Result<std::size_t> IpvsDriver::sweep() {
  std::vector<Change> changes;
  const TimePoint now = Clock::now();
  for (const auto& [vip, kept] : known_.services) {
    std::size_t left = kept.weights.size();
    for (const auto& [backend, weight] : kept.weights) {
      if (weight > 0) continue;
      const auto drain = drains_.find({vip, backend});
      const bool due = drain == drains_.end() || drain->second <= now;
      if (!due && !known_.idle.contains({vip, backend})) continue;
      changes.push_back({.kind = Kind::drop_backend, .vip = vip, .backend = backend});
      --left;
    }
    if (left > 0) continue;
    changes.push_back({.kind = Kind::drop_service, .vip = vip});
  }
  if (!changes.empty()) {
    if (const auto done = ipvs_->commit(changes); !done) return done.error();
  }
  for (const Change& change : changes) {
    if (change.kind == Kind::drop_service) {
      known_.services.erase(change.vip);
    } else {
      known_.services[change.vip].weights.erase(*change.backend);
      known_.idle.erase({change.vip, *change.backend});
      drains_.erase({change.vip, *change.backend});
    }
  }
  if (const auto done = mend_claims(); !done) return done.error();
  Edits addresses;
  const auto wanted = addresses_wanted();
  std::set_difference(known_.sets.addresses.begin(), known_.sets.addresses.end(), wanted.begin(),
                      wanted.end(), std::back_inserter(addresses.addresses_removed));
  std::set_difference(wanted.begin(), wanted.end(), known_.sets.addresses.begin(),
                      known_.sets.addresses.end(), std::back_inserter(addresses.addresses_added));
  for (const IpAddress& address : addresses.addresses_removed) {
    const Prefix all{address, static_cast<std::uint8_t>(address.octets().size() * 8)};
    const auto done = routes::change(*routes_, routes::kIpvs, route_to(all, address), false);
    if (!done) return done.error();
  }
  if (const auto done = write_guard(false, addresses); !done) return done.error();
  return changes.size();
}

Result<std::size_t> IpvsDriver::publish_routes(const RouteSources& sources) {
  sources_ = sources;
  auto sysctls = ipvs::set_sysctls(detail_);
  if (!sysctls) return sysctls;
  if (const auto swept = sweep(); !swept) return swept;
  std::vector<routes::Route> wanted;
  for (const Family family : kFamilies) {
    const auto& range = layout_.range(family);
    const auto source = source_of(family);
    if (range && source) wanted.push_back(route_to(*range, *source));
  }
  for (const IpAddress& address : known_.sets.addresses) {
    const auto source = source_of(address.family());
    if (!source) continue;
    const auto length = static_cast<std::uint8_t>(address.octets().size() * 8);
    wanted.push_back(route_to({address, length}, *source));
  }
  auto changed = routes::publish(*routes_, routes::kIpvs, wanted);
  if (!changed) {
    detail_ = routes_->detail();
    return changed;
  }
  for (const Family family : kFamilies) {
    const auto bridges =
        nft::publish_bridges(*nft_, *routes_, family, layout_.table, ipvs::kBridgeIdsMap);
    if (!bridges) return bridges.error();
    *changed += *bridges;
  }
  return *changed + *sysctls;
}

}  // namespace muster::lb
