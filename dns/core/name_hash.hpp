#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string_view>

namespace muster::dns {

/// Multiply and fold, eight octets a round: three or four rounds for a usual name. Seeded, so that
/// whoever names tasks cannot aim at one place. `padded` is followed by seven octets that can be
/// read.
inline std::uint64_t name_hash(std::uint64_t seed, const char* padded, std::size_t size) noexcept {
  const auto mix = [](std::uint64_t state, std::uint64_t octets) {
    __extension__ using Wide = unsigned __int128;
    const Wide product = static_cast<Wide>(state ^ octets) * 0x9E3779B97F4A7C15ULL;
    return static_cast<std::uint64_t>(product) ^ static_cast<std::uint64_t>(product >> 64);
  };
  std::uint64_t state = seed ^ (size * 0xD6E8FEB86659FD93ULL);
  for (std::size_t at = 0; at < size; at += 8) {
    std::uint64_t octets = 0;
    std::memcpy(&octets, padded + at, 8);
    state = mix(state, octets);
  }
  return mix(state, size);
}

/// The same for a wire name that nothing is known to follow.
inline std::uint64_t name_hash(std::uint64_t seed, std::string_view wire) noexcept {
  std::array<char, 256 + 8> padded;
  std::memcpy(padded.data(), wire.data(), wire.size());
  std::memset(padded.data() + wire.size(), 0, 8);
  return name_hash(seed, padded.data(), wire.size());
}

}  // namespace muster::dns
