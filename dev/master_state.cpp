#include "dev/master_state.hpp"

#include <array>

#include "dev/master_json.hpp"

namespace muster::dev {

std::string_view to_string(MesosState state) noexcept {
  switch (state) {
    case MesosState::staging:
      return "TASK_STAGING";
    case MesosState::starting:
      return "TASK_STARTING";
    case MesosState::running:
      return "TASK_RUNNING";
    case MesosState::killing:
      return "TASK_KILLING";
    case MesosState::finished:
      return "TASK_FINISHED";
    case MesosState::failed:
      return "TASK_FAILED";
    case MesosState::killed:
      return "TASK_KILLED";
    case MesosState::lost:
      return "TASK_LOST";
    case MesosState::unreachable:
      return "TASK_UNREACHABLE";
  }
  return "TASK_UNKNOWN";
}

bool is_terminal(MesosState state) noexcept {
  return state == MesosState::finished || state == MesosState::failed ||
         state == MesosState::killed || state == MesosState::lost;
}

namespace {

std::array<std::uint8_t, 16> random_uuid(Rng& rng) {
  std::array<std::uint8_t, 16> octets;
  for (std::size_t i = 0; i < octets.size(); ++i) {
    octets[i] = static_cast<std::uint8_t>(rng.below(256));
  }
  octets[6] = static_cast<std::uint8_t>((octets[6] & 0x0f) | 0x40);  // RFC 4122 §4.4
  octets[8] = static_cast<std::uint8_t>((octets[8] & 0x3f) | 0x80);
  return octets;
}

std::string uuid_base64(Rng& rng) {
  constexpr std::string_view kAlphabet =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  const auto octets = random_uuid(rng);
  std::string out;
  for (std::size_t i = 0; i < octets.size(); i += 3) {
    const auto at = [&](std::size_t j) -> std::uint32_t {
      return j < octets.size() ? octets[j] : 0U;
    };
    const std::uint32_t group = at(i) << 16 | at(i + 1) << 8 | at(i + 2);
    for (int shift = 18; shift >= 0; shift -= 6) out += kAlphabet[(group >> shift) & 63];
  }
  out.resize(22);  // 16 octets: the last group holds one
  return out + "==";
}

}  // namespace

std::string make_uuid(Rng& rng) {
  constexpr std::string_view kHex = "0123456789abcdef";
  std::string out;
  for (const std::uint8_t octet : random_uuid(rng)) {
    if (out.size() == 8 || out.size() == 13 || out.size() == 18 || out.size() == 23) out += '-';
    out += kHex[octet >> 4];
    out += kHex[octet & 15];
  }
  return out;
}

Master::Master(Identity identity, std::uint64_t seed, WallTime now)
    : identity_{std::move(identity)}, rng_{seed}, id_{make_uuid(rng_)}, started_{now} {
  framework_.id = id_ + "-0000";
}

std::string Master::next_agent_id() {
  return id_ + "-S" + std::to_string(agents_named_++);
}

void Master::add_agent(MesosAgent agent, WallTime now) {
  const std::string id = agent.id;
  AgentRecord& record = agents_[id];
  record = {.info = std::move(agent), .registered = now, .present = true};
  if (speaks()) events_.push_back(event_agent_added(record));
}

void Master::remove_agent(const std::string& agent_id, WallTime now) {
  const auto agent = agents_.find(agent_id);
  if (agent == agents_.end()) return;
  for (auto task = tasks_.begin(); task != tasks_.end();) {
    const auto next = std::next(task);
    if (task->second.info.agent_id == agent_id) {
      MesosStatus lost{.state = MesosState::lost, .time = now, .from_master = true};
      lost.message = "Agent " + agent->second.info.hostname + " removed: unregistered";
      lost.reason = StatusReason::agent_removed;
      update_task(task->first, std::move(lost));
    }
    task = next;
  }
  agents_.erase(agent);
  if (speaks()) events_.push_back(event_agent_removed(agent_id));
}

void Master::agent_unreachable(const std::string& agent_id, WallTime now) {
  const auto agent = agents_.find(agent_id);
  if (agent == agents_.end() || !agent->second.present) return;
  for (auto task = tasks_.begin(); task != tasks_.end();) {
    const auto here = task++;
    if (here->second.info.agent_id != agent_id) continue;
    MesosStatus status{.state = MesosState::unreachable, .time = now, .from_master = true};
    status.message =
        "Agent " + agent->second.info.hostname + " is unreachable: health check timed out";
    status.reason = StatusReason::agent_removed;
    if (here->second.announced && speaks()) {
      events_.push_back(event_task_updated(here->second, status, framework_.id));
    }
    unreachable_tasks_.insert(tasks_.extract(here));
  }
  unreachable_.insert(agents_.extract(agent));
}

void Master::agent_reachable(const std::string& agent_id, WallTime now) {
  const auto agent = unreachable_.find(agent_id);
  if (agent == unreachable_.end()) return;
  agent->second.registered = now;
  const auto back = agents_.insert(unreachable_.extract(agent)).position;
  for (auto task = unreachable_tasks_.begin(); task != unreachable_tasks_.end();) {
    const auto here = task++;
    if (here->second.info.agent_id == agent_id) tasks_.insert(unreachable_tasks_.extract(here));
  }
  for (auto& [id, task] : tasks_) {
    if (task.info.agent_id == agent_id) announce_task(task);
  }
  if (speaks()) events_.push_back(event_agent_added(back->second));
}

void Master::subscribe_framework(WallTime now) {
  const bool was_known = framework_.known;
  if (!was_known || framework_.registered == 0) framework_.registered = now;
  framework_.reregistered = now;
  framework_.known = true;
  framework_.active = true;
  framework_.recovered = false;
  if (!speaks()) return;
  events_.push_back(was_known ? event_framework_updated(framework_)
                              : event_framework_added(framework_));
}

void Master::remove_framework(WallTime now) {
  for (auto task = tasks_.begin(); task != tasks_.end();) {
    const auto next = std::next(task);
    MesosStatus killed{.state = MesosState::killed, .time = now, .from_master = true};
    killed.message = "Framework " + framework_.id + " removed";
    killed.reason = StatusReason::framework_removed;
    update_task(task->first, std::move(killed));
    task = next;
  }
  framework_.known = framework_.active = false;
  if (speaks()) events_.push_back(event_framework_removed(framework_));
}

void Master::add_task(MesosTask task) {
  const std::string id = task.id;
  TaskRecord& record = tasks_[id];
  record = TaskRecord{.info = std::move(task)};
  announce_task(record);
}

void Master::announce_task(TaskRecord& task) {
  const auto agent = agents_.find(task.info.agent_id);
  if (!speaks() || agent == agents_.end() || !agent->second.present) return;
  task.announced = true;
  events_.push_back(event_task_added(task, framework_.id));
}

void Master::update_task(const std::string& task_id, MesosStatus status) {
  const auto found = tasks_.find(task_id);
  if (found == tasks_.end()) {
    // Its agent keeps this to itself until it is back.
    const auto silent = unreachable_tasks_.find(task_id);
    if (silent == unreachable_tasks_.end()) return;
    record(silent->second, status);
    if (!is_terminal(status.state)) return;
    ended_.push_back(std::move(silent->second));
    unreachable_tasks_.erase(silent);
    return;
  }
  if (!status.from_master) status.uuid = uuid_base64(rng_);
  record(found->second, status);
  if (found->second.announced && speaks()) {
    events_.push_back(event_task_updated(found->second, status, framework_.id));
  }
  if (is_terminal(status.state)) finish(found);
}

/// The master keeps the latest of each run of equal states, so a status list never grows by
/// health updates.
void Master::record(TaskRecord& task, MesosStatus status) {
  task.state = status.state;
  if (!task.statuses.empty() && task.statuses.back().state == status.state) {
    task.statuses.back() = std::move(status);
  } else {
    task.statuses.push_back(std::move(status));
  }
}

void Master::finish(std::map<std::string, TaskRecord>::iterator task) {
  ended_.push_back(task->second);
  completed_.push_back(std::move(task->second));
  tasks_.erase(task);
  if (completed_.size() > kMaxCompleted) completed_.pop_front();
  if (ended_.size() > kMaxCompleted) ended_.pop_front();
}

std::vector<const Master::TaskRecord*> Master::tasks_on(const std::string& agent_id,
                                                        bool queued) const {
  std::vector<const TaskRecord*> found;
  for (const auto* tasks : {&tasks_, &unreachable_tasks_}) {
    for (const auto& [id, task] : *tasks) {
      const bool here = task.info.agent_id == agent_id;
      if (here && (task.state == MesosState::staging) == queued) found.push_back(&task);
    }
  }
  return found;
}

std::vector<const Master::TaskRecord*> Master::ended_on(const std::string& agent_id) const {
  std::vector<const TaskRecord*> found;
  for (const TaskRecord& task : ended_) {
    if (task.info.agent_id == agent_id) found.push_back(&task);
  }
  return found;
}

void Master::restart(WallTime now) {
  events_.clear();
  completed_.clear();
  id_ = make_uuid(rng_);
  started_ = now;
  agents_named_ = 0;
  framework_.known = framework_.active = framework_.recovered = false;
  framework_.registered = framework_.reregistered = 0;
  for (auto& [id, agent] : agents_) agent.present = false;
  for (auto& [id, task] : tasks_) task.announced = false;
  phase_ = MasterPhase::starting;
}

void Master::agent_returns(const std::string& agent_id, WallTime now) {
  const auto agent = agents_.find(agent_id);
  if (agent == agents_.end() || agent->second.present) return;
  agent->second.present = true;
  agent->second.registered = now;
  if (speaks()) events_.push_back(event_agent_added(agent->second));
  bool has_tasks = false;
  for (const auto& [id, task] : tasks_) has_tasks |= task.info.agent_id == agent_id;
  if (has_tasks && !framework_.known) {
    framework_.known = framework_.recovered = true;  // named by its tasks, not yet subscribed
    if (speaks()) events_.push_back(event_framework_added(framework_));
  }
  for (auto& [id, task] : tasks_) {
    if (task.info.agent_id == agent_id) announce_task(task);
  }
}

bool Master::has_recovered_agents() const noexcept {
  for (const auto& [id, agent] : agents_) {
    if (!agent.present) return true;
  }
  return false;
}

std::vector<std::string> Master::take_events() {
  return std::exchange(events_, {});
}

}  // namespace muster::dev
