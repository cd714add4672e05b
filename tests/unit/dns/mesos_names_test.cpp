#include <algorithm>

#include "dns/core/mesos_records.hpp"
#include "dns/core/task_hash.hpp"
#include "dns_support.hpp"

using namespace muster;
using namespace muster::dns;
using namespace muster::dns::testing;

TEST_SUITE_BEGIN("dns/names");

namespace {

// Every record as "name type data", without what is there in an empty cluster.
std::vector<std::string> records_of(const ClusterDelta& delta) {
  Catalog empty{{}};
  Catalog catalog{{}};
  catalog.apply(delta);
  std::vector<std::string> out;
  const auto fixed = empty.list(1000);
  for (const RecordView& record : catalog.list(1000)) {
    if (std::find(fixed.begin(), fixed.end(), record) != fixed.end()) continue;
    out.push_back(record.name + ' ' + record.type + ' ' + record.data);
  }
  std::sort(out.begin(), out.end());
  return out;
}

std::vector<std::string> records_of(Task task) {
  ClusterDelta delta;
  delta.tasks.push_back(came(std::move(task)));
  return records_of(delta);
}

// Only those that end in the Mesos domain.
std::vector<std::string> mesos_records_of(Task task) {
  std::vector<std::string> out = records_of(std::move(task));
  std::erase_if(out, [](const std::string& line) {
    return !line.substr(0, line.find(' ')).ends_with(".mesos.");
  });
  return out;
}

TaskPort discovery_port(std::string_view port_name, std::string_view protocol, std::uint16_t number,
                        std::vector<Endpoint> endpoints = {}) {
  TaskPort out{.name = std::string{port_name},
               .protocol = std::string{protocol},
               .number = port(number),
               .discovery = true,
               .container_port = {},
               .endpoints = std::move(endpoints),
               .vips = {}};
  return out;
}

using Lines = std::vector<std::string>;

}  // namespace

TEST_CASE("a task's hash is the one Mesos-DNS makes") {
  CHECK(task_hash("test") == "iffe9");
  CHECK(task_hash("docker-on-bridge.0ef76549-2630-11e8-af52-70b3d5800001").size() == 5);
  const auto digest = sha1("abc");
  CHECK(digest[0] == 0xA9);
  CHECK(digest[19] == 0x9D);
  CHECK(sha1(std::string(64, 'a'))[0] == 0x00);
}

TEST_CASE("tasks that must not be in DNS have no record") {
  struct Row {
    std::string what;
    void (*spoil)(Task&);
  };
  const Row rows[] = {
      {"no name", [](Task& task) { task.name.clear(); }},
      {"a name of dashes", [](Task& task) { task.name = "---"; }},
      {"a name of nothing that a label can hold", [](Task& task) { task.name = "$ é"; }},
      {"no framework name", [](Task& task) { task.framework_name.clear(); }},
      {"a framework name of dots", [](Task& task) { task.framework_name = "..."; }},
      {"a framework name over 255 octets",
       [](Task& task) {
         task.framework_name.clear();
         for (int i = 0; i < 130; ++i) task.framework_name += "ab.";
       }},
      {"staging", [](Task& task) { task.state = TaskState::staging; }},
      {"starting", [](Task& task) { task.state = TaskState::starting; }},
      {"killing", [](Task& task) { task.state = TaskState::killing; }},
      {"unreachable", [](Task& task) { task.state = TaskState::unreachable; }},
      {"an agent that is not known", [](Task& task) { task.agent_addresses.clear(); }},
  };
  for (const Row& row : rows) {
    CAPTURE(row.what);
    Task task = make_task("web.1", "web");
    row.spoil(task);
    CHECK(records_of(task) == Lines{});
  }
}

TEST_CASE("a name that cannot be served is a problem that names the task") {
  Catalog catalog{{}};
  ClusterDelta delta;
  delta.tasks.push_back(came(make_task("bad.1", "$$$")));
  catalog.apply(delta);
  const auto problems = catalog.take_problems();
  REQUIRE(problems.size() == 1);
  CHECK(problems[0].where.find("bad.1") != std::string::npos);
  CHECK(catalog.take_problems().empty());
}

