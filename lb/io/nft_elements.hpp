#pragma once

#include <cstdint>
#include <set>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include "lb/core/plan.hpp"
#include "lb/io/driver.hpp"
#include "lb/io/netlink.hpp"
#include "lb/io/nft_schema.hpp"

/// Commands as elements of our maps, and elements read back; nft_fields.hpp has their octets.
namespace muster::lb::nft {

/// Appends the messages for `commands`: removals before additions in each set, so that one
/// transaction can put an element in another's place. The caller has opened the batch.
void write_commands(netlink::Writer& out, netlink::Socket& socket, std::string_view table,
                    std::span<const Command> commands);

/// The size classes that `commands` let Vips use.
std::set<SizeClass> classes_of(std::span<const Command> commands);

/// Appends the messages that put bridges, by index, in and out of the bridges set, and of the map
/// `ids` (ipvs_guard.hpp) if it has a name.
void write_bridges(netlink::Writer& out, netlink::Socket& socket, std::string_view table,
                   Family family, std::string_view ids, std::span<const std::uint32_t> added,
                   std::span<const std::uint32_t> removed);

/// Changes of sets whose elements are Vips or addresses and have no value.
struct KeyChanges {
  std::vector<Vip> added;
  std::vector<Vip> removed;
};
/// Appends the messages for one kind of set of both protocols and families.
void write_vips(netlink::Writer& out, netlink::Socket& socket, std::string_view table, Set set,
                const KeyChanges& changes);
void write_addresses(netlink::Writer& out, netlink::Socket& socket, std::string_view table,
                     std::string_view set, std::span<const IpAddress> added,
                     std::span<const IpAddress> removed);

/// Each takes one message of the dump of such a set. False: an element is none of ours.
bool read_vips(const netlink::Message& message, Family family, Protocol protocol,
               std::set<Vip>& vips);
bool read_addresses(const netlink::Message& message, Family family, std::set<IpAddress>& addresses);

/// Takes one message of the dump of a set of slots, and appends those that have counted anything.
void read_counts(const netlink::Message& message, Family family, Protocol protocol,
                 std::vector<SlotCount>& counts);

/// Gathers the dumps of our sets, element by element, in whatever order the kernel has them.
class ElementReader {
 public:
  /// Takes one message of the dump of `set`, one of our set names.
  void read(const netlink::Message& message, Family family, std::string_view set);

  /// Elements that are not of our making: added by hand, and impossible.
  std::size_t strange() const noexcept { return strange_; }
  const std::set<SizeClass>& classes() const noexcept { return classes_; }
  /// Moves what was read into `state`.
  void finish(KernelState& state);

 private:
  bool take(netlink::Bytes element, Family family, std::string_view set);
  bool take_slot(netlink::Bytes element, const Vip& vip, netlink::Bytes rest);

  std::vector<SlotCount> slots_;
  std::vector<std::pair<Vip, Selector>> selectors_;
  std::vector<Vip> refused_;
  std::set<IpAddress> hairpin_;
  std::set<SizeClass> classes_;
  std::size_t strange_ = 0;
};

void read_bridges(const netlink::Message& message, std::vector<std::uint32_t>& interfaces);

}  // namespace muster::lb::nft
