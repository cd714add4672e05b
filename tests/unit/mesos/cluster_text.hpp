#pragma once

#include <string>
#include <string_view>

// Mesos' JSON, as small as a test can use it.
namespace muster::mesos::testing {

struct TaskText {
  std::string_view id = "web.1";
  std::string_view state = "TASK_RUNNING";
  std::string_view agent = "S0";
  std::string_view framework = "F0";
  std::string_view ports = "";      // DiscoveryInfo's, by commas
  std::string_view container = "";  // value of the member; empty: none
  std::string_view networks = R"({"ip_addresses":[{"ip_address":"10.0.0.1"}]})";  // of the status
  std::string_view resources = "[]";                                              // the ports
  std::string_view labels = "";                                                   // by commas
  std::string_view extra = "";    // more members, each with a comma before it
  std::string_view healthy = "";  // true, false or nothing
};

inline std::string status_v0(const TaskText& task) {
  std::string out = R"({"state":"TASK_RUNNING","timestamp":2.5)";
  if (!task.healthy.empty()) out += ",\"healthy\":" + std::string{task.healthy};
  return out + R"(,"container_status":{"network_infos":[)" + std::string{task.networks} + "]}}";
}

inline std::string task_v0(const TaskText& task) {
  const auto text = [](std::string_view value) { return std::string{value}; };
  std::string out = R"({"id":")" + text(task.id) + R"(","name":"web","framework_id":")" +
                    text(task.framework) + R"(","slave_id":")" + text(task.agent) +
                    R"(","state":")" + text(task.state) + R"(","resources":{"cpus":0.1,"ports":")" +
                    text(task.resources) + R"("},"statuses":[)" + status_v0(task) +
                    R"(],"labels":[)" + text(task.labels) +
                    R"(],"discovery":{"name":"web","ports":{"ports":[)" + text(task.ports) + "]}}";
  if (!task.container.empty()) out += ",\"container\":" + text(task.container);
  return out + text(task.extra) + "}";
}

inline constexpr std::string_view kAgentV0 =
    R"({"id":"S0","hostname":"agent0.example","pid":"slave(1)@10.0.0.1:5051"})";

/// A /state of one agent and one framework, "marathon".
inline std::string state_v0(std::string_view tasks, std::string_view agents = kAgentV0) {
  return R"({"pid":"master@10.0.0.9:5050","leader":"master@10.0.0.9:5050","leader_info":{"hostname":"m.example"},"slaves":[)" +
         std::string{agents} +
         R"(],"recovered_slaves":[],"frameworks":[{"id":"F0","name":"marathon","hostname":"h","pid":"scheduler-1@10.0.0.8:8080","tasks":[)" +
         std::string{tasks} + "]}]}";
}

inline std::string task_v1(std::string_view id, std::string_view state,
                           std::string_view agent = "S0", std::string_view framework = "F0") {
  const auto value = [](std::string_view text) {
    return R"({"value":")" + std::string{text} + "\"}";
  };
  return R"({"task_id":)" + value(id) + R"(,"name":"web","framework_id":)" + value(framework) +
         R"(,"agent_id":)" + value(agent) + R"(,"state":")" + std::string{state} +
         R"(","discovery":{"name":"web","ports":{"ports":[{"number":31000,"protocol":"tcp","labels":{"labels":[{"key":"VIP_0","value":"/web:80"}]}}]}}})";
}

inline std::string agent_v1(std::string_view id, std::string_view pid,
                            std::string_view hostname = "agent.example") {
  return R"({"agent_info":{"id":{"value":")" + std::string{id} + R"("},"hostname":")" +
         std::string{hostname} + R"("},"pid":")" + std::string{pid} + "\"}";
}

inline std::string framework_v1(std::string_view id, std::string_view name) {
  return R"({"framework_info":{"id":{"value":")" + std::string{id} + R"("},"name":")" +
         std::string{name} + R"("},"active":false,"connected":false})";
}

inline std::string get_state(std::string_view tasks, std::string_view agents,
                             std::string_view frameworks, std::string_view recovered = "") {
  return R"({"get_tasks":{"tasks":[)" + std::string{tasks} +
         R"(]},"get_executors":{},"get_frameworks":{"frameworks":[)" + std::string{frameworks} +
         R"(]},"get_agents":{"agents":[)" + std::string{agents} + R"(],"recovered_agents":[)" +
         std::string{recovered} + "]}}";
}

inline std::string subscribed(std::string_view state) {
  return R"({"type":"SUBSCRIBED","subscribed":{"get_state":)" + std::string{state} +
         R"(,"heartbeat_interval_seconds":15.0}})";
}

inline std::string task_added(std::string_view task) {
  return R"({"type":"TASK_ADDED","task_added":{"task":)" + std::string{task} + "}}";
}

inline std::string task_updated(std::string_view id, std::string_view state,
                                std::string_view status_members = R"("state":"TASK_RUNNING")",
                                std::string_view framework = "F0") {
  return R"({"type":"TASK_UPDATED","task_updated":{"framework_id":{"value":")" +
         std::string{framework} + R"("},"status":{"task_id":{"value":")" + std::string{id} +
         R"("},)" + std::string{status_members} + R"(},"state":")" + std::string{state} + "\"}}";
}

inline std::string agent_added(std::string_view agent) {
  return R"({"type":"AGENT_ADDED","agent_added":{"agent":)" + std::string{agent} + "}}";
}

inline std::string framework_event(std::string_view type, std::string_view member,
                                   std::string_view framework) {
  return R"({"type":")" + std::string{type} + R"(",")" + std::string{member} +
         R"(":{"framework":)" + std::string{framework} + "}}";
}

inline std::string record(std::string_view json) {
  return std::to_string(json.size()) + "\n" + std::string{json};
}

}  // namespace muster::mesos::testing
