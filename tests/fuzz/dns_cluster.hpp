#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "base/cluster_delta.hpp"

namespace muster::testing {

/// What the DNS fuzzers serve: 35 tasks named app (a reply that does not fit into a datagram) and
/// five named db.
inline ClusterDelta dns_cluster(bool complete) {
  ClusterDelta delta;
  delta.complete = complete;
  for (int i = 0; i < 40; ++i) {
    Task task;
    task.id = TaskId{"t." + std::to_string(i)};
    task.framework_name = "fw";
    task.agent_id = AgentId{"a-S" + std::to_string(i)};
    task.name = i < 35 ? "app" : "db";
    task.state = TaskState::running;
    task.agent_addresses = {IpAddress{IpAddress::V4{10, 0, 0, static_cast<std::uint8_t>(i + 1)}}};
    task.addresses = task.agent_addresses;
    task.host_ports = {*Port::from(8080)};
    delta.tasks.push_back({nullptr, std::make_shared<const Task>(task)});
  }
  return delta;
}

}  // namespace muster::testing
