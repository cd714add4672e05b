#include "dev/app.hpp"

#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>

#include <doctest/doctest.h>

using namespace muster::dev;

TEST_CASE("what is wrong in an app definition is named with its place") {
  struct Row {
    std::string what;
    const char* json;
    const char* where;
    const char* says;
  };
  const Row rows[] = {
      {"nothing", "", "line 1, column 1", "not JSON"},
      {"half a document", "{\"id\":\n \"/a\",", "line 2, column 7", "not JSON"},
      {"two documents", R"({"id":"/a","cmd":"x"} {})", "after the end", "one JSON document"},
      {"a number", "7", "/", "expected an app"},
      {"no app", "[]", "/", "no app"},
      {"no id", R"({"cmd":"x"})", "/", "needs an id"},
      {"a list inside", R"([{"id":"/a","cmd":"x"},3])", "/1", "expected an app"},
      {"capital letters", R"({"id":"/Web","cmd":"x"})", "/id", "lower-case"},
      {"an empty part", R"({"id":"/a//b","cmd":"x"})", "/id", "lower-case"},
      {"the root", R"({"id":"/","cmd":"x"})", "/id", "lower-case"},
      {"a dash last", R"({"id":"/a-","cmd":"x"})", "/id", "lower-case"},
      {"two dots", R"({"id":"/a..b","cmd":"x"})", "/id", "lower-case"},
      {"twice", R"([{"id":"/a","cmd":"x"},{"id":"a","cmd":"x"}])", "/", "there twice"},
      {"no command", R"({"id":"/a"})", "/", "cmd or args"},
      {"both", R"({"id":"/a","cmd":"x","args":["y"]})", "/args", "not both"},
      {"a NUL", "{\"id\":\"/a\",\"cmd\":\"x\\u0000y\"}", "/cmd", "NUL"},
      {"cmd a list", R"({"id":"/a","cmd":["x"]})", "/cmd", "expected a string, not a list"},
      {"a slip", R"({"id":"/a","cmd":"x","instance":2})", "/instance", "did you mean instances?"},
      {"unknown", R"({"id":"/a","cmd":"x","zookeeper":2})", "/zookeeper", "unknown field"},
      {"instances", R"({"id":"/a","cmd":"x","instances":-1})", "/instances", "0 to 1000, not -1"},
      {"instances half", R"({"id":"/a","cmd":"x","instances":1.5})", "/instances", "not 1.5"},
      {"too many", R"({"id":"/a","cmd":"x","instances":1001})", "/instances", "0 to 1000"},
      {"cpus", R"({"id":"/a","cmd":"x","cpus":"1"})", "/cpus", "expected a number"},
      {"port range", R"({"id":"/a","cmd":"x","portDefinitions":[{},{"port":65536}]})",
       "/portDefinitions/1/port", "0 to 65535"},
      {"port text", R"({"id":"/a","cmd":"x","portDefinitions":[{"port":"http"}]})",
       "/portDefinitions/0/port", "not \"http\""},
      {"protocol", R"({"id":"/a","cmd":"x","portDefinitions":[{"protocol":"sctp"}]})",
       "/portDefinitions/0/protocol", "udp,tcp"},
      {"protocol comma", R"({"id":"/a","cmd":"x","portDefinitions":[{"protocol":"tcp,"}]})",
       "/portDefinitions/0/protocol", "udp,tcp"},
      {"a label's value", R"({"id":"/a","cmd":"x","portDefinitions":[{"labels":{"VIP_0":80}}]})",
       "/portDefinitions/0/labels/VIP_0", "expected a string, not 80"},
      {"a label without one", R"({"id":"/a","cmd":"x","labels":{"k":null}})", "/labels",
       "\"k\" has no value"},
      {"a slash in a key", R"({"id":"/a","cmd":"x","labels":{"a/b":1}})", "/labels/a~1b",
       "expected a string"},
      {"mappings on the host",
       R"({"id":"/a","cmd":"x","container":{"portMappings":[{"containerPort":80}]}})",
       "/container/portMappings", "container/bridge"},
      {"definitions in a container",
       R"({"id":"/a","cmd":"x","networks":[{"mode":"container"}],"portDefinitions":[]})",
       "/portDefinitions", "portMappings"},
      {"both kinds of ports",
       R"({"id":"/a","cmd":"x","networks":[{"mode":"container/bridge"}],"portDefinitions":[],
           "container":{"portMappings":[]}})",
       "/portDefinitions", "not both"},
      {"two networks", R"({"id":"/a","cmd":"x","networks":[{"name":"a"},{"name":"b"}]})",
       "/networks/1", "one"},
      {"a mode", R"({"id":"/a","cmd":"x","networks":[{"mode":"bridge"}]})", "/networks/0/mode",
       "container/bridge"},
      {"a container's type", R"({"id":"/a","cmd":"x","container":{"type":"LXC"}})",
       "/container/type", "MESOS"},
      {"a mapping to nowhere",
       R"({"id":"/a","cmd":"x","networks":[{"mode":"container"}],
           "container":{"portMappings":[{"name":"x"}]}})",
       "/container/portMappings/0", "containerPort"},
      {"a check's kind", R"({"id":"/a","cmd":"x","healthChecks":[{"protocol":"GRPC"}]})",
       "/healthChecks/0/protocol", "MESOS_HTTP"},
      {"a check's port",
       R"({"id":"/a","cmd":"x","healthChecks":[{"protocol":"MESOS_TCP","portIndex":1}]})",
       "/healthChecks/0/portIndex", "0 to 0"},
      {"a check without ports",
       R"({"id":"/a","cmd":"x","portDefinitions":[],"healthChecks":[{"protocol":"MESOS_TCP"}]})",
       "/healthChecks/0", "no ports"},
      {"a command check", R"({"id":"/a","cmd":"x","healthChecks":[{"protocol":"COMMAND"}]})",
       "/healthChecks/0", "command"},
      {"a check's path",
       R"({"id":"/a","cmd":"x","healthChecks":[{"protocol":"MESOS_HTTP","path":"a b"}]})",
       "/healthChecks/0/path", "/health"},
      {"two Mesos checks",
       R"({"id":"/a","cmd":"x","healthChecks":[{"protocol":"MESOS_TCP"},{"protocol":"MESOS_TCP"}]})",
       "/healthChecks/1", "one health check"},
      {"a secret", R"({"id":"/a","cmd":"x","env":{"A":{"secret":"s"}}})", "/env/A", "secret"},
      {"a variable's name", R"({"id":"/a","cmd":"x","env":{"A=B":"c"}})", "/env/A=B", "'='"},
      {"pods", R"({"id":"/g","apps":[],"pods":[{}]})", "/pods", "pods"},
      {"in a group", R"({"id":"/g","apps":[{"id":"a","cmd":"x","cpus":-1}]})", "/apps/0/cpus",
       "0.0 to"},
  };
  for (const Row& row : rows) {
    CAPTURE(row.what);
    const auto result = parse_apps(row.json);
    REQUIRE(result.has_error());
    CHECK(result.error().where == row.where);
    CHECK_MESSAGE(result.error().what.find(row.says) != std::string::npos, result.error().what);
  }
}

