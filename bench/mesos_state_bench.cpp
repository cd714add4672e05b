// Takes in a synthetic cluster, as /state or as a SUBSCRIBED event (v1), then events, and prints
// one JSON object. `floor` is simdjson alone on the same text.
// Usage: mesos_state_bench [tasks] [v0|v1|floor]
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <simdjson.h>
#include <string>
#include <string_view>
#include <sys/resource.h>

#include "mesos/core/master_state.hpp"

namespace {

using namespace muster;
using namespace muster::mesos;

constexpr std::size_t kTasksPerAgent = 50;
constexpr std::size_t kFrameworks = 5;

std::string number(std::size_t n) {
  std::string digits = std::to_string(n);
  return std::string(digits.size() < 6 ? 6 - digits.size() : 0, '0') + digits;
}

std::string agent_id(std::size_t agent) {
  return "6e1bfc9a-93f4-4bd8-9ae1-0d3a0a0c93d4-S" + std::to_string(agent);
}
std::string framework_id(std::size_t framework) {
  return "6e1bfc9a-93f4-4bd8-9ae1-0d3a0a0c93d4-000" + std::to_string(framework);
}
std::string agent_ip(std::size_t agent) {
  return "10." + std::to_string(agent / 65536) + '.' + std::to_string(agent / 256 % 256) + '.' +
         std::to_string(agent % 256);
}
std::string task_ip(std::size_t task) {
  return "9." + std::to_string(task / 65536 % 256) + '.' + std::to_string(task / 256 % 256) + '.' +
         std::to_string(task % 256);
}

std::string discovery(std::size_t task) {
  return R"("discovery":{"visibility":"FRAMEWORK","name":"app)" + number(task / 4) +
         R"(.group","ports":{"ports":[{"number":8080,"name":"http","protocol":"tcp","labels":{"labels":[{"key":"VIP_0","value":"/group/app)" +
         number(task / 4) +
         R"(:80"},{"key":"network-scope","value":"container"},{"key":"network-name","value":"dcos"}]}}]}},"container":{"type":"MESOS","mesos":{"image":{"type":"DOCKER","docker":{"name":"registry.example.com/group/app:1.2.3"}}},"network_infos":[{"name":"dcos","labels":{"labels":[{"key":"k","value":"v"}]}}]})";
}

std::string status(std::size_t task, std::string_view state, std::string_view extra) {
  return R"({"state":")" + std::string{state} + R"(","timestamp":1700000000.12345,)" +
         std::string{extra} +
         R"("container_status":{"container_id":{"value":"0b1a3f10-89d1-4f0a-a5f5-)" + number(task) +
         R"(abcdef"},"network_infos":[{"name":"dcos","ip_addresses":[{"protocol":"IPv4","ip_address":")" +
         task_ip(task) + R"("}]}]}})";
}

std::string v0_task(std::size_t task) {
  const std::size_t agent = task / kTasksPerAgent;
  return R"({"id":"group_app)" + number(task / 4) + ".instance-0ef76549-2630-11e8-af52-" +
         number(task) + R"(._app.1","name":"app)" + number(task / 4) +
         R"(.group","framework_id":")" + framework_id(task % kFrameworks) +
         R"(","executor_id":"","slave_id":")" + agent_id(agent) +
         R"(","state":"TASK_RUNNING","resources":{"cpus":0.1,"gpus":0,"mem":128.0,"disk":0,"ports":"[)" +
         std::to_string(31000 + task % 1000) + '-' + std::to_string(31000 + task % 1000) +
         R"(]"},"role":"slave_public","statuses":[)" + status(task, "TASK_STARTING", "") + ',' +
         status(task, "TASK_RUNNING", "\"healthy\":true,") +
         R"(],"health_check":{"type":"HTTP","http":{"port":8080,"path":"/health"}},)" +
         discovery(task) + '}';
}

