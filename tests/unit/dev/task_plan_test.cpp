#include "dev/task_plan.hpp"

#include <algorithm>

#include <doctest/doctest.h>

#include "dev/health.hpp"
#include "dev/network_plan.hpp"

using namespace muster::dev;

namespace {

App app_of(const std::string& json) {
  auto result = parse_apps(json);
  REQUIRE_MESSAGE(result.has_value(), result.error().what);
  return result->apps[0];
}

bool has(const std::vector<std::string>& all, const std::string& one) {
  return std::find(all.begin(), all.end(), one) != all.end();
}

}  // namespace

TEST_CASE("ports run out, and one that is given back is not the next to go") {
  PortPool pool;
  CHECK(pool.take() == 31000);
  CHECK(pool.take() == 31001);
  pool.give_back(31000);
  CHECK(pool.take() == 31002);
  CHECK_FALSE(pool.take(31001));
  CHECK(pool.take(80));
  int more = 0;
  while (pool.take()) ++more;
  CHECK(more == 1001 - 2);  // 31001 and 31002 are in use; 31000 came round again
  pool.give_back(31500);
  CHECK(pool.take() == 31500);
}

TEST_CASE("an app that cannot have all of its ports takes none") {
  PortPool pool;
  const App app = app_of(R"({"id": "/a", "cmd": "x", "requirePorts": true,
    "ports": [31005, 0, 9000]})");
  REQUIRE(pool.take(9000));
  CHECK_FALSE(take_ports(app, pool));
  CHECK(pool.take(31005));
  pool.give_back(9000);
  pool.give_back(31005);
  const auto ports = take_ports(app, pool);
  REQUIRE(ports);
  CHECK(*ports == std::vector<std::optional<std::uint16_t>>{31005, 31000, 9000});
}

TEST_CASE("a free choice never takes a port the same app insists on") {
  PortPool pool;
  const App app = app_of(R"({"id": "/a", "cmd": "x", "requirePorts": true, "ports": [0, 31000]})");
  CHECK(*take_ports(app, pool) == std::vector<std::optional<std::uint16_t>>{31001, 31000});
}

TEST_CASE("instances spread over nodes") {
  CHECK(choose_node({{1, 1, 1}, {2, 0, 5}, {3, 0, 4}}) == 3);
  CHECK(choose_node({{1, 0, 0}, {2, 0, 0}}) == 1);
  CHECK(choose_node({{1, 2, 2}, {2, 1, 9}}) == 2);
}

TEST_CASE("a task on the host's network is found by its host ports") {
  const App app = app_of(R"({"id": "/shop/web", "cmd": "run", "env": {"PORT": "mine"},
    "portDefinitions": [{"name": "http-api", "labels": {"VIP_0": "/web:80"}},
                        {"protocol": "udp,tcp"}]})");
  const Placement at{.node = 2, .host_ports = {31007, 31008}, .container_host = 0};
  const MesosTask task = mesos_task(app, at, "shop_web.instance-u._app.1", "S1");
  CHECK(task.name == "web.shop");
  CHECK(task.discovery_name == "web.shop");
  CHECK(task.ports == std::vector<std::uint16_t>{31007, 31008});
  REQUIRE(task.discovery_ports.size() == 3);
  CHECK(task.discovery_ports[0].number == 31007);
  CHECK(task.discovery_ports[0].labels == std::vector<Label>{{"VIP_0", "/web:80"}});
  CHECK(task.discovery_ports[1].protocol == "udp");
  CHECK(task.discovery_ports[2].protocol == "tcp");
  CHECK(task.discovery_ports[2].number == 31008);
  CHECK_FALSE(task.container);
  CHECK(mesos_networks(app, at, true)[0].addresses == std::vector<std::string>{"10.66.0.2"});
  const auto environment = task_environment(app, at, task.id, "/box", "/bin");
  CHECK(has(environment, "PORT0=31007"));
  CHECK(has(environment, "PORT1=31008"));
  CHECK(has(environment, "PORT_HTTP_API=31007"));
  CHECK(has(environment, "PORTS=31007,31008"));
  CHECK(has(environment, "HOST=10.66.0.2"));
  CHECK(has(environment, "MESOS_TASK_ID=" + task.id));
  CHECK(has(environment, "MARATHON_APP_ID=/shop/web"));
  CHECK(environment.back() == "PORT=mine");  // the app's own come last and so win
}

