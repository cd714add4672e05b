#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "lb/core/plan.hpp"
#include "lb/io/driver.hpp"
#include "lb/io/netlink.hpp"

/// Commands as elements of our maps, and elements read back.
///
/// Each field of a key or value takes a multiple of four octets. Addresses and ports are in
/// network order, slot numbers and class ids in the host's: what the expressions leave in their
/// registers.
namespace muster::lb::nft {

/// Appends the messages for `commands`: removals before additions in each set, so that one
/// transaction can put an element in another's place. The caller has opened the batch.
void write_commands(netlink::Writer& out, netlink::Socket& socket, std::string_view table,
                    std::span<const Command> commands);

/// Appends the messages that put `interfaces`, bridges by index, in and out of the bridges set.
void write_bridges(netlink::Writer& out, netlink::Socket& socket, std::string_view table,
                   Family family, std::span<const std::uint32_t> added,
                   std::span<const std::uint32_t> removed);

/// Takes one message of a set's dump into `state`. `set` is one of our set names; elements that
/// are not of our making, say added by hand and impossible, are counted in the result.
std::size_t read_elements(const netlink::Message& message, Family family, std::string_view set,
                          KernelState& state);
void read_bridges(const netlink::Message& message, std::vector<std::uint32_t>& interfaces);

}  // namespace muster::lb::nft
