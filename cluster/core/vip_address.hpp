#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

#include "base/endpoint.hpp"

namespace muster::cluster {

/// A closed range of addresses of one family; first <= last.
struct AddressRange {
  IpAddress first;
  IpAddress last;
  /// Empty if the families differ, or first > last.
  static std::optional<AddressRange> from(const IpAddress& first, const IpAddress& last) noexcept;
  bool contains(const IpAddress&) const noexcept;
};

/// DC/OS's own ranges: 11.0.0.0-11.255.255.255 and fd01:c::-fd01:c::ffff:ffff:ffff:ffff.
AddressRange default_vip_range_v4() noexcept;
AddressRange default_vip_range_v6() noexcept;

/// Where DC/OS starts to look for the address of a named VIP: `first + H(name) mod (last - first)`,
/// so never `last` itself. H is erlang:phash2/2 of the name as a binary for IPv4, SHA-1 read as a
/// big-endian number for IPv6. `redis.marathon` is 11.202.66.36 in the default range.
IpAddress preferred_address(std::string_view name, const AddressRange&) noexcept;

/// The address after this one, and after the last the first.
IpAddress next_address(const IpAddress&, const AddressRange&) noexcept;

/// erlang:phash2(Binary), before the range is applied (Bob Jenkins' 96-bit mix, 1996).
std::uint32_t phash2(std::string_view bytes) noexcept;

/// RFC 3174. For VIP addresses only: nothing here rests on it being hard to collide.
std::array<std::uint8_t, 20> sha1(std::string_view bytes) noexcept;

}  // namespace muster::cluster
