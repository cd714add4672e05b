#include "mesos/core/snapshot.hpp"

#include <string>
#include <vector>

#include <doctest/doctest.h>

#include "cluster_text.hpp"

using namespace muster;
using namespace muster::mesos;
using namespace muster::mesos::testing;

namespace {

Snapshot parse(const std::string& json, const KnownHosts& hosts = {}) {
  auto snapshot = parse_state(json, hosts);
  REQUIRE(snapshot.has_value());
  return std::move(*snapshot);
}

IpAddress ip(const char* text) {
  return *IpAddress::parse(text);
}

}  // namespace

TEST_SUITE_BEGIN("mesos/core/snapshot");

TEST_CASE("a document that is no state is refused as a whole") {
  for (const char* text : {"", "null", "[]", "{", "{\"frameworks\":[", "{} x", "404 Not Found.",
                           "<html></html>", "{\"slaves\":[}", "\"x\""}) {
    CAPTURE(text);
    CHECK(parse_state(text).error() == ParseError::not_json);
    CHECK(parse_get_state(text).error() == ParseError::not_json);
  }
  CHECK(parse_state("{\"error\":\"x\"}").error() == ParseError::unexpected_shape);
  CHECK(parse_get_state("{\"type\":\"GET_STATE\"}").error() == ParseError::unexpected_shape);
  CHECK(parse_get_state("{\"get_state\":5}").error() == ParseError::unexpected_shape);
}

TEST_CASE("a list of agents is read by itself, and a malformed one costs itself") {
  for (const char* text : {"", "null", "[]", "{\"get_agents\":{\"agents\":[", "{} x"}) {
    CAPTURE(text);
    CHECK(parse_get_agents(text).error() == ParseError::not_json);
  }
  CHECK(parse_get_agents("{}").error() == ParseError::unexpected_shape);
  CHECK(parse_get_agents(R"({"get_agents":[]})").error() == ParseError::unexpected_shape);
  CHECK(parse_get_agents(R"({"get_agents":{}})")->empty());
  const auto agents = parse_get_agents(
      R"({"type":"GET_AGENTS","get_agents":{"agents":[5,{"agent_info":{"id":{"value":"S1"},"hostname":)"
      R"("n1"},"pid":"slave(1)@10.0.0.1:5051"},{"agent_info":{}},{"agent_info":{"id":{"value":"S2"},)"
      R"("hostname":"n2"}}],"recovered_agents":[{"id":{"value":"S3"},"hostname":"10.0.0.3"}]}})");
  REQUIRE(agents.has_value());
  REQUIRE(agents->size() == 2);
  CHECK((*agents)[0].addresses == std::vector{ip("10.0.0.1")});
  CHECK((*agents)[1].hostname == "n2");
  CHECK((*agents)[1].addresses.empty());
}

TEST_CASE("a malformed task, agent or framework costs itself alone") {
  const std::string good = task_v0({});
  for (const char* bad :
       {"null", "5", "[]", "{}", R"({"id":"x"})", R"({"id":{"value":7},"name":"x"})",
        R"({"id":"x","framework_id":"F0","slave_id":"S0","state":"TASK_FLYING","name":"x"})",
        R"({"id":"","framework_id":"F0","slave_id":"S0","state":"TASK_RUNNING","name":"x"})",
        "{\"id\":\"\xff\xfe\"}", R"({"id":"x" "name":1})", R"({"id":tru})"}) {
    CAPTURE(bad);
    const Snapshot snapshot = parse(state_v0(std::string{bad} + "," + good));
    CHECK(snapshot.observation.tasks.size() == 1);
    REQUIRE(snapshot.problems.kept().size() == 1);
    CHECK(snapshot.problems.kept()[0].kind == "task");
  }
  for (const char* bad : {"null", "{}", R"({"id":5})", "{\"id\":\"\xff\"}"}) {
    CAPTURE(bad);
    const Snapshot snapshot = parse(state_v0(good, std::string{bad} + "," + std::string{kAgentV0}));
    CHECK(snapshot.observation.tasks.size() == 1);
    REQUIRE(snapshot.problems.kept().size() == 1);
    CHECK(snapshot.problems.kept()[0].kind == "agent");
  }
  const Snapshot snapshot =
      parse(R"({"slaves":[],"frameworks":[7,{"name":"no id"},{"id":"F1","name":"ok"}]})");
  REQUIRE(snapshot.observation.frameworks.size() == 1);
  CHECK(snapshot.observation.frameworks[0].name == "ok");
  CHECK(snapshot.problems.kept().size() == 2);
}

