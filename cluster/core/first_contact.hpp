#pragma once

#include <algorithm>

#include "base/rng.hpp"
#include "base/time.hpp"

namespace muster::cluster {

/// When a node without join addresses asks the leading master for its agents, to find the others
/// among them. Who is found by one that asked earlier need not ask any more; so of a thousand nodes
/// that start together some dozens ask, and a restarted one that has its members on disk does not.
///
/// Sans-io, single-threaded. For ever: whoever is alone goes on asking.
class FirstContact {
 public:
  /// Less than Election::kListen: who is alone by then observes for itself.
  static constexpr Duration kSpread{1'000};
  /// The members known from before are given so long to answer.
  static constexpr Duration kPatience{3'000};
  static constexpr Duration kFirstGap{2'000};
  static constexpr Duration kLastGap{60'000};

  /// `others_known`: this node has somebody else to ask.
  FirstContact(bool others_known, Rng rng, TimePoint now)
      : rng_{rng}, next_{now + (others_known ? kPatience : Duration{0}) + spread(kSpread)} {}

  /// True: ask now. `alone`: no other member is believed alive.
  bool due(bool alone, TimePoint now) {
    if (now < next_) return false;
    if (!alone) {
      gap_ = kFirstGap;
      next_ = now + kPatience;
      return false;
    }
    next_ = now + gap_ + spread(gap_ / 2);
    gap_ = std::min(gap_ * 2, kLastGap);
    return true;
  }
  TimePoint next_deadline() const noexcept { return next_; }

 private:
  Duration spread(Duration most) {
    return Duration{rng_.below(static_cast<std::uint64_t>(most.count()))};
  }

  Rng rng_;
  TimePoint next_;
  Duration gap_ = kFirstGap;
};

}  // namespace muster::cluster
