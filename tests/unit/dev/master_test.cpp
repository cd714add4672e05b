#include <algorithm>

#include <doctest/doctest.h>

#include "dev/json_writer.hpp"
#include "dev/master_api.hpp"
#include "tests/unit/dev/life.hpp"
#include "tests/unit/dev/shape.hpp"

using namespace muster::dev;
using namespace muster::testing;

namespace {

std::vector<std::string> types(const std::vector<std::string>& events) {
  std::vector<std::string> out;
  for (const std::string& event : events)
    out.push_back(word(json::parse(event).as_object(), "type"));
  return out;
}

ApiRequest get(const std::string& target) {
  return {.method = "GET", .target = target, .content_type = {}, .accept = {}, .body = ""};
}

ApiRequest call(const std::string& body) {
  return {.method = "POST",
          .target = "/api/v1",
          .content_type = "application/json",
          .accept = "application/json",
          .body = body};
}

}  // namespace

TEST_CASE("numbers are printed as Mesos prints them") {
  CHECK(json_number(65536) == "65536.0");
  CHECK(json_number(0.05) == "0.05");
  CHECK(json_number(1795296853.3541613) == "1795296853.3541613");
  CHECK(json_number(1e300).find('e') == std::string::npos);
  CHECK(json_number(0) == "0.0");
}

TEST_CASE("strings keep their UTF-8 and their slashes") {
  JsonWriter out;
  out.begin_object().text("k/\"", "\xc5\xbelu\xc5\xa5\\\n\x01").end_object();
  CHECK(out.str() == "{\"k/\\\"\":\"\xc5\xbelu\xc5\xa5\\\\\\n\\u0001\"}");
  CHECK(json::parse(out.str()).is_object());
}

TEST_CASE("a master answers each wrong call as Mesos does") {
  Life life;
  const auto status = [&](ApiRequest request) {
    return answer(request, life.master, std::nullopt).status;
  };
  ApiRequest request = call(R"({"type": "GET_STATE"})");
  CHECK(status(request) == 200);
  request.content_type.reset();
  CHECK(status(request) == 400);
  request.content_type = "application/json; charset=utf-8";
  CHECK(status(request) == 415);
  request = call(R"({"type": "GET_STATE"})");
  request.accept = "text/html";
  CHECK(status(request) == 406);
  request.accept = "application/recordio";
  CHECK(status(request) == 406);
  request.accept = "text/html, */*;q=0.1";
  CHECK(status(request) == 200);
  request.accept.reset();
  CHECK(status(request) == 200);
  request.method = "GET";
  const ApiResponse refused = answer(request, life.master, std::nullopt);
  CHECK(refused.status == 405);
  CHECK(refused.headers.at(0) == std::pair<std::string, std::string>{"Allow", "POST"});
  CHECK(refused.body == "405 Method Not Allowed. Expecting one of { 'POST' }, but received 'GET'.");
  CHECK(status(call("{")) == 400);
  CHECK(status(call("[]")) == 400);
  CHECK(status(call("{}")) == 400);
  CHECK(status(call(R"({"type": 7})")) == 400);
  const ApiResponse unknown = answer(call(R"({"type": "GIVE"})"), life.master, std::nullopt);
  CHECK(unknown.status == 400);
  CHECK(unknown.body.find("Expecting 'type' to be present") != std::string::npos);
}

TEST_CASE("paths are read as libprocess reads them") {
  Life life;
  for (const char* good : {"/state", "//state", "/state/", "/master/state", "/state?x=y",
                           "http://10.66.0.250:5050/state", "/version", "/health"}) {
    CAPTURE(good);
    CHECK(answer(get(good), life.master, std::nullopt).status == 200);
  }
  for (const char* bad : {"/state.json", "/master/state.json", "/master/version", "/", "", "*",
                          "http://", "/states"}) {
    CAPTURE(bad);
    const ApiResponse response = answer(get(bad), life.master, std::nullopt);
    CHECK(response.status == 404);
    CHECK(response.body == "404 Not Found.");
  }
  CHECK(answer(get("/redirect"), life.master, std::nullopt).headers.at(0).second ==
        "//10.66.0.250:5050");
}

TEST_CASE("a standby sends everybody on, and says so when nobody leads") {
  Life life;
  life.master.set_phase(MasterPhase::standby);
  const ApiResponse response = answer(get("/state?x=y"), life.master, "10.66.0.7:5050");
  CHECK(response.status == 307);
  CHECK(response.headers.at(0).second == "//10.66.0.7:5050/state?x=y");
  CHECK(answer(call(R"({"type":"SUBSCRIBE"})"), life.master, "10.66.0.7:5050").status == 307);
  CHECK(answer(get("/state"), life.master, std::nullopt).status == 503);
  CHECK(answer(get("/redirect"), life.master, std::nullopt).status == 503);
}

TEST_CASE("only the stream is a stream") {
  Life life;
  CHECK(answer(call(R"({"type":"SUBSCRIBE"})"), life.master, std::nullopt).stream);
  CHECK_FALSE(answer(call(R"({"type":"GET_STATE"})"), life.master, std::nullopt).stream);
}