TEST_CASE("a task without discovery has Mesos-DNS's names") {
  Task task = make_task("test", "Web_App.v1");
  task.host_ports = {port(31000), port(31001)};
  CHECK(mesos_records_of(task) == Lines{"_web-app-v1._tcp.marathon.mesos. SRV 0 1 31000 "
                                        "web-app-v1-iffe9-s0.marathon.slave.mesos.",
                                        "_web-app-v1._tcp.marathon.mesos. SRV 0 1 31001 "
                                        "web-app-v1-iffe9-s0.marathon.slave.mesos.",
                                        "_web-app-v1._tcp.marathon.slave.mesos. SRV 0 1 31000 "
                                        "web-app-v1-iffe9-s0.marathon.slave.mesos.",
                                        "_web-app-v1._tcp.marathon.slave.mesos. SRV 0 1 31001 "
                                        "web-app-v1-iffe9-s0.marathon.slave.mesos.",
                                        "_web-app-v1._udp.marathon.mesos. SRV 0 1 31000 "
                                        "web-app-v1-iffe9-s0.marathon.slave.mesos.",
                                        "_web-app-v1._udp.marathon.mesos. SRV 0 1 31001 "
                                        "web-app-v1-iffe9-s0.marathon.slave.mesos.",
                                        "_web-app-v1._udp.marathon.slave.mesos. SRV 0 1 31000 "
                                        "web-app-v1-iffe9-s0.marathon.slave.mesos.",
                                        "_web-app-v1._udp.marathon.slave.mesos. SRV 0 1 31001 "
                                        "web-app-v1-iffe9-s0.marathon.slave.mesos.",
                                        "web-app-v1-iffe9-s0.marathon.mesos. A 10.0.0.5",
                                        "web-app-v1-iffe9-s0.marathon.slave.mesos. A 10.0.0.5",
                                        "web-app-v1.marathon.mesos. A 10.0.0.5",
                                        "web-app-v1.marathon.slave.mesos. A 10.0.0.5"});
}

TEST_CASE("a task with discovery has names for its ports, and its un-mangled name too") {
  Task task = make_task("test", "ignored");
  task.discovery_name = "b.a";
  task.host_ports = {port(31000)};
  task.ports = {discovery_port("http", "tcp", 31000, {{ip("10.0.0.5"), port(31000)}})};
  CHECK(mesos_records_of(task) ==
        Lines{"_b-a._tcp.marathon.mesos. SRV 0 1 31000 b-a-iffe9-s0.marathon.mesos.",
              "_b-a._tcp.marathon.slave.mesos. SRV 0 1 31000 b-a-iffe9-s0.marathon.slave.mesos.",
              "_b-a._udp.marathon.slave.mesos. SRV 0 1 31000 b-a-iffe9-s0.marathon.slave.mesos.",
              "_b.a._tcp.marathon.mesos. SRV 0 1 31000 b-a-iffe9-s0.marathon.mesos.",
              "_b.a._tcp.marathon.slave.mesos. SRV 0 1 31000 b-a-iffe9-s0.marathon.slave.mesos.",
              "_b.a._udp.marathon.slave.mesos. SRV 0 1 31000 b-a-iffe9-s0.marathon.slave.mesos.",
              "_http._b-a._tcp.marathon.mesos. SRV 0 1 31000 b-a-iffe9-s0.marathon.mesos.",
              "_http._b.a._tcp.marathon.mesos. SRV 0 1 31000 b-a-iffe9-s0.marathon.mesos.",
              "b-a-iffe9-s0.marathon.mesos. A 10.0.0.5",
              "b-a-iffe9-s0.marathon.slave.mesos. A 10.0.0.5", "b-a.marathon.mesos. A 10.0.0.5",
              "b-a.marathon.slave.mesos. A 10.0.0.5", "b.a-iffe9-s0.marathon.mesos. A 10.0.0.5",
              "b.a-iffe9-s0.marathon.slave.mesos. A 10.0.0.5", "b.a.marathon.mesos. A 10.0.0.5",
              "b.a.marathon.slave.mesos. A 10.0.0.5"});
}

