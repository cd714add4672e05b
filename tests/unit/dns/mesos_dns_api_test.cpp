#include "dns/core/mesos_dns_api.hpp"

#include "dns_support.hpp"

using namespace muster;
using namespace muster::dns;
using namespace muster::dns::testing;

TEST_SUITE_BEGIN("dns/mesos-dns api");

namespace {

// The cluster of Mesos-DNS's own manual (docs/http.md), as it would have been.
ClusterDelta cluster() {
  ClusterDelta delta = complete_delta();
  Task task = make_task("nginx.48dccce7-90bc-11e6-ae70-70b3d5800001", "nginx");
  task.agent_id = AgentId{"20150812-S1"};
  task.discovery_name = "nginx";
  task.agent_addresses = {ip("10.10.0.93")};
  task.addresses = {ip("10.10.0.93")};
  task.host_ports = {port(7564)};
  task.ports = {{.name = "nginx",
                 .protocol = "tcp",
                 .number = port(7564),
                 .discovery = true,
                 .container_port = {},
                 .endpoints = {},
                 .vips = {}}};
  delta.tasks.push_back(came(task));
  delta.frameworks.push_back(came(Framework{FrameworkId{"fw-1"}, "marathon", "h", std::nullopt}));
  delta.frameworks.push_back(came(Framework{FrameworkId{"fw-2"}, "metronome", "h", std::nullopt}));
  return delta;
}

std::string instance() {
  return instance_label("nginx", TaskId{"nginx.48dccce7-90bc-11e6-ae70-70b3d5800001"},
                        AgentId{"20150812-S1"});
}

MesosDnsSettings settings() {
  MesosDnsSettings out;
  out.masters = {"http://10.0.0.1:5050"};
  out.resolvers = {"8.8.8.8:53"};
  out.zone_resolvers = {{"weave", {"172.17.0.1:53"}}};
  out.ip_sources = {"netinfo", "host"};
  out.domain = "mesos";
  out.file = "/etc/muster/\"odd\"\n";
  out.listener = "0.0.0.0";
  out.http_listener = "127.0.0.1";
  out.soa_mname = "ns1.mesos.";
  out.soa_rname = "root.ns1.mesos.";
  out.refresh_seconds = 1;
  out.ttl = 60;
  out.timeout = 5;
  out.soa_refresh = 60;
  out.soa_retry = 600;
  out.soa_expire = 86400;
  out.soa_minimum = 1;
  out.port = 53;
  out.http_port = 8123;
  return out;
}

}  // namespace

TEST_CASE("/v1/version and /v1/config have Mesos-DNS's keys, and no secret") {
  CHECK(mesos_dns_api::version("1.2") ==
        "{\"Service\":\"Mesos-DNS\",\"URL\":\"https://github.com/mesosphere/mesos-dns\","
        "\"Version\":\"muster 1.2\"}\n");
  CHECK(
      mesos_dns_api::config(settings(), 42) ==
      R"({"RefreshSeconds":1,"Port":53,"Timeout":5,"StateTimeoutSeconds":5,)"
      R"("ZkDetectionTimeout":0,"HttpPort":8123,"TTL":60,"SRVRecordDefaultWeight":1,)"
      R"("SOASerial":42,"SOARefresh":60,"SOARetry":600,"SOAExpire":86400,"SOAMinttl":1,)"
      R"("SOAMname":"ns1.mesos.","SOARname":"root.ns1.mesos.","Masters":["http://10.0.0.1:5050"],)"
      R"("ZoneResolvers":{"weave":["172.17.0.1:53"]},"Resolvers":["8.8.8.8:53"],)"
      R"("IPSources":["netinfo","host"],"Zk":"","Domain":"mesos",)"
      R"("File":"/etc/muster/\"odd\"\n","Listener":"0.0.0.0","HTTPListener":"127.0.0.1",)"
      R"("RecurseOn":true,"DnsOn":true,"HttpOn":true,"ExternalOn":true,"EnforceRFC952":false,)"
      R"("SetTruncateBit":true,"EnumerationOn":true,"MesosHTTPSOn":false,"CACertFile":"",)"
      R"("CertFile":"","KeyFile":"","MesosCredentials":{"Principal":"","Secret":""},)"
      R"("IAMConfigFile":"","MesosAuthentication":""})"
      "\n");
}

TEST_CASE("/v1/hosts gives every address, and one empty element for a miss") {
  Catalog catalog{{}};
  const auto zones = catalog.apply(cluster());
  struct Row {
    std::string host;
    std::string expected;
  };
  const std::string miss = "[{\"host\":\"\",\"ip\":\"\"}]\n";
  const std::string found = "[{\"host\":\"nginx.marathon.mesos.\",\"ip\":\"10.10.0.93\"}]\n";
  const std::vector<Row> rows{
      {"", miss},
      {"..", miss},
      {std::string(300, 'a'), miss},
      {"nobody.marathon.mesos", miss},
      {"www.example.com", miss},
      {"_nginx._tcp.marathon.mesos", miss},
      {"nginx.marathon.mesos", found},
      {"nginx.marathon.mesos.", found},
      {"NGINX.Marathon.mesos", found},
      {"nginx.*.marathon.mesos", found},
  };
  for (const Row& row : rows) {
    CAPTURE(row.host);
    CHECK(mesos_dns_api::hosts(*zones, row.host) == row.expected);
  }
}

