#pragma once

#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/member.hpp"
#include "base/observation.hpp"
#include "base/time.hpp"
#include "cluster/core/cluster.hpp"
#include "cluster/core/election.hpp"

namespace muster::cluster {

/// What a Participant wants done outside, to be done in this order. Nothing has happened until
/// the caller does it.
struct Steps {
  bool stop_publishing = false;
  bool begin_publishing = false;  // of all shards, under a new term
  bool read_replica = false;      // everything that is replicated is to be given to the Cluster
  std::optional<bool> observe;    // whether a stream from a master is wanted
  bool observe_anew = false;      // the next thing the observer says must be a snapshot
  std::optional<std::map<std::string, std::string>> metadata;  // what to tell the others
  std::shared_ptr<void> former;  // to be destroyed where there is time
};

/// One node's part in the cluster: takes the role its Election gives it, and makes the Cluster
/// lead or follow accordingly. A node takes a term only with a live stream behind it, that is when
/// its first snapshot has arrived. Sans-io, single-threaded, beside the Cluster.
class Participant {
 public:
  /// A stream takes a moment to come up; only then is a node without one worth telling of.
  static constexpr Duration kStreamGrace{3'000};

  /// `observer`: "auto", "yes" or "no"; `alone`: there is nobody to be waited for; `metadata`:
  /// what else is told of this node.
  Participant(Cluster&, NodeId self, std::string observer, bool alone,
              std::map<std::string, std::string> metadata, TimePoint now);

  /// To be called whenever members change or the stream comes or goes, and twice a second.
  Steps decide(std::span<const Member> members, bool reach, TimePoint now);
  /// Another node publishes under a higher term.
  Steps superseded(std::span<const Member> members, bool reach, TimePoint now);

  /// An observation arrived. True: it is for the Cluster, after the steps.
  bool admit(const Observation&, Steps&);

  Role role() const noexcept { return role_; }
  /// What is told of this node at the start.
  const std::map<std::string, std::string>& metadata() const noexcept { return said_; }

 private:
  void take_role(Role, TimePoint now, Steps&);
  void announce(bool reach, TimePoint now, Steps&);

  Cluster& cluster_;
  Election election_;
  Role role_ = Role::follower;
  TimePoint role_since_{};
  std::map<std::string, std::string> said_;
};

}  // namespace muster::cluster
