#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <set>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include "mesos/core/master_state.hpp"
#include "mesos/core/recordio.hpp"
#include "observer_fixture.hpp"

// What real masters said, where MUSTER_FIXTURES names a folder of recordings.

using namespace muster;
using namespace muster::mesos;
using namespace muster::mesos::testing;
namespace fs = std::filesystem;

namespace {

const char* folder() {
  return std::getenv("MUSTER_FIXTURES");
}

/// Named in the output of the run, so that a skipped one is not taken for a passed one.
const bool kMissing = [] {
  const char* const named = folder();
  return named == nullptr || !fs::is_directory(named);
}();

fs::path recordings() {
  return folder();
}

std::string read(const fs::path& path) {
  std::ifstream in{path, std::ios::binary};
  REQUIRE(in.good());
  return {std::istreambuf_iterator<char>{in}, {}};
}

std::vector<std::string> lines(const fs::path& path) {
  std::ifstream in{path};
  REQUIRE(in.good());
  std::vector<std::string> out;
  for (std::string line; std::getline(in, line);) {
    if (!line.empty()) out.push_back(line);
  }
  return out;
}

std::vector<fs::path> files(const fs::path& under) {
  std::vector<fs::path> out;
  for (const auto& entry : fs::recursive_directory_iterator{under}) {
    if (entry.is_regular_file()) out.push_back(entry.path());
  }
  std::sort(out.begin(), out.end());
  return out;
}

/// The JSON of each line of an .events file: time, offset, length, JSON, by tabs.
std::vector<std::string> events(const fs::path& path) {
  std::vector<std::string> out;
  for (const std::string& line : lines(path)) {
    const auto brace = line.find("\t{");
    if (brace != std::string::npos) out.push_back(line.substr(brace + 1));
  }
  return out;
}

/// What a consumer of Observations has in the end.
struct Consumer {
  std::map<TaskKey, Task> tasks;
  std::map<AgentId, Agent> agents;
  std::map<FrameworkId, Framework> frameworks;
  bool recovering = false;

  void take(const Observation& seen) {
    if (seen.snapshot) {
      tasks.clear();
      agents.clear();
      frameworks.clear();
    }
    recovering = seen.recovering;
    for (const Task& task : seen.tasks) tasks.insert_or_assign(key_of(task), task);
    for (const TaskGone& gone : seen.tasks_gone) tasks.erase(gone.key);
    for (const Agent& agent : seen.agents) agents.insert_or_assign(agent.id, agent);
    for (const AgentId& id : seen.agents_gone) agents.erase(id);
    for (const Framework& framework : seen.frameworks) {
      frameworks.insert_or_assign(framework.id, framework);
    }
    for (const FrameworkId& id : seen.frameworks_gone) frameworks.erase(id);
  }
  std::vector<Task> list() const {
    std::vector<Task> out;
    for (const auto& [key, task] : tasks) out.push_back(task);
    return out;
  }
};

struct Replay {
  MasterState state;
  Consumer consumer;
  Problems problems;

  void event(const std::string& json) {
    const auto seen = state.apply_event(json, {}, problems);
    REQUIRE(seen.has_value());
    consumer.take(*seen);
  }
};

Replay replay_lines(const std::vector<std::string>& all) {
  Replay replay;
  for (const std::string& line : all) replay.event(line);
  return replay;
}

Snapshot get_state(const fs::path& path) {
  auto snapshot = parse_get_state(read(path));
  REQUIRE(snapshot.has_value());
  return std::move(*snapshot);
}

Snapshot state(const fs::path& path) {
  auto snapshot = parse_state(read(path));
  REQUIRE(snapshot.has_value());
  return std::move(*snapshot);
}

std::string shown(const Problems& problems) {
  std::string out;
  for (const Problem& problem : problems.kept()) {
    out += problem.kind + " | " + problem.where + " | " + problem.what + "\n";
  }
  return out;
}

std::string shown(const VipLabel& vip) {
  const auto* name = std::get_if<VipName>(&vip.host);
  const std::string host =
      name != nullptr ? name->str() : std::get<IpAddress>(vip.host).to_string();
  return std::string{to_string(vip.protocol)} + "/" + host + ":" +
         std::to_string(vip.port.number());
}

/// "name: endpoint endpoint > vip vip", one line a port, sorted.
std::vector<std::string> shown(const std::vector<Task>& tasks) {
  std::vector<std::string> out;
  for (const Task& task : tasks) {
    for (const TaskPort& port : task.ports) {
      std::string line = task.name + ":";
      for (const Endpoint& endpoint : port.endpoints) line += " " + to_string(endpoint);
      if (port.container_port) line += " in " + std::to_string(port.container_port->number());
      for (const VipLabel& vip : port.vips) line += " > " + shown(vip);
      out.push_back(line);
    }
  }
  std::sort(out.begin(), out.end());
  return out;
}

using Lines = std::vector<std::string>;

}  // namespace

