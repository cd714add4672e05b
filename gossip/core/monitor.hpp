#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <utility>
#include <vector>

#include "base/rng.hpp"
#include "gossip/core/jury.hpp"
#include "gossip/core/member_table.hpp"
#include "gossip/core/options.hpp"
#include "gossip/core/outbox.hpp"

namespace muster::gossip {

inline constexpr std::size_t kMaxSubscribers = 64;  // 10 expected; all of a small cluster
inline constexpr std::size_t kMaxRelays = 256;
inline constexpr std::uint64_t kBeatsToJudge = 50;      // half a second's worth
inline constexpr std::uint64_t kBeatsRemembered = 400;  // four seconds' worth

/// Both ends of the heartbeats: sends this node's to whoever subscribed, listens for those of its
/// subjects, and turns silence into alerts once a burst of probes has gone unanswered.
class Monitor {
 public:
  Monitor(const MemberTable& table, NodeUid self, const Timing& timing, Rng rng, TimePoint now);

  void on_subscribe(const NodeUid& from, const Endpoint& at, const Subscribe&, std::uint32_t root,
                    TimePoint now, Outbox&);
  void on_unsubscribe(const NodeUid& from) { subscribers_.erase(from); }
  void on_probe(const Endpoint& at, const Probe&, Outbox&) const;
  void on_probe_ack(const NodeUid& from, const ProbeAck&, TimePoint now, Outbox&);
  void on_probe_request(const Endpoint& at, const ProbeRequest&, TimePoint now, Outbox&);
  void on_host_probe(const NodeUid& uid);

  void on_heartbeat(const NodeUid& from, TimePoint now);
  /// Anything authentic from `uid` is a sign of life.
  void on_life(const NodeUid& uid, TimePoint now);
  /// The subject started anew, or moved: its list of subscribers is gone.
  void on_changed(const NodeUid& uid, TimePoint now);
  /// Another monitor accuses one whom we find silent too: say so again, so that votes meet.
  void on_alert(const Alert&, TimePoint now);
  /// This node was away: nobody is silent before having been listened to.
  void forgive(TimePoint now);

  /// Heartbeats, probes and subscriptions that are due. Alerts to be raised go to `alerts`.
  void on_timer(std::uint32_t root, TimePoint now, Outbox&, std::vector<Alert>& alerts);
  /// The heartbeats alone.
  void beat(std::uint32_t root, TimePoint now, Outbox&);
  TimePoint next_deadline() const;
  TimePoint next_heartbeat() const noexcept { return next_heartbeat_; }

  /// Alive and not found silent by this node: worth sending news to.
  const std::vector<NodeUid>& neighbours() const noexcept { return neighbours_; }
  bool silent(const NodeUid& uid) const;
  bool is_subject(const NodeUid& uid) const { return subjects_.contains(uid); }
  const std::map<NodeUid, TimePoint>& silent_since() const noexcept { return silent_since_; }
  std::size_t subscribers() const noexcept { return subscribers_.size(); }
  /// Nobody of several subjects can be heard: most likely it is this node that is cut off.
  bool isolated(TimePoint now) const;
  /// How many of a hundred heartbeats due to this node were lost, in the last seconds.
  unsigned loss_percent() const noexcept {
    return beats_due_ < kBeatsToJudge ? 0 : 100 - static_cast<unsigned>(beats_ * 100 / beats_due_);
  }
  std::uint64_t verify_bursts() const noexcept { return bursts_; }
  /// The round trip just measured, once.
  std::optional<std::chrono::nanoseconds> take_echo() noexcept {
    return std::exchange(echo_took_, std::nullopt);
  }
  const std::map<NodeUid, Endpoint> subscribers_at() const;

 private:
  enum class Phase : std::uint8_t { listening, verifying, silent };
  struct Subject {
    TimePoint heard{};
    TimePoint beat{};  // the last heartbeat
    Phase phase = Phase::listening;
    TimePoint verify_since{};
    std::uint32_t nonce = 0;
    unsigned probes = 0;
    TimePoint next_subscribe{};
    bool subscribed = false;  // heard since the last change of either side
    TimePoint next_alert{};
    unsigned alerts = 0;
    bool host_answers = false;
  };
  struct Subscriber {
    Endpoint at;
    TimePoint until{};
  };
  struct Relay {
    Endpoint asker;
    std::uint32_t nonce = 0;
    NodeUid target;
    TimePoint until{};
  };

  void choose_subjects(TimePoint now, Outbox&);
  void step(const NodeUid&, Subject&, TimePoint now, Outbox&, std::vector<Alert>&);
  void verify(const NodeUid&, Subject&, TimePoint now, Outbox&);
  void raise(const NodeUid&, Subject&, TimePoint now, std::vector<Alert>&);
  void alive_again(const NodeUid&, Subject&, TimePoint now);
  TimePoint due(const Subject&) const;
  void measure(TimePoint now, Outbox&);
  bool holding_back(TimePoint now) const;

  const MemberTable& table_;
  NodeUid self_;
  Timing timing_;
  Rng rng_;
  std::map<NodeUid, Subject> subjects_;
  std::map<NodeUid, TimePoint> silent_since_;
  std::vector<NodeUid> neighbours_;
  std::map<NodeUid, Subscriber> subscribers_;
  std::map<std::uint32_t, Relay> relays_;
  std::uint64_t ring_version_ = 0;
  TimePoint next_heartbeat_;
  TimePoint quiet_until_{};
  TimePoint majority_silent_since_{};
  bool majority_silent_ = false;
  std::uint64_t beats_ = 0;  // heard, of those due; both are halved now and then
  std::uint64_t beats_due_ = 0;
  std::uint64_t alert_number_ = 0;
  std::uint64_t bursts_ = 0;
  NodeUid echo_from_;  // nil: none is awaited
  std::uint32_t echo_nonce_ = 0;
  TimePoint echo_sent_{};
  TimePoint next_echo_{};
  std::optional<std::chrono::nanoseconds> echo_took_;
};

}  // namespace muster::gossip