TEST_CASE("an SRV record points at a name that has the address its port is open at") {
  Task task = make_task("test", "x");
  task.discovery_name = "x";
  task.addresses = {ip("172.18.0.2")};
  SUBCASE("docker bridge: the host's port, at the host") {
    task.ports = {discovery_port("", "tcp", 20560, {{ip("10.0.0.5"), port(20560)}})};
    const Lines lines = mesos_records_of(task);
    CHECK(std::count(lines.begin(), lines.end(),
                     "_x._tcp.marathon.mesos. SRV 0 1 20560 x-iffe9-s0.marathon.slave.mesos.") ==
          1);
    CHECK(std::count(lines.begin(), lines.end(), "x-iffe9-s0.marathon.mesos. A 172.18.0.2") == 1);
  }
  SUBCASE("an address of its own: the container's port, at the container") {
    task.ports = {discovery_port("", "tcp", 8080, {{ip("172.18.0.2"), port(8080)}})};
    const Lines lines = mesos_records_of(task);
    CHECK(std::count(lines.begin(), lines.end(),
                     "_x._tcp.marathon.mesos. SRV 0 1 8080 x-iffe9-s0.marathon.mesos.") == 1);
  }
  SUBCASE("two networks: a name with the one address that has the port") {
    task.addresses = {ip("9.0.0.2"), ip("172.18.0.2")};
    task.ports = {discovery_port("", "tcp", 8080, {{ip("9.0.0.2"), port(8080)}})};
    const Lines lines = mesos_records_of(task);
    CHECK(std::count(
              lines.begin(), lines.end(),
              "_x._tcp.marathon.mesos. SRV 0 1 8080 ip-9-0-0-2.x-iffe9-s0.marathon.mesos.") == 1);
    CHECK(std::count(lines.begin(), lines.end(),
                     "ip-9-0-0-2.x-iffe9-s0.marathon.mesos. A 9.0.0.2") == 1);
  }
  SUBCASE("no endpoint known: the declared number, as Mesos-DNS has it") {
    task.ports = {discovery_port("", "udp", 53)};
    const Lines lines = mesos_records_of(task);
    CHECK(std::count(lines.begin(), lines.end(),
                     "_x._udp.marathon.mesos. SRV 0 1 53 x-iffe9-s0.marathon.mesos.") == 1);
  }
}

TEST_CASE("a port without protocol is both, and so are two in one") {
  Task task = make_task("test", "x");
  task.discovery_name = "x";
  for (const char* const protocol : {"", "udp,tcp"}) {
    CAPTURE(protocol);
    task.ports = {discovery_port("", protocol, 80)};
    const Lines lines = mesos_records_of(task);
    for (const char* const owner : {"_x._tcp.marathon.mesos.", "_x._udp.marathon.mesos."}) {
      CHECK(std::count(lines.begin(), lines.end(),
                       std::string{owner} + " SRV 0 1 80 x-iffe9-s0.marathon.mesos.") == 1);
    }
  }
  task.ports = {discovery_port("", "h2c", 80)};
  const Lines lines = mesos_records_of(task);
  CHECK(std::count(lines.begin(), lines.end(),
                   "_x._h2c.marathon.mesos. SRV 0 1 80 x-iffe9-s0.marathon.mesos.") == 1);
}

TEST_CASE("the longest task names can be asked and are answered") {
  Task task = make_task("test", std::string(63, 'n'));
  task.host_ports = {port(31000)};
  ClusterDelta delta = complete_delta();
  delta.tasks.push_back(came(task));
  Catalog catalog{{}};
  const auto zones = catalog.apply(delta);
  const Reply reply = ask(*zones, "_" + std::string(62, 'n') + "._tcp.marathon.mesos", type::kSrv);
  REQUIRE(reply.data(1).size() == 1);
  const std::string target = reply.data(1)[0].substr(reply.data(1)[0].rfind(' ') + 1);
  CHECK(target == std::string(54, 'n') + "-iffe9-s0.marathon.slave.mesos.");
  CHECK(ask(*zones, target, type::kA).data(1) == Lines{"10.0.0.5"});
  CHECK(ask(*zones, std::string(63, 'n') + ".marathon.mesos", type::kA).data(1) ==
        Lines{"10.0.0.5"});
}

TEST_CASE("framework names keep their dots and both families are served") {
  Task task = make_task("test", "node");
  task.framework_name = "Dev/Cassandra.Prod";
  task.addresses = {ip("9.0.0.2"), ip("fd01:b::2:8000:0:2")};
  const Lines lines = mesos_records_of(task);
  CHECK(std::count(lines.begin(), lines.end(), "node.devcassandra.prod.mesos. A 9.0.0.2") == 1);
  CHECK(std::count(lines.begin(), lines.end(),
                   "node.devcassandra.prod.mesos. AAAA fd01:b::2:8000:0:2") == 1);
  CHECK(std::count(lines.begin(), lines.end(), "node.devcassandra.prod.slave.mesos. A 10.0.0.5") ==
        1);
}