TEST_SUITE_BEGIN("mesos/recordings" * doctest::skip(kMissing) *
                 doctest::description("needs MUSTER_FIXTURES"));

TEST_CASE("every recorded state of a master or an agent parses") {
  std::size_t parsed = 0;
  for (const char* part : {"state", "agent-state", "mesos-live"}) {
    for (const fs::path& path : files(recordings() / part)) {
      const std::string name = path.filename();
      const bool is_state = std::string_view{part} != "mesos-live"
                                ? name != "axfr.json"
                                : name.ends_with("GET_state.body") || name.find("GET_state_0") == 0;
      const std::string body = is_state ? read(path) : std::string{};
      if (!body.starts_with("{")) continue;  // the 401s and 404s
      CAPTURE(path.string());
      CHECK(parse_state(body).has_value());
      ++parsed;
    }
  }
  CHECK(parsed > 40);
}

TEST_CASE("every recorded GET_STATE parses") {
  std::size_t parsed = 0;
  for (const fs::path& path : files(recordings() / "mesos-live")) {
    const std::string name = path.filename();
    if (name.find("API_GET_STATE") == std::string::npos || !name.ends_with(".body")) continue;
    const std::string body = read(path);
    if (!body.starts_with("{")) continue;  // protobuf, and 401s
    CAPTURE(path.string());
    CHECK(parse_get_state(body).has_value());
    ++parsed;
  }
  CHECK(parsed > 20);
}

TEST_CASE("every recorded stream parses, event by event") {
  for (const char* name :
       {"hello-overlay", "hello-world", "operator-api", "pod-tasks", "recovered-agents"}) {
    CAPTURE(name);
    const auto replay =
        replay_lines(lines(recordings() / "operator-api" / (std::string{name} + ".json")));
    CAPTURE(shown(replay.problems));
    CHECK(replay.problems.empty());
    CHECK(replay.state.waiting() == 0);
  }
  std::size_t streams = 0;
  for (const fs::path& path : files(recordings() / "mesos-live")) {
    if (path.extension() != ".events" || path.string().find("json") == std::string::npos) continue;
    CAPTURE(path.string());
    const auto replay = replay_lines(events(path));
    CAPTURE(shown(replay.problems));
    CHECK(replay.state.waiting() == 0);
    ++streams;
  }
  CHECK(streams >= 5);
}

TEST_CASE("the same moment tells the same tasks by /state, GET_STATE and the stream") {
  std::size_t compared = 0;
  for (const fs::path& path : files(recordings() / "mesos-live")) {
    if (path.filename() != "master_GET_state.body") continue;
    fs::path v1 = path.parent_path() / "master_API_GET_STATE.json.body";
    if (!fs::exists(v1)) v1 = path.parent_path() / "master_API_GET_STATE.body";
    if (!fs::exists(v1)) continue;
    CAPTURE(path.string());
    const Snapshot by_v0 = state(path);
    const Snapshot by_v1 = get_state(v1);
    CHECK(by_v0.observation.tasks == by_v1.observation.tasks);
    CHECK(by_v0.observation.agents == by_v1.observation.agents);
    CHECK(shown(by_v0.problems) == shown(by_v1.problems));
    ++compared;
  }
  CHECK(compared > 10);
}

