#include "lb/core/slow_start.hpp"

#include <algorithm>

namespace muster::lb {

TimePoint SlowStart::end_of(const Warmth& warmth) {
  const auto steps = static_cast<Duration::rep>(kEighths.size());
  const auto passed = static_cast<Duration::rep>(warmth.step) + 1;
  const auto at = (warmth.since + warmth.span * passed / steps).time_since_epoch();
  const auto ticks = std::chrono::ceil<std::chrono::duration<Duration::rep>>(at);
  static_assert(kGrid == std::chrono::seconds{1});
  return TimePoint{std::chrono::duration_cast<TimePoint::duration>(ticks)};
}

void SlowStart::drop(const Vip& vip, const Endpoint& endpoint, const Warmth& warmth) {
  if (warmth.step < kEighths.size()) due_.erase({end_of(warmth), vip, endpoint});
}

void SlowStart::update(const Vip& vip, const std::set<Endpoint>& usable, Duration span,
                       TimePoint now, bool warm) {
  auto& known = vips_[vip];
  for (auto at = known.begin(); at != known.end();) {
    if (usable.contains(at->first)) {
      ++at;
      continue;
    }
    drop(vip, at->first, at->second);
    at = known.erase(at);
  }
  for (const Endpoint& endpoint : usable) {
    const auto [entry, fresh] = known.try_emplace(endpoint);
    if (!fresh || warm || due_.size() >= kMaxStarting) continue;
    entry->second = {.step = 0, .since = now, .span = span};
    due_.emplace(end_of(entry->second), vip, endpoint);
  }
}

void SlowStart::forget(const Vip& vip) {
  const auto known = vips_.find(vip);
  if (known == vips_.end()) return;
  for (const auto& [endpoint, warmth] : known->second) drop(vip, endpoint, warmth);
  vips_.erase(known);
}

std::vector<Vip> SlowStart::advance(TimePoint now) {
  std::set<Vip> touched;
  while (!due_.empty() && std::get<TimePoint>(*due_.begin()) <= now) {
    const auto [due, vip, endpoint] = *due_.begin();
    due_.erase(due_.begin());
    Warmth& warmth = vips_.at(vip).at(endpoint);
    // A clock that has jumped past more than one step does not write them one by one.
    while (warmth.step < kEighths.size() && end_of(warmth) <= now) ++warmth.step;
    if (warmth.step < kEighths.size()) due_.emplace(end_of(warmth), vip, endpoint);
    touched.insert(vip);
  }
  return {touched.begin(), touched.end()};
}

std::optional<TimePoint> SlowStart::next() const {
  if (due_.empty()) return std::nullopt;
  return std::get<TimePoint>(*due_.begin());
}

void SlowStart::weigh(const Vip& vip, std::vector<Backend>& backends) const {
  const auto known = vips_.find(vip);
  if (known == vips_.end()) return;
  const auto eighths = [&](const Endpoint& endpoint) {
    const auto warmth = known->second.find(endpoint);
    const bool cold = warmth != known->second.end() && warmth->second.step < kEighths.size();
    return cold ? kEighths[warmth->second.step] : kWhole;
  };
  if (std::none_of(backends.begin(), backends.end(), [&](const Backend& backend) {
        return backend.weight > 0 && eighths(backend.endpoint) != kWhole;
      })) {
    return;
  }
  for (Backend& backend : backends) {
    const std::uint32_t weight = std::uint32_t{backend.weight} * eighths(backend.endpoint);
    backend.weight = static_cast<std::uint16_t>(std::min<std::uint32_t>(weight, 0xFFFF));
  }
}

std::set<Endpoint> SlowStart::starting(const Vip& vip) const {
  std::set<Endpoint> found;
  const auto known = vips_.find(vip);
  if (known == vips_.end()) return found;
  for (const auto& [endpoint, warmth] : known->second) {
    if (warmth.step < kEighths.size()) found.insert(endpoint);
  }
  return found;
}

}  // namespace muster::lb
