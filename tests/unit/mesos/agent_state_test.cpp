#include "mesos/core/agent_state.hpp"

#include <algorithm>
#include <fstream>
#include <iterator>
#include <string>

#include <doctest/doctest.h>

#include "cluster_text.hpp"

using namespace muster;
using namespace muster::mesos;
using namespace muster::mesos::testing;

namespace {

const std::string kAsked = "10.9.9.9";

Snapshot parse(const std::string& json) {
  auto snapshot = parse_agent_state(json, IpAddress::parse(kAsked));
  REQUIRE(snapshot.has_value());
  return std::move(*snapshot);
}

std::string recorded(const std::string& name) {
  std::ifstream in{std::string{MUSTER_SOURCE_DIR} + "/tests/fixtures/dev/" + name,
                   std::ios::binary};
  REQUIRE(in.good());
  return {std::istreambuf_iterator<char>{in}, {}};
}

struct AgentText {
  std::string tasks = "";      // of an executor that runs
  std::string queued = "";     // of the same
  std::string completed = "";  // of the same
  std::string over = "";       // of an executor that has ended
  std::string gone = "";       // of a framework that has ended
  std::string id = "\"S0\"";
  std::string pid = "\"slave(1)@10.0.0.1:5051\"";
};

std::string agent_v0(const AgentText& text) {
  const auto executor = [](const std::string& tasks, const std::string& queued,
                           const std::string& completed) {
    return R"([{"id":"e","tasks":[)" + tasks + R"(],"queued_tasks":[)" + queued +
           R"(],"completed_tasks":[)" + completed + "]}]";
  };
  return R"({"version":"1.12.0","id":)" + text.id + R"(,"pid":)" + text.pid +
         R"(,"hostname":"agent0.example","frameworks":[{"id":"F0","name":"marathon","executors":)" +
         executor(text.tasks, text.queued, text.completed) + R"(,"completed_executors":)" +
         executor(text.over, "", "") +
         R"(}],"completed_frameworks":[{"id":"F9","name":"old","executors":[],"completed_executors":)" +
         executor("", "", text.gone) + "}]}";
}

std::string agent_get_state(const std::string& launched, const std::string& terminated = "",
                            const std::string& completed = "") {
  return R"({"type":"GET_STATE","get_state":{"get_tasks":{"pending_tasks":[],"queued_tasks":[)" +
         task_v1("queued", "TASK_STAGING") + R"(],"launched_tasks":[)" + launched +
         R"(],"terminated_tasks":[)" + terminated + R"(],"completed_tasks":[)" + completed +
         R"(]},"get_executors":{},"get_frameworks":{"frameworks":[)" +
         framework_v1("F0", "marathon") + "]}}}";
}

std::string get_agent(const std::string& id, const std::string& hostname = "agent0.example") {
  return R"({"type":"GET_AGENT","get_agent":{"agent_info":{"hostname":")" + hostname +
         R"(","port":5051)" + (id.empty() ? "" : R"(,"id":{"value":")" + id + "\"}") + "}}}";
}

const Task& named(const Snapshot& snapshot, const std::string& start) {
  const auto& tasks = snapshot.observation.tasks;
  const auto found = std::find_if(tasks.begin(), tasks.end(), [&](const Task& task) {
    return task.id.str().starts_with(start);
  });
  REQUIRE(found != tasks.end());
  return *found;
}

std::vector<std::string> ends(const Snapshot& snapshot) {
  std::vector<std::string> ids;
  for (const TaskGone& gone : snapshot.observation.tasks_gone) {
    CHECK(gone.reason == GoneReason::terminal);
    ids.push_back(gone.key.task.str());
  }
  return ids;
}

std::string endpoint_of(const Task& task) {
  REQUIRE(task.ports.size() == 1);
  REQUIRE_FALSE(task.ports[0].endpoints.empty());
  return to_string(task.ports[0].endpoints[0]);
}

}  // namespace

TEST_SUITE_BEGIN("mesos/core/agent_state");

