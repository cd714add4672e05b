#include <cstdio>
#include <cstdlib>
#include <filesystem>

#include <doctest/doctest.h>

#include "tests/unit/dev/life.hpp"
#include "tests/unit/dev/shape.hpp"

namespace fs = std::filesystem;
using namespace muster::dev;
using namespace muster::testing;

namespace {

const std::string kFixtures = std::string{MUSTER_SOURCE_DIR} + "/tests/fixtures/dev/";

/// Everything the emulator can say, while its tasks go through every state.
Shapes emulated() {
  Shapes out;
  Life life;
  const auto look = [&] {
    add_state(out, json::parse(v0_state(life.master)).as_object());
    add_get_state(out,
                  json::parse(v1_get_state(life.master)).as_object().at("get_state").as_object());
    add_event(out, json::parse(event_subscribed(life.master)).as_object());
    const MesosAgent& agent = life.master.agents().at(life.agent).info;
    add_agent_state(out, json::parse(v0_agent_state(life.master, agent, life.now)).as_object());
    add_agent_get_state(out, json::parse(v1_agent_get_state(life.master, agent.id)).as_object());
    out.add("v1 of itself", json::parse(v1_agent_get_agent(agent)).as_object(), {"attributes"});
  };
  const std::string web = life.run(kWeb);
  look();
  life.health(web, false);
  life.health(web, true);
  look();
  const std::string slow = life.run(kPlain);
  life.update(slow, MesosState::killing);
  look();
  life.update(slow, MesosState::killed, {.message = "Command exited with status 0"});
  const std::string sick = life.run(kTcp);
  life.health(sick, false);
  life.update(sick, MesosState::killing);
  life.update(sick, MesosState::killed,
              {.message = "Command terminated with signal Terminated", .healthy = false});
  life.update(life.run(kCommand), MesosState::finished,
              {.message = "Command exited with status 0"});
  life.update(life.run(kPlain), MesosState::failed, {.message = "Command exited with status 3"});
  life.run(kBridged);
  life.health(life.run(kOwnAddress), true);
  look();
  life.master.subscribe_framework(life.tick());
  life.master.remove_framework(life.tick());
  life.run(kPlain);
  life.master.remove_agent(life.agent, life.tick());
  life.note();
  for (const std::string& event : life.events) add_event(out, json::parse(event).as_object());
  add_event(out, json::parse(event_heartbeat()).as_object());
  return out;
}

Shapes excerpt() {
  Shapes out;
  for (const char* name : {"steady", "unhealthy", "killing", "killed", "containers"}) {
    const std::string file = std::string{name} + ".json";
    add_state(out, json::parse(read_file(kFixtures + "state-" + file)).as_object());
    add_get_state(out, json::parse(read_file(kFixtures + "get-state-" + file))
                           .as_object()
                           .at("get_state")
                           .as_object());
  }
  for (const char* name : {"steady", "containers"}) {
    const std::string file = std::string{name} + ".json";
    add_agent_state(out, json::parse(read_file(kFixtures + "agent-state-" + file)).as_object());
    add_agent_get_state(out,
                        json::parse(read_file(kFixtures + "agent-get-state-" + file)).as_object());
  }
  out.add("v1 of itself",
          json::parse(read_file(kFixtures + "agent-get-agent-steady.json")).as_object(),
          {"attributes"});
  for (const char* name : {"events.jsonl", "events-containers.jsonl"}) {
    for (const json::object& event : read_lines(kFixtures + name)) add_event(out, event);
  }
  return out;
}

void add_recording(Shapes& out, const fs::path& folder) {
  for (const auto& entry : fs::recursive_directory_iterator{folder}) {
    const std::string name = entry.path().filename().string();
    const std::string where = entry.path().parent_path().filename().string();
    if (where == "auth") continue;  // flags and answers of other set-ups
    if (name == "master_GET_state.body") {
      add_state(out, json::parse(read_file(entry.path())).as_object());
    } else if (name == "master_API_GET_STATE.json.body") {
      add_get_state(out,
                    json::parse(read_file(entry.path())).as_object().at("get_state").as_object());
    } else if (name == "agent_GET_state.body") {
      add_agent_state(out, json::parse(read_file(entry.path())).as_object());
    } else if (name == "agent_API_GET_STATE.json.body") {
      add_agent_get_state(out, json::parse(read_file(entry.path())).as_object());
    } else if (name.starts_with("subscribe-json") && name.ends_with(".events")) {
      for (const json::object& event : read_lines(entry.path())) add_event(out, event);
    }
  }
}

void check(const Shapes& real, const Shapes& ours) {
  REQUIRE(real.all().size() > 10);
  for (const std::string& complaint : real.complaints(ours)) {
    CHECK_MESSAGE(false, complaint);
  }
}

/// "TASK_UPDATED TASK_RUNNING healthy", for each event of one task.
std::vector<std::string> story(const std::vector<json::object>& events, std::string_view name) {
  std::vector<std::string> out;
  for (const json::object& event : events) {
    std::string line = word(event, "type");
    std::string id;
    if (line == "TASK_ADDED") {
      const json::object& task = event.at("task_added").as_object().at("task").as_object();
      id = task.at("task_id").as_object().at("value").as_string();
      line += " " + word(task, "state");
    } else if (line == "TASK_UPDATED") {
      const json::object& update = event.at("task_updated").as_object();
      const json::object& status = update.at("status").as_object();
      id = status.at("task_id").as_object().at("value").as_string();
      line += " " + word(status, "state") + " " + word(status, "reason");
      if (status.contains("healthy")) line += status.at("healthy").as_bool() ? " good" : " bad";
    }
    if (id.substr(0, id.find('.')) == name) out.push_back(line);
  }
  return out;
}

}  // namespace