TEST_CASE("a restarted master knows its agents again one by one") {
  Life life;
  const std::string web = life.run(kWeb);
  const std::string old_id = life.master.id();
  life.events.clear();
  life.master.restart(life.tick());
  CHECK(life.master.id() != old_id);
  CHECK(life.master.framework_id().starts_with(old_id));  // the framework keeps its own
  CHECK(answer(get("/state"), life.master, std::nullopt).status == 404);

  life.master.set_phase(MasterPhase::recovering);
  CHECK(answer(call(R"({"type":"SUBSCRIBE"})"), life.master, std::nullopt).status == 503);
  json::object state = json::parse(v0_state(life.master)).as_object();
  CHECK(list(state, "slaves").empty());
  CHECK(list(state, "recovered_slaves").empty());

  life.master.set_phase(MasterPhase::leading);
  life.health(web, true);  // its agent is not back, so nobody hears of it
  CHECK(life.events.empty());
  state = json::parse(v0_state(life.master)).as_object();
  CHECK(list(state, "recovered_slaves").size() == 1);
  CHECK(list(state, "frameworks").empty());
  const json::object v1 = json::parse(v1_get_state(life.master)).as_object();
  const json::object& agents = v1.at("get_state").as_object().at("get_agents").as_object();
  REQUIRE(list(agents, "recovered_agents").size() == 1);
  CHECK(list(agents, "recovered_agents")[0].as_object().contains("hostname"));  // not wrapped

  life.master.agent_returns(life.agent, life.tick());
  life.note();
  CHECK(types(life.events) ==
        std::vector<std::string>{"AGENT_ADDED", "FRAMEWORK_ADDED", "TASK_ADDED"});
  const json::object framework = json::parse(life.events[1])
                                     .as_object()
                                     .at("framework_added")
                                     .as_object()
                                     .at("framework")
                                     .as_object();
  CHECK(framework.at("recovered").as_bool());
  CHECK_FALSE(framework.at("active").as_bool());
  const json::object task =
      json::parse(life.events[2]).as_object().at("task_added").as_object().at("task").as_object();
  CHECK(list(task, "statuses").back().as_object().at("healthy").as_bool());
  life.master.subscribe_framework(life.tick());
  life.note();
  CHECK(types(life.events).back() == "FRAMEWORK_UPDATED");
}

TEST_CASE("an unreachable agent's tasks are, and nobody says a word of the agent") {
  Life life;
  const std::string web = life.run(kWeb);
  const std::string agent = life.master.agents().begin()->first;
  life.events.clear();
  life.master.agent_unreachable(agent, life.tick());
  CHECK(life.master.agents().empty());
  CHECK(life.master.tasks().empty());
  std::vector<std::string> events = life.master.take_events();
  REQUIRE(events.size() == 1);
  CHECK(events[0].find("TASK_UNREACHABLE") != std::string::npos);
  CHECK(events[0].find("REASON_AGENT_REMOVED") != std::string::npos);
  // What its agent hears meanwhile the master does not.
  life.master.update_task(web, {.state = MesosState::running, .time = life.tick()});
  CHECK(life.master.take_events().empty());
  life.master.agent_reachable(agent, life.tick());
  events = life.master.take_events();
  REQUIRE(events.size() == 2);
  CHECK(events[0].find("TASK_ADDED") != std::string::npos);
  CHECK(events[1].find("AGENT_ADDED") != std::string::npos);
  CHECK(life.master.tasks().contains(web));
}

TEST_CASE("a task that is over is in the completed list, and only so many of them") {
  Life life;
  for (std::size_t i = 0; i < Master::kMaxCompleted + 5; ++i) {
    MesosTask task;
    task.id = "t" + std::to_string(i);
    task.agent_id = life.agent;
    life.master.add_task(std::move(task));
    life.update("t" + std::to_string(i), MesosState::finished);
    life.update("t" + std::to_string(i), MesosState::failed);  // too late to matter
  }
  CHECK(life.master.tasks().empty());
  CHECK(life.master.completed().size() == Master::kMaxCompleted);
  CHECK(life.master.completed().back().state == MesosState::finished);
}

TEST_CASE("neighbouring ports are one range in a state and each its own in a task") {
  Life life;
  life.run(R"({"id": "/a", "cmd": "x", "ports": [0, 0, 0]})");
  const std::string state = v0_state(life.master);
  CHECK(state.find("\"ports\":\"[31000-31002]\"") != std::string::npos);
  CHECK(v1_get_tasks(life.master)
            .find(R"("range":[{"begin":31000,"end":31000},{"begin":31001,"end":31001})") !=
        std::string::npos);
}

TEST_CASE("a record is its length, a newline and itself") {
  CHECK(recordio("{\"type\":\"HEARTBEAT\"}") == "20\n{\"type\":\"HEARTBEAT\"}");
}
