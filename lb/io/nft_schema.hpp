#pragma once

#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <string_view>

#include "base/endpoint.hpp"
#include "lb/core/plan.hpp"
#include "lb/io/driver.hpp"
#include "lb/io/netlink.hpp"
#include "lb/io/nft_rules.hpp"

/// The shape of our nf_tables tables, one for each family; lb/README.md shows it as `nft` prints
/// it. Written over netlink as a whole, because nft(8) would fill the timeout policy with
/// values of its own, and because a change of shape has to take the elements along.
namespace muster::lb::nft {

/// Goes up with every change of what write_schema() writes.
inline constexpr unsigned kSchemaVersion = 3;

enum class Set : std::uint8_t { vips, slots, refused };  // one for each protocol
std::string set_name(Set set, Protocol protocol);
std::string classes_name(Protocol protocol);
/// Where each client of a Vip with affinity is sent, filled by packets.
std::string affinity_name(Protocol protocol);
inline constexpr std::string_view kHairpinSet = "hairpin";
inline constexpr std::string_view kBridgesSet = "bridges";

/// How a selector is kept in `vips`: nft prints it as a traffic class in hex, affinity and policy
/// (a digit each), a colon, the size.
std::uint32_t class_id(const Selector& selector) noexcept;
std::optional<Selector> selector_of(std::uint32_t class_id) noexcept;

struct SchemaOptions {
  std::string table;
  Family family = Family::v4;
  std::optional<Prefix> range;
  bool syn_failover = true;
  friend bool operator==(const SchemaOptions&, const SchemaOptions&) = default;
};

/// The table's comment. Says which schema it has, so that another one is recognised.
std::string schema_comment(const SchemaOptions& options);

/// What these size classes add to a table.
SchemaCounts class_counts(const std::set<SizeClass>& classes, Family family);
/// Whether a class with affinity is among them.
bool has_affinity(const std::set<SizeClass>& classes, Family family, Protocol protocol);

/// Appends the messages that create the table, without elements of Vips and without size classes.
/// The caller has opened the batch, and removes what was there before.
SchemaCounts write_schema(netlink::Writer& out, netlink::Socket& socket,
                          const SchemaOptions& options);

/// Appends the messages for the rules of one size class: one chain and its way in. Written when
/// the first Vip needs it; all of them at once would take 40 ms and fill 3,000 lines of listing.
/// The first with affinity of its family and protocol also brings what they share.
SchemaCounts write_class(netlink::Writer& out, netlink::Socket& socket,
                         const SchemaOptions& options, const SizeClass& size_class,
                         bool first_with_affinity);

}  // namespace muster::lb::nft
