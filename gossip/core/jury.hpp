#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <vector>

#include "gossip/core/member_table.hpp"
#include "gossip/core/message.hpp"
#include "gossip/core/options.hpp"

namespace muster::gossip {

inline constexpr std::size_t kMaxAccused = 4096;
inline constexpr std::size_t kMaxVotes = 24;  // monitors of one subject, with views that differ

/// Counts alerts. A subject is dead when at least 70 % of its monitors that can be believed say
/// so within the time an alert is valid. A monitor that is itself accused by 40 % of its own
/// monitors, or that this node has not heard for long, is not asked: else a third of a cluster
/// dying at once would take the votes with it.
class Jury {
 public:
  Jury(const MemberTable& table, NodeUid self, const Timing& timing)
      : table_{table}, self_{self}, timing_{timing} {}

  /// True if the alert is new and about what is known: pass it on. Duplicates change nothing.
  bool accept(const Alert&, TimePoint now);
  /// The accusations fall: refuted, dead or gone.
  void acquit(const NodeUid& subject);
  /// What now has a quorum, each once; they stay until acquit().
  std::vector<MemberHead> verdicts(TimePoint now);
  /// The same for one subject.
  bool convicted(const NodeUid& subject, TimePoint now, MemberHead& verdict);

  /// Monitors that accuse `subject` now.
  std::size_t votes(const NodeUid& subject, TimePoint now) const;
  /// How many votes would condemn it. 0: there is nobody to ask.
  std::size_t required(const NodeUid& subject, TimePoint now);
  void forget_votes() { accused_.clear(); }
  void expire(TimePoint now);
  std::size_t accused() const noexcept { return accused_.size(); }

  /// Monitors whom this node has been accusing itself for long. Kept by the caller.
  std::map<NodeUid, TimePoint> long_silent;

 private:
  struct Vote {
    std::uint64_t number = 0;
    TimePoint given{};
    bool host_answers = false;
  };
  struct Case {
    std::uint32_t epoch = 0;
    std::uint32_t seq = 0;
    std::map<NodeUid, Vote> votes;
    std::vector<NodeUid> monitors;
    std::uint64_t ring_version = 0;  // and alive: of the table when `monitors` was drawn
    std::size_t alive = 0;
  };

  bool fresh(const Vote& vote, TimePoint now) const noexcept {
    return now - vote.given < timing_.alert_valid;
  }
  const std::vector<NodeUid>& monitors_of(const NodeUid& subject, Case&);
  std::size_t fresh_votes(const Case&, TimePoint now) const;
  bool doubted(const NodeUid& monitor, TimePoint now);
  std::size_t believable(const NodeUid& subject, Case&, TimePoint now, std::size_t* votes,
                         bool* host_answers);

  const MemberTable& table_;
  NodeUid self_;
  Timing timing_;
  std::map<NodeUid, Case> accused_;
};

}  // namespace muster::gossip
