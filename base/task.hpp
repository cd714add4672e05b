#pragma once

#include <compare>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "base/endpoint.hpp"
#include "base/id.hpp"

namespace muster {

/// Mesos' own enumerators (mesos.proto, TaskState), without the TASK_ prefix.
enum class TaskState : std::uint8_t {
  staging,
  starting,
  running,
  killing,
  finished,
  failed,
  killed,
  error,
  lost,
  dropped,
  unreachable,
  gone,
  gone_by_operator,
  unknown,
};

/// `TASK_RUNNING` for running, as Mesos spells it.
std::string_view to_string(TaskState) noexcept;
std::optional<TaskState> parse_task_state(std::string_view text) noexcept;

/// True for the states after which Mesos forgets a task. LOST and UNREACHABLE are among them
/// here, though a task can come back from both: TASK_ADDED then revives it.
bool is_terminal(TaskState) noexcept;

/// What Mesos' health checks say. Checks that Marathon runs itself are invisible to Mesos, so
/// such a task is `unchecked`.
enum class Health : std::uint8_t {
  unchecked,  // the task has no health check: it is served as soon as it runs
  pending,    // it has one, which has not answered yet: not served
  healthy,
  unhealthy,
};

std::string_view to_string(Health) noexcept;

/// How a VIP wants its connections balanced: `VIP_0_POLICY: round_robin, affinity=10m`. What is not
/// said is left to each node.
struct VipPolicy {
  enum class Spread : std::uint8_t { unset, random, round_robin, source_hash };
  /// Whom to prefer: backends on the client's node, or in its zone; others if there are none.
  enum class Locality : std::uint8_t { none, zone, node };

  static constexpr std::uint32_t kMaxAffinitySeconds = 24 * 3600;
  static constexpr std::uint32_t kMaxSlowStartSeconds = 3600;

  Spread spread = Spread::unset;
  Locality locality = Locality::none;
  /// For so long after its last connection a client's next one goes to the same backend; 0: not.
  std::uint32_t affinity_seconds = 0;
  bool eject = true;  // a backend that does not answer takes a rest
  /// A backend has its whole share only so long after it began to take connections; 0: at once.
  std::uint32_t slow_start_seconds = 0;

  friend auto operator<=>(const VipPolicy&, const VipPolicy&) = default;
};

/// A VIP that a port declares: `VIP_0: /web:80` or `VIP_0: 10.1.2.3:80`.
struct VipLabel {
  std::variant<IpAddress, VipName> host;
  Port port;
  Protocol protocol = Protocol::tcp;
  VipPolicy policy = {};  // not part of what names the VIP
  friend auto operator<=>(const VipLabel&, const VipLabel&) = default;
};

/// A port of a task, after discovery, port mappings and resources have been brought together.
struct TaskPort {
  std::string name;       // of the DiscoveryInfo port; may be empty
  std::string protocol;   // as declared, lower-cased: "tcp", "udp", "h2c"; empty: not declared
  Port number;            // as DiscoveryInfo declares it
  bool discovery = true;  // false: known only from resources (a `vip_port<N>` task label)
  std::optional<Port> container_port;  // where it listens inside the container, if that is known
  std::vector<Endpoint> endpoints;     // where other nodes reach it; sorted
  std::vector<VipLabel> vips;          // sorted, without duplicates
  friend auto operator<=>(const TaskPort&, const TaskPort&) = default;
};

/// Task ids are unique only within their framework.
struct TaskKey {
  FrameworkId framework;
  TaskId task;
  friend auto operator<=>(const TaskKey&, const TaskKey&) = default;
};

/// One task, complete in itself: names and addresses of its framework and agent are copied in,
/// so that whoever is handed a task needs no other table to serve it.
struct Task {
  TaskId id;
  FrameworkId framework_id;
  AgentId agent_id;
  std::string framework_name;
  std::string name;
  std::string discovery_name;  // DiscoveryInfo.name; empty: none
  TaskState state = TaskState::staging;
  Health health = Health::unchecked;
  std::vector<IpAddress> agent_addresses;  // in the order of preference; sorted by family
  std::string agent_zone = {};             // see Agent::zone
  /// Of the container, from the newest RUNNING status; the agent's own for host networking, as
  /// Mesos fills it in; empty before the task runs.
  std::vector<IpAddress> addresses;
  std::vector<Port> host_ports;  // `resources.ports`, ranges expanded in order
  std::vector<TaskPort> ports;
  /// This node's belief, never part of a record: the host does not answer. Its backends take no
  /// new connections while there are others; names stay as Mesos has them.
  bool host_down = false;
  /// Told by the node beside its agent, which asked that agent, and not by who observes the master.
  bool from_agent = false;
  friend auto operator<=>(const Task&, const Task&) = default;
};

TaskKey key_of(const Task&);

/// True while the task's names belong into DNS: RUNNING.
bool is_serving(const Task&) noexcept;

/// The weight of the task's backends: 1 while it runs and is not known to be unfit, 0 (drain)
/// while it is unhealthy, not yet checked or being killed; none when it has no backends.
std::optional<std::uint16_t> backend_weight(const Task&) noexcept;

struct Agent {
  AgentId id;
  std::string hostname;              // as the agent advertises it; a name or an address
  std::vector<IpAddress> addresses;  // from its pid, else a literal hostname
  std::optional<Port> port;          // of its HTTP API
  std::string zone = {};             // `region/zone`, its fault domain; empty: none is declared
  friend auto operator<=>(const Agent&, const Agent&) = default;
};

struct Framework {
  FrameworkId id;
  std::string name;
  std::string hostname;              // of its scheduler, as it advertises it
  std::optional<Endpoint> endpoint;  // from its pid; none for HTTP schedulers
  friend auto operator<=>(const Framework&, const Framework&) = default;
};

struct Master {
  Endpoint endpoint;
  std::string hostname;
  bool leading = false;
  friend auto operator<=>(const Master&, const Master&) = default;
};

/// The addresses of a named VIP. One per family that its backends have had.
struct VipAllocation {
  VipName name;
  std::optional<IpAddress> v4;
  std::optional<IpAddress> v6;
  friend auto operator<=>(const VipAllocation&, const VipAllocation&) = default;
};

}  // namespace muster
