#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/id.hpp"
#include "base/member.hpp"
#include "base/time.hpp"

namespace muster::cluster {

/// What a node does for the cluster: a publisher observes Mesos and writes what all read; a
/// standby keeps a stream open, so as to know that it could.
enum class Role : std::uint8_t { follower, standby, publisher };
std::string_view to_string(Role) noexcept;

/// Keys of Member::metadata by which nodes tell each other what an election needs.
inline constexpr std::string_view kRoleKey = "role";          // to_string(Role)
inline constexpr std::string_view kObserverKey = "observer";  // "auto", "yes" or "no"
inline constexpr std::string_view kReachKey = "reach";        // "no": its stream is not up

/// Who observes. Among the eligible, the rendezvous hash decides, but whoever holds the seat and
/// can reach a master keeps it: a node that joins displaces nobody. At most kBurst elections in
/// quick succession, then one in kPause.
///
/// Nodes may differ for a moment, and both halves of a partition elect; terms put that in order.
/// Sans-io, single-threaded.
class Election {
 public:
  static constexpr Duration kPause{30'000};
  static constexpr unsigned kBurst = 3;
  /// A publisher without a stream is given so long before a standby that has one takes over.
  static constexpr Duration kPatience{5'000};
  /// A node that was just started first listens for who is there.
  static constexpr Duration kListen{1'500};

  /// `alone`: there is nobody to be waited for.
  Election(NodeId self, bool eligible, bool alone, TimePoint now);

  /// The role to take from now on. `members` are all that are known, this node perhaps among
  /// them; what it says about itself is ignored. `reach`: this node's own stream is up.
  Role decide(std::span<const Member> members, bool reach, TimePoint now);
  /// Another node publishes under a higher term.
  void superseded() noexcept;
  /// When decide() should be asked again, at the latest.
  std::optional<TimePoint> next_deadline() const noexcept { return again_; }
  Role role() const noexcept { return role_; }

 private:
  struct Field;
  Role want(const Field&, bool reach, TimePoint now);
  bool may_elect(TimePoint now);
  void at(TimePoint when);

  NodeId self_;
  bool eligible_;
  TimePoint listen_until_;
  Role role_ = Role::follower;
  bool superseded_ = false;
  std::map<NodeId, TimePoint> unreaching_;  // publishers without a stream, since when
  std::vector<TimePoint> elections_;        // the last kBurst that this node won or saw
  NodeId publisher_;                        // as last seen
  std::optional<TimePoint> again_;
};

}  // namespace muster::cluster
