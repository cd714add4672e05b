#include "daemon/changes.hpp"

#include <doctest/doctest.h>

namespace muster::daemon {
namespace {

using WallTime = RecentChanges::WallTime;

Task web(int number, TaskState state, Health health) {
  Task task;
  task.id = TaskId{"web." + std::to_string(number)};
  task.framework_id = FrameworkId{"f"};
  task.framework_name = "marathon";
  task.name = "web";
  task.state = state;
  task.health = health;
  TaskPort port{.name = "http",
                .protocol = "tcp",
                .number = *Port::from(31000),
                .container_port = {},
                .endpoints = {},
                .vips = {}};
  port.endpoints = {*Endpoint::parse("10.0.0." + std::to_string(1 + number % 200) + ":31000")};
  port.vips = {{VipName{"web.marathon"}, *Port::from(80), Protocol::tcp}};
  task.ports = {port};
  return task;
}

Change<Task> change(std::optional<Task> before, std::optional<Task> after) {
  const auto shared = [](std::optional<Task>& task) {
    return task ? std::make_shared<const Task>(std::move(*task)) : nullptr;
  };
  return {shared(before), shared(after)};
}

std::vector<std::string> said(const std::vector<Change<Task>>& tasks) {
  RecentChanges changes;
  ClusterDelta delta;
  delta.tasks = tasks;
  changes.take(delta, WallTime{});
  std::vector<std::string> out;
  for (const auto& row : changes.all()) out.push_back(row.what + " | " + row.text);
  return out;
}

TEST_CASE("recent changes: each way of a backend is said in words") {
  const auto running = [](Health health) { return web(0, TaskState::running, health); };
  struct Row {
    std::string what;
    Change<Task> change;
    std::vector<std::string> expected;
  };
  const std::string about = "web.marathon:80/tcp: 10.0.0.1:31000 ";
  const std::vector<Row> rows{
      {"nothing that shows", change(running(Health::healthy), running(Health::healthy)), {}},
      {"comes", change({}, running(Health::unchecked)), {"joined | " + about + "joined"}},
      {"goes", change(running(Health::healthy), {}), {"left | " + about + "left"}},
      {"waits",
       change({}, running(Health::pending)),
       {"draining | " + about + "gets no new connections: waits for its first health check"}},
      {"is fit",
       change(running(Health::pending), running(Health::healthy)),
       {"back | " + about + "takes connections"}},
      {"falls ill",
       change(running(Health::healthy), running(Health::unhealthy)),
       {"draining | " + about + "gets no new connections: unhealthy"}},
      {"is killed",
       change(running(Health::healthy), web(0, TaskState::killing, Health::healthy)),
       {"draining | " + about + "gets no new connections: being killed"}},
  };
  for (const Row& row : rows) {
    CAPTURE(row.what);
    CHECK(said({row.change}) == row.expected);
  }
}

TEST_CASE("recent changes: a task without a VIP is said to run and to end") {
  Task batch = web(0, TaskState::running, Health::unchecked);
  batch.ports.clear();
  CHECK(said({change({}, batch)}) == std::vector<std::string>{"other | task web.marathon runs"});
  CHECK(said({change(batch, {})}) == std::vector<std::string>{"other | task web.marathon ended"});
}

TEST_CASE(
    "recent changes: masses are one line, that grows while they come, and memory is bounded") {
  RecentChanges changes;
  ClusterDelta many;
  for (int i = 0; i < 500; ++i) {
    many.tasks.push_back(change({}, web(i, TaskState::running, Health::healthy)));
  }
  changes.take(many, WallTime{});
  changes.take(many, WallTime{} + std::chrono::seconds{1});
  REQUIRE(changes.all().size() == 1);
  CHECK(changes.all().front().text == "1000 tasks and 0 names of VIPs changed at once");
  changes.take(many, WallTime{} + std::chrono::seconds{60});
  CHECK(changes.all().size() == 2);

  for (std::size_t i = 0; i < 3 * RecentChanges::kMax; ++i) changes.note("other", "x", WallTime{});
  CHECK(changes.all().size() == RecentChanges::kMax);
  CHECK(changes.all().front().id > changes.all().back().id);
}

TEST_CASE("recent changes: nodes are told of one by one, but for a mass of them") {
  RecentChanges changes;
  changes.note_members({"node a joined", "node b stopped"}, WallTime{});
  REQUIRE(changes.all().size() == 2);
  CHECK(changes.all().front().text == "node b stopped");
  changes.note_members(std::vector<std::string>(500, "node c joined"), WallTime{});
  REQUIRE(changes.all().size() == 3);
  CHECK(changes.all().front().text == "500 nodes changed at once");
}

TEST_CASE("recent changes: long text is cut between characters") {
  RecentChanges changes;
  std::string text(RecentChanges::kMaxText - 1, 'a');
  changes.note("other", text + "ä", WallTime{});
  CHECK(changes.all().front().text == text);
}

}  // namespace
}  // namespace muster::daemon