TEST_CASE("groups nested for ever end in an error") {
  std::string text;
  for (int i = 0; i < 500; ++i) text += "[";
  CHECK(parse_apps(text).has_error());
  for (int i = 0; i < 500; ++i) text += "]";
  CHECK(parse_apps(text).has_error());
}

TEST_CASE("a group gives its apps their full names") {
  const auto result = parse_apps(R"({"id": "/prod", "apps": [{"id": "web", "cmd": "x"},
    {"id": "/elsewhere", "cmd": "x"}],
    "groups": [{"id": "db", "apps": [{"id": "main", "args": ["x", "y"]}]}]})");
  REQUIRE(result.has_value());
  REQUIRE(result->apps.size() == 3);
  CHECK(result->apps[0].id == "/prod/web");
  CHECK(result->apps[1].id == "/elsewhere");
  CHECK(result->apps[2].id == "/prod/db/main");
  CHECK(result->apps[2].args == std::vector<std::string>{"x", "y"});
}

TEST_CASE("ports mean what they mean to Marathon") {
  const auto ports = [](const std::string& members) {
    const auto result = parse_apps(R"({"id": "/a", "cmd": "x")" + members + "}");
    REQUIRE_MESSAGE(result.has_value(), result.error().what);
    return result->apps[0].ports;
  };
  SUBCASE("none named: one, called default") {
    const auto all = ports("");
    REQUIRE(all.size() == 1);
    CHECK(all[0].name == "default");
  }
  SUBCASE("none wanted") {
    CHECK(ports(R"(, "portDefinitions": [])").empty());
  }
  SUBCASE("a number without requirePorts is a service port") {
    CHECK_FALSE(ports(R"(, "portDefinitions": [{"port": 10000}])")[0].fixed_host_port);
    CHECK(ports(R"(, "requirePorts": true, "ports": [8080])")[0].fixed_host_port == 8080);
  }
  SUBCASE("both protocols") {
    CHECK(ports(R"(, "portDefinitions": [{"protocol": "udp,tcp"}])")[0].protocols ==
          std::vector<std::string>{"udp", "tcp"});
  }
  SUBCASE("a bridge gives host ports, a container network does not") {
    const std::string mapping =
        R"("container": {"portMappings": [{"containerPort": 80}]}, "networks": [{"mode": ")";
    CHECK(ports(", " + mapping + R"(container/bridge"}])")[0].wants_host_port);
    CHECK_FALSE(ports(", " + mapping + R"(container"}])")[0].wants_host_port);
  }
  SUBCASE("Docker's own way to say it") {
    const auto all = ports(R"(, "container": {"type": "DOCKER", "docker": {"image": "i",
      "network": "BRIDGE", "portMappings": [{"containerPort": 80, "hostPort": 31999}]}})");
    CHECK(all[0].fixed_host_port == 31999);
    CHECK(all[0].container_port == 80);
  }
}

