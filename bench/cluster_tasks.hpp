#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "base/observation.hpp"

// A cluster's tasks, each with a named VIP of its app's; ids as long as Mesos' and Marathon's are.
namespace muster::bench {

inline IpAddress address_of_agent(std::size_t agent) {
  return IpAddress{IpAddress::V4{10, 1, static_cast<std::uint8_t>(agent >> 8),
                                 static_cast<std::uint8_t>(agent & 0xFF)}};
}

inline std::string agent_id(std::size_t n) {
  return "6f1d2f7e-4f0c-4f4b-9a3e-0d6c5b8a7e21-S" + std::to_string(n);
}

inline std::string framework_id(std::size_t n) {
  return "6f1d2f7e-4f0c-4f4b-9a3e-0d6c5b8a7e21-000" + std::to_string(n);
}

inline Task make_task(std::size_t n, std::size_t agents) {
  const std::size_t agent = n % agents;
  Task task;
  task.id = TaskId{"app-" + std::to_string(n % 1000) + ".instance-2c0b7a52-6c1e-11ee-9d2b-" +
                   std::to_string(100'000'000'000 + n) + "._app.1"};
  task.framework_id = FrameworkId{framework_id(n % 5)};
  task.agent_id = AgentId{agent_id(agent)};
  task.framework_name = "marathon";
  task.name = "app-" + std::to_string(n % 1000);
  task.state = TaskState::running;
  task.health = Health::healthy;
  task.agent_addresses = {address_of_agent(agent)};
  task.addresses = {address_of_agent(agent)};
  const Port host = Port::from(10'000 + n / agents % 50'000).value();
  task.host_ports = {host};
  task.ports = {{.name = "http",
                 .protocol = "tcp",
                 .number = Port::from(80).value(),
                 .container_port = {},
                 .endpoints = {{address_of_agent(agent), host}},
                 .vips = {{VipName{task.name + ".marathon"}, Port::from(80).value()}}}};
  return task;
}

inline Observation make_snapshot(std::size_t tasks, std::size_t agents) {
  Observation all;
  all.snapshot = true;
  for (std::size_t i = 0; i < agents; ++i) {
    all.agents.push_back({AgentId{agent_id(i)},
                          "node" + std::to_string(i) + ".example.com",
                          {address_of_agent(i)},
                          Port::from(5051)});
  }
  for (std::size_t i = 0; i < 5; ++i) {
    all.frameworks.push_back({FrameworkId{framework_id(i)}, "marathon", "m1.example.com", {}});
  }
  for (std::size_t i = 0; i < tasks; ++i) all.tasks.push_back(make_task(i, agents));
  return all;
}

}  // namespace muster::bench
