#pragma once

#include <array>
#include <chrono>
#include <compare>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/id.hpp"
#include "base/time.hpp"

namespace muster::gossip {

// What one node may be made to hold. Reaching a bound loses news that anti-entropy brings again,
// or a stranger's wish; never a member or a record that is already known.
inline constexpr std::size_t kMaxMembers = 16'384;  // alive or not; 1.6 times the largest cluster
inline constexpr std::size_t kMaxEndpoints = 8;     // advertised by one member
inline constexpr std::size_t kMaxMetadata = 16;     // pairs of one member
inline constexpr std::size_t kMaxMetadataText = 128;
inline constexpr std::size_t kMaxProfileBytes = 1000;  // a record travels in one datagram
inline constexpr std::size_t kMaxPayload = 1200;       // of a datagram, before sealing
inline constexpr std::size_t kMaxItems = 128;          // of news in one datagram

/// The 16 octets of a node's UUID.
struct NodeUid {
  std::uint64_t high = 0;
  std::uint64_t low = 0;

  /// 8-4-4-4-12 hexadecimal digits, either case.
  static std::optional<NodeUid> parse(std::string_view text) noexcept;
  std::string to_string() const;
  NodeId id() const { return NodeId{to_string()}; }
  bool is_nil() const noexcept { return high == 0 && low == 0; }
  friend constexpr auto operator<=>(const NodeUid&, const NodeUid&) noexcept = default;
};

/// The finaliser of SplitMix64: every input bit reaches every output bit. Not for secrets.
constexpr std::uint64_t mix(std::uint64_t z) noexcept {
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ULL;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBULL;
  return z ^ (z >> 31);
}

constexpr std::uint64_t mix(std::uint64_t seed, std::uint64_t value) noexcept {
  return mix(seed * 0x9E3779B97F4A7C15ULL + value);
}

/// FNV-1a with a strong finish.
constexpr std::uint64_t hash_text(std::string_view text, std::uint64_t seed = 0) noexcept {
  std::uint64_t h = 0xCBF29CE484222325ULL ^ seed;
  for (const char c : text) h = (h ^ static_cast<unsigned char>(c)) * 0x100000001B3ULL;
  return mix(h);
}

}  // namespace muster::gossip
