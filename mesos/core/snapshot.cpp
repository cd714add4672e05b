#include "mesos/core/snapshot.hpp"

#include <algorithm>

#include "mesos/core/elements.hpp"
#include "mesos/core/json_scan.hpp"
#include "mesos/core/snapshot_builder.hpp"

namespace muster::mesos {
namespace {

/// One entry of /state's `frameworks`, its tasks in it.
void read_framework(JsonScan& scan, SnapshotBuilder& builder) {
  // Collected rather than parsed in place: an entry can be as large as the whole document.
  std::string own{"{"};
  const auto keep = [&](std::string_view key) {
    if (own.size() > 1) own += ',';
    own.append("\"").append(key).append("\":");
    own.append(scan.skip().substr(0, kMaxFrameworkMember));
  };
  const auto tasks = [&] { scan.array([&] { builder.add_task(scan.skip()); }); };
  const bool is_object = scan.object([&](std::string_view key) {
    if (key == "id" || key == "name" || key == "hostname" || key == "pid") {
      keep(key);
    } else if (key == "tasks") {
      tasks();
    } else if (key == "executors") {  // an agent has the tasks in here; a master's have none
      scan.array([&] {
        scan.object([&](std::string_view of_executor) {
          if (of_executor == "tasks") tasks();
        });
      });
    }
  });
  builder.add_framework(is_object ? own + "}" : std::string{"null"});
}

/// What tells an agent's /state from a master's, and the agent itself.
struct Self {
  std::string_view id = "null", hostname = "null", pid = "null", leader = "null";
  bool has_slaves = false;
};

void read_state_member(std::string_view key, JsonScan& scan, SnapshotBuilder& builder, Self& self) {
  if (key == "slaves") {
    self.has_slaves = true;
    scan.array([&] { builder.add_agent(scan.skip()); });
  } else if (key == "recovered_slaves") {
    scan.array([&] { builder.add_recovering(scan.skip()); });
  } else if (key == "frameworks") {
    scan.array([&] { read_framework(scan, builder); });
  } else if (key == "leader") {
    self.leader = scan.skip();
    builder.set_leader(self.leader);
  } else if (key == "leader_info") {
    scan.object([&](std::string_view of_leader) {
      if (of_leader == "hostname") builder.set_leader_hostname(scan.skip());
    });
  } else if (key == "id") {
    self.id = scan.skip();
  } else if (key == "hostname") {
    self.hostname = scan.skip();
  } else if (key == "pid") {
    self.pid = scan.skip();
  }
}

std::optional<ParseError> read_state(std::string_view json, SnapshotBuilder& builder) {
  JsonScan scan{json};
  Self self;
  bool known_shape = false;
  const bool is_object = scan.object([&](std::string_view key) {
    known_shape = known_shape || key == "frameworks" || key == "slaves";
    read_state_member(key, scan, builder, self);
  });
  if (!is_object || !scan.finish()) return ParseError::not_json;
  if (!known_shape) return ParseError::unexpected_shape;
  if (!self.has_slaves && self.pid.starts_with("\"slave")) {
    std::string agent{"{\"id\":"};
    agent.append(self.id).append(",\"hostname\":").append(self.hostname);
    agent.append(",\"pid\":").append(self.pid).append("}");
    builder.add_agent(agent);
  }
  const bool is_master = self.pid.starts_with("\"master");
  if (is_master && (self.leader == "null" || self.leader != self.pid)) builder.set_not_leading();
  return std::nullopt;
}

}  // namespace

void read_get_state(JsonScan& scan, SnapshotBuilder& builder) {
  const auto tasks = [&] { scan.array([&] { builder.add_task(scan.skip()); }); };
  const auto frameworks = [&] { scan.array([&] { builder.add_framework(scan.skip()); }); };
  scan.object([&](std::string_view part) {
    if (part == "get_tasks") {
      scan.object([&](std::string_view key) {
        // `launched_tasks` is what an agent calls them. Completed and unreachable ones are lists
        // of what is not there, with stale states (a completed task may read TASK_RUNNING).
        if (key == "tasks" || key == "launched_tasks") tasks();
      });
    } else if (part == "get_frameworks") {
      scan.object([&](std::string_view key) {
        if (key == "frameworks" || key == "recovered_frameworks") frameworks();
      });
    } else if (part == "get_agents") {
      scan.object([&](std::string_view key) {
        if (key == "agents") scan.array([&] { builder.add_agent(scan.skip()); });
        if (key == "recovered_agents") scan.array([&] { builder.add_recovering(scan.skip()); });
      });
    }
  });
}

Result<Snapshot, ParseError> parse_state(std::string_view json, const KnownHosts& hosts) {
  SnapshotBuilder builder;
  if (const auto error = read_state(json, builder)) return *error;
  return std::move(builder).finish(hosts);
}

Result<Snapshot, ParseError> consume_state(std::string json, const KnownHosts& hosts) {
  SnapshotBuilder builder;
  if (const auto error = read_state(json, builder)) return *error;
  std::string{}.swap(json);
  return std::move(builder).finish(hosts);
}

Result<Snapshot, ParseError> parse_get_state(std::string_view json, const KnownHosts& hosts) {
  SnapshotBuilder builder;
  JsonScan scan{json};
  bool found = false;
  const bool is_object = scan.object([&](std::string_view key) {
    if (key != "get_state") return;
    found = scan.peek() == '{';
    read_get_state(scan, builder);
  });
  if (!is_object || !scan.finish()) return ParseError::not_json;
  if (!found) return ParseError::unexpected_shape;
  return std::move(builder).finish(hosts);
}

Result<std::vector<Agent>, ParseError> parse_get_agents(std::string_view json) {
  SnapshotBuilder builder;
  JsonScan scan{json};
  bool found = false;
  const bool is_object = scan.object([&](std::string_view key) {
    if (key != "get_agents") return;
    found = scan.peek() == '{';
    scan.object([&](std::string_view of_agents) {
      if (of_agents == "agents") scan.array([&] { builder.add_agent(scan.skip()); });
    });
  });
  if (!is_object || !scan.finish()) return ParseError::not_json;
  if (!found) return ParseError::unexpected_shape;
  const Snapshot snapshot = std::move(builder).finish({});
  std::vector<Agent> agents;
  agents.reserve(snapshot.tables.agents.size());
  for (const auto& [id, agent] : snapshot.tables.agents) agents.push_back(agent);
  return agents;
}

}  // namespace muster::mesos
