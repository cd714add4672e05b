#include "mesos/io/agent_poller.hpp"

#include <string>

#include <doctest/doctest.h>

#include "cluster_text.hpp"
#include "observer_fixture.hpp"

using namespace muster;
using namespace muster::mesos;
using namespace muster::mesos::testing;

namespace {

std::string agent_text(const std::string& tasks, const std::string& id = "S0") {
  return R"({"id":")" + id +
         R"(","pid":"slave(1)@10.0.0.1:5051","hostname":"h","frameworks":[{"id":"F0","name":"marathon","executors":[{"tasks":[)" +
         tasks + "]}]}]}";
}

Reply says(const std::string& body) {
  return {{answer("200 OK", "", body)}, false};
}
Reply refuses(const char* status, const char* headers = "") {
  return {{answer(status, headers, "no")}, false};
}
Reply state_of(const std::string& task) {
  return says(agent_text(task_v0({.id = task})));
}

/// The same world with a poller in it; the scripted masters are agents.
struct Polled : Observed {
  explicit Polled(std::size_t count = 1) : Observed{count} {}
  ~Polled() { stop(); }  // while the poller is there
  void poll() {
    options_of_agent.agent = *MasterUrl::parse(master().url());
    options_of_agent.changing = Duration{2};
    options_of_agent.idle = Duration{10};
    options_of_agent.backoff_max = Duration{20};
    poller = std::make_unique<AgentPoller>(
        context.get_executor(), workers, options_of_agent, registry,
        [this](Observation observation) { seen.push_back(std::move(observation)); });
    group.spawn(poller->run());
  }
  bool asked(std::size_t times) {
    return until([&] { return master().requests.size() >= times; });
  }

  AgentPollerOptions options_of_agent{.agent = {false, "127.0.0.1", *Port::from(1)}};
  std::unique_ptr<AgentPoller> poller;
};

}  // namespace

TEST_SUITE_BEGIN("mesos/io/agent_poller");

TEST_CASE("an agent is asked for its state, and what changed in it is said once") {
  Polled polled;
  polled.master().script = {state_of("a"), state_of("a"), state_of("a"), state_of("b")};
  polled.poll();
  REQUIRE(polled.until([&] { return polled.seen.size() == 2; }));
  CHECK(polled.seen[0].snapshot);
  CHECK(polled.seen[0].tasks.at(0).id.str() == "a");
  CHECK(polled.seen[0].agents.at(0).id.str() == "S0");
  CHECK(polled.seen[1].tasks.at(0).id.str() == "b");
  REQUIRE(polled.asked(7));
  CHECK(polled.seen.size() == 2);
  const std::string& request = polled.master().requests.front();
  CHECK(request.starts_with("GET /state HTTP/1.1\r\n"));
  CHECK(request.find("Authorization") == std::string::npos);
  CHECK(polled.poller->status().state == "polling");
  CHECK(polled.poller->status().id.str() == "S0");
  CHECK(polled.poller->status().last_error.empty());
  CHECK(polled.counts("muster_mesos_agent_tasks 1"));
  CHECK(polled.counts("muster_mesos_agent_answering 1"));
  CHECK(polled.counts("muster_mesos_agent_polls_total{result=\"changed\"} 2"));
}

TEST_CASE("an agent that recovers, breaks off, stalls or says nonsense teaches nothing") {
  Polled polled;
  polled.options_of_agent.response_timeout = Duration{200};
  polled.options_of_agent.max_response_bytes = 4000;
  polled.master().script = {state_of("a"),
                            refuses("503 Service Unavailable"),
                            {{"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{"}, false},
                            {{"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{"}, true},
                            says("{\"frameworks\":["),
                            says(state_v0(task_v0({.id = "of a master"}))),
                            says(std::string(5000, ' ')),
                            says(agent_text("", "")),  // it has no id yet
                            state_of("b")};
  polled.poll();
  REQUIRE(polled.until([&] { return polled.seen.size() == 2; }));
  CHECK(polled.seen[1].tasks.at(0).id.str() == "b");
  CHECK(polled.counts("muster_mesos_agent_polls_total{result=\"failed\"} 7"));
  CHECK(polled.counts("muster_mesos_agent_problems_total{kind=\"agent\"} 7"));
}

TEST_CASE("an error is one sentence, and shown until the agent answers") {
  Polled polled;
  polled.master().script = {refuses("503 Service Unavailable")};
  polled.poll();
  REQUIRE(polled.until([&] { return polled.poller->status().state == "waiting"; }));
  CHECK(polled.poller->status().last_error == polled.master().url() + ": 503: \"no\"");
  CHECK(polled.counts("muster_mesos_agent_answering 0"));
  polled.master().script = {state_of("a")};
  REQUIRE(polled.until([&] { return polled.poller->status().last_error.empty(); }));
}

TEST_CASE("where the state is refused the operator API is asked, and the other way round") {
  const std::string state = R"({"type":"GET_STATE","get_state":{"get_tasks":{"launched_tasks":[)" +
                            task_v1("a", "TASK_RUNNING") +
                            R"(]},"get_frameworks":{"frameworks":[)" +
                            framework_v1("F0", "marathon") + "]}}}";
  const std::string agent =
      R"({"type":"GET_AGENT","get_agent":{"agent_info":{"hostname":"h","id":{"value":"S0"}}}})";
  Polled polled;
  polled.options_of_agent.access.bearer_token = "t";
  polled.master().script = {
      refuses("403 Forbidden"), says(state),  says(agent), says(state), says(agent),
      refuses("404 Not Found"), state_of("b")};
  polled.poll();
  REQUIRE(polled.until([&] { return polled.seen.size() == 2; }));
  CHECK(polled.seen[0].tasks.at(0).id.str() == "a");
  CHECK(polled.seen[1].tasks.at(0).id.str() == "b");
  const auto& requests = polled.master().requests;
  CHECK(requests.at(1).ends_with(R"({"type":"GET_STATE"})"));
  CHECK(requests.at(2).ends_with(R"({"type":"GET_AGENT"})"));
  CHECK(requests.at(3).starts_with("POST /api/v1 "));  // what worked is asked again
  for (std::size_t i = 0; i < 7; ++i) {
    CHECK(requests.at(i).find("Authorization: Bearer t\r\n") != std::string::npos);
  }
}

TEST_CASE("credentials stay with the agent: nothing it redirects to is asked") {
  Polled polled{2};
  polled.options_of_agent.access.basic_user = "u";
  polled.options_of_agent.access.basic_secret = "p";
  const std::string there = "Location: " + polled.master(1).url() + "/state\r\n";
  polled.master().script = {refuses("307 Temporary Redirect", there.c_str())};
  polled.master(1).script = {state_of("b")};
  polled.poll();
  REQUIRE(polled.asked(3));
  CHECK(polled.seen.empty());
  CHECK(polled.master(1).requests.empty());
  CHECK(polled.poller->status().last_error.find("not followed") != std::string::npos);
}

TEST_CASE("credentials that are wrong or missing are named as such") {
  Polled polled;
  polled.master().script = {refuses("401 Unauthorized")};
  polled.poll();
  REQUIRE(polled.until([&] { return !polled.poller->status().last_error.empty(); }));
  CHECK(polled.poller->status().last_error.ends_with("none are configured"));
}

TEST_SUITE_END();
