#pragma once

#include <string>
#include <string_view>
#include <variant>

#include "mesos/core/snapshot.hpp"

namespace muster::mesos {

struct TaskAdded {
  TaskKey key;
  TaskInfo info;
};
struct TaskUpdated {
  TaskKey key;
  TaskState state = TaskState::unknown;  // task_updated.state: the agent's latest
  StatusInfo status;
};
struct AgentAdded {
  Agent agent;
};
struct AgentRemoved {
  AgentId id;
};
/// FRAMEWORK_ADDED and FRAMEWORK_UPDATED.
struct FrameworkKnown {
  Framework framework;
};
struct FrameworkRemoved {
  FrameworkId id;
};
struct Heartbeat {};
/// A type this code does not know, or a known one whose content is unusable (see the Problems).
struct Ignored {};

/// One record of a SUBSCRIBE stream.
struct Event {
  std::string type;  // as sent, for counting; at most 40 octets, "other" if it is no such name
  std::variant<Ignored, Heartbeat, Snapshot, TaskAdded, TaskUpdated, AgentAdded, AgentRemoved,
               FrameworkKnown, FrameworkRemoved>
      content;
  Problems problems;
};

/// Parses one event, a SUBSCRIBED included. Pure, any thread. Errors: not_json (the caller counts
/// it and goes on with the next record).
Result<Event, ParseError> parse_event(std::string_view json, const KnownHosts& hosts = {});

/// The same, but frees the text as soon as all is read.
Result<Event, ParseError> consume_event(std::string json, const KnownHosts& hosts = {});

}  // namespace muster::mesos
