#include "mesos/core/master_state.hpp"

#include <string>
#include <vector>

#include <doctest/doctest.h>

#include "cluster_text.hpp"

using namespace muster;
using namespace muster::mesos;
using namespace muster::mesos::testing;
using namespace std::chrono_literals;

namespace {

const std::string kAgent = agent_v1("S0", "slave(1)@10.0.0.1:5051");
const std::string kFramework = framework_v1("F0", "marathon");

/// A MasterState, a clock and what it could not use.
struct Mirror {
  MasterState state;
  TimePoint now{};
  Problems problems;

  Observation operator()(const std::string& event) {
    auto out = state.apply_event(event, now, problems);
    REQUIRE(out.has_value());
    return std::move(*out);
  }
  Observation subscribe(const std::string& tasks) {
    return (*this)(subscribed(get_state(tasks, kAgent, kFramework)));
  }
};

TaskKey key(const char* id) {
  return {FrameworkId{"F0"}, TaskId{id}};
}

const std::string kRunning =
    R"("state":"TASK_RUNNING","container_status":{"network_infos":[{"ip_addresses":[{"ip_address":"10.0.0.1"}]}]})";

}  // namespace

TEST_SUITE_BEGIN("mesos/core/master_state");

TEST_CASE("events that cannot be used are Problems and change nothing") {
  Mirror mirror;
  mirror.subscribe(task_v1("a", "TASK_RUNNING"));
  for (
      const char* event :
      {R"({"type":"TASK_ADDED"})", R"({"type":"TASK_ADDED","task_added":{"task":5}})",
       R"({"type":"TASK_UPDATED","task_updated":{}})",
       R"({"type":"TASK_UPDATED","task_updated":{"state":"TASK_X","status":{"task_id":{"value":"a"}},"framework_id":{"value":"F0"}}})",
       R"({"type":"AGENT_ADDED","agent_added":{}})", R"({"type":"AGENT_REMOVED"})",
       R"({"type":"FRAMEWORK_ADDED","framework_added":[]})", R"({"type":"FRAMEWORK_REMOVED"})",
       R"({"type":"SUBSCRIBED"})", R"({"type":"SUBSCRIBED","subscribed":7})"}) {
    CAPTURE(event);
    const auto before = mirror.problems.kept().size();
    CHECK(is_empty(mirror(event)));
    CHECK(mirror.problems.kept().size() == before + 1);
    CHECK(mirror.state.tasks() == 1);
  }
  for (const char* event : {R"({"type":"HEARTBEAT"})", R"({"type":"NEWS","news":{"a":[1]}})",
                            R"({"type":5})", "{}", R"({"type":"<script>"})"}) {
    CAPTURE(event);
    CHECK(is_empty(mirror(event)));
  }
  Problems problems;
  CHECK(mirror.state.apply_event("not json", {}, problems).error() == ParseError::not_json);
}

TEST_CASE("a task's life is told by what changes") {
  Mirror mirror;
  CHECK(mirror.subscribe("").snapshot);

  Observation seen = mirror(task_added(task_v1("a", "TASK_STAGING")));
  CHECK_FALSE(seen.snapshot);
  REQUIRE(seen.tasks.size() == 1);
  CHECK(seen.tasks[0].state == TaskState::staging);
  CHECK(seen.tasks[0].addresses.empty());

  seen = mirror(task_updated("a", "TASK_RUNNING", kRunning));
  REQUIRE(seen.tasks.size() == 1);
  CHECK(seen.tasks[0].state == TaskState::running);
  CHECK(seen.tasks[0].addresses.size() == 1);
  CHECK(seen.tasks[0].ports.at(0).vips.size() == 1);

  CHECK(is_empty(mirror(task_updated("a", "TASK_RUNNING", kRunning))));

  seen = mirror(task_updated("a", "TASK_RUNNING", kRunning + R"(,"healthy":false)"));
  REQUIRE(seen.tasks.size() == 1);
  CHECK(seen.tasks[0].health == Health::unhealthy);
  CHECK(is_empty(mirror(task_updated("a", "TASK_RUNNING", kRunning + R"(,"healthy":false)"))));

  seen = mirror(task_updated("a", "TASK_KILLING", R"("state":"TASK_KILLING")"));
  REQUIRE(seen.tasks.size() == 1);
  CHECK(seen.tasks[0].addresses.size() == 1);

  seen = mirror(task_updated("a", "TASK_KILLED", R"("state":"TASK_KILLED")"));
  CHECK(seen.tasks.empty());
  CHECK(seen.tasks_gone == std::vector{TaskGone{key("a"), GoneReason::terminal}});
  CHECK(mirror.state.tasks() == 0);
}

