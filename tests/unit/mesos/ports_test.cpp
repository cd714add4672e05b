#include <string>
#include <vector>

#include <doctest/doctest.h>

#include "cluster_text.hpp"
#include "mesos/core/snapshot.hpp"

using namespace muster;
using namespace muster::mesos;
using namespace muster::mesos::testing;

namespace {

struct Parsed {
  Task task;
  std::vector<Problem> problems;
};

Parsed parse(const TaskText& text, std::string_view agents = kAgentV0) {
  const auto snapshot = parse_state(state_v0(task_v0(text), agents));
  REQUIRE(snapshot.has_value());
  REQUIRE(snapshot->observation.tasks.size() == 1);
  return {snapshot->observation.tasks[0], snapshot->problems.kept()};
}

std::string shown(const VipLabel& vip) {
  const auto* name = std::get_if<VipName>(&vip.host);
  const std::string host =
      name != nullptr ? name->str() : std::get<IpAddress>(vip.host).to_string();
  return std::string{to_string(vip.protocol)} + "/" + host + ":" +
         std::to_string(vip.port.number());
}

/// "31000 in 8080 at 10.0.0.1:31000 for tcp/web.marathon:80", ports by "; ".
std::string shown(const Task& task) {
  std::string out;
  for (const TaskPort& port : task.ports) {
    if (!out.empty()) out += "; ";
    out += std::to_string(port.number.number());
    if (!port.discovery) out += " hidden";
    if (port.container_port) out += " in " + std::to_string(port.container_port->number());
    for (const Endpoint& endpoint : port.endpoints) out += " at " + to_string(endpoint);
    for (const VipLabel& vip : port.vips) out += " for " + shown(vip);
  }
  return out;
}

constexpr const char* kVip = R"({"key":"VIP_0","value":"/web:80"})";

std::string with_labels(const std::string& members, const std::string& labels) {
  return "{" + members + R"(,"labels":{"labels":[)" + labels + "]}}";
}

const std::string kScopeHost = R"(,{"key":"network-scope","value":"host"})";
const std::string kScopeContainer = R"(,{"key":"network-scope","value":"container"})";
constexpr const char* kOverlay =
    R"({"name":"dcos","ip_addresses":[{"protocol":"IPv4","ip_address":"9.0.1.6"},{"protocol":"IPv4","ip_address":"fd01::1:6/64"}]})";
constexpr const char* kBridge = R"({"ip_addresses":[{"ip_address":"172.18.0.2"}]})";

}  // namespace

TEST_SUITE_BEGIN("mesos/core/ports");