std::string v1_task(std::size_t task) {
  const std::size_t agent = task / kTasksPerAgent;
  const std::string extra =
      R"("source":"SOURCE_EXECUTOR","uuid":"CuSfx+sKT7iG1+N1sqjNbg==","agent_id":{"value":")" +
      agent_id(agent) + "\"},";
  return R"({"task_id":{"value":"group_app)" + number(task / 4) +
         ".instance-0ef76549-2630-11e8-af52-" + number(task) + R"(._app.1"},"name":"app)" +
         number(task / 4) + R"(.group","framework_id":{"value":")" +
         framework_id(task % kFrameworks) + R"("},"agent_id":{"value":")" + agent_id(agent) +
         R"("},"state":"TASK_RUNNING","status_update_state":"TASK_RUNNING","resources":[{"name":"cpus","type":"SCALAR","scalar":{"value":0.1},"allocation_info":{"role":"slave_public"}},{"name":"mem","type":"SCALAR","scalar":{"value":128.0},"allocation_info":{"role":"slave_public"}},{"name":"ports","type":"RANGES","ranges":{"range":[{"begin":)" +
         std::to_string(31000 + task % 1000) + R"(,"end":)" + std::to_string(31000 + task % 1000) +
         R"(}]}}],"statuses":[)" + status(task, "TASK_STARTING", extra) + ',' +
         status(task, "TASK_RUNNING", extra + "\"healthy\":true,") +
         R"(],"health_check":{"type":"HTTP","http":{"port":8080,"path":"/health"}},)" +
         discovery(task) + '}';
}

std::string v0_state(std::size_t tasks) {
  std::string out;
  out.reserve(tasks * 1500 + 100'000);
  out += R"({"version":"1.11.0","leader":"master@10.0.0.1:5050","slaves":[)";
  for (std::size_t agent = 0; agent * kTasksPerAgent < tasks; ++agent) {
    if (agent > 0) out += ',';
    out += R"({"id":")" + agent_id(agent) + R"(","hostname":")" + agent_ip(agent) +
           R"(","pid":"slave(1)@)" + agent_ip(agent) + R"(:5051","active":true})";
  }
  out += R"(],"recovered_slaves":[],"frameworks":[)";
  for (std::size_t framework = 0; framework < kFrameworks; ++framework) {
    if (framework > 0) out += ',';
    out += R"({"id":")" + framework_id(framework) + R"(","name":"marathon)" +
           std::to_string(framework) + R"(","hostname":"10.0.0.1","tasks":[)";
    for (std::size_t task = framework; task < tasks; task += kFrameworks) {
      if (task != framework) out += ',';
      out += v0_task(task);
    }
    out += "]}";
  }
  out += "]}";
  return out;
}

std::string v1_subscribed(std::size_t tasks) {
  std::string out;
  out.reserve(tasks * 2000 + 100'000);
  out += R"({"type":"SUBSCRIBED","subscribed":{"get_state":{"get_tasks":{"tasks":[)";
  for (std::size_t task = 0; task < tasks; ++task) {
    if (task > 0) out += ',';
    out += v1_task(task);
  }
  out += R"(]},"get_executors":{},"get_frameworks":{"frameworks":[)";
  for (std::size_t framework = 0; framework < kFrameworks; ++framework) {
    if (framework > 0) out += ',';
    out += R"({"framework_info":{"id":{"value":")" + framework_id(framework) +
           R"("},"name":"marathon)" + std::to_string(framework) + R"("},"active":true})";
  }
  out += R"(]},"get_agents":{"agents":[)";
  for (std::size_t agent = 0; agent * kTasksPerAgent < tasks; ++agent) {
    if (agent > 0) out += ',';
    out += R"({"agent_info":{"id":{"value":")" + agent_id(agent) + R"("},"hostname":")" +
           agent_ip(agent) + R"("},"pid":"slave(1)@)" + agent_ip(agent) + R"(:5051"})";
  }
  out += "]}}}}";
  return out;
}

