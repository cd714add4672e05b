#pragma once

#include <string>
#include <vector>

#include "dev/app.hpp"
#include "dev/master_json.hpp"
#include "dev/master_state.hpp"
#include "dev/task_plan.hpp"

namespace muster::testing {

/// A master with one agent whose tasks live through everything the launcher makes them live.
class Life {
 public:
  Life() : master{{.address = "10.66.0.250", .port = 5050, .cluster = "test"}, 17, now} {
    agent = master.next_agent_id();
    master.add_agent({.id = agent,
                      .hostname = "10.66.0.1",
                      .address = "10.66.0.1",
                      .port = 5051,
                      .cpus = 64,
                      .mem = 65536,
                      .disk = 65536,
                      .attributes = {{.key = "node", .value = "node1"}}},
                     now);
    master.subscribe_framework(tick());
    note();
  }

  /// Launches the only app of `definition` and returns its task's id.
  std::string launch(const std::string& definition) {
    apps.push_back(dev::parse_apps(definition)->apps.at(0));
    const dev::App& app = apps.back();
    dev::Placement at{.node = 1, .host_ports = *dev::take_ports(app, pool), .container_host = 0};
    if (app.network != dev::NetworkMode::host) at.container_host = 3;
    const std::string id = dev::task_id(app.id, "4a8baa1c-e5f3-41f1-a6b8-02fc00000001",
                                        static_cast<unsigned>(apps.size()));
    networks = dev::mesos_networks(app, at, true);
    master.add_task(dev::mesos_task(app, at, id, agent));
    note();
    return id;
  }

  void update(const std::string& id, dev::MesosState state, dev::MesosStatus status = {}) {
    status.state = state;
    status.time = tick();
    status.container_id = "1eaa9f25-7c03-4b58-930a-ca1a7170697b";
    status.networks = networks;
    status.executor_pid = 4711;
    master.update_task(id, std::move(status));
    note();
  }

  std::string run(const std::string& definition) {
    const std::string id = launch(definition);
    update(id, dev::MesosState::starting);
    update(id, dev::MesosState::running);
    return id;
  }

  void health(const std::string& id, bool healthy) {
    update(id, dev::MesosState::running,
           {.reason = dev::StatusReason::health_check_updated, .healthy = healthy});
  }

  void note() {
    for (std::string& event : master.take_events()) events.push_back(std::move(event));
  }

  dev::WallTime tick() { return now += 1'234'567'891; }

  dev::WallTime now = 1795296850554287872;
  dev::PortPool pool;
  dev::Master master;
  std::string agent;
  std::vector<dev::App> apps;
  std::vector<dev::MesosNetwork> networks;
  std::vector<std::string> events;
};

inline const char* const kWeb = R"({"id": "/web", "cmd": "x", "cpus": 0.05, "mem": 32,
  "labels": {"owner": "team-a"},
  "portDefinitions": [{"name": "http", "labels": {"VIP_0": "/web:80"}}],
  "healthChecks": [{"protocol": "MESOS_HTTP", "path": "/"}]})";
inline const char* const kPlain = R"({"id": "/plain", "cmd": "x", "cpus": 0.05, "mem": 32,
  "portDefinitions": [{"name": "http", "labels": {"VIP_0": "/plain:80"}}]})";
inline const char* const kTcp = R"({"id": "/tcp", "cmd": "x", "cpus": 0.05, "mem": 32,
  "portDefinitions": [{"name": "svc", "protocol": "udp,tcp", "labels": {"VIP_0": "/tcp:90"}}],
  "healthChecks": [{"protocol": "MESOS_TCP"}]})";
inline const char* const kCommand = R"({"id": "/command", "cmd": "x", "cpus": 0.05, "mem": 32,
  "portDefinitions": [{"name": "http", "labels": {"VIP_0": "/c:80"}}],
  "healthChecks": [{"protocol": "COMMAND", "command": {"value": "true"}}]})";
inline const char* const kBridged = R"({"id": "/bridged", "cmd": "x", "cpus": 0.05, "mem": 32,
  "networks": [{"mode": "container/bridge"}],
  "container": {"type": "MESOS", "portMappings": [
    {"containerPort": 8080, "name": "http", "labels": {"VIP_0": "/bridged:80"}}]}})";
inline const char* const kOwnAddress = R"({"id": "/own", "cmd": "x", "cpus": 0.05, "mem": 32,
  "networks": [{"mode": "container", "name": "dcos"}],
  "container": {"type": "MESOS", "portMappings": [
    {"containerPort": 8080, "name": "http", "labels": {"VIP_0": "/own:80"}}]},
  "healthChecks": [{"protocol": "MESOS_HTTP"}]})";

}  // namespace muster::testing