TEST_CASE("each network mode has its own backend address") {
  const std::string on_host = with_labels(R"("number":31000,"protocol":"tcp")", kVip);
  const std::string scope_host =
      with_labels(R"("number":31000,"protocol":"tcp")", kVip + kScopeHost);
  const std::string scope_container =
      with_labels(R"("number":8080,"protocol":"tcp")", kVip + kScopeContainer);
  const std::string no_scope_inside = with_labels(R"("number":8080,"protocol":"tcp")", kVip);
  const std::string mapping = R"("port_mappings":[{"host_port":31000,"container_port":8080,)"
                              R"("protocol":"tcp"}])";
  const std::string docker_bridge =
      R"({"type":"DOCKER","docker":{"network":"BRIDGE",)" + mapping + "}}";
  const std::string docker_user_mapped = R"({"type":"DOCKER","docker":{"network":"USER",)" +
                                         mapping + R"(},"network_infos":[{"name":"dcos"}]})";
  const std::string ucr_bridge =
      R"({"type":"MESOS","network_infos":[{"name":"mesos-bridge",)" + mapping + "}]}";
  const std::string pod_bridge =
      R"({"name":"mesos-bridge","ip_addresses":[{"ip_address":"172.31.254.3"}],)" + mapping + "}";
  const char* const docker_host = R"({"type":"DOCKER","docker":{"network":"HOST"}})";
  const char* const docker_user =
      R"({"type":"DOCKER","docker":{"network":"USER"},"network_infos":[{"name":"dcos"}]})";
  const char* const ucr_user = R"({"type":"MESOS","network_infos":[{"name":"dcos"}]})";
  const std::string for_vip = " for tcp/web.marathon:80";
  const std::string at_host = " at 10.0.0.1:31000" + for_vip;
  const std::string at_container = "8080 in 8080 at 9.0.1.6:8080 at [fd01::1:6]:8080" + for_vip;

  struct Row {
    std::string what;
    std::string port, container, networks, expected;
  };
  const std::string agent_network = R"({"ip_addresses":[{"ip_address":"10.0.0.1"}]})";
  const Row rows[] = {
      {"no container, host network", on_host, "", agent_network, "31000" + at_host},
      {"no networks at all, as very old agents", on_host, "", "", "31000" + at_host},
      {"docker on host", on_host, docker_host, agent_network, "31000" + at_host},
      {"UCR on host", on_host, R"({"type":"MESOS"})", agent_network, "31000" + at_host},
      {"docker on bridge", scope_host, docker_bridge, kBridge, "31000 in 8080" + at_host},
      {"docker on bridge, undeclared scope, host's number", on_host, docker_bridge, kBridge,
       "31000 in 8080" + at_host},
      {"docker on bridge, undeclared scope, container's number", no_scope_inside, docker_bridge,
       kBridge, "8080 in 8080" + at_host},
      {"UCR on bridge", scope_host, ucr_bridge, kBridge, "31000 in 8080" + at_host},
      {"docker on an overlay", scope_container, docker_user, kOverlay, at_container},
      {"UCR on an overlay", scope_container, ucr_user, kOverlay, at_container},
      {"overlay, undeclared scope", no_scope_inside, ucr_user, kOverlay, at_container},
      {"overlay with a host port", scope_container, docker_user_mapped, kOverlay,
       "8080 in 8080" + at_host},
      {"pod on host", on_host, "", agent_network, "31000" + at_host},
      {"pod on an overlay", scope_container, "", kOverlay, at_container},
      {"pod on a bridge", scope_host, "", pod_bridge, "31000 in 8080" + at_host},
      {"scope host without any mapping", scope_host, ucr_user, kOverlay, "31000" + at_host},
      {"overlay without an address yet", scope_container, ucr_user, "", "8080 in 8080" + for_vip},
  };
  for (const Row& row : rows) {
    CAPTURE(row.what);
    const auto parsed =
        parse({.ports = row.port, .container = row.container, .networks = row.networks});
    CHECK(shown(parsed.task) == row.expected);
    CHECK(parsed.problems.empty());
  }
}

TEST_CASE("mappings are matched by protocol and number") {
  const std::string container = R"({"type":"DOCKER","docker":{"network":"BRIDGE","port_mappings":[)"
                                R"({"host_port":31001,"container_port":53,"protocol":"udp"},)"
                                R"({"host_port":31002,"container_port":53,"protocol":"TCP"}]}})";
  const std::string ports = R"({"number":53,"protocol":"tcp"},{"number":53,"protocol":"UDP"})";
  const auto parsed = parse({.ports = ports, .container = container, .networks = kBridge});
  CHECK(shown(parsed.task) == "53 in 53 at 10.0.0.1:31002; 53 in 53 at 10.0.0.1:31001");
  CHECK(parsed.task.ports[1].protocol == "udp");
}

TEST_CASE("protocols decide which VIPs a port has") {
  struct Row {
    const char* protocol;
    const char* expected;
  };
  const Row rows[] = {
      {R"(,"protocol":"tcp")", "31000 at 10.0.0.1:31000 for tcp/web.marathon:80"},
      {R"(,"protocol":"UDP")", "31000 at 10.0.0.1:31000 for udp/web.marathon:80"},
      {R"(,"protocol":"udp,tcp")",
       "31000 at 10.0.0.1:31000 for tcp/web.marathon:80 for udp/web.marathon:80"},
      {R"(,"protocol":"h2c")", "31000 at 10.0.0.1:31000 for tcp/web.marathon:80"},
      {"", "31000 at 10.0.0.1:31000 for tcp/web.marathon:80"},
      {R"(,"protocol":7)", "31000 at 10.0.0.1:31000 for tcp/web.marathon:80"},
  };
  for (const Row& row : rows) {
    CAPTURE(row.protocol);
    const auto parsed =
        parse({.ports = with_labels(R"("number":31000)" + std::string{row.protocol}, kVip)});
    CHECK(shown(parsed.task) == row.expected);
    CHECK(parsed.problems.empty());
  }
}