TEST_CASE("the emulated master and agents say what real ones said, key by key") {
  check(excerpt(), emulated());
}

TEST_CASE("the emulated master says what the whole recording says, key by key") {
  const char* folder = std::getenv("MUSTER_FIXTURES");
  if (folder == nullptr || !fs::exists(fs::path{folder} / "mesos-live")) {
    std::puts("SKIPPED: MUSTER_FIXTURES does not name a folder with mesos-live in it");
    return;
  }
  Shapes real = excerpt();
  add_recording(real, fs::path{folder} / "mesos-live");
  check(real, emulated());
}

TEST_CASE("a comparison of shapes notices what is missing, too much, of another type or order") {
  const auto shapes = [](const char* text) {
    Shapes out;
    out.add("thing", json::parse(text).as_object(), {});
    return out;
  };
  const Shapes real = shapes(R"({"a": 1, "b": {"c": [1.0]}})");
  CHECK(real.complaints(shapes(R"({"a": 2, "b": {"c": [7.5]}})")).empty());
  CHECK_FALSE(real.complaints(shapes(R"({"a": 1, "b": {}})")).empty());
  CHECK_FALSE(real.complaints(shapes(R"({"a": 1, "b": {"c": [1.0], "d": 1}})")).empty());
  CHECK_FALSE(real.complaints(shapes(R"({"a": 1.0, "b": {"c": [1.0]}})")).empty());
  CHECK_FALSE(real.complaints(shapes(R"({"b": {"c": [1.0]}, "a": 1})")).empty());
  Shapes other;
  other.add("unheard of", {}, {});
  CHECK_FALSE(real.complaints(other).empty());
}

TEST_CASE("the recorded lives are the ones the launcher's tests expect") {
  const auto events = read_lines(kFixtures + "events.jsonl");
  const std::vector<std::string> start{"TASK_ADDED TASK_STAGING", "TASK_UPDATED TASK_STARTING ",
                                       "TASK_UPDATED TASK_RUNNING "};
  const auto after_start = [&](std::string_view name) {
    std::vector<std::string> all = story(events, name);
    REQUIRE(all.size() > 3);
    CHECK(std::vector(all.begin(), all.begin() + 3) == start);
    return std::vector(all.begin() + 3, all.end());
  };
  const std::string bad = "TASK_UPDATED TASK_RUNNING REASON_TASK_HEALTH_CHECK_STATUS_UPDATED bad";
  CHECK(after_start("fail") == std::vector<std::string>{"TASK_UPDATED TASK_FAILED "});
  CHECK(after_start("finish") == std::vector<std::string>{"TASK_UPDATED TASK_FINISHED "});
  CHECK(after_start("tokill") ==
        std::vector<std::string>{"TASK_UPDATED TASK_KILLING ", "TASK_UPDATED TASK_KILLED "});
  CHECK(after_start("sickkill") == std::vector<std::string>{bad, bad, bad,
                                                            "TASK_UPDATED TASK_KILLING ",
                                                            "TASK_UPDATED TASK_KILLED  bad"});
}
