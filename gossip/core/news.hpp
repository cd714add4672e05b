#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "base/rng.hpp"
#include "gossip/core/member_table.hpp"
#include "gossip/core/monitor.hpp"
#include "gossip/core/options.hpp"
#include "gossip/core/outbox.hpp"

namespace muster::gossip {

inline constexpr std::size_t kMaxNews = 4096;

/// News on their way: each item goes once, to kFanout random ring neighbours, as soon as it is
/// learnt; items learnt within `spread_gap` go together. Ring neighbours, because with them there
/// is a session already, and K rings are an expander as good as any random graph. Where heartbeats
/// are being lost it goes to more of them: as many copies arrive.
///
/// Overflow drops the oldest: the root hashes in heartbeats bring it again.
class News {
 public:
  explicit News(Rng rng) : rng_{rng} {}

  void add(const Item& item, const NodeUid& from);
  /// Sends what waits, if `gap` has passed since the last time.
  void flush(const MemberTable&, const Monitor&, Duration gap, TimePoint now, Outbox&);
  std::optional<TimePoint> next_deadline(Duration gap) const;
  /// What was sent in the last second, the newest first, as far as one datagram goes: for one who
  /// has missed something.
  std::vector<std::span<const std::byte>> recent(TimePoint now) const;
  std::uint64_t dropped() const noexcept { return dropped_; }

 private:
  struct Waiting {
    std::vector<std::byte> item;
    NodeUid from;  // not sent back to
  };
  Rng rng_;
  std::deque<Waiting> waiting_;
  std::deque<std::pair<TimePoint, std::vector<std::byte>>> sent_;  // newest first
  TimePoint last_{};
  std::uint64_t dropped_ = 0;
};

}  // namespace muster::gossip
