#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/endpoint.hpp"

namespace muster::lb {

/// How a new connection finds its backend.
enum class Policy : std::uint8_t {
  random,
  /// In turn. The turn is counted per size class, so Vips with equally many slots share it: one
  /// Vip alone sees 1 2 3 1 2 3, two used alternately do not.
  round_robin,
  /// By the client's address alone: a client stays with its backend as long as that is there, and
  /// every node sends it to the same one.
  source_hash,
};

std::string_view to_string(Policy) noexcept;

/// How long a client may be away and still be sent where it was before. In steps, because a kernel
/// keeps rules for each.
inline constexpr std::array<std::uint32_t, 12> kAffinitySeconds{
    10, 30, 60, 120, 300, 600, 1800, 3600, 3 * 3600, 6 * 3600, 12 * 3600, 24 * 3600};
/// The least step that is not shorter, or the last one; 0 stays 0.
std::uint32_t affinity_step(std::uint32_t seconds) noexcept;

/// What a Vip should be: the whole wish, free of how any driver keeps it.
struct Service {
  Vip vip;
  std::string name = {};  // of a named Vip, `web.marathon`; else the address and port as text
  Policy policy = Policy::random;
  std::uint32_t affinity_seconds = 0;  // one of kAffinitySeconds; 0: each connection is for itself
  /// Sorted by endpoint, no endpoint twice, all of the Vip's family. Empty, or all of weight 0:
  /// nobody may get a new connection, and the Vip refuses at once.
  std::vector<Backend> backends = {};
  /// Addresses of containers on this node among the backends, sorted: when such a one dials the
  /// Vip and is sent to itself, its source address has to be rewritten.
  std::vector<IpAddress> hairpin = {};
  friend auto operator<=>(const Service&, const Service&) = default;
};

}  // namespace muster::lb
