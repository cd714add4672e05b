#include "base/task.hpp"

#include <array>
#include <utility>

namespace muster {
namespace {

constexpr std::array<std::pair<TaskState, std::string_view>, 14> kStates{{
    {TaskState::staging, "TASK_STAGING"},
    {TaskState::starting, "TASK_STARTING"},
    {TaskState::running, "TASK_RUNNING"},
    {TaskState::killing, "TASK_KILLING"},
    {TaskState::finished, "TASK_FINISHED"},
    {TaskState::failed, "TASK_FAILED"},
    {TaskState::killed, "TASK_KILLED"},
    {TaskState::error, "TASK_ERROR"},
    {TaskState::lost, "TASK_LOST"},
    {TaskState::dropped, "TASK_DROPPED"},
    {TaskState::unreachable, "TASK_UNREACHABLE"},
    {TaskState::gone, "TASK_GONE"},
    {TaskState::gone_by_operator, "TASK_GONE_BY_OPERATOR"},
    {TaskState::unknown, "TASK_UNKNOWN"},
}};

}  // namespace

std::string_view to_string(TaskState state) noexcept {
  return kStates[static_cast<std::size_t>(state)].second;
}

std::optional<TaskState> parse_task_state(std::string_view text) noexcept {
  for (const auto& [state, name] : kStates) {
    if (name == text) return state;
  }
  return std::nullopt;
}

bool is_terminal(TaskState state) noexcept {
  switch (state) {
    case TaskState::staging:
    case TaskState::starting:
    case TaskState::running:
    case TaskState::killing:
      return false;
    case TaskState::finished:
    case TaskState::failed:
    case TaskState::killed:
    case TaskState::error:
    case TaskState::lost:
    case TaskState::dropped:
    case TaskState::unreachable:
    case TaskState::gone:
    case TaskState::gone_by_operator:
    case TaskState::unknown:
      return true;
  }
  return true;
}

std::string_view to_string(Health health) noexcept {
  switch (health) {
    case Health::unchecked:
      return "unchecked";
    case Health::pending:
      return "pending";
    case Health::healthy:
      return "healthy";
    case Health::unhealthy:
      return "unhealthy";
  }
  return "unchecked";
}

TaskKey key_of(const Task& task) {
  return {task.framework_id, task.id};
}

bool is_serving(const Task& task) noexcept {
  return task.state == TaskState::running;
}

std::optional<std::uint16_t> backend_weight(const Task& task) noexcept {
  if (task.state == TaskState::killing) return std::uint16_t{0};
  if (task.state != TaskState::running) return std::nullopt;
  const bool fit = task.health == Health::unchecked || task.health == Health::healthy;
  return static_cast<std::uint16_t>(fit ? 1 : 0);
}

}  // namespace muster
