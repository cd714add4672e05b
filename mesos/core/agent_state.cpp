#include "mesos/core/agent_state.hpp"

#include <string>
#include <utility>

#include "mesos/core/json_scan.hpp"
#include "mesos/core/snapshot_builder.hpp"

namespace muster::mesos {
namespace {

/// `executors` and `completed_executors` of one framework. Of what is completed, the state that
/// a task was left in says nothing (it may still read TASK_RUNNING).
void read_executors(JsonScan& scan, SnapshotBuilder& builder, bool completed) {
  scan.array([&] {
    scan.object([&](std::string_view key) {
      if (key == "tasks" && !completed) {
        scan.array([&] { builder.add_task(scan.skip()); });
      } else if (key == "tasks" || key == "completed_tasks") {
        scan.array([&] { builder.add_ended_task(scan.skip()); });
      }
      // Queued tasks have no container yet.
    });
  });
}

void read_framework(JsonScan& scan, SnapshotBuilder& builder, bool completed) {
  std::string own{"{"};
  const bool is_object = scan.object([&](std::string_view key) {
    if (key == "id" || key == "name" || key == "hostname") {
      if (own.size() > 1) own += ',';
      own.append("\"").append(key).append("\":");
      own.append(scan.skip().substr(0, kMaxFrameworkMember));
    } else if (key == "executors") {
      read_executors(scan, builder, completed);
    } else if (key == "completed_executors") {
      read_executors(scan, builder, true);
    }
  });
  if (!completed) builder.add_framework(is_object ? own + "}" : std::string{"null"});
}

bool has_text(std::string_view json) {
  return json.size() > 2 && json.front() == '"';
}

/// The parts of GET_STATE; false: that is not what it is.
bool read_parts(JsonScan& scan, SnapshotBuilder& builder) {
  return scan.object([&](std::string_view part) {
    if (part == "get_tasks") {
      scan.object([&](std::string_view key) {
        if (key == "launched_tasks") {
          scan.array([&] { builder.add_task(scan.skip()); });
        } else if (key == "terminated_tasks" || key == "completed_tasks") {
          scan.array([&] { builder.add_ended_task(scan.skip()); });
        }
      });
    } else if (part == "get_frameworks") {
      scan.object([&](std::string_view key) {
        if (key == "frameworks") scan.array([&] { builder.add_framework(scan.skip()); });
      });
    }
  });
}

std::optional<ParseError> read_agent(std::string_view json, SnapshotBuilder& builder) {
  JsonScan scan{json};
  bool found = false;
  const bool is_object = scan.object([&](std::string_view key) {
    if (key != "get_agent") return;
    scan.object([&](std::string_view of_agent) {
      if (of_agent != "agent_info" || scan.peek() != '{') return;
      const std::string_view info = scan.skip();
      found = true;
      bool named = false;
      JsonScan inner{info};
      inner.object([&](std::string_view member) { named = named || member == "id"; });
      if (named) builder.add_agent(info);
    });
  });
  if (!is_object || !scan.finish()) return ParseError::not_json;
  if (!found) return ParseError::unexpected_shape;
  return std::nullopt;
}

Snapshot finish(SnapshotBuilder&& builder) {
  Snapshot snapshot = std::move(builder).finish({});
  // Nobody knows better: lost to an agent is ended, and not, as to a master, out of sight.
  for (TaskGone& gone : snapshot.observation.tasks_gone) gone.reason = GoneReason::terminal;
  snapshot.observation.masters.reset();
  return snapshot;
}

}  // namespace

Result<Snapshot, ParseError> parse_agent_state(std::string_view json,
                                               const std::optional<IpAddress>& at) {
  SnapshotBuilder builder;
  if (at) builder.set_address(*at);
  JsonScan scan{json};
  std::string_view id;
  std::string_view hostname = "\"\"";
  std::string_view pid = "\"\"";
  bool frameworks = false;
  bool masters = false;
  const bool is_object = scan.object([&](std::string_view key) {
    if (key == "frameworks") {
      frameworks = true;
      scan.array([&] { read_framework(scan, builder, false); });
    } else if (key == "completed_frameworks") {
      scan.array([&] { read_framework(scan, builder, true); });
    } else if (key == "id") {
      id = scan.skip();
    } else if (key == "hostname") {
      hostname = scan.skip();
    } else if (key == "pid") {
      pid = scan.skip();
    }
    masters = masters || key == "slaves";
  });
  if (!is_object || !scan.finish()) return ParseError::not_json;
  if (!frameworks || masters || pid.starts_with("\"master")) return ParseError::unexpected_shape;
  if (has_text(id)) {
    std::string agent{"{\"id\":"};
    agent.append(id).append(",\"hostname\":").append(hostname);
    agent.append(",\"pid\":").append(pid).append("}");
    builder.add_agent(agent);
  }
  return finish(std::move(builder));
}

Result<Snapshot, ParseError> parse_agent_get_state(std::string_view state, std::string_view agent,
                                                   const std::optional<IpAddress>& at) {
  SnapshotBuilder builder;
  if (at) builder.set_address(*at);
  JsonScan scan{state};
  bool found = false;
  const bool is_object = scan.object([&](std::string_view key) {
    if (key == "get_state") found = read_parts(scan, builder);
  });
  if (!is_object || !scan.finish()) return ParseError::not_json;
  if (!found) return ParseError::unexpected_shape;
  if (const auto error = read_agent(agent, builder)) return *error;
  return finish(std::move(builder));
}

}  // namespace muster::mesos
