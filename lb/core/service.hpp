#pragma once

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
};

std::string_view to_string(Policy) noexcept;

/// What a Vip should be: the whole wish, free of how any driver keeps it.
struct Service {
  Vip vip;
  std::string name = {};  // of a named Vip, `web.marathon`; else the address and port as text
  Policy policy = Policy::random;
  /// Sorted by endpoint, no endpoint twice, all of the Vip's family. Empty, or all of weight 0:
  /// nobody may get a new connection, and the Vip refuses at once.
  std::vector<Backend> backends = {};
  /// Addresses of containers on this node among the backends, sorted: when such a one dials the
  /// Vip and is sent to itself, its source address has to be rewritten.
  std::vector<IpAddress> hairpin = {};
  friend auto operator<=>(const Service&, const Service&) = default;
};

}  // namespace muster::lb