TEST_CASE("what has no effect here is said, not refused") {
  const auto result = parse_apps(R"({"id": "/a", "cmd": "x", "upgradeStrategy": {},
    "constraints": [["hostname", "UNIQUE"]], "healthChecks": [{"protocol": "HTTP"}]})");
  REQUIRE(result.has_value());
  CHECK(result->notices ==
        std::vector<std::string>{"/upgradeStrategy: has no effect here",
                                 "/constraints: has no effect here",
                                 "/healthChecks/0: Marathon's own check: Mesos never sees its "
                                 "result"});
  CHECK_FALSE(result->apps[0].health->by_mesos);
}

TEST_CASE("every example is a good definition") {
  unsigned examples = 0;
  for (const auto& entry :
       std::filesystem::directory_iterator{std::string{MUSTER_SOURCE_DIR} + "/examples"}) {
    if (entry.path().extension() != ".json") continue;
    CAPTURE(entry.path().string());
    ++examples;
    std::ifstream file{entry.path()};
    const auto result = parse_apps(std::string{std::istreambuf_iterator<char>{file}, {}});
    REQUIRE_MESSAGE(result.has_value(), result.error().where, ": ", result.error().what);
    CHECK(result->notices.empty());
  }
  CHECK(examples >= 3);
}

TEST_CASE("task names are app ids from the leaf to the root") {
  CHECK(marathon_name("/web") == "web");
  CHECK(marathon_name("/a/b") == "b.a");
  CHECK(marathon_name("/a/b.c/d") == "d.b.c.a");
}
