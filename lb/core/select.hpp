#pragma once

#include <cstdint>
#include <map>
#include <vector>

#include "base/endpoint.hpp"
#include "base/task.hpp"
#include "base/time.hpp"

namespace muster::lb {

/// How far a backend is from this node.
enum class Distance : std::uint8_t { node, zone, far };

/// What is known of a backend before it is decided whether it takes new connections.
struct Candidate {
  std::uint16_t weight = 0;  // 0: drains
  Distance distance = Distance::far;
  bool host_down = false;
  friend auto operator<=>(const Candidate&, const Candidate&) = default;
};
using Candidates = std::map<Endpoint, Candidate>;

/// The backends of a Vip with the weights they get, sorted; 0: no new connections. In this order:
/// - Those on hosts that are down are left out, unless nobody else is usable: then it is more
/// likely
///   the look that is wrong, and all stay.
/// - Of those that are usable no more than half may rest, those first that have rested longest.
/// - With a preference for near ones, only the nearest that are left are taken; others, once there
///   are none.
/// `resting`: since when (Outliers).
std::vector<Backend> select(const Candidates& candidates, VipPolicy::Locality locality,
                            const std::map<Endpoint, TimePoint>& resting);

}  // namespace muster::lb