TEST_CASE("a bad label, port or address costs itself and nothing else") {
  const std::string good = with_labels(R"("number":31000,"protocol":"tcp")", kVip);
  const std::string good_shown = "31000 at 10.0.0.1:31000 for tcp/web.marathon:80";
  struct Row {
    std::string what;
    std::string port;
    const char* kind;
    std::string expected = "";
  };
  const Row rows[] = {
      {"no port in the label",
       with_labels(R"("number":31001)", R"({"key":"VIP_0","value":"missing-port"})"), "vip_label",
       "31001 at 10.0.0.1:31001"},
      {"one bad label of two",
       with_labels(R"("number":31001)",
                   R"({"key":"VIP_0","value":"x:0"},{"key":"VIP_1","value":"y:1"})"),
       "vip_label", "31001 at 10.0.0.1:31001 for tcp/y.marathon:1"},
      {"loopback", with_labels(R"("number":31001)", R"({"key":"VIP_0","value":"127.0.0.1:1"})"),
       "vip_label", "31001 at 10.0.0.1:31001"},
      {"value that is no text", with_labels(R"("number":31001)", R"({"key":"VIP_0","value":80})"),
       "vip_label", "31001 at 10.0.0.1:31001"},
      {"number missing", R"({"protocol":"tcp"})", "port"},
      {"number too large", R"({"number":65536})", "port"},
      {"number negative", R"({"number":-1})", "port"},
      {"number as text", R"({"number":"80"})", "port"},
      {"number with a fraction", R"({"number":80.5})", "port"},
      {"not an object", "5", "task"},
      {"an unknown scope",
       with_labels(R"("number":31001)", R"({"key":"network-scope","value":"moon"})"), "port",
       "31001 at 10.0.0.1:31001"},
      {"two scopes",
       with_labels(R"("number":31001)",
                   R"({"key":"network-scope","value":"host"})" + kScopeContainer),
       "port", "31001 at 10.0.0.1:31001"},
      {"a label that is no object", with_labels(R"("number":31001)", "null"), "task",
       "31001 at 10.0.0.1:31001"},
  };
  for (const Row& row : rows) {
    CAPTURE(row.what);
    const auto parsed = parse({.ports = row.port + "," + good});
    CHECK(shown(parsed.task) == (row.expected.empty() ? "" : row.expected + "; ") + good_shown);
    REQUIRE(parsed.problems.size() == 1);
    CHECK(parsed.problems[0].kind == row.kind);
    CHECK(parsed.problems[0].where.find("web.1") != std::string::npos);
  }
}

TEST_CASE("a port without a number yet is left out quietly") {
  const auto parsed = parse({.ports = with_labels(R"("number":0,"protocol":"tcp")", kVip)});
  CHECK(parsed.task.ports.empty());
  CHECK(parsed.problems.empty());
}

TEST_CASE("a number written as a float is a number") {
  CHECK(shown(parse({.ports = R"({"number":31000.0})"}).task) == "31000 at 10.0.0.1:31000");
}

TEST_CASE("the same VIP named twice is one VIP") {
  const auto parsed =
      parse({.ports = with_labels(
                 R"("number":31000)",
                 R"({"key":"VIP_0","value":"/web:80"},{"key":"vip_1","value":"web:80"})")});
  CHECK(shown(parsed.task) == "31000 at 10.0.0.1:31000 for tcp/web.marathon:80");
}