TEST_CASE("a state gives tasks, agents, frameworks and the leader") {
  const Snapshot snapshot = parse(state_v0(task_v0({.resources = "[31000-31001]"})));
  const Observation& seen = snapshot.observation;
  CHECK(seen.snapshot);
  CHECK_FALSE(seen.recovering);
  CHECK_FALSE(snapshot.not_leading);
  REQUIRE(seen.tasks.size() == 1);
  const Task& task = seen.tasks[0];
  CHECK(task.id.str() == "web.1");
  CHECK(task.framework_name == "marathon");
  CHECK(task.discovery_name == "web");
  CHECK(task.state == TaskState::running);
  CHECK(task.health == Health::unchecked);
  CHECK(task.agent_addresses == std::vector{ip("10.0.0.1")});
  CHECK(task.addresses == std::vector{ip("10.0.0.1")});
  CHECK(task.host_ports.size() == 2);
  REQUIRE(seen.agents.size() == 1);
  CHECK(seen.agents[0].port == Port::from(5051));
  REQUIRE(seen.frameworks.size() == 1);
  CHECK(seen.frameworks[0].endpoint == Endpoint::parse("10.0.0.8:8080"));
  REQUIRE(seen.masters.has_value());
  CHECK(*seen.masters == std::vector{Master{*Endpoint::parse("10.0.0.9:5050"), "m.example", true}});
}

TEST_CASE("members may come in any order") {
  const Snapshot snapshot =
      parse(R"({"frameworks":[{"tasks":[)" + task_v0({}) +
            R"(],"name":"marathon","id":"F0"}],"slaves":[)" + std::string{kAgentV0} + "]}");
  CHECK(snapshot.observation.tasks.size() == 1);
  CHECK(snapshot.problems.empty());
}

TEST_CASE("states decide what runs, not the list a task is in") {
  struct Row {
    const char* state;
    bool runs;
    GoneReason reason;
  };
  const Row rows[] = {
      {"TASK_STAGING", true, {}},
      {"TASK_STARTING", true, {}},
      {"TASK_RUNNING", true, {}},
      {"TASK_KILLING", true, {}},
      {"TASK_FINISHED", false, GoneReason::terminal},
      {"TASK_FAILED", false, GoneReason::terminal},
      {"TASK_KILLED", false, GoneReason::terminal},
      {"TASK_ERROR", false, GoneReason::terminal},
      {"TASK_DROPPED", false, GoneReason::terminal},
      {"TASK_GONE", false, GoneReason::terminal},
      {"TASK_GONE_BY_OPERATOR", false, GoneReason::terminal},
      {"TASK_LOST", false, GoneReason::lost},
      {"TASK_UNREACHABLE", false, GoneReason::lost},
      {"TASK_UNKNOWN", false, GoneReason::lost},
  };
  for (const Row& row : rows) {
    CAPTURE(row.state);
    const Observation seen = parse(state_v0(task_v0({.state = row.state}))).observation;
    CHECK(seen.tasks.size() == (row.runs ? 1 : 0));
    REQUIRE(seen.tasks_gone.size() == (row.runs ? 0 : 1));
    if (!row.runs) CHECK(seen.tasks_gone[0].reason == row.reason);
  }
}