double peak_rss() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return static_cast<double>(usage.ru_maxrss) * 1024 / 1e6;
}

double cpu_seconds() {
  return static_cast<double>(std::clock()) / static_cast<double>(CLOCKS_PER_SEC);
}

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

/// What simdjson alone takes to walk the same text into its own tree: the floor.
double raw_parse_cpu(const std::string& body) {
  simdjson::dom::parser parser;
  const double before = cpu_seconds();
  const bool good = parser.parse(body).error() == simdjson::SUCCESS;
  return good ? cpu_seconds() - before : 0;
}

struct Events {
  double each_us = 0;
  double worst_us = 0;
  std::size_t changes = 0;
};

Events run_events(MasterState& state, const Observation& observation) {
  constexpr std::size_t count = 10'000;
  Events out;
  Problems problems;
  const auto start = Clock::now();
  for (std::size_t i = 0; i < count; ++i) {
    const Task& task = observation.tasks[i * 7919 % observation.tasks.size()];
    const std::string event =
        R"({"type":"TASK_UPDATED","task_updated":{"framework_id":{"value":")" +
        task.framework_id.str() + R"("},"status":{"task_id":{"value":")" + task.id.str() +
        R"("},"state":"TASK_RUNNING","healthy":)" +
        (i / observation.tasks.size() % 2 == 0 ? "false" : "true") +
        R"(},"state":"TASK_RUNNING"}})";
    const auto begun = Clock::now();
    const auto result = state.apply_event(event, begun, problems);
    out.worst_us = std::max(out.worst_us, seconds_since(begun) * 1e6);
    if (result && !result->tasks.empty()) ++out.changes;
  }
  out.each_us = seconds_since(start) * 1e6 / static_cast<double>(count);
  return out;
}

Result<Snapshot, ParseError> taken_in(std::string body, bool v1) {
  if (!v1) return consume_state(std::move(body));
  auto event = consume_event(std::move(body));
  if (!event) return event.error();
  if (auto* snapshot = std::get_if<Snapshot>(&event->content)) return std::move(*snapshot);
  return ParseError::unexpected_shape;
}

int run(std::string body, bool v1) {
  const std::size_t octets = body.size();
  const double before = peak_rss();
  const double cpu_before = cpu_seconds();
  auto start = Clock::now();
  auto snapshot = taken_in(std::move(body), v1);
  const double parse = seconds_since(start);
  const double cpu = cpu_seconds() - cpu_before;
  if (!snapshot || !snapshot->problems.empty()) {
    std::fprintf(stderr, "the synthetic state was refused\n");
    return 1;
  }
  MasterState state;
  start = Clock::now();
  const Observation observation = state.take(*snapshot, Clock::now());
  const double take = seconds_since(start);
  const double peak = peak_rss();
  const Events events = run_events(state, observation);
  std::printf(
      R"({"tasks":%zu,"octets":%zu,"parse_s":%.4f,"parse_cpu_s":%.4f,"take_s":%.6f,)"
      R"("before_mb":%.1f,"peak_mb":%.1f,"event_us":%.2f,"worst_event_us":%.1f,"changes":%zu})"
      "\n",
      observation.tasks.size(), octets, parse, cpu, take, before, peak, events.each_us,
      events.worst_us, events.changes);
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  const std::size_t tasks =
      argc > 1 ? static_cast<std::size_t>(std::strtoull(argv[1], nullptr, 10)) : 100'000;
  const std::string_view which = argc > 2 ? argv[2] : "v0";
  if (which == "floor") {
    const std::string body = v0_state(tasks);
    std::printf("{\"tasks\":%zu,\"octets\":%zu,\"parse_cpu_s\":%.4f}\n", tasks, body.size(),
                raw_parse_cpu(body));
    return 0;
  }
  return which == "v1" ? run(v1_subscribed(tasks), true) : run(v0_state(tasks), false);
}
