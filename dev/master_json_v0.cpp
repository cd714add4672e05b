#include "dev/master_json.hpp"
#include "dev/master_json_parts.hpp"

namespace muster::dev {

namespace {

constexpr std::string_view kGitSha = "c1b42f79d157aa900be5cbb0c1023f1479962aa7";
constexpr std::string_view kBuildDate = "2026-11-21 21:05:30 UTC";
constexpr double kBuildTime = 1795295130;

void names(JsonWriter& out, std::string_view key, std::initializer_list<std::string_view> list) {
  out.begin_array(key);
  for (const std::string_view name : list) out.text(name);
  out.end_array();
}

void status(JsonWriter& out, const MesosStatus& status) {
  out.begin_object().text("state", to_string(status.state));
  out.number("timestamp", seconds(status.time));
  if (!status.container_id.empty()) {
    out.begin_object("container_status").begin_object("container_id");
    out.text("value", status.container_id).end_object();
    network_infos(out, status.networks);
    out.end_object();
  }
  if (status.healthy) out.boolean("healthy", *status.healthy);
  out.end_object();
}

void slave_info(JsonWriter& out, const MesosAgent& agent) {
  out.text("id", agent.id).text("hostname", agent.hostname).integer("port", agent.port);
  out.begin_object("attributes");
  for (const Label& attribute : agent.attributes) out.text(attribute.key, attribute.value);
  out.end_object();
}

void slave(JsonWriter& out, const Master& master, const Master::AgentRecord& record) {
  const MesosAgent& agent = record.info;
  Allocation uses;
  for (const auto& [id, one] : master.tasks()) {
    if (one.info.agent_id == agent.id) uses.add(one.info);
  }
  const Allocation has{.cpus = agent.cpus, .mem = agent.mem, .disk = agent.disk, .ports = {}};
  const std::vector<PortRange> ports{{.begin = 31000, .end = 32000}};
  out.begin_object();
  slave_info(out, agent);
  out.text("pid", "slave(1)@" + agent.address + ":" + std::to_string(agent.port));
  out.number("registered_time", seconds(record.registered));
  v0_resources(out, "resources", has, ports);
  v0_resources(out, "used_resources", uses, merged(uses.ports));
  v0_resources(out, "offered_resources", {}, {});
  out.begin_object("reserved_resources").end_object();
  v0_resources(out, "unreserved_resources", has, ports);
  out.boolean("active", true).boolean("deactivated", false).text("version", "1.12.0");
  names(out, "capabilities",
        {"MULTI_ROLE", "HIERARCHICAL_ROLE", "RESERVATION_REFINEMENT", "RESOURCE_PROVIDER",
         "RESIZE_VOLUME", "AGENT_OPERATION_FEEDBACK", "AGENT_DRAINING", "TASK_RESOURCE_LIMITS"});
  out.end_object();
}

bool visible(const Master& master, const Master::TaskRecord& task) {
  const auto agent = master.agents().find(task.info.agent_id);
  return agent != master.agents().end() && agent->second.present;
}

void framework(JsonWriter& out, const Master& master) {
  const Master::FrameworkRecord& record = master.framework();
  Allocation uses;
  for (const auto& [id, one] : master.tasks()) {
    if (visible(master, one)) uses.add(one.info);
  }
  out.begin_object().text("id", record.id).text("name", "marathon");
  v0_resources(out, "used_resources", uses, merged(uses.ports));
  v0_resources(out, "offered_resources", {}, {});
  names(out, "capabilities",
        {"PARTITION_AWARE", "TASK_KILLING_STATE", "REGION_AWARE", "MULTI_ROLE"});
  out.text("hostname", "marathon.mesos").text("webui_url", "http://marathon.mesos:8080");
  out.boolean("active", record.active).boolean("connected", record.active);
  out.boolean("recovered", record.recovered).text("user", "root");
  out.number("failover_timeout", 604800).boolean("checkpoint", true);
  out.number("registered_time", seconds(record.registered)).number("unregistered_time", 0);
  out.text("principal", "marathon");
  v0_resources(out, "resources", uses, merged(uses.ports));
  names(out, "roles", {"*"});
  out.begin_array("tasks");
  for (const auto& [id, one] : master.tasks()) {
    if (visible(master, one)) v0_task(out, one, record.id);
  }
  out.end_array().begin_array("unreachable_tasks").end_array().begin_array("completed_tasks");
  for (const auto& one : master.completed()) v0_task(out, one, record.id);
  out.end_array().begin_array("offers").end_array().begin_array("executors").end_array();
  out.begin_object("offer_constraints").end_object().end_object();
}

void identity(JsonWriter& out, const Master& master) {
  const Master::Identity& me = master.identity();
  const std::string pid = "master@" + me.address + ":" + std::to_string(me.port);
  v0_version_members(out);
  out.number("start_time", seconds(master.started()));
  out.number("elected_time", seconds(master.started()));
  out.text("id", master.id()).text("pid", pid).text("hostname", me.address);
  names(out, "capabilities", {"AGENT_UPDATE", "AGENT_DRAINING", "QUOTA_V2"});
  std::size_t present = 0;
  for (const auto& [id, agent] : master.agents()) present += agent.present ? 1 : 0;
  out.number("activated_slaves", static_cast<double>(present));
  out.number("deactivated_slaves", 0).number("unreachable_slaves", 0);
  // Without ZooKeeper leader_info has no address.
  out.text("leader", pid).begin_object("leader_info").text("id", master.id());
  out.text("pid", pid).integer("port", me.port).text("hostname", me.address).end_object();
  out.text("cluster", me.cluster).begin_object("flags");
  out.text("agent_reregister_timeout", "10mins").text("cluster", me.cluster);
  out.text("hostname", me.address).text("ip", me.address).text("port", std::to_string(me.port));
  out.text("quorum", "1").text("work_dir", "/var/lib/mesos").end_object();
}

}  // namespace

void v0_task(JsonWriter& out, const Master::TaskRecord& record, const std::string& framework_id) {
  const MesosTask& info = record.info;
  Allocation uses;
  uses.add(info);
  out.begin_object().text("id", info.id).text("name", info.name);
  out.text("framework_id", framework_id).text("executor_id", "").text("slave_id", info.agent_id);
  out.text("state", to_string(record.state));
  v0_resources(out, "resources", uses, merged(info.ports));
  out.text("role", "*").begin_array("statuses");
  for (const MesosStatus& one : record.statuses) status(out, one);
  out.end_array();
  flat_labels(out, info.labels);
  discovery(out, info);
  if (info.container) container(out, *info.container);
  if (info.health_check) health_check(out, *info.health_check);
  out.end_object();
}

void v0_version_members(JsonWriter& out) {
  out.text("version", "1.12.0").text("git_sha", kGitSha).text("build_date", kBuildDate);
  out.number("build_time", kBuildTime).text("build_user", "root");
}

std::string v0_state(const Master& master) {
  JsonWriter out;
  out.begin_object();
  identity(out, master);
  const bool recovering = master.phase() == MasterPhase::recovering;
  out.begin_array("slaves");
  for (const auto& [id, agent] : master.agents()) {
    if (agent.present) slave(out, master, agent);
  }
  out.end_array().begin_array("recovered_slaves");
  for (const auto& [id, agent] : master.agents()) {
    // The registry has not been read yet while recovering, so nobody is missed.
    if (agent.present || recovering) continue;
    out.begin_object();
    slave_info(out, agent.info);
    out.end_object();
  }
  out.end_array().begin_array("frameworks");
  if (master.framework().known) framework(out, master);
  out.end_array().begin_array("completed_frameworks").end_array();
  out.begin_array("orphan_tasks").end_array().begin_array("unregistered_frameworks").end_array();
  return std::move(out.end_object()).str();
}

std::string v0_version() {
  JsonWriter out;
  out.begin_object().text("build_date", kBuildDate).number("build_time", kBuildTime);
  out.text("build_user", "root").text("git_sha", kGitSha).text("version", "1.12.0");
  return std::move(out.end_object()).str();
}

std::string v1_get_version() {
  JsonWriter out;
  out.begin_object().text("type", "GET_VERSION").begin_object("get_version");
  out.begin_object("version_info").text("version", "1.12.0").text("build_date", kBuildDate);
  out.number("build_time", kBuildTime).text("build_user", "root").text("git_sha", kGitSha);
  return std::move(out.end_object().end_object().end_object()).str();
}

}  // namespace muster::dev
