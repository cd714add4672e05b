#pragma once

#include <string>
#include <string_view>

#include "base/observation.hpp"
#include "base/task.hpp"

namespace muster::testing {

inline IpAddress ip(std::string_view text) {
  return IpAddress::parse(text).value();
}

inline Port port(unsigned number) {
  return Port::from(number).value();
}

inline Agent make_agent(const std::string& id) {
  return {AgentId{id}, id + ".test", {ip("10.0.0.1")}, port(5051)};
}

inline Framework make_framework(const std::string& id) {
  return {FrameworkId{id}, "marathon", "", {}};
}

/// A running task with one named VIP, as an observer reports it: complete with what it takes
/// from make_agent() and make_framework().
inline Task make_task(const std::string& id, const std::string& agent = "a1",
                      const std::string& framework = "f1") {
  Task task;
  task.id = TaskId{id};
  task.framework_id = FrameworkId{framework};
  task.agent_id = AgentId{agent};
  task.framework_name = "marathon";
  task.name = "web";
  task.state = TaskState::running;
  task.agent_addresses = {ip("10.0.0.1")};
  task.addresses = {ip("10.0.0.1")};
  task.host_ports = {port(31000)};
  TaskPort declared{.name = "http",
                    .protocol = "tcp",
                    .number = port(80),
                    .container_port = {},
                    .endpoints = {{ip("10.0.0.1"), port(31000)}},
                    .vips = {{VipName{"web.marathon"}, port(80), Protocol::tcp}}};
  task.ports = {declared};
  return task;
}

/// A snapshot of `tasks` tasks t0, t1, ... on agent a1 of framework f1.
inline Observation make_snapshot(int tasks) {
  Observation observation;
  observation.snapshot = true;
  observation.agents = {make_agent("a1")};
  observation.frameworks = {make_framework("f1")};
  for (int i = 0; i < tasks; ++i) observation.tasks.push_back(make_task("t" + std::to_string(i)));
  return observation;
}

inline TaskKey key(const std::string& task, const std::string& framework = "f1") {
  return {FrameworkId{framework}, TaskId{task}};
}

inline Observation gone(const std::string& task, GoneReason reason) {
  Observation observation;
  observation.tasks_gone = {{key(task), reason}};
  return observation;
}

}  // namespace muster::testing
