#include "dev/master_json.hpp"
#include "dev/master_json_parts.hpp"

namespace muster::dev {

namespace {

// The agents' capabilities and the scheduler's, as a Mesos 1.12 agent and a Marathon 1.9 name them.
constexpr std::string_view kAgentCapabilities[] = {
    "MULTI_ROLE",    "HIERARCHICAL_ROLE",        "RESERVATION_REFINEMENT", "RESOURCE_PROVIDER",
    "RESIZE_VOLUME", "AGENT_OPERATION_FEEDBACK", "AGENT_DRAINING",         "TASK_RESOURCE_LIMITS"};
constexpr std::string_view kFrameworkCapabilities[] = {"PARTITION_AWARE", "TASK_KILLING_STATE",
                                                       "REGION_AWARE", "MULTI_ROLE"};

std::string_view reason_name(StatusReason reason) {
  switch (reason) {
    case StatusReason::none:
      return "";
    case StatusReason::health_check_updated:
      return "REASON_TASK_HEALTH_CHECK_STATUS_UPDATED";
    case StatusReason::agent_removed:
      return "REASON_AGENT_REMOVED";
    case StatusReason::framework_removed:
      return "REASON_FRAMEWORK_REMOVED";
  }
  return "";
}

void id(JsonWriter& out, std::string_view key, std::string_view value) {
  out.begin_object(key).text("value", value).end_object();
}

void time(JsonWriter& out, std::string_view key, WallTime value) {
  out.begin_object(key).integer("nanoseconds", value).end_object();
}

void scalars(JsonWriter& out, double cpus, double mem, double disk, ResourceForm form) {
  v1_scalar(out, "cpus", cpus, form);
  v1_scalar(out, "mem", mem, form);
  if (disk > 0) v1_scalar(out, "disk", disk, form);
}

const std::vector<PortRange> kAgentPorts{{.begin = 31000, .end = 32000}};

void status(JsonWriter& out, const MesosTask& task, const MesosStatus& status) {
  out.begin_object();
  id(out, "task_id", task.id);
  out.text("state", to_string(status.state));
  if (!status.message.empty()) out.text("message", status.message);
  out.text("source", status.from_master ? "SOURCE_MASTER" : "SOURCE_EXECUTOR");
  if (status.reason != StatusReason::none) out.text("reason", reason_name(status.reason));
  id(out, "agent_id", task.agent_id);
  // A command task's executor has the task's name, here and nowhere else.
  if (!status.from_master) id(out, "executor_id", task.id);
  out.number("timestamp", seconds(status.time));
  if (!status.uuid.empty()) out.text("uuid", status.uuid);
  if (status.healthy) out.boolean("healthy", *status.healthy);
  if (!status.container_id.empty()) {
    out.begin_object("container_status");
    id(out, "container_id", status.container_id);
    network_infos(out, status.networks);
    if (status.executor_pid > 0) out.integer("executor_pid", status.executor_pid);
    out.end_object();
  }
  out.end_object();
}

void framework_info(JsonWriter& out, const Master::FrameworkRecord& framework) {
  out.begin_object("framework_info").text("user", "root").text("name", "marathon");
  id(out, "id", framework.id);
  out.number("failover_timeout", 604800).boolean("checkpoint", true);
  out.begin_array("roles").text("*").end_array();
  out.text("hostname", "marathon.mesos").text("principal", "marathon");
  out.text("webui_url", "http://marathon.mesos:8080").begin_array("capabilities");
  for (const std::string_view name : kFrameworkCapabilities) {
    out.begin_object().text("type", name).end_object();
  }
  out.end_array().end_object();
}

void framework_state(JsonWriter& out, const Master::FrameworkRecord& framework) {
  framework_info(out, framework);
  out.boolean("active", framework.active).boolean("connected", framework.active);
  out.boolean("recovered", framework.recovered);
  time(out, "registered_time", framework.registered);
  time(out, "reregistered_time", framework.reregistered);
}

void agent_info(JsonWriter& out, const MesosAgent& agent, bool checkpoint) {
  out.text("hostname", agent.hostname).integer("port", agent.port).begin_array("resources");
  scalars(out, agent.cpus, agent.mem, agent.disk, ResourceForm::offered);
  v1_ranges(out, kAgentPorts, ResourceForm::offered);
  out.end_array();
  if (!agent.attributes.empty()) {
    out.begin_array("attributes");
    for (const Label& attribute : agent.attributes) {
      out.begin_object().text("name", attribute.key).text("type", "TEXT");
      out.begin_object("text").text("value", attribute.value).end_object().end_object();
    }
    out.end_array();
  }
  id(out, "id", agent.id);
  // In snapshots only: the event carries what the agent sent, before the master fills it in.
  if (checkpoint) out.boolean("checkpoint", true);
}

void allocated(JsonWriter& out, const Allocation& has) {
  if (has.empty()) return;
  out.begin_array("allocated_resources");
  v1_scalar(out, "cpus", has.cpus, ResourceForm::allocated);
  v1_scalar(out, "mem", has.mem, ResourceForm::allocated);
  v1_ranges(out, merged(has.ports), ResourceForm::allocated);
  if (has.disk > 0) v1_scalar(out, "disk", has.disk, ResourceForm::allocated);
  out.end_array();
}

/// `uses` is nothing in an event.
void agent(JsonWriter& out, const Master::AgentRecord& record, const Allocation* uses) {
  const MesosAgent& info = record.info;
  out.begin_object("agent_info");
  agent_info(out, info, uses != nullptr);
  out.end_object().boolean("active", true).boolean("deactivated", false);
  out.text("version", "1.12.0");
  out.text("pid", "slave(1)@" + info.address + ":" + std::to_string(info.port));
  time(out, "registered_time", record.registered);
  out.begin_array("total_resources");
  scalars(out, info.cpus, info.mem, info.disk, ResourceForm::total);
  v1_ranges(out, kAgentPorts, ResourceForm::total);
  out.end_array();
  if (uses != nullptr) allocated(out, *uses);
  out.begin_array("capabilities");
  for (const std::string_view name : kAgentCapabilities) {
    out.begin_object().text("type", name).end_object();
  }
  out.end_array();
}

bool visible(const Master& master, const Master::TaskRecord& task) {
  const auto agent = master.agents().find(task.info.agent_id);
  return agent != master.agents().end() && agent->second.present;
}

void tasks_member(JsonWriter& out, const Master& master) {
  out.begin_object("get_tasks").begin_array("tasks");
  for (const auto& [key, record] : master.tasks()) {
    if (visible(master, record)) v1_task(out, record, master.framework_id(), true);
  }
  out.end_array().begin_array("unreachable_tasks").end_array().begin_array("completed_tasks");
  for (const auto& record : master.completed()) v1_task(out, record, master.framework_id(), true);
  out.end_array().end_object();
}

void frameworks_member(JsonWriter& out, const Master& master) {
  out.begin_object("get_frameworks").begin_array("frameworks");
  if (master.framework().known) {
    Allocation uses;
    for (const auto& [key, record] : master.tasks()) {
      if (visible(master, record)) uses.add(record.info);
    }
    out.begin_object();
    framework_state(out, master.framework());
    allocated(out, uses);
    out.begin_object("offer_constraints").end_object().end_object();
  }
  out.end_array().begin_array("completed_frameworks").end_array().end_object();
}

void agents_member(JsonWriter& out, const Master& master) {
  out.begin_object("get_agents").begin_array("agents");
  for (const auto& [key, record] : master.agents()) {
    if (!record.present) continue;
    Allocation uses;
    for (const auto& [task_id, task] : master.tasks()) {
      if (task.info.agent_id == key) uses.add(task.info);
    }
    out.begin_object();
    agent(out, record, &uses);
    out.end_object();
  }
  out.end_array().begin_array("recovered_agents");
  for (const auto& [key, record] : master.agents()) {
    if (record.present) continue;
    out.begin_object();
    agent_info(out, record.info, true);
    out.end_object();
  }
  out.end_array().end_object();
}

void state_member(JsonWriter& out, const Master& master) {
  out.begin_object("get_state");
  tasks_member(out, master);
  out.begin_object("get_executors").begin_array("executors").end_array().end_object();
  frameworks_member(out, master);
  agents_member(out, master);
  out.end_object();
}

JsonWriter open(std::string_view type) {
  JsonWriter out;
  out.begin_object().text("type", type);
  return out;
}

template <class... Arguments>
std::string answer(std::string_view type, void (*member)(JsonWriter&, Arguments...),
                   Arguments... arguments) {
  JsonWriter out = open(type);
  member(out, arguments...);
  return std::move(out.end_object()).str();
}

std::string framework_event(std::string_view type, std::string_view member,
                            const Master::FrameworkRecord& framework) {
  JsonWriter out = open(type);
  out.begin_object(member).begin_object("framework");
  framework_state(out, framework);
  time(out, "unregistered_time", 0);
  return std::move(out.end_object().end_object().end_object()).str();
}

}  // namespace

/// `with_update`: GET_STATE names the last update again, events do not.
void v1_task(JsonWriter& out, const Master::TaskRecord& record, const std::string& framework_id,
             bool with_update) {
  const MesosTask& info = record.info;
  out.begin_object().text("name", info.name);
  id(out, "task_id", info.id);
  id(out, "framework_id", framework_id);
  id(out, "agent_id", info.agent_id);
  out.text("state", to_string(record.state)).begin_array("resources");
  scalars(out, info.cpus, info.mem, info.disk, ResourceForm::task);
  std::vector<PortRange> ports;  // not merged: one range per port, as the scheduler asked
  for (const std::uint16_t port : info.ports) ports.push_back({.begin = port, .end = port});
  v1_ranges(out, ports, ResourceForm::task);
  out.end_array();
  if (!record.statuses.empty()) {
    out.begin_array("statuses");
    for (const MesosStatus& one : record.statuses) status(out, info, one);
    out.end_array();
    if (const MesosStatus& last = record.statuses.back(); with_update && !last.uuid.empty()) {
      out.text("status_update_state", to_string(last.state));
      out.text("status_update_uuid", last.uuid);
    }
  }
  nested_labels(out, info.labels);
  discovery(out, info);
  if (info.container) container(out, *info.container);
  if (info.health_check) health_check(out, *info.health_check);
  out.end_object();
}

std::string v1_agent_get_state(const Master& master, const std::string& agent_id) {
  JsonWriter out = open("GET_STATE");
  out.begin_object("get_state").begin_object("get_tasks");
  out.begin_array("pending_tasks").end_array();
  const auto write = [&](std::string_view key, const std::vector<const Master::TaskRecord*>& all) {
    out.begin_array(key);
    for (const auto* record : all) v1_task(out, *record, master.framework_id(), true);
    out.end_array();
  };
  write("queued_tasks", master.tasks_on(agent_id, true));
  write("launched_tasks", master.tasks_on(agent_id, false));
  out.begin_array("terminated_tasks").end_array();
  write("completed_tasks", master.ended_on(agent_id));
  out.end_object().begin_object("get_executors").begin_array("executors").end_array();
  out.begin_array("completed_executors").end_array().end_object();
  out.begin_object("get_frameworks").begin_array("frameworks");
  if (!master.tasks_on(agent_id, false).empty()) {
    out.begin_object();
    framework_info(out, master.framework());
    out.end_object();
  }
  out.end_array().begin_array("completed_frameworks").end_array().end_object();
  return std::move(out.end_object().end_object()).str();
}

std::string v1_agent_get_agent(const MesosAgent& agent) {
  JsonWriter out = open("GET_AGENT");
  out.begin_object("get_agent").begin_object("agent_info");
  agent_info(out, agent, false);
  return std::move(out.end_object().end_object().end_object()).str();
}

std::string v1_get_state(const Master& master) {
  return answer<const Master&>("GET_STATE", state_member, master);
}
std::string v1_get_tasks(const Master& master) {
  return answer<const Master&>("GET_TASKS", tasks_member, master);
}
std::string v1_get_agents(const Master& master) {
  return answer<const Master&>("GET_AGENTS", agents_member, master);
}
std::string v1_get_frameworks(const Master& master) {
  return answer<const Master&>("GET_FRAMEWORKS", frameworks_member, master);
}

std::string v1_get_health() {
  return R"({"type":"GET_HEALTH","get_health":{"healthy":true}})";
}

std::string event_subscribed(const Master& master, double heartbeat_seconds) {
  JsonWriter out = open("SUBSCRIBED");
  out.begin_object("subscribed");
  state_member(out, master);
  out.number("heartbeat_interval_seconds", heartbeat_seconds).end_object();
  return std::move(out.end_object()).str();
}

std::string event_heartbeat() {
  return R"({"type":"HEARTBEAT"})";
}

std::string event_agent_added(const Master::AgentRecord& record) {
  JsonWriter out = open("AGENT_ADDED");
  out.begin_object("agent_added").begin_object("agent");
  agent(out, record, nullptr);
  return std::move(out.end_object().end_object().end_object()).str();
}

std::string event_agent_removed(const std::string& agent_id) {
  JsonWriter out = open("AGENT_REMOVED");
  out.begin_object("agent_removed");
  id(out, "agent_id", agent_id);
  return std::move(out.end_object().end_object()).str();
}

std::string event_framework_added(const Master::FrameworkRecord& framework) {
  return framework_event("FRAMEWORK_ADDED", "framework_added", framework);
}

std::string event_framework_updated(const Master::FrameworkRecord& framework) {
  return framework_event("FRAMEWORK_UPDATED", "framework_updated", framework);
}

std::string event_framework_removed(const Master::FrameworkRecord& framework) {
  JsonWriter out = open("FRAMEWORK_REMOVED");
  out.begin_object("framework_removed");
  framework_info(out, framework);
  return std::move(out.end_object().end_object()).str();
}

std::string event_task_added(const Master::TaskRecord& record, const std::string& framework_id) {
  JsonWriter inner;
  v1_task(inner, record, framework_id, false);
  JsonWriter out = open("TASK_ADDED");
  out.begin_object("task_added").raw("task", inner.str());
  return std::move(out.end_object().end_object()).str();
}

std::string event_task_updated(const Master::TaskRecord& record, const MesosStatus& update,
                               const std::string& framework_id) {
  JsonWriter inner;
  status(inner, record.info, update);
  JsonWriter out = open("TASK_UPDATED");
  out.begin_object("task_updated");
  id(out, "framework_id", framework_id);
  out.raw("status", inner.str()).text("state", to_string(record.state));
  return std::move(out.end_object().end_object()).str();
}

}  // namespace muster::dev
