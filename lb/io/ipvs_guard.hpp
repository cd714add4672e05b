#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "base/endpoint.hpp"
#include "lb/io/driver.hpp"
#include "lb/io/netlink.hpp"
#include "lb/io/nft_rules.hpp"

/// The nf_tables table around IPVS, one for each family; lb/README.md shows its shape. It needs
/// Linux 4.19 only: no counters in sets, no refusals before routing, no comment on the table.
namespace muster::lb::ipvs {

/// `muster_ipvs`, beside the nft driver's `muster`.
std::string guard_table(std::string_view table);

/// The set of addresses outside the Vip range that are routed to this node for a Vip's sake.
inline constexpr std::string_view kAddressesSet = "addresses";
/// A bridge's index as a priority: see the rules.
inline constexpr std::string_view kBridgeIdsMap = "bridge_ids";

struct GuardOptions {
  std::string table;
  Family family = Family::v4;
  std::optional<Prefix> range;
  /// conntrack forgets a tcp flow that got no answer when its client repeats the SYN, so that
  /// UnansweredWatch hears of it then.
  bool hears_unanswered = true;
};

/// An empty chain whose name says which schema the table has: older kernels keep no comment.
std::string guard_mark(const GuardOptions& options);

/// Appends the messages that create the table, without Vips. The caller has opened the batch, and
/// removes what was there before.
nft::SchemaCounts write_guard(netlink::Writer& out, netlink::Socket& socket,
                              const GuardOptions& options);

}  // namespace muster::lb::ipvs
