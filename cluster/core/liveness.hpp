#pragma once

#include <cstddef>
#include <map>
#include <optional>
#include <set>
#include <span>
#include <vector>

#include "base/endpoint.hpp"
#include "base/id.hpp"
#include "base/member.hpp"
#include "base/task.hpp"
#include "base/time.hpp"

namespace muster::cluster {

/// Hosts whose tasks take no new connections: by the Mesos agent on them, or by an address of it.
struct DownHosts {
  std::set<AgentId> agents;
  std::set<IpAddress> addresses;
  bool empty() const noexcept { return agents.empty() && addresses.empty(); }
  bool covers(const Agent&) const;
  friend bool operator==(const DownHosts&, const DownHosts&) = default;
};

/// Which deaths of hosts are acted on. A daemon that is down says nothing about its host, and an
/// agent that no member claims is judged by Mesos alone.
///
/// Where more than a third of the members, and at least three, died within `window`, it is more
/// likely the network, or this node, that is broken: those deaths are known but held, until enough
/// of their hosts are back, or Mesos itself takes the tasks away.
///
/// Who is not alive is forgotten after a day, as gossip forgets it: its address may be another
/// host's by then. Sans-io, single-threaded.
class Liveness {
 public:
  static constexpr Duration kWindow{5'000};
  static constexpr std::size_t kMinDeaths = 3;
  static constexpr Duration kForget = std::chrono::hours{24};
  static constexpr std::size_t kMaxMembers = 20'000;  // gossip knows fewer

  /// The members as they are now; those not named are as they were.
  void update(std::span<const Member>, TimePoint now);
  /// To be called at next_deadline().
  void on_timer(TimePoint now) { judge(now); }
  /// As last told; null: not known, or forgotten.
  const Member* find(const NodeId&) const;
  std::optional<TimePoint> next_deadline() const;

  /// As of the last update() or on_timer().
  const DownHosts& down() const noexcept { return down_; }
  /// Dead, but not acted on.
  std::size_t held() const noexcept { return held_; }

 private:
  struct Known {
    Member member;
    TimePoint told{};
    std::optional<TimePoint> died;
    bool held = false;
  };
  void judge(TimePoint now);
  void forget(TimePoint now);
  void collect();

  std::map<NodeId, Known> members_;
  DownHosts down_;
  std::size_t held_ = 0;
  TimePoint judged_{};
  std::optional<TimePoint> next_forget_;
  bool unsettled_ = false;  // what is held may be let go when the window is over
};

}  // namespace muster::cluster
