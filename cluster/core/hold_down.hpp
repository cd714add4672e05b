#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <utility>
#include <vector>

#include "base/observation.hpp"
#include "base/time.hpp"

namespace muster::cluster {

struct HoldDownOptions {
  /// Both must be exceeded (the second: reached) before a disappearance is doubted. In the weight
  /// that callers give: backends for tasks, heads for agents and frameworks.
  unsigned max_percent = 20;
  std::size_t min_weight = 10;
  /// Nothing is held longer: Mesos itself gives an agent up after agent_reregister_timeout,
  /// 10 minutes by default.
  Duration limit = std::chrono::minutes{10};
  /// Disappearances this close together are one burst. A master that lost its network reports
  /// its agents one by one, as their ping timeouts (75 s) run out: all within one such timeout.
  Duration window = std::chrono::seconds{75};
  /// After the recovery's end: the last agent is announced before its tasks are, and a framework
  /// that nobody announces is found by reading the state again, 10 s later.
  Duration recovery_grace = std::chrono::seconds{15};
};

/// Decides which disappearances are believed at once and which are held ("fail static").
///
/// Explicit ends (terminal, framework_removed) always apply. The soft reasons (absent, lost) are
/// held when they would take away more than `max_percent` and at least `min_weight`, counted with
/// what is held and what went for a soft reason within `window`; absence is always held while the
/// master is recovering. A hold ends when the thing is reported again or ended explicitly
/// (forget()), `recovery_grace` after the recovery it began in is over, when what is left held no
/// longer exceeds the bar, or after `limit`.
///
/// Holds only what the caller has published, so it is bounded by that.
template <class Key>
class HoldDown {
 public:
  explicit HoldDown(HoldDownOptions options) : options_{options} {}

  struct Candidate {
    Key key;
    std::size_t weight = 1;
    GoneReason reason = GoneReason::absent;
  };

  /// Which of these may go now; the others are held, and those held before stay so.
  /// `present` is the weight of all that is published, these and the held included.
  std::vector<Key> judge(std::vector<Candidate> candidates, std::size_t present, bool recovering,
                         TimePoint now);

  // The same piece by piece, for very many of one soft reason: ask once, then hold() each or
  // take() all.

  /// True if `weight` of soft disappearances, none of them held yet, may go now.
  bool believes(GoneReason reason, std::size_t weight, std::size_t present, bool recovering,
                TimePoint now);
  void hold(const Key& key, std::size_t weight, bool until_recovered, TimePoint now);
  /// Notes what went for a soft reason.
  void take(std::size_t weight, TimePoint now);

  /// Ends holds that have run out, at most `most` of them: the keys to withdraw now. To be called
  /// with every observation and at next_deadline().
  std::vector<Key> release(std::size_t present, bool recovering, TimePoint now, std::size_t most);

  /// It is there again, or gone for good.
  void forget(const Key& key);

  bool holds(const Key& key) const { return held_.contains(key); }
  std::size_t size() const noexcept { return held_.size(); }
  std::optional<TimePoint> since() const;
  /// When release() has something to do, as far as time alone decides.
  std::optional<TimePoint> next_deadline() const;

 private:
  struct Held {
    TimePoint since;
    std::size_t weight;
    bool until_recovered;
    std::uint64_t order;
  };
  using HeldMap = std::map<Key, Held>;

  bool over(std::size_t more, std::size_t present) const noexcept;
  void age(TimePoint now);
  void drop(typename HeldMap::iterator);

