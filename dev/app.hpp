#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.hpp"

namespace muster::dev {

struct Label {
  std::string key;
  std::string value;
  friend bool operator==(const Label&, const Label&) = default;
};

enum class NetworkMode : std::uint8_t { host, bridge, container };

/// One entry of portDefinitions or portMappings.
struct AppPort {
  /// Host networking with requirePorts, or a portMapping with a fixed hostPort: this port and no
  /// other. Empty means: any free one.
  std::optional<std::uint16_t> fixed_host_port;
  /// False for a portMapping without hostPort: reachable at the container's own address only.
  bool wants_host_port = true;
  /// portMappings only; 0 means "the same as the host port".
  std::optional<std::uint16_t> container_port;
  std::optional<std::string> name;
  std::vector<std::string> protocols{"tcp"};  // "udp,tcp" is two
  std::vector<Label> labels;
  friend bool operator==(const AppPort&, const AppPort&) = default;
};

enum class HealthKind : std::uint8_t { http, tcp, command };

struct AppHealthCheck {
  HealthKind kind = HealthKind::http;
  /// False for Marathon's own HTTP and TCP checks: their results never reach Mesos.
  bool by_mesos = true;
  std::string path = "/";
  std::optional<std::size_t> port_index;
  std::optional<std::uint16_t> port;
  std::string command;
  double delay_seconds = 15;
  double grace_period_seconds = 300;
  double interval_seconds = 60;
  double timeout_seconds = 20;
  unsigned max_consecutive_failures = 3;  // 0: never killed for it
  friend bool operator==(const AppHealthCheck&, const AppHealthCheck&) = default;
};

struct AppContainer {
  bool docker = false;  // else the Mesos containerizer
  std::string image;
  friend bool operator==(const AppContainer&, const AppContainer&) = default;
};

/// A Marathon app definition, as far as a launcher of local processes can honour it.
struct App {
  std::string id;  // absolute: "/product/web"
  std::string cmd;
  std::vector<std::string> args;  // used when cmd is empty
  std::vector<Label> env;
  unsigned instances = 1;
  double cpus = 1;
  double mem = 128;
  double disk = 0;
  NetworkMode network = NetworkMode::host;
  std::string network_name;
  std::vector<AppPort> ports;
  std::vector<Label> labels;
  std::optional<AppContainer> container;
  std::optional<AppHealthCheck> health;
  double kill_grace_seconds = 3;
  double backoff_seconds = 1;
  double backoff_factor = 1.15;
  double max_launch_delay_seconds = 300;
  friend bool operator==(const App&, const App&) = default;
};

/// Where a definition is wrong and what would have been right.
struct AppError {
  std::string where;  // "/portDefinitions/0/port", or "line 3, column 7" when it is not JSON
  std::string what;   // "expected a whole number from 0 to 65535, not \"http\""
  friend bool operator==(const AppError&, const AppError&) = default;
};

struct AppFile {
  std::vector<App> apps;
  /// What was understood and has no effect here, each "path: why".
  std::vector<std::string> notices;
};

/// Reads one app object, an array of them, or a group {"apps": [...], "groups": [...]}.
/// Fields Marathon does not know are errors; fields that mean nothing here are notices.
Result<AppFile, AppError> parse_apps(std::string_view json);

/// `/a/b` as Marathon names its tasks and their discovery: `b.a`.
std::string marathon_name(std::string_view app_id);

}  // namespace muster::dev
