#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace muster::dns {

/// Two octets in network order, which must be there.
constexpr std::uint16_t at16(std::span<const std::byte> from, std::size_t at) noexcept {
  return static_cast<std::uint16_t>(std::to_integer<unsigned>(from[at]) << 8 |
                                    std::to_integer<unsigned>(from[at + 1]));
}

}  // namespace muster::dns
