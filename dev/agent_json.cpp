#include "dev/master_json.hpp"
#include "dev/master_json_parts.hpp"

// An agent's /state.
namespace muster::dev {

namespace {

constexpr std::string_view kCapabilities[] = {
    "MULTI_ROLE",    "HIERARCHICAL_ROLE",        "RESERVATION_REFINEMENT", "RESOURCE_PROVIDER",
    "RESIZE_VOLUME", "AGENT_OPERATION_FEEDBACK", "AGENT_DRAINING",         "TASK_RESOURCE_LIMITS"};

using Records = std::vector<const Master::TaskRecord*>;

/// A command task's executor has the task's name; its container's is in the statuses.
void executor(JsonWriter& out, const Master& master, const Master::TaskRecord& record,
              std::string_view list) {
  Allocation uses;
  uses.add(record.info);
  const std::string container =
      record.statuses.empty() ? std::string{} : record.statuses.back().container_id;
  out.begin_object().text("id", record.info.id);
  out.text("name", "Command Executor (Task: " + record.info.id + ")");
  out.text("source", record.info.id).text("container", container);
  out.text("directory", "/var/lib/mesos/slaves/" + record.info.agent_id + "/frameworks/" +
                            master.framework_id() + "/executors/" + record.info.id + "/runs/" +
                            container);
  v0_resources(out, "resources", uses, merged(uses.ports));
  out.text("role", "*");
  for (const std::string_view key : {"tasks", "queued_tasks", "completed_tasks"}) {
    out.begin_array(key);
    if (key == list) v0_task(out, record, master.framework_id());
    out.end_array();
  }
  out.end_object();
}

void framework(JsonWriter& out, const Master& master, const std::string& agent_id) {
  out.begin_object().text("id", master.framework_id()).text("name", "marathon");
  out.text("user", "root").number("failover_timeout", 604800).boolean("checkpoint", true);
  out.text("hostname", "marathon.mesos").text("principal", "marathon");
  out.begin_array("roles").text("*").end_array().begin_array("executors");
  for (const auto* task : master.tasks_on(agent_id, false)) executor(out, master, *task, "tasks");
  for (const auto* task : master.tasks_on(agent_id, true)) {
    executor(out, master, *task, "queued_tasks");
  }
  out.end_array().begin_array("completed_executors");
  for (const auto* task : master.ended_on(agent_id)) {
    executor(out, master, *task, "completed_tasks");
  }
  out.end_array().end_object();
}

}  // namespace

std::string v0_agent_state(const Master& master, const MesosAgent& agent, WallTime started) {
  JsonWriter out;
  out.begin_object();
  v0_version_members(out);
  out.number("start_time", seconds(started)).text("id", agent.id);
  out.text("pid", "slave(1)@" + agent.address + ":" + std::to_string(agent.port));
  out.text("hostname", agent.hostname).begin_array("capabilities");
  for (const std::string_view name : kCapabilities) out.text(name);
  out.end_array();
  const Allocation has{.cpus = agent.cpus, .mem = agent.mem, .disk = agent.disk, .ports = {}};
  const std::vector<PortRange> ports{{.begin = 31000, .end = 32000}};
  Allocation uses;
  for (const auto* task : master.tasks_on(agent.id, false)) uses.add(task->info);
  v0_resources(out, "resources", has, ports);
  out.begin_object("reserved_resources").end_object();
  v0_resources(out, "unreserved_resources", has, ports);
  out.begin_object("reserved_resources_full").end_object();
  out.begin_array("unreserved_resources_full");
  v1_scalar(out, "cpus", agent.cpus, ResourceForm::total);
  v1_scalar(out, "mem", agent.mem, ResourceForm::total);
  v1_scalar(out, "disk", agent.disk, ResourceForm::total);
  v1_ranges(out, ports, ResourceForm::total);
  out.end_array().begin_object("reserved_resources_allocated").end_object();
  v0_resources(out, "unreserved_resources_allocated", uses, merged(uses.ports));
  out.begin_array("resource_providers").end_array().begin_object("attributes");
  for (const Label& attribute : agent.attributes) out.text(attribute.key, attribute.value);
  out.end_object().text("master_hostname", master.identity().address);
  out.begin_object("flags").text("hostname", agent.hostname).text("ip", agent.address);
  out.text("port", std::to_string(agent.port)).text("work_dir", "/var/lib/mesos").end_object();
  out.begin_array("frameworks");
  const bool any = !master.tasks_on(agent.id, false).empty() ||
                   !master.tasks_on(agent.id, true).empty() || !master.ended_on(agent.id).empty();
  if (any) framework(out, master, agent.id);
  out.end_array().begin_array("completed_frameworks").end_array();
  return std::move(out.end_object()).str();
}

}  // namespace muster::dev
