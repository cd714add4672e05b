#include "mesos/core/snapshot_builder.hpp"

#include <utility>

namespace muster::mesos {

bool SnapshotBuilder::fits(std::size_t size, std::size_t max, std::string_view what) {
  if (size < max) return true;
  snapshot_.problems.add("limit", "the master's state",
                         "more than " + std::to_string(max) + ' ' + std::string{what});
  return false;
}

/// A task that is named twice counts where it is not terminal.
void SnapshotBuilder::add_task(std::string_view json) {
  if (!fits(task_count_ + gone_.size(), kMaxTasks, "tasks")) return;
  auto task = elements_.task(json);
  if (!task) return;
  auto& [key, info] = *task;
  if (is_terminal(info.state)) {
    gone_.insert_or_assign(std::move(key), gone_reason(info.state));
    return;
  }
  auto& tasks = snapshot_.tables.tasks[std::move(key.framework)];
  if (tasks.insert_or_assign(std::move(key.task), std::move(info)).second) ++task_count_;
}

void SnapshotBuilder::add_ended_task(std::string_view json) {
  if (!fits(task_count_ + gone_.size(), kMaxTasks, "tasks")) return;
  if (auto key = elements_.task_key(json)) {
    gone_.insert_or_assign(std::move(*key), GoneReason::terminal);
  }
}

void SnapshotBuilder::add_agent(std::string_view json) {
  if (!fits(snapshot_.tables.agents.size(), kMaxAgents, "agents")) return;
  if (auto agent = elements_.agent(json)) {
    AgentId id = agent->id;
    snapshot_.tables.agents.insert_or_assign(std::move(id), std::move(*agent));
  }
}

void SnapshotBuilder::add_recovering(std::string_view json) {
  if (!fits(snapshot_.tables.recovering.size(), kMaxAgents, "agents")) return;
  if (auto agent = elements_.agent(json)) snapshot_.tables.recovering.insert(std::move(agent->id));
}

void SnapshotBuilder::add_framework(std::string_view json) {
  if (!fits(snapshot_.tables.frameworks.size(), kMaxFrameworks, "frameworks")) return;
  if (auto framework = elements_.framework(json)) {
    FrameworkId id = framework->id;
    snapshot_.tables.frameworks.insert_or_assign(std::move(id), std::move(*framework));
  }
}

void SnapshotBuilder::set_leader(std::string_view json) {
  leader_ = elements_.text(json).value_or(std::string{});
}

void SnapshotBuilder::set_leader_hostname(std::string_view json) {
  leader_hostname_ = elements_.text(json).value_or(std::string{});
}

void SnapshotBuilder::set_heartbeat(std::string_view json) {
  snapshot_.heartbeat_seconds = elements_.number(json);
}

Snapshot SnapshotBuilder::finish(const KnownHosts& hosts) && {
  Observation& out = snapshot_.observation;
  out.snapshot = true;
  for (auto& [id, agent] : snapshot_.tables.agents) {
    fill_from_hosts(agent, hosts);
    if (agent.addresses.empty() && address_) agent.addresses = {*address_};
    out.agents.push_back(agent);
    snapshot_.tables.recovering.erase(id);
  }
  for (const auto& [id, framework] : snapshot_.tables.frameworks) {
    out.frameworks.push_back(framework);
  }
  out.recovering = !snapshot_.tables.recovering.empty();
  if (!leader_.empty()) {
    if (const auto endpoint = endpoint_of_pid(leader_)) {
      out.masters = std::vector{Master{*endpoint, leader_hostname_.substr(0, kMaxText), true}};
    } else {
      snapshot_.problems.add("master", "the leader " + in_quotes(leader_),
                             "should end in \"@address:port\"");
    }
  }
  for (const auto& [key, reason] : gone_) {
    const auto tasks = snapshot_.tables.tasks.find(key.framework);
    if (tasks == snapshot_.tables.tasks.end() || !tasks->second.contains(key.task)) {
      out.tasks_gone.push_back({key, reason});
    }
  }
  join_tasks();
  return std::move(snapshot_);
}

void SnapshotBuilder::join_tasks() {
  Tables& tables = snapshot_.tables;
  snapshot_.observation.tasks.reserve(task_count_);
  for (auto& [framework_id, tasks] : tables.tasks) {
    const auto framework = tables.frameworks.find(framework_id);
    for (auto at = tasks.begin(); at != tasks.end();) {
      const auto task = at++;
      const TaskInfo& info = task->second;
      TaskKey key{framework_id, task->first};
      const auto agent = tables.agents.find(info.agent);
      if (framework != tables.frameworks.end() && agent != tables.agents.end()) {
        snapshot_.observation.tasks.push_back(
            make_task(key, info, agent->second, framework->second, &snapshot_.problems));
        continue;
      }
      snapshot_.problems.add("waiting", "task " + in_quotes(key.task.str()),
                             "its agent " + in_quotes(info.agent.str()) + " or its framework " +
                                 in_quotes(framework_id.str()) + " is not in the same state");
      if (tables.waiting.size() < kMaxWaiting) {
        tables.waiting.emplace(std::move(key), std::nullopt);
      } else {
        tasks.erase(task);
      }
    }
  }
}

void fill_from_hosts(Agent& agent, const KnownHosts& hosts) {
  if (!agent.addresses.empty()) return;
  const auto known = hosts.find(agent.hostname);
  if (known != hosts.end()) agent.addresses = known->second;
}

GoneReason gone_reason(TaskState state) noexcept {
  return state == TaskState::lost || state == TaskState::unreachable || state == TaskState::unknown
             ? GoneReason::lost
             : GoneReason::terminal;
}

}  // namespace muster::mesos