TEST_CASE("the task's state counts, not that of the status that comes with it") {
  Mirror mirror;
  mirror.subscribe(task_v1("a", "TASK_RUNNING"));
  CHECK(mirror(task_updated("a", "TASK_FINISHED", R"("state":"TASK_RUNNING")")).tasks_gone ==
        std::vector{TaskGone{key("a"), GoneReason::terminal}});
  mirror.subscribe(task_v1("b", "TASK_STAGING"));
  const Observation seen = mirror(task_updated(
      "b", "TASK_RUNNING",
      R"("state":"TASK_STARTING","container_status":{"network_infos":[{"ip_addresses":[{"ip_address":"10.0.0.1"}]}]})"));
  REQUIRE(seen.tasks.size() == 1);
  CHECK(seen.tasks[0].state == TaskState::running);
  CHECK(seen.tasks[0].addresses.empty());
}

TEST_CASE("lost and unreachable tasks come back by TASK_ADDED") {
  for (const char* state : {"TASK_LOST", "TASK_UNREACHABLE"}) {
    CAPTURE(state);
    Mirror mirror;
    mirror.subscribe(task_v1("a", "TASK_RUNNING"));
    CHECK(mirror(task_updated("a", state)).tasks_gone ==
          std::vector{TaskGone{key("a"), GoneReason::lost}});
    CHECK(mirror(task_added(task_v1("a", "TASK_RUNNING"))).tasks.size() == 1);
    CHECK(is_empty(mirror(agent_added(kAgent))));
  }
}

TEST_CASE("TASK_ADDED for a known task replaces it, and says nothing if nothing changed") {
  Mirror mirror;
  mirror.subscribe(task_v1("a", "TASK_STAGING"));
  CHECK(is_empty(mirror(task_added(task_v1("a", "TASK_STAGING")))));
  CHECK(mirror(task_added(task_v1("a", "TASK_RUNNING"))).tasks.size() == 1);
  CHECK(mirror.state.tasks() == 1);
}

TEST_CASE("an end is told even for a task that is not known any more") {
  Mirror mirror;
  mirror.subscribe("");
  CHECK(mirror(task_updated("a", "TASK_KILLED")).tasks_gone.size() == 1);
}

TEST_CASE("a task waits for its agent and its framework, in any order") {
  Mirror mirror;
  mirror(subscribed(get_state("", "", "")));
  CHECK(is_empty(mirror(task_added(task_v1("a", "TASK_RUNNING")))));
  CHECK(mirror.state.waiting() == 1);
  const Observation agent = mirror(agent_added(kAgent));
  CHECK(agent.agents.size() == 1);
  CHECK(agent.tasks.empty());
  const Observation framework =
      mirror(framework_event("FRAMEWORK_ADDED", "framework_added", kFramework));
  CHECK(framework.frameworks.size() == 1);
  REQUIRE(framework.tasks.size() == 1);
  CHECK(framework.tasks[0].framework_name == "marathon");
  CHECK(mirror.state.waiting() == 0);
  CHECK_FALSE(mirror.state.needs_snapshot(mirror.now + 1h));
}

TEST_CASE("what stays unknown calls for a new snapshot, after a while and not before") {
  Mirror mirror;
  mirror.subscribe("");
  SUBCASE("an agent") {
    mirror(task_added(task_v1("a", "TASK_RUNNING", "S9")));
  }
  SUBCASE("a framework") {
    mirror(task_added(task_v1("a", "TASK_RUNNING", "S0", "F9")));
  }
  SUBCASE("a task") {
    mirror(task_updated("zzz", "TASK_RUNNING"));
  }
  CHECK_FALSE(mirror.state.needs_snapshot(mirror.now + MasterState::kMaxWait - 1ms));
  CHECK(mirror.state.needs_snapshot(mirror.now + MasterState::kMaxWait));
  mirror.subscribe("");
  CHECK_FALSE(mirror.state.needs_snapshot(mirror.now + 1h));
}

