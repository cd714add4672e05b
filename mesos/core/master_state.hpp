#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/observation.hpp"
#include "base/time.hpp"
#include "mesos/core/event.hpp"
#include "mesos/core/snapshot.hpp"

namespace muster::mesos {

/// The mirror of one Mesos master: a snapshot, and the events since.
///
/// Parsing is done elsewhere (parse_state, parse_event: any thread); taking the result is cheap.
/// Belongs to one thread. An Observation holds only what changed, except after a snapshot.
class MasterState {
 public:
  /// How long a task may wait before the snapshot is to be read again (MESOS-9785: a recovered
  /// framework may never be announced).
  static constexpr Duration kMaxWait{10'000};
  /// Mesos gives agents at least 10 minutes to come back; those that did not are not announced.
  static constexpr Duration kMaxRecovering{11 * 60'000};

  /// Replaces everything. Returns the snapshot's observation and leaves the former tables in
  /// `snapshot`, so that the caller can have a large one destroyed on another thread.
  Observation take(Snapshot& snapshot, TimePoint now);

  /// Applies one event; an empty Observation means that nothing changed. Problems that only show
  /// when the parts come together are appended to `problems`. A
  /// SUBSCRIBED event leaves the former tables in itself, as above.
  Observation take(Event& event, TimePoint now, Problems& problems);

  /// True when something stayed unknown for too long: the caller subscribes anew.
  bool needs_snapshot(TimePoint now) const noexcept;

  /// Host names of agents without an address, for io to resolve; at most kMaxUnresolved.
  static constexpr std::size_t kMaxUnresolved = 1000;
  std::vector<std::string> unresolved_hosts() const;
  /// Takes the answer; remembered for later snapshots (see hosts()).
  Observation resolved(const std::string& host, const std::vector<IpAddress>& addresses);
  const KnownHosts& hosts() const noexcept { return hosts_; }

  std::size_t tasks() const noexcept { return task_count_; }
  std::size_t agents() const noexcept { return tables_.agents.size(); }
  std::size_t frameworks() const noexcept { return tables_.frameworks.size(); }
  std::size_t waiting() const noexcept { return tables_.waiting.size(); }
  bool recovering() const noexcept { return !tables_.recovering.empty(); }

  // Parse and take in one step, for small inputs and tests.
  Result<Observation, ParseError> apply_snapshot(std::string_view state_json, TimePoint now,
                                                 Problems& problems);
  Result<Observation, ParseError> apply_get_state(std::string_view json, TimePoint now,
                                                  Problems& problems);
  Result<Observation, ParseError> apply_event(std::string_view json, TimePoint now,
                                              Problems& problems);

 private:
  void apply(Ignored&, TimePoint, Observation&, Problems&) {}
  void apply(Heartbeat&, TimePoint, Observation&, Problems&) {}
  void apply(Snapshot& snapshot, TimePoint now, Observation& out, Problems& problems);
  void apply(TaskAdded& event, TimePoint now, Observation& out, Problems& problems);
  void apply(TaskUpdated& event, TimePoint now, Observation& out, Problems& problems);
  void apply(AgentAdded& event, TimePoint now, Observation& out, Problems& problems);
  void apply(AgentRemoved& event, TimePoint now, Observation& out, Problems& problems);
  void apply(FrameworkKnown& event, TimePoint now, Observation& out, Problems& problems);
  void apply(FrameworkRemoved& event, TimePoint now, Observation& out, Problems& problems);

  TaskInfo* find(const TaskKey& key);
  std::optional<Task> build(const TaskKey& key, const TaskInfo& info, Problems* problems) const;
  void forget(const TaskKey& key);
  void wait_for_rest(const TaskKey& key, TimePoint now, Problems& problems);
  void release_waiting(Observation& out, Problems& problems);
  template <class Matches>
  void rebuild_where(Matches matches, Observation& out) const;

  Tables tables_;
  KnownHosts hosts_;
  std::size_t task_count_ = 0;
  std::optional<TimePoint> recovering_since_;  // of the snapshot that said so
  std::optional<TimePoint> lost_track_;        // an event spoke of a task that nobody announced
};

/// True if there is nothing in it that a consumer could act on, `recovering` apart.
bool is_empty(const Observation& observation) noexcept;

}  // namespace muster::mesos