TEST_CASE("a bridged task is found by its host port, and listens on its own") {
  const App app = app_of(R"({"id": "/b", "cmd": "x", "networks": [{"mode": "container/bridge"}],
    "container": {"portMappings": [{"containerPort": 8080, "protocol": "udp,tcp"},
                                   {"containerPort": 0}]},
    "healthChecks": [{"protocol": "MESOS_HTTP"}]})");
  const Placement at{.node = 1, .host_ports = {31000, 31001}, .container_host = 3};
  const MesosTask task = mesos_task(app, at, "b", "S0");
  CHECK(task.discovery_ports[0].number == 31000);
  CHECK(task.discovery_ports[0].labels == std::vector<Label>{{"network-scope", "host"}});
  REQUIRE(task.container);
  CHECK(task.container->network_name == "mesos-bridge");
  REQUIRE(task.container->forwards.size() == 3);
  CHECK(task.container->forwards[0].container_port == 8080);
  CHECK(task.container->forwards[2].container_port == 31001);  // 0: the same as outside
  CHECK(health_port(app, at) == 8080);
  const auto networks = mesos_networks(app, at, false);
  CHECK(networks[0].addresses == std::vector<std::string>{"10.67.1.3", "fd67:0:0:1::3/64"});
}

TEST_CASE("a task with a network of its own is found by its own address") {
  const App app = app_of(R"({"id": "/c", "cmd": "x", "networks": [{"mode": "container",
    "name": "dcos"}], "container": {"portMappings": [{"containerPort": 8080}]}})");
  const Placement at{.node = 1, .host_ports = {std::nullopt}, .container_host = 4};
  const MesosTask task = mesos_task(app, at, "c", "S0");
  CHECK(task.ports.empty());
  CHECK(task.discovery_ports[0].number == 8080);
  CHECK(task.discovery_ports[0].labels ==
        std::vector<Label>{{"network-scope", "container"}, {"network-name", "dcos"}});
  CHECK(has(task_environment(app, at, "c", "/box", "/bin"), "PORT0=8080"));
}

TEST_CASE("a Docker container shows its agent's address until it runs") {
  const App app = app_of(R"({"id": "/d", "cmd": "x", "container": {"type": "DOCKER",
    "docker": {"image": "i", "network": "BRIDGE", "portMappings": [{"containerPort": 80}]}}})");
  const Placement at{.node = 1, .host_ports = {31000}, .container_host = 3};
  CHECK(mesos_networks(app, at, false)[0].addresses == std::vector<std::string>{"10.66.0.1"});
  CHECK(mesos_networks(app, at, true)[0].addresses == std::vector<std::string>{"10.67.1.3"});
  CHECK(mesos_task(app, at, "d", "S0").container->network_name == "BRIDGE");
}

TEST_CASE("task ids are Marathon's") {
  CHECK(task_id("/a/b", "0ef7", 1) == "a_b.instance-0ef7._app.1");
}

TEST_CASE("the launch delay grows with each failure, has a limit and starts anew") {
  App app = app_of(R"({"id": "/a", "cmd": "x", "backoffSeconds": 1, "backoffFactor": 2,
    "maxLaunchDelaySeconds": 5})");
  Backoff backoff{app};
  CHECK(backoff.failed() == 1);
  CHECK(backoff.failed() == 2);
  CHECK(backoff.failed() == 4);
  CHECK(backoff.failed() == 5);
  backoff.succeeded();
  CHECK(backoff.failed() == 1);
}

TEST_CASE("health is reported as Mesos' checker does") {
  AppHealthCheck check;
  check.grace_period_seconds = 10;
  check.max_consecutive_failures = 3;
  HealthState state{check};
  CHECK_FALSE(state.result(false, 2).report);  // forgiven: it is still starting
  CHECK(state.result(true, 3).report);
  CHECK_FALSE(state.result(true, 4).report);  // no news
  const auto first = state.result(false, 5);  // the grace ended with the first success
  CHECK(first.report);
  CHECK_FALSE(first.kill);
  CHECK(state.result(false, 6).report);  // every failure is news
  CHECK(state.result(false, 7).kill);
  CHECK(state.result(true, 8).healthy);
  CHECK_FALSE(state.result(false, 9).kill);  // in a row, not in all

  check.max_consecutive_failures = 0;
  HealthState patient{check};
  for (int i = 0; i < 100; ++i) CHECK_FALSE(patient.result(false, 20).kill);
}

TEST_CASE("every node and container has addresses of its own") {
  CHECK(node_address(10) == "10.66.0.10");
  CHECK(node_address6(10) == "fd66::10");
  CHECK(container_address(2, 3) == "10.67.2.3");
  const std::string rules = host_ports_ruleset(
      1, {{.forward = {.host_port = 31000, .container_port = 8080, .protocol = "tcp"},
           .container = "10.67.1.3"}});
  CHECK(rules.find("tcp dport 31000 dnat to 10.67.1.3:8080") != std::string::npos);
}
