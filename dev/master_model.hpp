#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "dev/app.hpp"

/// What a Mesos master knows, in the emulator's own words. Deliberately shares nothing with
/// mesos/: a parser and the emulator it is tested against must not share a mistake.
namespace muster::dev {

/// Nanoseconds since 1970, as the operator API gives them; /state shows the same as seconds.
using WallTime = std::int64_t;

enum class MesosState : std::uint8_t {
  staging,
  starting,
  running,
  killing,
  finished,
  failed,
  killed,
  lost,
  unreachable,
};

std::string_view to_string(MesosState) noexcept;  // "TASK_RUNNING"
bool is_terminal(MesosState) noexcept;

struct PortForward {
  std::uint16_t host_port;
  std::uint16_t container_port;
  std::string protocol;
};

struct MesosNetwork {
  std::vector<std::string> addresses;  // IPv6 carries its prefix length, as Mesos' CNI leaves it
  std::string name;                    // empty for host networking
  std::vector<PortForward> forwards;
};

struct MesosContainer {
  bool docker = false;
  std::string image;         // of a Docker container
  std::string network_name;  // of a Mesos container; for Docker "BRIDGE" or "USER"
  std::vector<PortForward> forwards;
};

struct MesosPort {
  std::uint16_t number;
  std::optional<std::string> name;
  std::string protocol;
  std::vector<Label> labels;
};

struct MesosHealthCheck {
  HealthKind kind = HealthKind::http;
  double delay_seconds = 0;
  double interval_seconds = 0;
  double timeout_seconds = 0;
  double grace_period_seconds = 0;
  unsigned consecutive_failures = 0;
  std::uint16_t port = 0;
  std::string path;
  std::string command;
};

struct MesosAgent {
  std::string id;
  std::string hostname;
  std::string address;
  std::uint16_t port = 5051;
  double cpus = 0;
  double mem = 0;
  double disk = 0;
  std::vector<Label> attributes{};
};

/// What the scheduler hands over at launch.
struct MesosTask {
  std::string id;
  std::string name;
  std::string agent_id;
  double cpus = 0;
  double mem = 0;
  double disk = 0;
  std::vector<std::uint16_t> ports;
  std::vector<Label> labels;
  std::string discovery_name;
  std::vector<MesosPort> discovery_ports;
  std::optional<MesosContainer> container;
  std::optional<MesosHealthCheck> health_check;
};

enum class StatusReason : std::uint8_t {
  none,
  health_check_updated,
  agent_removed,
  framework_removed,
};

/// One status update, as an executor or the master sends it.
struct MesosStatus {
  MesosState state = MesosState::staging;
  WallTime time = 0;
  std::string message{};
  bool from_master = false;
  StatusReason reason = StatusReason::none;
  std::optional<bool> healthy{};
  // The container's part; all empty in an update of the master's own.
  std::string container_id{};
  std::vector<MesosNetwork> networks{};
  std::int64_t executor_pid = 0;
  std::string uuid{};  // base64; filled in by Master
};

}  // namespace muster::dev
