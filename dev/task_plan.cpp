#include "dev/task_plan.hpp"

#include <algorithm>
#include <tuple>

#include "base/assert.hpp"
#include "dev/network_plan.hpp"

namespace muster::dev {

namespace {

/// The port a process of this entry listens on, seen from where it runs.
std::uint16_t inner_port(const AppPort& port, std::optional<std::uint16_t> host_port) {
  if (port.container_port && *port.container_port != 0) return *port.container_port;
  return host_port.value_or(0);
}

std::vector<PortForward> forwards(const App& app, const Placement& at) {
  std::vector<PortForward> out;
  for (std::size_t i = 0; i < app.ports.size(); ++i) {
    if (!at.host_ports[i]) continue;
    for (const std::string& protocol : app.ports[i].protocols) {
      out.push_back({.host_port = *at.host_ports[i],
                     .container_port = inner_port(app.ports[i], at.host_ports[i]),
                     .protocol = protocol});
    }
  }
  return out;
}

std::vector<MesosPort> discovery_ports(const App& app, const Placement& at) {
  std::vector<MesosPort> out;
  for (std::size_t i = 0; i < app.ports.size(); ++i) {
    const AppPort& port = app.ports[i];
    std::vector<Label> labels = port.labels;
    if (app.network != NetworkMode::host) {
      labels.push_back({.key = "network-scope", .value = at.host_ports[i] ? "host" : "container"});
      if (!at.host_ports[i] && app.network == NetworkMode::container) {
        labels.push_back({.key = "network-name", .value = app.network_name});
      }
    }
    for (const std::string& protocol : port.protocols) {
      out.push_back(
          {.number = at.host_ports[i] ? *at.host_ports[i] : inner_port(port, at.host_ports[i]),
           .name = port.name,
           .protocol = protocol,
           .labels = labels});
    }
  }
  return out;
}

std::string upper_word(std::string_view text) {
  std::string out;
  for (const char c : text) {
    const bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
    const bool digit = c >= '0' && c <= '9';
    out += letter ? static_cast<char>(c & ~0x20) : digit ? c : '_';
  }
  return out;
}

}  // namespace

std::optional<std::vector<std::optional<std::uint16_t>>> take_ports(const App& app,
                                                                    PortPool& pool) {
  std::vector<std::optional<std::uint16_t>> out(app.ports.size());
  bool all = true;
  // The fixed ones first, so that a free choice does not take one of them.
  for (std::size_t i = 0; i < app.ports.size() && all; ++i) {
    if (!app.ports[i].wants_host_port || !app.ports[i].fixed_host_port) continue;
    all = pool.take(*app.ports[i].fixed_host_port);
    if (all) out[i] = app.ports[i].fixed_host_port;
  }
  for (std::size_t i = 0; i < app.ports.size() && all; ++i) {
    if (!app.ports[i].wants_host_port || app.ports[i].fixed_host_port) continue;
    out[i] = pool.take();
    all = out[i].has_value();
  }
  if (all) return out;
  give_back_ports(out, pool);
  return std::nullopt;
}

void give_back_ports(const std::vector<std::optional<std::uint16_t>>& ports, PortPool& pool) {
  for (const auto& port : ports) {
    if (port) pool.give_back(*port);
  }
}

unsigned choose_node(const std::vector<NodeLoad>& loads) {
  MUSTER_ASSERT(!loads.empty());
  return std::min_element(loads.begin(), loads.end(),
                          [](const NodeLoad& a, const NodeLoad& b) {
                            return std::tie(a.of_this_app, a.of_all, a.node) <
                                   std::tie(b.of_this_app, b.of_all, b.node);
                          })
      ->node;
}

std::string task_id(const std::string& app_id, const std::string& instance_uuid,
                    unsigned incarnation) {
  std::string safe = app_id.substr(app_id.starts_with('/') ? 1 : 0);
  std::replace(safe.begin(), safe.end(), '/', '_');
  return safe + ".instance-" + instance_uuid + "._app." + std::to_string(incarnation);
}

MesosTask mesos_task(const App& app, const Placement& at, std::string task_id,
                     std::string agent_id) {
  MesosTask out;
  out.id = std::move(task_id);
  out.name = out.discovery_name = marathon_name(app.id);
  out.agent_id = std::move(agent_id);
  out.cpus = app.cpus;
  out.mem = app.mem;
  out.disk = app.disk;
  for (const auto& port : at.host_ports) {
    if (port) out.ports.push_back(*port);
  }
  out.labels = app.labels;
  out.discovery_ports = discovery_ports(app, at);
  if (app.container || app.network != NetworkMode::host) {
    MesosContainer box;
    box.docker = app.container && app.container->docker;
    if (app.container) box.image = app.container->image;
    if (app.network != NetworkMode::host) {
      box.network_name = !box.docker                          ? app.network_name
                         : app.network == NetworkMode::bridge ? "BRIDGE"
                                                              : "USER";
      box.forwards = forwards(app, at);
    }
    out.container = std::move(box);
  }
  if (app.health && app.health->by_mesos) {
    const AppHealthCheck& check = *app.health;
    out.health_check = MesosHealthCheck{.kind = check.kind,
                                        .delay_seconds = check.delay_seconds,
                                        .interval_seconds = check.interval_seconds,
                                        .timeout_seconds = check.timeout_seconds,
                                        .grace_period_seconds = check.grace_period_seconds,
                                        .consecutive_failures = check.max_consecutive_failures,
                                        .port = health_port(app, at).value_or(0),
                                        .path = check.path,
                                        .command = check.command};
  }
  return out;
}

std::vector<MesosNetwork> mesos_networks(const App& app, const Placement& at, bool running) {
  const bool docker = app.container && app.container->docker;
  if (app.network == NetworkMode::host || (docker && !running)) {
    return {{.addresses = {node_address(at.node)}, .name = "", .forwards = {}}};
  }
  const std::string v4 = container_address(at.node, at.container_host);
  if (docker) return {{.addresses = {v4}, .name = "", .forwards = {}}};
  return {{.addresses = {v4, container_address6(at.node, at.container_host) + "/64"},
           .name = app.network_name,
           .forwards = forwards(app, at)}};
}

std::vector<std::string> task_environment(const App& app, const Placement& at,
                                          const std::string& id, const std::string& sandbox,
                                          const std::string& path) {
  const std::string ip = app.network == NetworkMode::host
                             ? node_address(at.node)
                             : container_address(at.node, at.container_host);
  std::vector<std::string> out{"PATH=" + path,
                               "HOME=" + sandbox,
                               "HOST=" + node_address(at.node),
                               "TASK_ID=" + id,
                               "MESOS_TASK_ID=" + id,
                               "MESOS_SANDBOX=" + sandbox,
                               "MESOS_CONTAINER_IP=" + ip,
                               "LIBPROCESS_IP=" + node_address(at.node),
                               "MARATHON_APP_ID=" + app.id};
  std::string all;
  for (std::size_t i = 0; i < app.ports.size(); ++i) {
    const std::string port =
        std::to_string(at.host_ports[i] ? *at.host_ports[i] : inner_port(app.ports[i], {}));
    if (i == 0) out.push_back("PORT=" + port);
    out.push_back("PORT" + std::to_string(i) + "=" + port);
    if (app.ports[i].name) out.push_back("PORT_" + upper_word(*app.ports[i].name) + "=" + port);
    all += (i == 0 ? "" : ",") + port;
  }
  if (!all.empty()) out.push_back("PORTS=" + all);
  for (const Label& variable : app.env) out.push_back(variable.key + "=" + variable.value);
  return out;
}

std::vector<std::string> task_argv(const App& app) {
  if (!app.cmd.empty()) return {"/bin/sh", "-c", app.cmd};
  return app.args;
}

std::optional<std::uint16_t> health_port(const App& app, const Placement& at) {
  if (!app.health || app.health->kind == HealthKind::command) return std::nullopt;
  if (app.health->port) return app.health->port;
  const std::size_t index = app.health->port_index.value_or(0);
  if (index >= app.ports.size()) return std::nullopt;
  // In the task's own network, where Mesos' checker runs.
  return inner_port(app.ports[index], at.host_ports[index]);
}

double Backoff::failed() noexcept {
  delay_ = std::min(delay_ == 0 ? app_->backoff_seconds : delay_ * app_->backoff_factor,
                    app_->max_launch_delay_seconds);
  return delay_;
}

}  // namespace muster::dev
