#include <algorithm>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include "cli/import_mesos_dns.hpp"
#include "daemon/config.hpp"

using namespace muster;
using cli::import_mesos_dns_config;

TEST_SUITE_BEGIN("dns/import");

namespace {

bool noted(const cli::ImportedConfig& made, std::string_view key) {
  return std::any_of(made.notes.begin(), made.notes.end(), [&](const std::string& note) {
    return note.starts_with(std::string{key} + ": ");
  });
}

}  // namespace

TEST_CASE("what is no Mesos-DNS configuration is refused, and the key is named") {
  struct Row {
    std::string text;
    std::string expected;
  };
  const std::vector<Row> rows{
      {"", "not JSON"},
      {"{", "not JSON"},
      {"[]", "one JSON object"},
      {"{} x", "not JSON"},
      {"{}", "neither is there"},
      {R"({"masters":"10.0.0.1:5050"})", "Masters: expected a list of strings"},
      {R"({"masters":[1]})", "Masters: expected a list of strings"},
      {R"({"masters":["10.0.0.1"]})", "Masters: expected host:port"},
      {R"({"masters":["a:1"],"port":0})", "Port: expected a whole number from 1 to 65535"},
      {R"({"masters":["a:1"],"port":"53"})", "Port: expected a whole number"},
      {R"({"masters":["a:1"],"ttl":-1})", "TTL: expected"},
      {R"({"masters":["a:1"],"ttl":1.5})", "TTL: expected"},
      {R"({"masters":["a:1"],"domain":7})", "Domain: expected a string"},
      {R"({"masters":["a:1"],"listener":"eth0"})", "Listener: expected an address"},
      {R"({"masters":["a:1"],"resolvers":["dns.example"]})", "Resolvers: expected addresses"},
      {R"({"masters":["a:1"],"zoneResolvers":[]})", "ZoneResolvers: expected an object"},
      {R"({"masters":["a:1"],"zoneResolvers":{"a":"1.1.1.1"}})", "ZoneResolvers: expected a list"},
      {R"({"masters":["a:1"],"externalon":"yes"})", "ExternalOn: expected true or false"},
      {R"({"masters":["a:1"],"mesosCredentials":"x"})", "MesosCredentials: expected an object"},
      {R"({"masters":["a:1"],"mesosAuthentication":"kerberos"})", "mesosAuthentication: expected"},
      {R"({"masters":["a:1"],"SOARefresh":0})", "SOARefresh: expected"},
      {R"({"masters":["a:1"],"httplistener":"x"})", "HTTPListener: expected an address"},
  };
  for (const Row& row : rows) {
    CAPTURE(row.text);
    const auto made = import_mesos_dns_config(row.text);
    REQUIRE_FALSE(made.has_value());
    CAPTURE(made.error());
    CHECK(made.error().find(row.expected) != std::string::npos);
  }
}

TEST_CASE("the least configuration keeps Mesos-DNS's defaults, and muster reads it") {
  const auto made = import_mesos_dns_config(R"({"masters":["10.101.160.15:5050"]})");
  REQUIRE(made.has_value());
  const auto config = daemon::parse_config(made->toml, "imported");
  CHECK(config.mesos.masters == std::vector<std::string>{"http://10.101.160.15:5050"});
  CHECK(config.dns.ttl_seconds == 60);
  CHECK(config.dns.domain == "mesos");
  REQUIRE(config.dns.listen.size() == 1);
  CHECK(to_string(config.dns.listen[0]) == "0.0.0.0:53");
  REQUIRE(config.dns.upstreams.has_value());
  REQUIRE(config.dns.upstreams->size() == 1);
  CHECK(to_string(config.dns.upstreams->front()) == "8.8.8.8:53");
  REQUIRE(config.dns.http_listen.size() == 1);
  CHECK(to_string(config.dns.http_listen[0]) == "0.0.0.0:8123");
  CHECK(made->notes.empty());
}