  HoldDownOptions options_;
  HeldMap held_;
  std::map<std::uint64_t, const Key*> by_age_;  // one for each in held_, in the order they came
  std::uint64_t next_order_ = 0;
  std::size_t until_recovered_ = 0;  // how many of held_ wait for the recovery's end
  std::size_t doubted_weight_ = 0;   // of the others
  // Soft withdrawals within the window, in buckets of a second: at most 76 of them.
  std::map<TimePoint, std::size_t> taken_;
  std::size_t taken_weight_ = 0;
  std::optional<TimePoint> recovered_at_;  // set: since then some of until_recovered_ could go
  bool more_ = false;                      // release() stopped at `most`
};

template <class Key>
std::vector<Key> HoldDown<Key>::judge(std::vector<Candidate> candidates, std::size_t present,
                                      bool recovering, TimePoint now) {
  std::vector<Key> gone;
  std::vector<Candidate> soft;
  std::size_t lost = 0;
  std::size_t absent = 0;
  for (Candidate& candidate : candidates) {
    if (candidate.reason == GoneReason::terminal ||
        candidate.reason == GoneReason::framework_removed) {
      forget(candidate.key);
      gone.push_back(std::move(candidate.key));
    } else if (!holds(candidate.key)) {
      (candidate.reason == GoneReason::lost ? lost : absent) += candidate.weight;
      soft.push_back(std::move(candidate));
    }
  }
  // Absence in a recovery is held for its own reason and says nothing about what was lost.
  const std::size_t doubtful = lost + (recovering ? 0 : absent);
  const bool lost_too = believes(GoneReason::lost, doubtful, present, recovering, now);
  const bool absent_too = believes(GoneReason::absent, doubtful, present, recovering, now);
  for (Candidate& candidate : soft) {
    if (candidate.reason == GoneReason::lost ? lost_too : absent_too) {
      take(candidate.weight, now);
      gone.push_back(std::move(candidate.key));
    } else {
      hold(candidate.key, candidate.weight, recovering, now);
    }
  }
  return gone;
}

template <class Key>
bool HoldDown<Key>::believes(GoneReason reason, std::size_t weight, std::size_t present,
                             bool recovering, TimePoint now) {
  age(now);
  if (reason == GoneReason::absent && recovering) return false;
  return !over(weight, present);
}

template <class Key>
std::vector<Key> HoldDown<Key>::release(std::size_t present, bool recovering, TimePoint now,
                                        std::size_t most) {
  age(now);
  const bool no_doubt = doubted_weight_ > 0 && !over(0, present);
  if (recovering || until_recovered_ == 0) {
    recovered_at_.reset();
  } else if (!recovered_at_) {
    recovered_at_ = now;
  }
  const bool recovered = recovered_at_ && *recovered_at_ + options_.recovery_grace <= now;
  std::vector<Key> gone;
  more_ = false;
  for (auto it = by_age_.begin(); it != by_age_.end();) {
    const auto held = held_.find(*it->second);
    const bool expired = held->second.since + options_.limit <= now;
    if (!expired && !no_doubt && !recovered) break;  // the rest is younger
    ++it;
    const bool until_recovered = held->second.until_recovered;
    if (!expired && !(until_recovered ? recovered : no_doubt)) continue;
    if (gone.size() == most) {
      more_ = true;
      break;
    }
    if (!expired && !until_recovered) take(held->second.weight, now);
    gone.push_back(held->first);
    drop(held);
  }
  return gone;
}

template <class Key>
void HoldDown<Key>::forget(const Key& key) {
  if (held_.empty()) return;
  if (const auto held = held_.find(key); held != held_.end()) drop(held);
}

template <class Key>
std::optional<TimePoint> HoldDown<Key>::since() const {
  if (by_age_.empty()) return std::nullopt;
  return held_.at(*by_age_.begin()->second).since;
}

template <class Key>
std::optional<TimePoint> HoldDown<Key>::next_deadline() const {
  const auto oldest = since();
  if (!oldest || more_) return oldest;  // `more_`: in the past, so at once
  TimePoint deadline = *oldest + options_.limit;
  if (recovered_at_) deadline = std::min(deadline, *recovered_at_ + options_.recovery_grace);
  // A burst that has passed leaves the bar, and what is held may then be below it.
  if (doubted_weight_ > 0 && !taken_.empty()) {
    deadline = std::min(deadline, taken_.begin()->first + options_.window);
  }
  return deadline;
}

template <class Key>
bool HoldDown<Key>::over(std::size_t more, std::size_t present) const noexcept {
  const std::size_t away = taken_weight_ + doubted_weight_ + more;
  const std::size_t all = present + taken_weight_;
  return away >= options_.min_weight && away * 100 > all * options_.max_percent;
}

template <class Key>
void HoldDown<Key>::hold(const Key& key, std::size_t weight, bool until_recovered, TimePoint now) {
  const auto [held, added] =
      held_.try_emplace(key, Held{now, weight, until_recovered, next_order_});
  if (!added) return;
  by_age_.emplace(next_order_++, &held->first);
  if (until_recovered) {
    ++until_recovered_;
  } else {
    doubted_weight_ += weight;
  }
}

template <class Key>
void HoldDown<Key>::age(TimePoint now) {
  while (!taken_.empty() && taken_.begin()->first + options_.window <= now) {
    taken_weight_ -= taken_.begin()->second;
    taken_.erase(taken_.begin());
  }
}

template <class Key>
void HoldDown<Key>::take(std::size_t weight, TimePoint now) {
  taken_[std::chrono::floor<std::chrono::seconds>(now)] += weight;
  taken_weight_ += weight;
}

template <class Key>
void HoldDown<Key>::drop(typename HeldMap::iterator held) {
  by_age_.erase(held->second.order);
  if (held->second.until_recovered) {
    --until_recovered_;
  } else {
    doubted_weight_ -= held->second.weight;
  }
  held_.erase(held);
}

}  // namespace muster::cluster
