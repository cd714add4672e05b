#include "mesos/core/task_info.hpp"

#include <algorithm>
#include <utility>

namespace muster::mesos {
namespace {

Health health_of(const TaskInfo& info) noexcept {
  if (info.healthy) return *info.healthy ? Health::healthy : Health::unhealthy;
  return info.has_health_check ? Health::pending : Health::unchecked;
}

}  // namespace

void merge_status(TaskInfo& task, StatusInfo status) {
  task.healthy = status.healthy;
  // The agent fills in its own address while a task starts, and some executors leave the networks
  // out of later updates: only RUNNING with networks says where the container is.
  if (status.state != TaskState::running || !status.has_networks) return;
  if (!status.addresses.empty()) task.addresses = std::move(status.addresses);
  task.status_mappings = std::move(status.mappings);
}

Task make_task(const TaskKey& key, const TaskInfo& info, const Agent& agent,
               const Framework& framework, Problems* problems) {
  Task task;
  task.id = key.task;
  task.framework_id = key.framework;
  task.agent_id = info.agent;
  task.framework_name = framework.name;
  task.name = info.name;
  task.discovery_name = info.discovery_name;
  task.state = info.state;
  task.health = health_of(info);
  task.agent_addresses = agent.addresses;
  task.agent_zone = agent.zone;
  task.addresses.reserve(info.addresses.size());
  for (const ContainerAddress& from : info.addresses) {
    if (std::find(task.addresses.begin(), task.addresses.end(), from.address) ==
        task.addresses.end()) {
      task.addresses.push_back(from.address);
    }
  }
  task.host_ports = info.host_ports;
  if (!info.ports.empty() || !info.indexed_vips.empty()) {
    task.ports = make_ports(info, agent.addresses, framework.name, key.task.str(), problems);
  }
  return task;
}

}  // namespace muster::mesos
