#pragma once

#include <cstdint>
#include <string>

#include "base/task.hpp"

namespace muster::bench {

/// Instance `instance` of app number `app`, with an address that `revision` moves.
inline Task task_of(int app, int instance, int revision) {
  Task task;
  task.id = TaskId{"app" + std::to_string(app) + "." + std::to_string(instance)};
  task.framework_id = FrameworkId{"fw"};
  task.framework_name = "marathon";
  task.agent_id = AgentId{"agent-S" + std::to_string(instance)};
  task.name = "app" + std::to_string(app);
  task.discovery_name = task.name;
  task.state = TaskState::running;
  const auto octet = [](int value) { return static_cast<std::uint8_t>(value & 255); };
  task.agent_addresses = {IpAddress{IpAddress::V4{10, 0, 0, octet(instance + 1)}}};
  task.addresses = {
      IpAddress{IpAddress::V4{9, octet(app >> 8), octet(app), octet(instance * 50 + revision)}}};
  const Port port = *Port::from(8080);
  task.ports = {{.name = "http",
                 .protocol = "tcp",
                 .number = port,
                 .discovery = true,
                 .container_port = {},
                 .endpoints = {{task.addresses[0], port}},
                 .vips = {}}};
  return task;
}

}  // namespace muster::bench