TEST_CASE("each network mode of the DC/OS recording has its backends") {
  auto replay = replay_lines(lines(recordings() / "operator-api" / "operator-api.json"));
  CHECK(shown(replay.consumer.list()) ==
        Lines{"app: 172.17.0.3:2254 in 8080", "app: 172.17.0.4:28064", "app: 9.0.1.3:8080 in 8080",
              "docker-on-bridge: 172.17.0.4:20560 in 8080",
              "docker-on-dcos: 9.0.2.130:8080 in 8080", "docker-on-host: 172.17.0.4:31168",
              "docker-on-ipv6: 172.19.0.2:8080 [fd01:b::2:8000:0:2]:8080 in 8080",
              "none-on-host: 172.17.0.4:13977", "ucr-on-bridge: 172.17.0.3:15263 in 8080",
              "ucr-on-host: 172.17.0.3:10323"});
  CHECK(replay.consumer.tasks.size() == 12);
  for (const auto& [key, task] : replay.consumer.tasks) {
    CHECK(task.state == TaskState::running);
    CHECK(task.framework_name == "marathon");
    CHECK(task.health == Health::unchecked);
  }
}

TEST_CASE("VIP labels on ports and on the task come together") {
  const Snapshot seen = get_state(recordings() / "operator-api" / "vip-labels.json");
  CHECK(seen.problems.empty());
  CHECK(shown(seen.observation.tasks) == Lines{"app: 172.17.0.3:10000 > tcp/jkl.marathon:80",
                                               "app: 172.17.0.3:10001 > tcp/xyz.marathon:443",
                                               "app: 172.17.0.3:10002",
                                               "app: 172.17.0.3:9999 > tcp/abc.marathon:80 > "
                                               "tcp/cbd.marathon:80 > tcp/def.marathon:80"});
  CHECK(seen.observation.tasks.at(0).health == Health::healthy);
}

TEST_CASE("tcp and udp of one number stay apart") {
  const Snapshot seen = get_state(recordings() / "operator-api" / "tcp-and-udp.json");
  CHECK(shown(seen.observation.tasks) == Lines{"app: 172.17.0.3:6416 > tcp/app.marathon:80",
                                               "app: 172.17.0.3:6416 > udp/app.marathon:80",
                                               "app: 172.17.0.3:6417", "app: 172.17.0.3:6417"});
}

TEST_CASE("a task with a check that has not answered is pending, not healthy") {
  const Snapshot seen = get_state(recordings() / "operator-api" / "unhealthy.json");
  REQUIRE(seen.observation.tasks.size() == 1);
  CHECK(seen.observation.tasks[0].health == Health::pending);
  CHECK(backend_weight(seen.observation.tasks[0]) == std::uint16_t{0});
  CHECK(shown(seen.observation.tasks) == Lines{"app: 9.0.1.6:80 in 80 > tcp/foobar.marathon:80"});
}

TEST_CASE("the containers of a pod are tasks of their own with the pod's address") {
  auto all = lines(recordings() / "operator-api" / "pod-tasks.json");
  const auto to_the_end = replay_lines(all);
  REQUIRE(to_the_end.consumer.list().size() == 1);  // "bar" has finished
  CHECK(to_the_end.consumer.list()[0].name == "foo");
  all.pop_back();
  const auto both = replay_lines(all).consumer.list();
  REQUIRE(both.size() == 2);
  for (const Task& task : both) {
    CHECK(task.discovery_name == "app");
    CHECK(task.state == TaskState::running);
    CHECK(task.addresses == std::vector{*IpAddress::parse("9.0.0.2")});
  }
}

TEST_CASE("a master that failed over recovers until its agents are back") {
  Replay replay;
  bool first = true;
  for (const std::string& line : lines(recordings() / "operator-api" / "recovered-agents.json")) {
    replay.event(line);
    if (first) {
      CHECK(replay.consumer.recovering);
      CHECK(replay.consumer.tasks.empty());
      first = false;
    }
  }
  CHECK_FALSE(replay.consumer.recovering);
  CHECK_FALSE(replay.consumer.tasks.empty());
  for (const std::string& line : shown(replay.consumer.list())) {
    CHECK(line.find("> tcp/web.marathon:10080") != std::string::npos);
  }
}