TEST_CASE("an agent's state that is none is refused as a whole") {
  for (const char* text : {"", "null", "[]", "{", "{\"frameworks\":[", "{} x", "404 Not Found."}) {
    CAPTURE(text);
    CHECK(parse_agent_state(text, {}).error() == ParseError::not_json);
    CHECK(parse_agent_get_state(text, get_agent("S0"), {}).error() == ParseError::not_json);
    CHECK(parse_agent_get_state(agent_get_state(""), text, {}).error() == ParseError::not_json);
  }
  CHECK(parse_agent_state("{}", {}).error() == ParseError::unexpected_shape);
  CHECK(parse_agent_state(state_v0(task_v0({})), {}).error() == ParseError::unexpected_shape);
  CHECK(parse_agent_get_state("{}", get_agent("S0"), {}).error() == ParseError::unexpected_shape);
  CHECK(parse_agent_get_state(R"({"get_state":[]})", get_agent("S0"), {}).error() ==
        ParseError::unexpected_shape);
  CHECK(parse_agent_get_state(agent_get_state(""), R"({"get_agent":7})", {}).error() ==
        ParseError::unexpected_shape);
}

TEST_CASE("only what an agent has launched and not ended runs, and every end is an explicit one") {
  const Snapshot snapshot = parse(agent_v0({
      .tasks = task_v0({.id = "runs"}) + "," + task_v0({.id = "ends", .state = "TASK_LOST"}),
      .queued = task_v0({.id = "queued", .state = "TASK_STAGING"}),
      .completed = task_v0({.id = "done", .state = "TASK_FINISHED"}),
      .over = task_v0({.id = "over", .state = "TASK_RUNNING"}),
      .gone = R"({"id":"old","framework_id":"F9"})",
  }));
  REQUIRE(snapshot.observation.snapshot);
  REQUIRE(snapshot.observation.tasks.size() == 1);
  CHECK(snapshot.observation.tasks[0].id.str() == "runs");
  CHECK(snapshot.observation.tasks[0].framework_name == "marathon");
  CHECK(ends(snapshot) == std::vector<std::string>{"done", "ends", "over", "old"});
  REQUIRE(snapshot.observation.agents.size() == 1);
  CHECK(snapshot.observation.agents[0].id.str() == "S0");
  CHECK(snapshot.observation.frameworks.size() == 1);
  CHECK_FALSE(snapshot.observation.masters.has_value());
  CHECK_FALSE(snapshot.observation.recovering);
}

TEST_CASE("the operator API says the same as the state") {
  const auto snapshot = parse_agent_get_state(
      agent_get_state(task_v1("runs", "TASK_RUNNING"), task_v1("ends", "TASK_FAILED"),
                      task_v1("done", "TASK_RUNNING")),
      get_agent("S0"), IpAddress::parse(kAsked));
  REQUIRE(snapshot.has_value());
  REQUIRE(snapshot->observation.tasks.size() == 1);
  CHECK(snapshot->observation.tasks[0].id.str() == "runs");
  CHECK(ends(*snapshot) == std::vector<std::string>{"done", "ends"});
  // Without a pid, and with a hostname that is no address: where it was asked.
  CHECK(endpoint_of(snapshot->observation.tasks[0]) == kAsked + ":31000");
}

TEST_CASE("an agent that no master has accepted yet says nothing of itself") {
  CHECK(parse(agent_v0({.id = "\"\""})).observation.agents.empty());
  const auto snapshot = parse_agent_get_state(agent_get_state(""), get_agent(""), {});
  REQUIRE(snapshot.has_value());
  CHECK(snapshot->observation.agents.empty());
  CHECK(snapshot->problems.empty());
}

TEST_CASE(
    "what is wrong with one task costs that one, and another agent's task is not this one's") {
  const Snapshot snapshot = parse(agent_v0({
      .tasks = R"(5,null,{"id":7},{"id":"x","framework_id":"F0"},)" +
               task_v0({.id = "stranger", .agent = "S1"}) + "," +
               task_v0({.id = "odd", .resources = "[70000-1]"}) + "," + task_v0({.id = "good"}),
      .completed = R"(5,{"id":""},{"framework_id":"F0"})",
  }));
  REQUIRE(snapshot.observation.tasks.size() == 2);
  CHECK(named(snapshot, "good").id.str() == "good");
  CHECK(named(snapshot, "odd").host_ports.empty());
  CHECK(snapshot.observation.tasks_gone.empty());
  CHECK(snapshot.problems.kept().size() >= 6);
}

