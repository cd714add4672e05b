#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/task.hpp"
#include "mesos/core/problems.hpp"

namespace muster::mesos {

// Bounds of one task. Far above what schedulers make; what is beyond is left out with a Problem.
inline constexpr std::size_t kMaxPorts = 256;
inline constexpr std::size_t kMaxHostPorts = 1024;
inline constexpr std::size_t kMaxVipsPerPort = 64;
inline constexpr std::size_t kMaxLabels = 1024;
inline constexpr std::size_t kMaxAddresses = 32;
inline constexpr std::size_t kMaxMappings = 256;
inline constexpr std::size_t kMaxStatuses = 64;
inline constexpr std::size_t kMaxText = 1024;  // octets of an id or a name

/// What the label `network-scope` of a port says its number is.
enum class PortScope : std::uint8_t { undeclared, host, container };

/// A label that is about a VIP, as written.
struct KeyedValue {
  std::string key;
  std::string value;
};

/// A port as DiscoveryInfo declares it.
struct DeclaredPort {
  std::string name;
  std::string protocol;  // lower-cased
  Port number;
  PortScope scope = PortScope::undeclared;
  std::string network_name;          // the label `network-name`; empty: not declared
  std::vector<KeyedValue> vips;      // its VIP labels
  std::vector<KeyedValue> policies;  // the same, each under the key of its VIP
};

/// `host_port` of the agent leads to `container_port` in the container.
struct PortMapping {
  Port host_port;
  Port container_port;
  std::optional<Protocol> protocol;  // none: both
  friend auto operator<=>(const PortMapping&, const PortMapping&) = default;
};

struct ContainerAddress {
  IpAddress address;
  std::string network;  // name of its NetworkInfo; may be empty
  friend auto operator<=>(const ContainerAddress&, const ContainerAddress&) = default;
};

/// A task label `vip_port<index>: tcp://…`.
struct IndexedVip {
  std::size_t index;
  Protocol protocol;
  std::string value;
};

/// A task label `vip_port<index>_policy`.
struct IndexedPolicy {
  std::size_t index;
  std::string value;
};

enum class NetworkMode : std::uint8_t { unknown, host, container };

/// What one TaskStatus adds to a task.
struct StatusInfo {
  TaskState state = TaskState::staging;
  std::optional<bool> healthy;
  bool has_networks = false;  // network_infos were there, so addresses and mappings say something
  std::vector<ContainerAddress> addresses;
  std::vector<PortMapping> mappings;
};

/// A task as a master tells it, before it is joined with its agent and framework: what is needed
/// to build the Task again when one of the three changes.
struct TaskInfo {
  AgentId agent;
  std::string name;
  std::string discovery_name;
  TaskState state = TaskState::staging;
  bool has_health_check = false;
  std::optional<bool> healthy;  // of the newest status
  NetworkMode network = NetworkMode::unknown;
  std::vector<DeclaredPort> ports;
  std::vector<Port> host_ports;
  std::vector<IndexedVip> indexed_vips;
  std::vector<IndexedPolicy> indexed_policies;
  std::vector<PortMapping> container_mappings;  // of the container
  std::vector<PortMapping> status_mappings;     // of the newest RUNNING status; for pods
  std::vector<ContainerAddress> addresses;      // of the newest RUNNING status that has any
};

/// Takes a newer status into the task; the task's state is not touched, as that of a status can
/// be behind it (TASK_UPDATED has both).
void merge_status(TaskInfo& task, StatusInfo status);

/// Joins a task with what is known about its agent and framework. Appends to `problems`, unless
/// null, what was wrong with its VIP labels.
Task make_task(const TaskKey& key, const TaskInfo& info, const Agent& agent,
               const Framework& framework, Problems* problems);

/// The ports of a task with their endpoints and VIPs: mappings, `vip_port<N>` and discovery
/// brought together, by the rules of dcos_net_mesos_listener.
std::vector<TaskPort> make_ports(const TaskInfo& info, const std::vector<IpAddress>& agent,
                                 const std::string& framework_name, const std::string& task_id,
                                 Problems* problems);

}  // namespace muster::mesos