TEST_CASE("a removed framework leaves no task") {
  auto replay = replay_lines(lines(recordings() / "operator-api" / "hello-world.json"));
  for (const auto& [key, task] : replay.consumer.tasks) {
    CHECK(task.framework_name.find("hello") == std::string::npos);
  }
}

TEST_CASE("the overlay service's VIPs lead to its containers") {
  auto replay = replay_lines(lines(recordings() / "operator-api" / "hello-overlay.json"));
  std::set<std::string> vips;
  for (const auto& [key, task] : replay.consumer.tasks) {
    for (const TaskPort& port : task.ports) {
      for (const VipLabel& vip : port.vips) vips.insert(shown(vip));
    }
  }
  CHECK(vips.size() == 3);
  for (const std::string& vip : vips) {
    CAPTURE(vip);
    CHECK((vip.find(".hello-world:") != std::string::npos ||
           vip == "tcp/api.hello-world.marathon:80"));
  }
}

TEST_CASE("old masters and agents declare VIPs, good and bad ones") {
  const fs::path under = recordings() / "agent-state";
  CHECK(shown(state(under / "named-base-vips.json").observation.tasks) ==
        Lines{"catsmeow: 10.0.0.243:12049 > tcp/merp.marathon:5000"});
  const Snapshot missing = state(under / "missing-port.json");
  CHECK(shown(missing.observation.tasks) == Lines{"catsmeow: 10.0.0.243:26645"});
  REQUIRE(missing.problems.kept().size() == 1);
  CHECK(missing.problems.kept()[0].kind == "vip_label");
  // The colon that is too many is not part of a DNS label, so the rest is a name all the same.
  CHECK(shown(state(under / "invalid-port.json").observation.tasks) ==
        Lines{"catsmeow: 10.0.0.243:26645 > tcp/invalid-port.marathon:1234"});
}

TEST_CASE("container networks have both families, prefix lengths stripped") {
  const Snapshot seen = state(recordings() / "mesos-live" / "cni" / "master_GET_state.body");
  CHECK(seen.problems.empty());
  CHECK(shown(seen.observation.tasks) ==
        Lines{"c1: 9.0.1.6:8081 [fd01::1:6]:8081 in 8081 > tcp/cpod.marathon:80",
              "c2: 9.0.1.6:8082 [fd01::1:6]:8082 in 8082 > tcp/cpod.marathon:81",
              "host: 9.0.1.1:31006 > tcp/host.marathon:80",
              "mapped: 9.0.1.1:31005 in 8080 > tcp/mapped.marathon:80",
              "net1: 9.0.1.2:8080 [fd01::1:2]:8080 in 8080 > tcp/net1.marathon:80",
              "net2: 9.0.1.4:9090 [fd01::1:4]:9090 in 9090 > tcp/net2.marathon:90"});
}

TEST_CASE("the raw bytes of recorded streams come through the socket as the events they are") {
  for (const fs::path& path : files(recordings() / "mesos-live")) {
    if (path.extension() != ".http" || path.string().find("json") == std::string::npos) continue;
    CAPTURE(path.string());
    fs::path told = path;
    const auto expected = replay_lines(events(told.replace_extension(".events")));
    Observed observed;
    observed.master().script = {{{read(path)}, true}};
    observed.start();
    Consumer consumer;
    std::size_t taken = 0;
    CHECK(observed.until([&] {
      for (; taken < observed.seen.size(); ++taken) consumer.take(observed.seen[taken]);
      return taken > 0 && consumer.list() == expected.consumer.list() &&
             consumer.agents == expected.consumer.agents &&
             consumer.frameworks == expected.consumer.frameworks;
    }));
  }
}

TEST_SUITE_END();

TEST_CASE("without recordings that is said" * doctest::skip(!kMissing)) {
  MESSAGE("SKIPPED: MUSTER_FIXTURES does not name a folder of recordings");
}
