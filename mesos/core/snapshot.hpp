#pragma once

#include <cstddef>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/observation.hpp"
#include "base/result.hpp"
#include "base/time.hpp"
#include "mesos/core/problems.hpp"
#include "mesos/core/task_info.hpp"

namespace muster::mesos {

/// Addresses of agents' host names, for those few whose pid does not carry one. From io.
using KnownHosts = std::map<std::string, std::vector<IpAddress>, std::less<>>;

/// Tasks whose agent or framework has not been announced yet.
inline constexpr std::size_t kMaxWaiting = 10'000;

/// All a MasterState holds; moved as a whole.
struct Tables {
  std::map<FrameworkId, std::map<TaskId, TaskInfo>> tasks;
  std::map<AgentId, Agent> agents;
  std::map<FrameworkId, Framework> frameworks;
  std::set<AgentId> recovering;  // registered before the master failed over, and not back yet
  /// In `tasks`, but its agent or framework is not known. Since when, if an event brought it; what
  /// a snapshot leaves open a second one would leave open too.
  std::map<TaskKey, std::optional<TimePoint>> waiting;
};

/// A complete answer of a master, parsed and ready to be taken. Made by any thread, shared with
/// none.
struct Snapshot {
  Tables tables;
  Observation observation;  // what MasterState::take() will return
  Problems problems;
  std::optional<double> heartbeat_seconds;  // of SUBSCRIBED
  /// Of /state: the master that answered is not the one that it says leads. Old masters answer
  /// all the same, with an empty cluster, where newer ones redirect.
  bool not_leading = false;
};

/// Parses GET /state of a master, or of an agent (then the agent itself is the one agent).
/// Pure, any thread; 100,000 tasks take well under half a second. Each task, agent and framework
/// is parsed by itself.
Result<Snapshot, ParseError> parse_state(std::string_view json, const KnownHosts& hosts = {});

/// The same, but frees the text as soon as all is read: what is then built from it is nearly as
/// large.
Result<Snapshot, ParseError> consume_state(std::string json, const KnownHosts& hosts = {});

/// Parses the answer to the operator API's GET_STATE. The same guarantees.
Result<Snapshot, ParseError> parse_get_state(std::string_view json, const KnownHosts& hosts = {});

/// Parses the answer to the operator API's GET_AGENTS: those that are registered, by id. Each is
/// parsed by itself; who cannot be understood is left out.
Result<std::vector<Agent>, ParseError> parse_get_agents(std::string_view json);

}  // namespace muster::mesos
