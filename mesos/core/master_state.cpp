#include "mesos/core/master_state.hpp"

#include <iterator>
#include <utility>

#include "mesos/core/snapshot_builder.hpp"

namespace muster::mesos {
bool is_empty(const Observation& observation) noexcept {
  return !observation.snapshot && observation.tasks.empty() && observation.tasks_gone.empty() &&
         observation.agents.empty() && observation.agents_gone.empty() &&
         observation.frameworks.empty() && observation.frameworks_gone.empty() &&
         !observation.masters;
}

Observation MasterState::take(Snapshot& snapshot, TimePoint now) {
  std::swap(tables_, snapshot.tables);
  Observation out = std::move(snapshot.observation);
  task_count_ = out.tasks.size() + tables_.waiting.size();  // every task is in one of the two
  lost_track_.reset();
  recovering_since_.reset();
  if (recovering()) recovering_since_ = now;
  return out;
}

Observation MasterState::take(Event& event, TimePoint now, Problems& problems) {
  Observation out;
  std::visit([&](auto& content) { apply(content, now, out, problems); }, event.content);
  out.recovering = recovering();
  return out;
}

bool MasterState::needs_snapshot(TimePoint now) const noexcept {
  const auto too_old = [now](const std::optional<TimePoint>& since, Duration limit) {
    return since && now - *since >= limit;
  };
  if (too_old(lost_track_, kMaxWait) || too_old(recovering_since_, kMaxRecovering)) return true;
  for (const auto& [key, since] : tables_.waiting) {
    if (too_old(since, kMaxWait)) return true;
  }
  return false;
}

std::vector<std::string> MasterState::unresolved_hosts() const {
  std::set<std::string> names;  // agents of one host share its name
  for (const auto& [id, agent] : tables_.agents) {
    if (agent.addresses.empty() && !agent.hostname.empty()) names.insert(agent.hostname);
    if (names.size() == kMaxUnresolved) break;
  }
  return {names.begin(), names.end()};
}

Observation MasterState::resolved(const std::string& host,
                                  const std::vector<IpAddress>& addresses) {
  Observation out;
  out.recovering = recovering();
  if (addresses.empty()) return out;
  if (hosts_.size() >= kMaxUnresolved && !hosts_.contains(host)) hosts_.clear();
  hosts_.insert_or_assign(host, addresses);
  std::set<AgentId> changed;
  for (auto& [id, agent] : tables_.agents) {
    if (agent.hostname != host || !agent.addresses.empty()) continue;
    fill_from_hosts(agent, hosts_);
    out.agents.push_back(agent);
    changed.insert(id);
  }
  if (!changed.empty()) {
    rebuild_where(
        [&](const TaskKey&, const TaskInfo& info) { return changed.contains(info.agent); }, out);
  }
  return out;
}

void MasterState::apply(Snapshot& snapshot, TimePoint now, Observation& out, Problems&) {
  out = take(snapshot, now);
}

void MasterState::apply(TaskAdded& event, TimePoint now, Observation& out, Problems& problems) {
  if (is_terminal(event.info.state)) {
    forget(event.key);
    out.tasks_gone.push_back({event.key, gone_reason(event.info.state)});
    return;
  }
  TaskInfo* known = find(event.key);
  if (known == nullptr && task_count_ >= kMaxTasks) {
    problems.add("limit", "the master's state",
                 "more than " + std::to_string(kMaxTasks) + " tasks");
    return;
  }
  const std::optional<Task> before =
      known != nullptr ? build(event.key, *known, nullptr) : std::nullopt;
  if (known == nullptr) {
    ++task_count_;
    known = &tables_.tasks[event.key.framework][event.key.task];
  }
  *known = std::move(event.info);
  std::optional<Task> after = build(event.key, *known, &problems);
  if (!after) {
    wait_for_rest(event.key, now, problems);
  } else {
    tables_.waiting.erase(event.key);
    if (before != after) out.tasks.push_back(std::move(*after));
  }
}

void MasterState::apply(TaskUpdated& event, TimePoint now, Observation& out, Problems&) {
  if (is_terminal(event.state)) {
    // Also for a task that is not known here: it may have been LOST before, which is held, and
    // this is the word that ends it.
    forget(event.key);
    out.tasks_gone.push_back({event.key, gone_reason(event.state)});
    return;
  }
  TaskInfo* info = find(event.key);
  if (info == nullptr) {
    if (!lost_track_) lost_track_ = now;
    return;
  }
  const std::optional<Task> before = build(event.key, *info, nullptr);
  info->state = event.state;
  merge_status(*info, std::move(event.status));
  std::optional<Task> after = build(event.key, *info, nullptr);
  // An unhealthy task says so again with every check that fails.
  if (after && before != after) out.tasks.push_back(std::move(*after));
}

void MasterState::apply(AgentAdded& event, TimePoint, Observation& out, Problems& problems) {
  const AgentId id = event.agent.id;
  fill_from_hosts(event.agent, hosts_);
  const bool came_back = tables_.recovering.erase(id) > 0;
  if (came_back && !recovering()) recovering_since_.reset();
  const auto known = tables_.agents.find(id);
  if (known == tables_.agents.end() && tables_.agents.size() >= kMaxAgents) {
    problems.add("limit", "the master's state",
                 "more than " + std::to_string(kMaxAgents) + " agents");
    return;
  }
  if (known != tables_.agents.end() && known->second == event.agent && !came_back) return;
  const bool moved =
      known != tables_.agents.end() && known->second.addresses != event.agent.addresses;
  out.agents.push_back(event.agent);
  tables_.agents.insert_or_assign(id, std::move(event.agent));
  if (moved) {
    rebuild_where([&](const TaskKey&, const TaskInfo& info) { return info.agent == id; }, out);
  }
  release_waiting(out, problems);
}

void MasterState::apply(AgentRemoved& event, TimePoint, Observation& out, Problems&) {
  tables_.recovering.erase(event.id);
  if (!recovering()) recovering_since_.reset();
  if (tables_.agents.erase(event.id) == 0) return;
  out.agents_gone.push_back(event.id);
  // Mesos sends a TASK_LOST for each task first, so this finds something only if one was missed.
  for (const auto& [framework, tasks] : tables_.tasks) {
    for (const auto& [id, info] : tasks) {
      if (info.agent == event.id) out.tasks_gone.push_back({{framework, id}, GoneReason::lost});
    }
  }
  for (const TaskGone& gone : out.tasks_gone) forget(gone.key);
}

void MasterState::apply(FrameworkKnown& event, TimePoint, Observation& out, Problems& problems) {
  const FrameworkId id = event.framework.id;
  const auto known = tables_.frameworks.find(id);
  if (known == tables_.frameworks.end() && tables_.frameworks.size() >= kMaxFrameworks) {
    problems.add("limit", "the master's state",
                 "more than " + std::to_string(kMaxFrameworks) + " frameworks");
    return;
  }
  if (known != tables_.frameworks.end() && known->second == event.framework) return;
  const bool renamed =
      known != tables_.frameworks.end() && known->second.name != event.framework.name;
  out.frameworks.push_back(event.framework);
  tables_.frameworks.insert_or_assign(id, std::move(event.framework));
  if (renamed) {
    rebuild_where([&](const TaskKey& key, const TaskInfo&) { return key.framework == id; }, out);
  }
  release_waiting(out, problems);
}

void MasterState::apply(FrameworkRemoved& event, TimePoint, Observation& out, Problems&) {
  if (const auto tasks = tables_.tasks.find(event.id); tasks != tables_.tasks.end()) {
    for (const auto& [id, info] : tasks->second) {
      out.tasks_gone.push_back({{event.id, id}, GoneReason::framework_removed});
    }
  }
  for (const TaskGone& gone : out.tasks_gone) forget(gone.key);
  tables_.frameworks.erase(event.id);
  out.frameworks_gone.push_back(std::move(event.id));
}

TaskInfo* MasterState::find(const TaskKey& key) {
  const auto tasks = tables_.tasks.find(key.framework);
  if (tasks == tables_.tasks.end()) return nullptr;
  const auto task = tasks->second.find(key.task);
  return task == tasks->second.end() ? nullptr : &task->second;
}

std::optional<Task> MasterState::build(const TaskKey& key, const TaskInfo& info,
                                       Problems* problems) const {
  const auto agent = tables_.agents.find(info.agent);
  const auto framework = tables_.frameworks.find(key.framework);
  if (agent == tables_.agents.end() || framework == tables_.frameworks.end()) return std::nullopt;
  return make_task(key, info, agent->second, framework->second, problems);
}

void MasterState::forget(const TaskKey& key) {
  tables_.waiting.erase(key);
  const auto tasks = tables_.tasks.find(key.framework);
  if (tasks == tables_.tasks.end()) return;
  task_count_ -= tasks->second.erase(key.task);
  if (tasks->second.empty()) tables_.tasks.erase(tasks);
}

void MasterState::wait_for_rest(const TaskKey& key, TimePoint now, Problems& problems) {
  if (tables_.waiting.size() >= kMaxWaiting && !tables_.waiting.contains(key)) {
    problems.add("waiting", "task " + in_quotes(key.task.str()),
                 "more than " + std::to_string(kMaxWaiting) +
                     " tasks wait for their agent or framework to be announced");
    forget(key);
    if (!lost_track_) lost_track_ = now;
    return;
  }
  tables_.waiting.try_emplace(key, now);
}

void MasterState::release_waiting(Observation& out, Problems& problems) {
  for (auto at = tables_.waiting.begin(); at != tables_.waiting.end();) {
    const auto waiting = at++;
    const TaskInfo* info = find(waiting->first);
    std::optional<Task> task =
        info != nullptr ? build(waiting->first, *info, &problems) : std::nullopt;
    if (!task) continue;
    out.tasks.push_back(std::move(*task));
    tables_.waiting.erase(waiting);
  }
}

template <class Matches>
void MasterState::rebuild_where(Matches matches, Observation& out) const {
  for (const auto& [framework, tasks] : tables_.tasks) {
    for (const auto& [id, info] : tasks) {
      const TaskKey key{framework, id};
      if (!matches(key, info)) continue;
      if (auto task = build(key, info, nullptr)) out.tasks.push_back(std::move(*task));
    }
  }
}

Result<Observation, ParseError> MasterState::apply_snapshot(std::string_view json, TimePoint now,
                                                            Problems& problems) {
  auto snapshot = parse_state(json, hosts_);
  if (!snapshot) return snapshot.error();
  problems.append(snapshot->problems);
  return take(*snapshot, now);
}

Result<Observation, ParseError> MasterState::apply_get_state(std::string_view json, TimePoint now,
                                                             Problems& problems) {
  auto snapshot = parse_get_state(json, hosts_);
  if (!snapshot) return snapshot.error();
  problems.append(snapshot->problems);
  return take(*snapshot, now);
}

Result<Observation, ParseError> MasterState::apply_event(std::string_view json, TimePoint now,
                                                         Problems& problems) {
  auto event = parse_event(json, hosts_);
  if (!event) return event.error();
  problems.append(event->problems);
  if (const auto* snapshot = std::get_if<Snapshot>(&event->content)) {
    problems.append(snapshot->problems);
  }
  return take(*event, now, problems);
}

}  // namespace muster::mesos