TEST_CASE("completed and unreachable tasks are not looked at, whatever they say") {
  const std::string state =
      R"({"slaves":[)" + std::string{kAgentV0} +
      R"(],"frameworks":[{"id":"F0","name":"m","tasks":[],"completed_tasks":[)" + task_v0({}) +
      R"(],"unreachable_tasks":[)" + task_v0({}) +
      R"(]}],"completed_frameworks":[{"id":"F1","name":"m","tasks":[)" + task_v0({}) + "]}]}";
  const Snapshot snapshot = parse(state);
  CHECK(snapshot.observation.tasks.empty());
  CHECK(snapshot.observation.tasks_gone.empty());
  CHECK(snapshot.observation.frameworks.size() == 1);
}

TEST_CASE("health is that of the newest status") {
  const auto health = [](const std::string& statuses, bool check) {
    const std::string extra = check ? R"(,"health_check":{"type":"TCP"})" : "";
    std::string task = task_v0({.extra = extra});
    const auto at = task.find("\"statuses\":[") + 12;
    task.replace(at, task.find("],\"labels\"") - at, statuses);
    return parse(state_v0(task)).observation.tasks.at(0).health;
  };
  const std::string good = R"({"state":"TASK_RUNNING","timestamp":2,"healthy":true})";
  const std::string bad = R"({"state":"TASK_RUNNING","timestamp":3,"healthy":false})";
  const std::string none = R"({"state":"TASK_RUNNING","timestamp":1})";
  CHECK(health(none, false) == Health::unchecked);
  CHECK(health(none, true) == Health::pending);
  CHECK(health("", true) == Health::pending);
  CHECK(health(none + "," + good, true) == Health::healthy);
  CHECK(health(bad + "," + good, true) == Health::unhealthy);
  CHECK(health(good + "," + bad + "," + none, false) == Health::unhealthy);
}

TEST_CASE("addresses are those of the newest RUNNING status that has networks") {
  const auto addresses = [](const std::string& statuses) {
    std::string task = task_v0({});
    const auto at = task.find("\"statuses\":[") + 12;
    task.replace(at, task.find("],\"labels\"") - at, statuses);
    return parse(state_v0(task)).observation.tasks.at(0).addresses;
  };
  const auto status = [](const char* state, int time, const std::string& networks) {
    return std::string{"{\"state\":\""} + state + "\",\"timestamp\":" + std::to_string(time) +
           ",\"container_status\":{\"network_infos\":[" + networks + "]}}";
  };
  const std::string agent = R"({"ip_addresses":[{"ip_address":"10.0.0.1"}]})";
  const std::string old = R"({"ip_addresses":[{"ip_address":"9.0.0.1"}]})";
  const std::string now =
      R"({"ip_addresses":[{"ip_address":"9.0.0.2"},{"ip_address":"9.0.0.2"},{"ip_address":"fd01::2/64"}]})";
  const std::vector expected{ip("9.0.0.2"), ip("fd01::2")};
  CHECK(addresses(status("TASK_STARTING", 1, agent)).empty());
  CHECK(addresses(status("TASK_STARTING", 1, agent) + "," + status("TASK_RUNNING", 2, now)) ==
        expected);
  CHECK(addresses(status("TASK_RUNNING", 3, now) + "," + status("TASK_RUNNING", 2, old)) ==
        expected);
  CHECK(addresses(status("TASK_RUNNING", 2, now) + "," + status("TASK_RUNNING", 3, "")) ==
        expected);
  CHECK(addresses(status("TASK_RUNNING", 2, now) + "," + status("TASK_KILLING", 3, agent)) ==
        expected);
  CHECK(addresses(status("TASK_RUNNING", 1, R"({"ip_address":"9.0.0.2"})")) ==
        std::vector{ip("9.0.0.2")});
}

TEST_CASE("an address that cannot be one costs itself alone") {
  for (const char* bad : {"x", "0.0.0.0", "224.0.0.1", "fe80::1", "300.1.1.1", "1.2.3.4.5"}) {
    CAPTURE(bad);
    const std::string networks = R"({"ip_addresses":[{"ip_address":")" + std::string{bad} +
                                 R"("},{"ip_address":"9.0.0.2"}]})";
    const Snapshot snapshot = parse(state_v0(task_v0({.networks = networks})));
    CHECK(snapshot.observation.tasks.at(0).addresses == std::vector{ip("9.0.0.2")});
    REQUIRE(snapshot.problems.kept().size() == 1);
    CHECK(snapshot.problems.kept()[0].kind == "address");
  }
}