TEST_CASE("/v1/services gives target, address and port as text, and one empty element for a miss") {
  Catalog catalog{{}};
  const auto zones = catalog.apply(cluster());
  CHECK(mesos_dns_api::services(*zones, "_nginx._tcp.marathon.mesos.") ==
        "[{\"service\":\"_nginx._tcp.marathon.mesos.\",\"host\":\"" + instance() +
            ".marathon.mesos.\",\"ip\":\"10.10.0.93\",\"port\":\"7564\"}]\n");
  for (const char* const miss : {"", "nginx.marathon.mesos", "_x._tcp.marathon.mesos", "a..b"}) {
    CAPTURE(std::string{miss});
    CHECK(mesos_dns_api::services(*zones, miss) ==
          "[{\"service\":\"\",\"host\":\"\",\"ip\":\"\",\"port\":\"\"}]\n");
  }
}

TEST_CASE("/v1/enumerate lists frameworks, tasks and their records, those without tasks too") {
  const ClusterDelta delta = cluster();
  Catalog catalog{{}};
  catalog.apply(delta);
  std::vector<std::shared_ptr<const Framework>> frameworks;
  for (const auto& change : delta.frameworks) frameworks.push_back(change.after);
  std::vector<std::shared_ptr<const Task>> tasks{delta.tasks[0].after};
  Task waiting = *delta.tasks[0].after;
  waiting.state = TaskState::staging;
  tasks.push_back(std::make_shared<const Task>(waiting));
  const std::string i = instance();
  const auto record = [](const std::string& owner, const std::string& host,
                         const std::string& rtype) {
    return "{\"name\":\"" + owner + "\",\"host\":\"" + host + "\",\"rtype\":\"" + rtype + "\"}";
  };
  const std::string text = mesos_dns_api::enumerate(frameworks, tasks, catalog.suffixes());
  CHECK(
      text.starts_with("{\"frameworks\":[{\"tasks\":[{\"name\":\"nginx\",\"id\":"
                       "\"nginx.48dccce7-90bc-11e6-ae70-70b3d5800001\",\"records\":[{"));
  CHECK(text.ends_with("]}],\"name\":\"marathon\"},{\"tasks\":[],\"name\":\"metronome\"}]}\n"));
  const std::string slave = i + ".marathon.slave.mesos.";
  for (const std::string& expected :
       {record("nginx.marathon.mesos.", "10.10.0.93", "A"),
        record(i + ".marathon.mesos.", "10.10.0.93", "A"),
        record("nginx.marathon.slave.mesos.", "10.10.0.93", "A"), record(slave, "10.10.0.93", "A"),
        record("_nginx._tcp.marathon.slave.mesos.", slave + ":7564", "SRV"),
        record("_nginx._udp.marathon.slave.mesos.", slave + ":7564", "SRV"),
        record("_nginx._tcp.marathon.mesos.", i + ".marathon.mesos.:7564", "SRV"),
        record("_nginx._nginx._tcp.marathon.mesos.", i + ".marathon.mesos.:7564", "SRV")}) {
    CAPTURE(expected);
    CHECK(text.find(expected) != std::string::npos);
  }
  std::size_t count = 0;
  for (std::size_t at = text.find("\"rtype\""); at != std::string::npos;
       at = text.find("\"rtype\"", at + 1)) {
    ++count;
  }
  CHECK(count == 8);
  CHECK(mesos_dns_api::enumerate({}, {}, catalog.suffixes()) == "{\"frameworks\":[]}\n");
}

TEST_CASE("/v1/axfr is the whole domain by name") {
  Catalog catalog{{.node_addresses = {ip("10.10.0.1"), ip("fd00::1")}, .first_serial = 100}};
  ClusterDelta delta = cluster();
  delta.frameworks.clear();
  const auto zones = catalog.apply(delta);
  const std::string i = instance();
  CHECK(mesos_dns_api::axfr(*zones, settings()) ==
        "{\"TTL\":60,\"Serial\":" + std::to_string(zones->serial()) +
            ",\"RefreshSeconds\":1,\"Mname\":\"ns1.mesos.\",\"Rname\":\"root.ns1.mesos.\","
            "\"Domain\":\"mesos\",\"Records\":{\"As\":{\"" +
            i + ".marathon.mesos.\":[\"10.10.0.93\"],\"" + i +
            ".marathon.slave.mesos.\":[\"10.10.0.93\"],"
            "\"nginx.marathon.mesos.\":[\"10.10.0.93\"],"
            "\"nginx.marathon.slave.mesos.\":[\"10.10.0.93\"],\"ns1.mesos.\":[\"10.10.0.1\"]},"
            "\"AAAAs\":{\"ns1.mesos.\":[\"fd00::1\"]},\"SRVs\":{"
            "\"_nginx._nginx._tcp.marathon.mesos.\":[\"" +
            i + ".marathon.mesos.:7564\"],\"_nginx._tcp.marathon.mesos.\":[\"" + i +
            ".marathon.mesos.:7564\"],\"_nginx._tcp.marathon.slave.mesos.\":[\"" + i +
            ".marathon.slave.mesos.:7564\"],\"_nginx._udp.marathon.slave.mesos.\":[\"" + i +
            ".marathon.slave.mesos.:7564\"]}}}\n");
}

TEST_SUITE_END();