TEST_CASE("what a snapshot leaves open does not call for another") {
  Mirror mirror;
  mirror.subscribe(task_v1("a", "TASK_RUNNING", "S9"));
  CHECK(mirror.state.waiting() == 1);
  CHECK_FALSE(mirror.state.needs_snapshot(mirror.now + 1h));
  CHECK(mirror(agent_added(agent_v1("S9", "slave(1)@10.0.0.9:5051"))).tasks.size() == 1);
}

TEST_CASE("waiting tasks are bounded") {
  Mirror mirror;
  mirror.subscribe("");
  for (std::size_t i = 0; i < kMaxWaiting + 5; ++i) {
    mirror(task_added(task_v1("t" + std::to_string(i), "TASK_RUNNING", "S9")));
  }
  CHECK(mirror.state.waiting() == kMaxWaiting);
  CHECK(mirror.state.tasks() == kMaxWaiting);
  CHECK(mirror.problems.kept().size() == 5);
}

TEST_CASE("an unreachable agent is told by its tasks alone, and comes back tasks first") {
  Mirror mirror;
  mirror.subscribe(task_v1("a", "TASK_RUNNING") + "," + task_v1("b", "TASK_RUNNING"));
  const std::string by_master =
      R"("state":"TASK_UNREACHABLE","source":"SOURCE_MASTER","reason":"REASON_AGENT_REMOVED")";
  CHECK(mirror(task_updated("a", "TASK_UNREACHABLE", by_master)).tasks_gone ==
        std::vector{TaskGone{key("a"), GoneReason::lost}});
  CHECK(mirror(task_updated("b", "TASK_LOST", by_master)).tasks_gone ==
        std::vector{TaskGone{key("b"), GoneReason::lost}});
  CHECK(mirror.state.agents() == 1);
  // A second word of it says it again, for whoever held the first.
  CHECK(mirror(task_updated("a", "TASK_UNREACHABLE", by_master)).tasks_gone.size() == 1);
  CHECK(mirror(task_added(task_v1("a", "TASK_RUNNING"))).tasks.size() == 1);
  CHECK(is_empty(mirror(agent_added(kAgent))));
  CHECK(mirror(task_updated("b", "TASK_GONE_BY_OPERATOR", by_master)).tasks_gone ==
        std::vector{TaskGone{key("b"), GoneReason::terminal}});
  CHECK_FALSE(mirror.state.needs_snapshot(mirror.now + 1h));
}

TEST_CASE("a late update of a task that has ended brings nothing back") {
  Mirror mirror;
  mirror.subscribe(task_v1("a", "TASK_RUNNING"));
  mirror(task_updated("a", "TASK_FINISHED", R"("state":"TASK_FINISHED")"));
  CHECK(is_empty(mirror(task_updated("a", "TASK_RUNNING", kRunning))));
  CHECK(mirror.state.tasks() == 0);
  // It may also be that a TASK_ADDED was missed: the state is read again after a while.
  CHECK_FALSE(mirror.state.needs_snapshot(mirror.now + MasterState::kMaxWait - 1ms));
  CHECK(mirror.state.needs_snapshot(mirror.now + MasterState::kMaxWait));
}

TEST_CASE("a framework that goes takes its tasks with it") {
  Mirror mirror;
  mirror.subscribe(task_v1("a", "TASK_RUNNING") + "," + task_v1("b", "TASK_RUNNING"));
  const Observation seen = mirror(
      R"({"type":"FRAMEWORK_REMOVED","framework_removed":{"framework_info":{"id":{"value":"F0"},"name":"marathon"}}})");
  CHECK(seen.frameworks_gone == std::vector{FrameworkId{"F0"}});
  CHECK(seen.tasks_gone == std::vector{TaskGone{key("a"), GoneReason::framework_removed},
                                       TaskGone{key("b"), GoneReason::framework_removed}});
  CHECK(mirror.state.tasks() == 0);
}

TEST_CASE("a framework that is inactive or disconnected keeps its tasks") {
  Mirror mirror;
  mirror.subscribe(task_v1("a", "TASK_RUNNING"));
  CHECK(is_empty(mirror(framework_event("FRAMEWORK_UPDATED", "framework_updated", kFramework))));
  CHECK(mirror.state.tasks() == 1);
}