TEST_CASE("an agent's address is in its pid, else its hostname if that is one") {
  struct Row {
    const char* pid;
    const char* hostname;
    std::vector<IpAddress> addresses;
  };
  const Row rows[] = {
      {"slave(1)@10.0.0.1:5051", "any.name", {ip("10.0.0.1")}},
      {"slave(1)@[fd01::5]:5051", "any.name", {ip("fd01::5")}},
      {"slave(1)@10.0.0.1:5051", "10.0.0.2", {ip("10.0.0.1")}},
      {"slave(1)@0.0.0.0:5051", "10.0.0.2", {ip("10.0.0.2")}},
      {"slave(1)@name:5051", "10.0.0.2", {ip("10.0.0.2")}},
      {"", "fd01::7", {ip("fd01::7")}},
      {"", "known.name", {ip("10.7.7.7")}},
      {"garbage", "unknown.name", {}},
  };
  const KnownHosts hosts{{"known.name", {ip("10.7.7.7")}}};
  for (const Row& row : rows) {
    CAPTURE(row.pid);
    const std::string agent =
        R"({"id":"S0","hostname":")" + std::string{row.hostname} + R"(","pid":")" + row.pid + "\"}";
    const Snapshot snapshot = parse(state_v0(task_v0({}), agent), hosts);
    CHECK(snapshot.observation.agents.at(0).addresses == row.addresses);
    CHECK(snapshot.observation.tasks.at(0).agent_addresses == row.addresses);
  }
}

TEST_CASE("agents that have not come back are not agents, but mean that the master recovers") {
  const Snapshot snapshot = parse(
      R"({"slaves":[],"frameworks":[],"recovered_slaves":[{"id":"S0","hostname":"10.0.0.1"}]})");
  CHECK(snapshot.observation.recovering);
  CHECK(snapshot.observation.agents.empty());
}

TEST_CASE("a master that does not lead is known by its own word") {
  const auto not_leading = [](const char* leader) {
    return parse(R"({"pid":"master@10.0.0.1:5050",)" + std::string{leader} +
                 R"("slaves":[],"frameworks":[]})")
        .not_leading;
  };
  CHECK(not_leading(R"("leader":"master@10.0.0.2:5050",)"));
  CHECK(not_leading(""));
  CHECK_FALSE(not_leading(R"("leader":"master@10.0.0.1:5050",)"));
}

TEST_CASE("a task of an unknown agent waits, and says so") {
  const Snapshot snapshot = parse(state_v0(task_v0({.agent = "S9"}) + "," + task_v0({.id = "b"})));
  CHECK(snapshot.observation.tasks.size() == 1);
  CHECK(snapshot.tables.waiting.size() == 1);
  REQUIRE(snapshot.problems.kept().size() == 1);
  CHECK(snapshot.problems.kept()[0].kind == "waiting");
}

TEST_CASE("a task named twice counts where it runs") {
  const Observation seen =
      parse(state_v0(task_v0({.state = "TASK_FAILED"}) + "," + task_v0({}))).observation;
  CHECK(seen.tasks.size() == 1);
  CHECK(seen.tasks_gone.empty());
}

TEST_CASE("frameworks of one name are two, and so are their tasks of one id") {
  const Snapshot snapshot =
      parse(R"({"slaves":[)" + std::string{kAgentV0} +
            R"(],"frameworks":[{"id":"F0","name":"marathon","tasks":[)" + task_v0({}) +
            R"(]},{"id":"F1","name":"marathon","tasks":[)" + task_v0({.framework = "F1"}) + "]}]}");
  CHECK(snapshot.problems.empty());
  REQUIRE(snapshot.observation.tasks.size() == 2);
  CHECK(snapshot.observation.tasks[0].id == snapshot.observation.tasks[1].id);
  CHECK(snapshot.observation.tasks[0].framework_id != snapshot.observation.tasks[1].framework_id);
  CHECK(snapshot.observation.frameworks.size() == 2);
}