TEST_CASE("a whole configuration is taken over, and what has no counterpart is named") {
  // The one of Mesos-DNS's manual, with everything else that can be said. Keys in any case.
  const auto made = import_mesos_dns_config(R"({
    "zk": "zk://10.101.160.15:2181/mesos",
    "masters": ["10.101.160.15:5050", "10.101.160.16:5050"],
    "mesosCredentials": {"principal": "my-\"principal\"", "secret": "super-secret"},
    "mesosAuthentication": "basic",
    "refreshSeconds": 60, "stateTimeoutSeconds": 300, "zkDetectionTimeout": 30,
    "TTL": 30, "DOMAIN": "Corp.Mesos", "port": 5353, "resolvers": ["169.254.169.254", "10.0.0.2:54"],
    "zoneResolvers": {"Weave": ["172.17.0.1"]},
    "timeout": 5, "httpon": true, "dnson": true, "httpport": 8124, "externalon": true,
    "listener": "fd00::1", "recurseon": false, "SetTruncateBit": false, "EnumerationOn": false,
    "SOAMname": "ns1.mesos", "SOARname": "root@ns1.mesos", "SOARefresh": 60, "SOARetry": 600,
    "SOAExpire": 86400, "SOAMinttl": 60, "EnforceRFC952": true, "SRVRecordDefaultWeight": 7,
    "IPSources": ["netinfo", "mesos", "docker", "host"], "mesosHTTPSOn": true,
    "CertFile": "/c", "KeyFile": "/k", "email": "root.mesos-dns.mesos"
  })");
  REQUIRE(made.has_value());
  CAPTURE(made->toml);
  const auto config = daemon::parse_config(made->toml, "imported");
  CHECK(config.mesos.masters ==
        std::vector<std::string>{"https://10.101.160.15:5050", "https://10.101.160.16:5050"});
  CHECK(config.mesos.username == "my-\"principal\"");
  CHECK(made->toml.find("super-secret") == std::string::npos);
  CHECK(config.dns.ttl_seconds == 30);
  CHECK(config.dns.domain == "corp.mesos");
  CHECK(to_string(config.dns.listen.at(0)) == "[fd00::1]:5353");
  CHECK(config.dns.upstreams->size() == 2);
  CHECK(config.dns.zones.at("weave").size() == 1);
  CHECK(config.dns.rfc952);
  CHECK(config.dns.srv_weight == 7);
  CHECK_FALSE(config.dns.enumerate);
  CHECK(config.dns.ip_sources == std::vector<std::string>{"netinfo", "host"});
  CHECK(config.dns.soa_mname == "ns1.mesos");
  CHECK(config.dns.soa_rname == "root.ns1.mesos");
  CHECK(config.dns.soa_retry == 600);
  CHECK(to_string(config.dns.http_listen.at(0)) == "0.0.0.0:8124");
  for (const char* const key :
       {"zk", "mesosCredentials", "mesosHTTPSOn", "KeyFile", "RefreshSeconds",
        "StateTimeoutSeconds", "ZkDetectionTimeout", "Timeout", "recurseon", "SetTruncateBit",
        "IPSources", "SOAMinttl", "email"}) {
    CAPTURE(std::string{key});
    CHECK(noted(*made, key));
  }
}

TEST_CASE("nothing is forwarded where Mesos-DNS did not, and an empty list is the system's") {
  const auto off = import_mesos_dns_config(R"({"masters":["a:1"],"externalon":false})");
  REQUIRE(off.has_value());
  const auto none = daemon::parse_config(off->toml, "imported");
  REQUIRE(none.dns.upstreams.has_value());
  CHECK(none.dns.upstreams->empty());
  const auto system = import_mesos_dns_config(R"({"masters":["a:1"],"resolvers":[]})");
  REQUIRE(system.has_value());
  CHECK_FALSE(daemon::parse_config(system->toml, "imported").dns.upstreams.has_value());
}

TEST_CASE("with ZooKeeper alone it is followed, its password left for a file") {
  const auto made = import_mesos_dns_config(R"({"zk":"zk://h:2181/mesos","mesosHTTPSOn":true})");
  REQUIRE(made.has_value());
  CHECK_FALSE(noted(*made, "zk"));
  const auto config = daemon::parse_config(made->toml, "imported");
  CHECK(config.mesos.zookeeper == "zk://h:2181/mesos");
  CHECK(config.mesos.https);
  const auto secret = import_mesos_dns_config(
      R"({"zk":"zk://mesos:hunter2@h,i/mesos","CertFile":"/c","KeyFile":"/k"})");
  REQUIRE(secret.has_value());
  CHECK(noted(*secret, "zk"));
  CHECK(secret->toml.find("hunter2") == std::string::npos);
  const auto second = daemon::parse_config(secret->toml, "imported");
  CHECK(second.mesos.zookeeper == "zk://h:2181,i:2181/mesos");
  CHECK(second.mesos.zk_auth_file == "/etc/muster/zk-auth");
  CHECK(second.mesos.cert_file == "/c");
  CHECK(second.mesos.key_file == "/k");
}

TEST_SUITE_END();
