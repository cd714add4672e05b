#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/task.hpp"

namespace muster {

/// Why a task is no longer there. The cluster layer believes some reasons at once and holds
/// others: see cluster/core/hold_down.hpp.
enum class GoneReason : std::uint8_t {
  terminal,           // an explicit terminal update, e.g. FINISHED, KILLED, GONE_BY_OPERATOR
  framework_removed,  // FRAMEWORK_REMOVED
  lost,               // LOST or UNREACHABLE: the master cannot see the agent; it may come back
  absent,             // a complete snapshot did not name it
};

struct TaskGone {
  TaskKey key;
  GoneReason reason = GoneReason::terminal;
  friend auto operator<=>(const TaskGone&, const TaskGone&) = default;
};

/// What an observer of a Mesos master has just learnt: a complete snapshot, or what changed
/// since. Produced by mesos/core, taken by cluster/core. Everything in it is valid by itself.
struct Observation {
  /// The vectors name all there is; what they leave out is absent.
  bool snapshot = false;
  /// The master still waits for agents to come back (`recovered_agents` is not empty): absence
  /// means nothing yet. Holds from this observation on.
  bool recovering = false;

  std::vector<Task> tasks;  // new or changed, whole; never in a terminal state
  std::vector<TaskGone> tasks_gone;
  std::vector<Agent> agents;
  std::vector<AgentId> agents_gone;
  std::vector<Framework> frameworks;
  std::vector<FrameworkId> frameworks_gone;
  std::optional<std::vector<Master>> masters;  // set: all masters known now

  friend bool operator==(const Observation&, const Observation&) = default;
};

/// Something from outside that was skipped: what, where, and what was expected instead. Counted
/// by kind, logged once; nothing else is lost with it.
struct Problem {
  std::string kind;   // a short constant for the counter's label: "task", "vip_label", "address"
  std::string where;  // "task web.1a2b of framework marathon, port 0"
  std::string what;   // "VIP label \"/web:x\": the part after the last ':' must be a port 1-65535"
  friend auto operator<=>(const Problem&, const Problem&) = default;
};

}  // namespace muster
