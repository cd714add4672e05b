#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <vector>

#include "base/endpoint.hpp"
#include "base/time.hpp"

namespace muster::lb {

/// Finds the backends that leave connections unanswered, by the connections themselves: nothing is
/// probed. Deterministic; times are passed in.
///
/// Failures are counted with a half-life. A backend is an outlier when it has at least two fresh
/// ones, and far more than the others of its Vip have: where packets are lost everywhere, nobody
/// stands out. It then rests, at first for kFirstRest, and twice as long each time it fails again
/// soon after. How many of a Vip's backends may rest at once is the caller's to limit.
class Outliers {
 public:
  static constexpr Duration kHalfLife{5000};
  /// Two failures within a half-life reach it, one alone never does.
  static constexpr double kThreshold = 1.5;
  /// So many times what the (lower) middle one of the others has.
  static constexpr double kFactor = 4;
  static constexpr Duration kFirstRest{10'000};
  static constexpr Duration kMaxRest{300'000};
  /// Backends with a past; of more than these, failures are not counted.
  static constexpr std::size_t kMaxTracked = 20'000;

  /// A connection through `vip` to `backend` got no answer. `others`: the backends that it might
  /// have gone to. True: it begins to rest.
  bool failed(const Vip& vip, const Endpoint& backend, std::span<const Endpoint> others,
              TimePoint now);

  /// Ends what is over by `now`; returns the Vips of backends that rest no more.
  std::vector<Vip> advance(TimePoint now);

  /// When advance() has something to end; none: nobody rests.
  std::optional<TimePoint> next() const;

  /// Since when the backends of `vip` rest that do.
  std::map<Endpoint, TimePoint> resting(const Vip& vip) const;
  std::size_t resting() const noexcept { return resting_; }

 private:
  struct Past {
    double failures = 0;  // as of `counted`
    TimePoint counted{};
    Duration rest{0};                     // the last one's length
    std::optional<TimePoint> since = {};  // set: it rests
    TimePoint until{};                    // the end of the last rest
  };
  using Backends = std::map<Endpoint, Past>;

  static double failures(const Past& past, TimePoint now);
  double usual(const Backends& pasts, const Endpoint& but, std::span<const Endpoint> others,
               TimePoint now) const;

  std::map<Vip, Backends> vips_;  // never an empty inner map
  std::size_t tracked_ = 0;
  std::size_t resting_ = 0;
};

}  // namespace muster::lb