TEST_CASE("an id that is there twice is one thing") {
  const std::string agents = std::string{kAgentV0} + "," + std::string{kAgentV0};
  const Snapshot snapshot = parse(state_v0(task_v0({}) + "," + task_v0({}), agents));
  CHECK(snapshot.observation.agents.size() == 1);
  CHECK(snapshot.observation.tasks.size() == 1);
  const Snapshot frameworks =
      parse(R"({"slaves":[],"frameworks":[{"id":"F0","name":"a"},{"id":"F0","name":"a"}]})");
  CHECK(frameworks.observation.frameworks.size() == 1);
}

TEST_CASE("brackets a million deep cost the task they are in, or the reply, and no stack") {
  constexpr std::size_t depth = 1'000'000;
  const std::string opened(depth, '[');
  const std::string bomb = opened + std::string(depth, ']');
  const Snapshot snapshot =
      parse(state_v0(task_v0({.id = "bad", .extra = ",\"x\":" + bomb}) + "," + task_v0({})));
  REQUIRE(snapshot.observation.tasks.size() == 1);
  CHECK(snapshot.observation.tasks[0].id.str() == "web.1");
  CHECK(snapshot.problems.kept().size() == 1);
  CHECK(parse(R"({"x":)" + bomb + "," + state_v0(task_v0({})).substr(1)).observation.tasks.size() ==
        1);
  CHECK(parse_state(R"({"frameworks":)" + opened).error() == ParseError::not_json);
}

TEST_CASE("an agent that drains, is deactivated or does not answer keeps its tasks") {
  for (const char* more :
       {R"("active":false)", R"("active":false,"deactivated":true)",
        R"("active":true,"drain_info":{"state":"DRAINING","config":{"mark_gone":true}})"}) {
    CAPTURE(more);
    std::string agent{kAgentV0};
    agent.insert(agent.size() - 1, std::string{","} + more);
    const Snapshot snapshot = parse(state_v0(task_v0({}), agent));
    CHECK(snapshot.problems.empty());
    CHECK(snapshot.observation.agents.size() == 1);
    CHECK(snapshot.observation.tasks.size() == 1);
  }
}

TEST_CASE("an agent's own state has the agent and the tasks of its executors") {
  const Snapshot snapshot = parse(
      R"({"id":"S0","hostname":"10.0.0.1","pid":"slave(1)@10.0.0.1:5051","frameworks":[{"id":"F0","name":"m","executors":[{"tasks":[)" +
      task_v0({}) + R"(],"completed_tasks":[)" + task_v0({.id = "old"}) + "]}]}]}");
  CHECK(snapshot.observation.agents.size() == 1);
  CHECK(snapshot.observation.tasks.size() == 1);
  CHECK_FALSE(snapshot.not_leading);
}

TEST_CASE("the same cluster in both spellings gives the same tasks") {
  const std::string v1 =
      R"({"type":"GET_STATE","get_state":)" +
      get_state(task_v1("web.1", "TASK_STAGING"), agent_v1("S0", "slave(1)@10.0.0.1:5051"),
                framework_v1("F0", "marathon")) +
      "}";
  std::string v0_task =
      R"({"id":"web.1","name":"web","framework_id":"F0","slave_id":"S0","state":"TASK_STAGING","discovery":{"name":"web","ports":{"ports":[{"number":31000,"protocol":"tcp","labels":{"labels":[{"key":"VIP_0","value":"/web:80"}]}}]}}})";
  const auto from_v1 = parse_get_state(v1);
  REQUIRE(from_v1.has_value());
  CHECK(from_v1->observation.tasks == parse(state_v0(v0_task)).observation.tasks);
  CHECK(from_v1->problems.empty());
}

TEST_SUITE_END();
