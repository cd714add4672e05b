#pragma once

#include <cstddef>
#include <string_view>
#include <vector>

#include "base/result.hpp"
#include "lb/core/forward.hpp"
#include "lb/io/netlink.hpp"

/// Other programs' chains on the forward hook, as forward::plan() wants to know them, and the rules
/// of ours in them.
namespace muster::lb::firewall {

/// Looked at in one read; what a node has beyond is not looked at.
inline constexpr std::size_t kMaxTables = 64;
inline constexpr std::size_t kMaxRules = 200'000;

/// The tables that have a base chain of type filter on the forward hook, with all their chains.
/// `tag`: whose rules are ours. Errors: what the kernel said.
Result<std::vector<forward::Table>> read(netlink::Socket& socket, std::string_view tag);

/// Appends the messages of one edit; the caller has opened the batch.
///
/// In a table that iptables-nft keeps, rules are written in its own words: it refuses to list a
/// table in which it meets others.
void write(netlink::Writer& out, netlink::Socket& socket, const forward::Table& table,
           const forward::Edit& edit, std::string_view tag);

}  // namespace muster::lb::firewall
