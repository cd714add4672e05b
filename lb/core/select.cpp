#include "lb/core/select.hpp"

#include <algorithm>
#include <set>
#include <utility>

namespace muster::lb {
namespace {

Distance counted(Distance distance, VipPolicy::Locality locality) {
  if (locality == VipPolicy::Locality::none) return Distance::far;
  if (locality == VipPolicy::Locality::zone) return std::max(distance, Distance::zone);
  return distance;
}

/// Who of `resting` may do so.
std::set<Endpoint> allowed_to_rest(const std::vector<Endpoint>& usable,
                                   const std::map<Endpoint, TimePoint>& resting) {
  std::vector<std::pair<TimePoint, Endpoint>> order;
  for (const Endpoint& endpoint : usable) {
    const auto since = resting.find(endpoint);
    if (since != resting.end()) order.emplace_back(since->second, endpoint);
  }
  std::sort(order.begin(), order.end());
  std::set<Endpoint> allowed;
  for (const auto& [since, endpoint] : order) {
    if (allowed.size() < usable.size() / 2) allowed.insert(endpoint);
  }
  return allowed;
}

}  // namespace

std::vector<Backend> select(const Candidates& candidates, VipPolicy::Locality locality,
                            const std::map<Endpoint, TimePoint>& resting) {
  const bool all = std::none_of(candidates.begin(), candidates.end(), [](const auto& entry) {
    return !entry.second.host_down && entry.second.weight > 0;
  });
  std::vector<Endpoint> usable;
  for (const auto& [endpoint, candidate] : candidates) {
    if (candidate.weight > 0 && (all || !candidate.host_down)) usable.push_back(endpoint);
  }
  const std::set<Endpoint> rest = allowed_to_rest(usable, resting);
  Distance nearest = Distance::far;
  for (const Endpoint& endpoint : usable) {
    if (rest.contains(endpoint)) continue;
    nearest = std::min(nearest, counted(candidates.at(endpoint).distance, locality));
  }
  std::vector<Backend> backends;
  backends.reserve(candidates.size());
  for (const auto& [endpoint, candidate] : candidates) {
    if (candidate.host_down && !all) continue;
    const bool taken = !rest.contains(endpoint) && counted(candidate.distance, locality) == nearest;
    backends.push_back({endpoint, taken ? candidate.weight : std::uint16_t{0}});
  }
  return backends;
}

}  // namespace muster::lb