TEST_CASE("DC/OS's names for a task, and the reverse of its own address") {
  Task task = make_task("test", "x");
  task.addresses = {ip("172.18.0.2")};
  Lines lines = records_of(task);
  std::erase_if(lines,
                [](const std::string& line) { return line.find(".mesos. ") < line.find(' '); });
  CHECK(lines == Lines{"2.0.18.172.in-addr.arpa. PTR x.marathon.mesos.",
                       "x.marathon.agentip.dcos.thisdcos.directory. A 10.0.0.5",
                       "x.marathon.autoip.dcos.thisdcos.directory. A 172.18.0.2",
                       "x.marathon.containerip.dcos.thisdcos.directory. A 172.18.0.2"});
  task.ports = {discovery_port("", "tcp", 20560, {{ip("10.0.0.5"), port(20560)}})};
  lines = records_of(task);
  CHECK(std::count(lines.begin(), lines.end(),
                   "x.marathon.autoip.dcos.thisdcos.directory. A 10.0.0.5") == 1);
}

TEST_CASE("masters, agents, frameworks and VIPs have their names") {
  ClusterDelta delta;
  // In another order than their addresses', which is what they are numbered by.
  delta.masters = {came(Master{{ip("10.0.0.3"), port(5050)}, "m3", true}),
                   came(Master{{ip("10.0.0.2"), port(5050)}, "m2", false})};
  delta.agents = {came(Agent{AgentId{"a-S0"}, "agent0.example", {ip("10.0.0.5")}, port(5051)}),
                  came(Agent{AgentId{"a-S1"}, "10.0.0.6", {ip("10.0.0.6")}, port(5051)})};
  delta.frameworks = {
      came(Framework{FrameworkId{"f1"}, "marathon", "h", Endpoint{ip("10.0.0.2"), port(15101)}}),
      came(Framework{FrameworkId{"f2"}, "metronome", "10.0.0.2", std::nullopt}),
      came(Framework{FrameworkId{"f3"}, "chronos", "host.example", std::nullopt})};
  delta.vips = {came(VipAllocation{VipName{"web.marathon"}, ip("11.1.2.3"), ip("fd01:c::1")})};
  Lines lines = records_of(delta);
  CHECK(lines ==
        Lines{"1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.c.0.0.0.1.0.d.f.ip6.arpa. PTR "
              "web.marathon.l4lb.thisdcos.directory.",
              "2.0.0.10.in-addr.arpa. PTR m2.",
              "3.0.0.10.in-addr.arpa. PTR m3.",
              "3.2.1.11.in-addr.arpa. PTR web.marathon.l4lb.thisdcos.directory.",
              "5.0.0.10.in-addr.arpa. PTR agent0.example.",
              "_framework._tcp.marathon.mesos. SRV 0 1 15101 marathon.mesos.",
              "_leader._tcp.mesos. SRV 0 1 5050 leader.mesos.",
              "_leader._udp.mesos. SRV 0 1 5050 leader.mesos.",
              "_slave._tcp.mesos. SRV 0 1 5051 slave.mesos.",
              "leader.dcos.thisdcos.directory. A 10.0.0.3",
              "leader.mesos. A 10.0.0.3",
              "marathon.mesos. A 10.0.0.2",
              "master.dcos.thisdcos.directory. A 10.0.0.2",
              "master.dcos.thisdcos.directory. A 10.0.0.3",
              "master.mesos. A 10.0.0.2",
              "master.mesos. A 10.0.0.3",
              "master0.mesos. A 10.0.0.2",
              "master1.mesos. A 10.0.0.3",
              "metronome.mesos. A 10.0.0.2",
              "slave.mesos. A 10.0.0.5",
              "slave.mesos. A 10.0.0.6",
              "web.marathon.l4lb.thisdcos.directory. A 11.1.2.3",
              "web.marathon.l4lb.thisdcos.directory. AAAA fd01:c::1",
              "zk-1.zk. A 10.0.0.2",
              "zk-2.zk. A 10.0.0.3",
              "zk-3.zk. A 10.0.0.2",
              "zk-4.zk. A 10.0.0.3",
              "zk-5.zk. A 10.0.0.2"});
}

TEST_SUITE_END();
