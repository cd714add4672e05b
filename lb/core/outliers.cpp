#include "lb/core/outliers.hpp"

#include <algorithm>
#include <cmath>

namespace muster::lb {
namespace {

/// Failures so old that they are as good as none.
constexpr double kForgotten = 0.05;

}  // namespace

double Outliers::failures(const Past& past, TimePoint now) {
  const std::chrono::duration<double> age = now - past.counted;
  const std::chrono::duration<double> half = kHalfLife;
  return past.failures * std::exp2(-age.count() / half.count());
}

double Outliers::usual(const Backends& pasts, const Endpoint& but, std::span<const Endpoint> others,
                       TimePoint now) const {
  std::vector<double> counts;
  for (const Endpoint& other : others) {
    if (other == but) continue;
    const auto past = pasts.find(other);
    counts.push_back(past == pasts.end() ? 0 : failures(past->second, now));
  }
  if (counts.empty()) return HUGE_VAL;  // there is nobody to take its place
  const auto middle = counts.begin() + static_cast<std::ptrdiff_t>((counts.size() - 1) / 2);
  std::nth_element(counts.begin(), middle, counts.end());
  return *middle;
}

bool Outliers::failed(const Vip& vip, const Endpoint& backend, std::span<const Endpoint> others,
                      TimePoint now) {
  const auto known = vips_.find(vip);
  const bool tracked = known != vips_.end() && known->second.contains(backend);
  if (!tracked && tracked_ >= kMaxTracked) return false;
  Backends& pasts = vips_[vip];
  if (!tracked) ++tracked_;
  Past& past = pasts[backend];
  past.failures = failures(past, now) + 1;
  past.counted = now;
  if (past.since || past.failures < kThreshold) return false;
  if (past.failures < kFactor * usual(pasts, backend, others, now)) return false;
  // Soon after a rest: within as long as that was.
  const bool again = past.rest > Duration{0} && now - past.until < past.rest;
  past.rest = again ? std::min(past.rest * 2, kMaxRest) : kFirstRest;
  past.since = now;
  past.until = now + past.rest;
  ++resting_;
  return true;
}

std::vector<Vip> Outliers::advance(TimePoint now) {
  std::vector<Vip> back;
  for (auto vip = vips_.begin(); vip != vips_.end();) {
    for (auto at = vip->second.begin(); at != vip->second.end();) {
      Past& past = at->second;
      if (past.since && past.until <= now) {
        past.since.reset();
        past.failures = 0;  // connections that were under way when it began to rest
        --resting_;
        if (back.empty() || back.back() != vip->first) back.push_back(vip->first);
      }
      const bool over = !past.since && now - past.until >= past.rest;
      if (over && failures(past, now) < kForgotten) {
        at = vip->second.erase(at);
        --tracked_;
      } else {
        ++at;
      }
    }
    vip = vip->second.empty() ? vips_.erase(vip) : std::next(vip);
  }
  return back;
}

std::optional<TimePoint> Outliers::next() const {
  std::optional<TimePoint> first;
  for (const auto& [vip, backends] : vips_) {
    for (const auto& [endpoint, past] : backends) {
      if (past.since && (!first || past.until < *first)) first = past.until;
    }
  }
  return first;
}

std::map<Endpoint, TimePoint> Outliers::resting(const Vip& vip) const {
  std::map<Endpoint, TimePoint> found;
  const auto known = vips_.find(vip);
  if (known == vips_.end()) return found;
  for (const auto& [endpoint, past] : known->second) {
    if (past.since) found.emplace(endpoint, *past.since);
  }
  return found;
}

}  // namespace muster::lb
