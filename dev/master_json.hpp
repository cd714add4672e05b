#pragma once

#include <string>

#include "dev/master_state.hpp"

/// How a Mesos 1.12 master writes what it knows: keys, nesting, order and number formats as
/// recorded (tests/fixtures/dev). `/state` ("v0") and the operator API ("v1") differ in nearly
/// all of it.
namespace muster::dev {

constexpr double kHeartbeatSeconds = 15.0;  // Mesos' DEFAULT_HEARTBEAT_INTERVAL

std::string v0_state(const Master&);
std::string v0_version();

std::string v1_get_state(const Master&);
std::string v1_get_tasks(const Master&);
std::string v1_get_agents(const Master&);
std::string v1_get_frameworks(const Master&);
std::string v1_get_health();
std::string v1_get_version();

// What an agent says of itself; `agent_json.cpp` and the end of `master_json_v1.cpp`.
std::string v0_agent_state(const Master&, const MesosAgent&, WallTime started);
std::string v1_agent_get_state(const Master&, const std::string& agent_id);
std::string v1_agent_get_agent(const MesosAgent&);

std::string event_subscribed(const Master&, double heartbeat_seconds = kHeartbeatSeconds);
std::string event_heartbeat();
std::string event_agent_added(const Master::AgentRecord&);
std::string event_agent_removed(const std::string& agent_id);
std::string event_framework_added(const Master::FrameworkRecord&);
std::string event_framework_updated(const Master::FrameworkRecord&);
std::string event_framework_removed(const Master::FrameworkRecord&);
std::string event_task_added(const Master::TaskRecord&, const std::string& framework_id);
std::string event_task_updated(const Master::TaskRecord&, const MesosStatus&,
                               const std::string& framework_id);

}  // namespace muster::dev