TEST_CASE("hostile members neither stop the rest nor are believed") {
  for (const char* members :
       {R"("executors":5)", R"("executors":[5,{"tasks":{}},{"tasks":[[]]}])",
        R"("executors":[{"tasks":null,"completed_tasks":7}],"completed_executors":"x")"}) {
    CAPTURE(members);
    const std::string json =
        R"({"id":"S0","pid":"slave(1)@10.0.0.1:5051","hostname":"h","completed_frameworks":3,"frameworks":[{"id":"F0","name":"m",)" +
        std::string{members} + R"(},7,{"id":"F1","name":"n","executors":[{"tasks":[)" +
        task_v0({.id = "good", .framework = "F1"}) + "]}]}]}";
    CHECK(parse(json).observation.tasks.size() == 1);
  }
  CHECK(parse(agent_v0({.id = "7"})).observation.agents.empty());
  std::string deep(200'000, '[');
  CHECK(parse_agent_state("{\"frameworks\":" + deep, {}).has_error());
}

TEST_CASE("containers are where they are: own addresses, pods, mapped ports, the host's network") {
  const Snapshot cni = parse(recorded("agent-state-containers.json"));
  CHECK(cni.problems.empty());
  CHECK(cni.observation.tasks.size() == 6);
  CHECK(endpoint_of(named(cni, "net1.")) == "9.0.1.2:8080");
  CHECK(endpoint_of(named(cni, "net2.")) == "9.0.1.4:9090");     // of the network its port names
  CHECK(endpoint_of(named(cni, "mapped.")) == "9.0.1.1:31005");  // the agent's, mapped
  CHECK(named(cni, "mapped.").ports[0].container_port == Port::from(8080));
  CHECK(endpoint_of(named(cni, "host.")) == "9.0.1.1:31006");
  const Task& one = named(cni, "pod.instance-d944560a-e5f8-11f1-ab80-ba3aa71148bd.c1");
  const Task& two = named(cni, "pod.instance-d944560a-e5f8-11f1-ab80-ba3aa71148bd.c2");
  CHECK(endpoint_of(one) == "9.0.1.6:8081");
  CHECK(endpoint_of(two) == "9.0.1.6:8082");
  // Docker's bridge: the mapping is docker's, and the agent's port is the way in.
  const Snapshot docker = parse(agent_v0(
      {.tasks = task_v0({
           .id = "bridged",
           .ports =
               R"({"number":8080,"protocol":"tcp","labels":{"labels":[{"key":"VIP_0","value":"/b:80"}]}})",
           .container =
               R"({"type":"DOCKER","docker":{"image":"i","network":"BRIDGE","port_mappings":[{"host_port":31010,"container_port":8080,"protocol":"tcp"}]}})",
           .networks = R"({"ip_addresses":[{"ip_address":"172.17.0.2"}]})",
           .resources = "[31010-31010]",
       })}));
  CHECK(endpoint_of(named(docker, "bridged")) == "10.0.0.1:31010");
  CHECK(named(docker, "bridged").addresses.front().to_string() == "172.17.0.2");
}

TEST_CASE("a real agent's state and its operator API tell of the same tasks") {
  for (const char* which : {"steady", "containers"}) {
    CAPTURE(which);
    const Snapshot v0 = parse(recorded("agent-state-" + std::string{which} + ".json"));
    const std::string id = v0.observation.agents.at(0).id.str();
    const auto v1 =
        parse_agent_get_state(recorded("agent-get-state-" + std::string{which} + ".json"),
                              get_agent(id, v0.observation.agents[0].hostname),
                              v0.observation.agents[0].addresses.front());
    REQUIRE(v1.has_value());
    REQUIRE_FALSE(v0.observation.tasks.empty());
    CHECK(v0.observation.tasks == v1->observation.tasks);
    CHECK(v1->observation.agents[0].id.str() == id);
  }
  const auto agent = parse_agent_get_state(recorded("agent-get-state-steady.json"),
                                           recorded("agent-get-agent-steady.json"), {});
  REQUIRE(agent.has_value());
  CHECK_FALSE(agent->observation.tasks.empty());
  CHECK(ends(*agent).size() == 3);
}

TEST_SUITE_END();
