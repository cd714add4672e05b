#pragma once

#include <optional>
#include <string>
#include <vector>

#include "dev/app.hpp"
#include "dev/master_model.hpp"
#include "dev/port_pool.hpp"

/// What becomes of an app definition when one of its instances is put on a node. Pure.
namespace muster::dev {

struct Placement {
  unsigned node = 1;
  /// Parallel to App::ports; empty where the app wants no host port.
  std::vector<std::optional<std::uint16_t>> host_ports;
  /// Host part of the container's address; 0 with host networking.
  unsigned container_host = 0;
};

/// Host ports for `app`, or nothing (and none taken) if one it insists on is in use.
std::optional<std::vector<std::optional<std::uint16_t>>> take_ports(const App& app, PortPool& pool);
void give_back_ports(const std::vector<std::optional<std::uint16_t>>& ports, PortPool& pool);

/// How full a node is, for the choice of the next one.
struct NodeLoad {
  unsigned node;
  unsigned of_this_app;
  unsigned of_all;
};
/// The node with the fewest instances of this app, then the fewest tasks, then the first.
/// `loads` is not empty.
unsigned choose_node(const std::vector<NodeLoad>& loads);

/// Marathon's id of an instance's nth task: `product_web.instance-<uuid>._app.1`.
std::string task_id(const std::string& app_id, const std::string& instance_uuid,
                    unsigned incarnation);

/// What the scheduler tells the master.
MesosTask mesos_task(const App& app, const Placement& at, std::string task_id,
                     std::string agent_id);

/// What the task's status updates say about its network: in TASK_STARTING a Docker container
/// still shows its agent's address.
std::vector<MesosNetwork> mesos_networks(const App& app, const Placement& at, bool running);

/// The variables Marathon and Mesos set, then the app's own, "NAME=value" each.
std::vector<std::string> task_environment(const App& app, const Placement& at,
                                          const std::string& task_id, const std::string& sandbox,
                                          const std::string& path);

/// The command line: by /bin/sh, or the arguments as they are.
std::vector<std::string> task_argv(const App& app);

/// The port a health check goes to; nothing for a command.
std::optional<std::uint16_t> health_port(const App& app, const Placement& at);

/// Marathon's launch delay after failures in a row.
class Backoff {
 public:
  explicit Backoff(const App& app) : app_{&app} {}
  /// Seconds to wait before the next launch after a failure.
  double failed() noexcept;
  void succeeded() noexcept { delay_ = 0; }

 private:
  const App* app_;
  double delay_ = 0;
};

}  // namespace muster::dev