TEST_CASE("task labels vip_portN count the ports of the resources") {
  const std::string ports = with_labels(R"("number":31000,"protocol":"tcp")", kVip) +
                            R"(,{"number":31001,"protocol":"tcp"})";
  const auto parsed = parse(
      {.ports = ports,
       .resources = "[31000-31001, 31005-31005]",
       .labels =
           R"({"key":"vip_port0","value":"tcp://def:80"},{"key":"VIP_PORT1","value":"udp://jkl:81"},)"
           R"({"key":"vip_port2","value":"tcp://10.9.8.7:82"})"});
  CHECK(shown(parsed.task) ==
        "31000 at 10.0.0.1:31000 for tcp/def.marathon:80 for tcp/web.marathon:80; "
        "31001 at 10.0.0.1:31001; "
        "31001 hidden at 10.0.0.1:31001 for udp/jkl.marathon:81; "
        "31005 hidden at 10.0.0.1:31005 for tcp/10.9.8.7:82");
  CHECK(parsed.problems.empty());
  CHECK(parsed.task.host_ports.size() == 3);
}

TEST_CASE("task labels vip_portN that mean nothing cost themselves only") {
  struct Row {
    std::string what;
    const char* label;
    std::size_t problems;
  };
  const Row rows[] = {
      {"beyond the ports", R"({"key":"vip_port1","value":"tcp://def:80"})", 1},
      {"an enormous index", R"({"key":"vip_port99999999999999999999","value":"tcp://d:80"})", 1},
      {"no scheme", R"({"key":"vip_port0","value":"def:80"})", 1},
      {"another scheme", R"({"key":"vip_port0","value":"http://def:80"})", 1},
      {"no VIP in it", R"({"key":"vip_port0","value":"tcp://def"})", 1},
      {"no index", R"({"key":"vip_port","value":"tcp://def:80"})", 0},
      {"plain VIP_0 on the task", R"({"key":"VIP_0","value":"/def:80"})", 0},
  };
  for (const Row& row : rows) {
    CAPTURE(row.what);
    const auto parsed = parse({.resources = "[31000-31000]", .labels = row.label});
    CHECK(parsed.problems.size() == row.problems);
    for (const TaskPort& port : parsed.task.ports) CHECK(port.vips.empty());
  }
}

TEST_CASE("a port of a task in two networks is served in the one it names") {
  const std::string networks =
      R"({"name":"other","ip_addresses":[{"ip_address":"9.0.1.3"}]},{"name":"dcos","ip_addresses":[{"ip_address":"9.0.1.4"}]})";
  const std::string container =
      R"({"type":"MESOS","network_infos":[{"name":"dcos"},{"name":"other"}]})";
  const std::string named =
      with_labels(R"("number":90)", R"({"key":"network-name","value":"dcos"})" + kScopeContainer);
  const std::string unknown =
      with_labels(R"("number":91)", R"({"key":"network-name","value":"moon"})" + kScopeContainer);
  const auto parsed =
      parse({.ports = named + "," + unknown, .container = container, .networks = networks});
  CHECK(shown(parsed.task) == "90 in 90 at 9.0.1.4:90; 91 in 91 at 9.0.1.3:91 at 9.0.1.4:91");
  CHECK(parsed.task.addresses.size() == 2);
}

TEST_CASE("a policy belongs to the VIP under whose key it stands") {
  const auto [task, problems] = parse(
      {.ports = with_labels(
           R"("number":31000,"protocol":"tcp")",
           R"({"key":"VIP_1_POLICY","value":"source_hash, fast"},{"key":"VIP_0","value":"/web:80"},)"
           R"({"key":"VIP_1","value":"/api:80"},{"key":"VIP_9_POLICY","value":"random"})")});
  REQUIRE(task.ports.size() == 1);
  REQUIRE(task.ports[0].vips.size() == 2);
  CHECK(shown(task.ports[0].vips[0]) == "tcp/api.marathon:80");
  CHECK(task.ports[0].vips[0].policy == VipPolicy{.spread = VipPolicy::Spread::source_hash});
  CHECK(task.ports[0].vips[1].policy == VipPolicy{});
  REQUIRE(problems.size() == 1);
  CHECK(problems[0].kind == "vip_policy");
  CHECK(problems[0].what.find("\"fast\"") != std::string::npos);
}

TEST_CASE("bounds keep a hostile task small, and say so") {
  std::string ports;
  for (int i = 0; i < 400; ++i) ports += (i > 0 ? "," : "") + std::string{R"({"number":1})"};
  const auto parsed = parse({.ports = ports, .resources = "[1-65535]"});
  CHECK(parsed.task.ports.size() == kMaxPorts);
  CHECK(parsed.task.host_ports.size() == kMaxHostPorts);
  REQUIRE(parsed.problems.size() == 2);
  CHECK(parsed.problems[0].kind == "limit");
}

TEST_CASE("ranges of ports that are none are skipped alone") {
  const auto parsed = parse({.resources = "[5-4, x, 10, 70000-70001, 12-13, ]"});
  CHECK(parsed.task.host_ports ==
        std::vector<Port>{*Port::from(10), *Port::from(12), *Port::from(13)});
  CHECK(parsed.problems.size() == 4);
}

TEST_SUITE_END();