TEST_CASE("a framework's new name and an agent's new address reach their tasks") {
  Mirror mirror;
  mirror.subscribe(task_v1("a", "TASK_RUNNING"));
  Observation seen = mirror(
      framework_event("FRAMEWORK_UPDATED", "framework_updated", framework_v1("F0", "metronome")));
  REQUIRE(seen.tasks.size() == 1);
  CHECK(seen.tasks[0].framework_name == "metronome");
  seen = mirror(agent_added(agent_v1("S0", "slave(1)@10.0.0.2:5051")));
  REQUIRE(seen.tasks.size() == 1);
  CHECK(seen.tasks[0].ports.at(0).endpoints.at(0) == *Endpoint::parse("10.0.0.2:31000"));
}

TEST_CASE("an agent that goes leaves its tasks lost, and can come back by the same id") {
  Mirror mirror;
  mirror.subscribe(task_v1("a", "TASK_RUNNING"));
  const std::string removed =
      R"({"type":"AGENT_REMOVED","agent_removed":{"agent_id":{"value":"S0"}}})";
  const Observation seen = mirror(removed);
  CHECK(seen.agents_gone == std::vector{AgentId{"S0"}});
  CHECK(seen.tasks_gone == std::vector{TaskGone{key("a"), GoneReason::lost}});
  CHECK(is_empty(mirror(removed)));
  CHECK(mirror(agent_added(kAgent)).agents.size() == 1);
}

TEST_CASE("the master recovers until every agent is back or gone") {
  Mirror mirror;
  const std::string recovered =
      R"({"id":{"value":"S0"},"hostname":"10.0.0.1"},{"id":{"value":"S1"},"hostname":"10.0.0.2"})";
  CHECK(mirror(subscribed(get_state("", "", kFramework, recovered))).recovering);
  CHECK(mirror(task_added(task_v1("a", "TASK_RUNNING"))).recovering);
  Observation seen = mirror(agent_added(kAgent));
  CHECK(seen.recovering);
  CHECK(seen.tasks.size() == 1);
  CHECK_FALSE(mirror.state.needs_snapshot(mirror.now + 10min));
  CHECK(mirror.state.needs_snapshot(mirror.now + MasterState::kMaxRecovering));
  seen = mirror(agent_added(agent_v1("S1", "slave(1)@10.0.0.2:5051")));
  CHECK_FALSE(seen.recovering);
  CHECK_FALSE(mirror.state.needs_snapshot(mirror.now + 1h));
}

TEST_CASE("agents known by name only are named, and their tasks follow the answer") {
  Mirror mirror;
  mirror(subscribed(
      get_state(task_v1("a", "TASK_RUNNING"), agent_v1("S0", "", "agent.example"), kFramework)));
  CHECK(mirror.state.unresolved_hosts() == std::vector<std::string>{"agent.example"});
  CHECK(is_empty(mirror.state.resolved("other.example", {*IpAddress::parse("10.1.1.1")})));
  CHECK(is_empty(mirror.state.resolved("agent.example", {})));
  const Observation seen = mirror.state.resolved("agent.example", {*IpAddress::parse("10.0.0.7")});
  CHECK(seen.agents.size() == 1);
  REQUIRE(seen.tasks.size() == 1);
  CHECK(seen.tasks[0].ports.at(0).endpoints.at(0) == *Endpoint::parse("10.0.0.7:31000"));
  CHECK(mirror.state.unresolved_hosts().empty());
  const Observation again = mirror(subscribed(
      get_state(task_v1("a", "TASK_RUNNING"), agent_v1("S0", "", "agent.example"), kFramework)));
  CHECK(again.tasks.at(0).agent_addresses.size() == 1);
}

TEST_CASE("taking a snapshot hands back the tables it replaces") {
  Mirror mirror;
  mirror.subscribe(task_v1("a", "TASK_RUNNING"));
  auto snapshot = parse_state(state_v0(task_v0({.id = "b"})));
  REQUIRE(snapshot.has_value());
  const Observation seen = mirror.state.take(*snapshot, mirror.now);
  CHECK(seen.tasks.at(0).id.str() == "b");
  CHECK(snapshot->tables.tasks.at(FrameworkId{"F0"}).contains(TaskId{"a"}));
  CHECK(mirror.state.tasks() == 1);
}

TEST_SUITE_END();
