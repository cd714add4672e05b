// What Mesos-DNS and DC/OS let be configured about names and records.
#include <algorithm>

#include "dns/core/mesos_records.hpp"
#include "dns_support.hpp"

using namespace muster;
using namespace muster::dns;
using namespace muster::dns::testing;

TEST_SUITE_BEGIN("dns/settings");

namespace {

std::shared_ptr<const ZoneSnapshot> zones_of(CatalogOptions options, Task task) {
  Catalog catalog{std::move(options)};
  ClusterDelta delta = complete_delta();
  delta.tasks.push_back(came(std::move(task)));
  delta.masters.push_back(came(Master{{ip("10.0.0.1"), port(5050)}, "m1", true}));
  return catalog.apply(delta);
}

using Texts = std::vector<std::string>;

}  // namespace

TEST_CASE("RFC 952 labels are 24 octets that start with a letter, in every name of a task") {
  Task task = make_task("long.1", "7up-a-name-of-more-than-twenty-four-octets");
  task.framework_name = "9.Big_Framework";
  task.host_ports = {port(31000)};
  const auto zones = zones_of({.naming = {.rfc952 = true}}, task);
  // What the cut leaves: 24 octets, and no dash at the end.
  CHECK(ask(*zones, "up-a-name-of-more-than-t.big-framework.mesos", type::kA).data(1) ==
        Texts{"10.0.0.5"});
  CHECK(ask(*zones, "_up-a-name-of-more-than-t._tcp.big-framework.mesos", type::kSrv)
            .data(1)
            .size() == 1);
  CHECK(ask(*zones, "7up-a-name-of-more-than-twenty-four-octets.9.big-framework.mesos", type::kA)
            .rcode == rcode::kNxDomain);
}

TEST_CASE("SRV records have the weight that is asked for") {
  Task task = make_task("web.1", "web");
  task.host_ports = {port(31000)};
  const auto zones = zones_of({.naming = {.srv_weight = 300}}, task);
  const Reply reply = ask(*zones, "_web._tcp.marathon.mesos", type::kSrv);
  REQUIRE(reply.data(1).size() == 1);
  CHECK(reply.data(1)[0].starts_with("0 300 31000 "));
  CHECK(ask(*zones, "_leader._tcp.mesos", type::kSrv).data(1).at(0).starts_with("0 300 5050 "));
}

TEST_CASE("the first IP source with an address gives a task's addresses") {
  Task task = make_task("web.1", "web");
  task.addresses = {ip("172.18.0.2")};
  struct Row {
    std::vector<IpSource> sources;
    bool container;
    Texts expected;
  };
  const std::vector<Row> rows{
      {{IpSource::netinfo, IpSource::host}, true, {"172.18.0.2"}},
      {{IpSource::host, IpSource::netinfo}, true, {"10.0.0.5"}},
      {{IpSource::host}, true, {"10.0.0.5"}},
      {{IpSource::netinfo, IpSource::host}, false, {"10.0.0.5"}},
      {{IpSource::netinfo}, false, {}},
  };
  for (const Row& row : rows) {
    Task with = task;
    if (!row.container) with.addresses.clear();
    const auto zones = zones_of({.naming = {.ip_sources = row.sources}}, with);
    CAPTURE(row.expected.empty());
    CHECK(ask(*zones, "web.marathon.mesos", type::kA).data(1) == row.expected);
    // DC/OS's names say which address they are, whatever the sources.
    CHECK(ask(*zones, "web.marathon.agentip.dcos.thisdcos.directory", type::kA).data(1) ==
          Texts{"10.0.0.5"});
    CHECK(ask(*zones, "web.marathon.containerip.dcos.thisdcos.directory", type::kA).data(1) ==
          Texts{row.container ? "172.18.0.2" : "10.0.0.5"});
  }
}

TEST_CASE("the SOA record says what was configured, and negative answers its minimum") {
  CatalogOptions options;
  options.ttl_seconds = 60;
  options.soa = {.refresh = 61, .retry = 600, .expire = 86401, .minimum = 7};
  options.soa_mname = "dns.corp.example";
  options.soa_rname = "hostmaster.corp.example.";
  options.first_serial = 41;
  const auto zones = zones_of(options, make_task("web.1", "web"));
  const Reply soa = ask(*zones, "mesos", type::kSoa);
  REQUIRE(soa.data(1).size() == 1);
  CHECK(soa.data(1)[0].starts_with("dns.corp.example. hostmaster.corp.example. "));
  CHECK(soa.data(1)[0].ends_with(" 61 600 86401 7"));
  CHECK(soa.records.at(0).ttl == 60);
  CHECK(ask(*zones, "nobody.mesos", type::kA).records.at(0).ttl == 7);
  CHECK(ask(*zones, "mesos", type::kNs).data(1) == Texts{"dns.corp.example."});
  CHECK(ask(*zones, "web.marathon.mesos", type::kA).records.at(0).ttl == 60);
}

TEST_CASE("names below a cluster's key are those of the cluster") {
  const auto zones = zones_of({.cluster_key = "abc123"}, make_task("web.1", "web"));
  for (const char* const owner :
       {"web.marathon.autoip.dcos.abc123.dcos.directory", "leader.mesos.abc123.dcos.directory",
        "web.marathon.mesos.abc123.dcos.directory", "leader.dcos.abc123.dcos.directory"}) {
    CAPTURE(std::string{owner});
    const Reply reply = ask(*zones, owner, type::kA);
    CHECK(reply.rcode == rcode::kNoError);
    CHECK(reply.data(1).size() == 1);
    CHECK(reply.records.at(0).owner == std::string{owner} + '.');
  }
  CHECK(ask(*zones, "x.mesos.abc123.dcos.directory", type::kA).rcode == rcode::kNxDomain);
  const Bytes other = make_query(name("leader.mesos.other.dcos.directory"), type::kA, {});
  Bytes out(kDefaultUdpSize);
  Query query;
  CHECK(answer(other, *zones, {}, out, query).kind == Answer::Kind::forward);
}

TEST_CASE("this node's public addresses and its loopback's reverse are there") {
  const auto zones = zones_of({.public_addresses = {ip("203.0.113.9"), ip("2001:db8::9")}},
                              make_task("web.1", "web"));
  CHECK(ask(*zones, "public.thisnode.thisdcos.directory", type::kA).data(1) ==
        Texts{"203.0.113.9"});
  CHECK(ask(*zones, "public.thisnode.thisdcos.global", type::kAaaa).data(1) ==
        Texts{"2001:db8::9"});
  CHECK(ask(*zones, "1.0.0.127.in-addr.arpa", type::kPtr).data(1) == Texts{"localhost."});
  CHECK(ask(*zones, "1.0.0.10.in-addr.arpa", type::kPtr).data(1) == Texts{"m1."});
}

TEST_CASE("CNAMEs lead through our zones, under aliases too, and stop where others' begin") {
  CatalogOptions options;
  options.cnames = {{"registry.component.thisdcos.directory", "master.mesos.thisdcos.directory"},
                    {"twice.thisdcos.directory", "registry.component.thisdcos.directory"},
                    {"out.thisdcos.directory", "www.example.com"},
                    {"nobody.thisdcos.directory", "nobody.mesos"},
                    {"loop1.thisdcos.directory", "loop2.thisdcos.directory"},
                    {"loop2.thisdcos.directory", "loop1.thisdcos.directory"},
                    {"db.mesos", "web.marathon.mesos"}};
  const auto zones = zones_of(options, make_task("web.1", "web"));
  const Reply one = ask(*zones, "Registry.component.thisdcos.directory", type::kA);
  CHECK(one.data(1) == Texts{"master.mesos.thisdcos.directory.", "10.0.0.1"});
  CHECK(one.records.at(1).owner == "master.mesos.thisdcos.directory.");
  CHECK(one.authoritative());
  CHECK(ask(*zones, "registry.component.thisdcos.global", type::kA).data(1).size() == 2);
  CHECK(ask(*zones, "twice.thisdcos.directory", type::kA).data(1).size() == 3);
  CHECK(ask(*zones, "db.mesos", type::kA).data(1) == Texts{"web.marathon.mesos.", "10.0.0.5"});
  CHECK(ask(*zones, "db.mesos", type::kCname).data(1) == Texts{"web.marathon.mesos."});
  const Reply out = ask(*zones, "out.thisdcos.directory", type::kA);
  CHECK(out.rcode == rcode::kNoError);
  CHECK(out.data(1) == Texts{"www.example.com."});
  // RFC 6604: the code is the last name's.
  const Reply nobody = ask(*zones, "nobody.thisdcos.directory", type::kA);
  CHECK(nobody.rcode == rcode::kNxDomain);
  CHECK(nobody.data(1).size() == 1);
  REQUIRE(nobody.data(2).size() == 1);
  CHECK(nobody.records.at(1).owner == "mesos.");
  const Reply no_data = ask(*zones, "db.mesos", type::kTxt);
  CHECK(no_data.rcode == rcode::kNoError);
  CHECK(no_data.data(2).size() == 1);
  const Reply loop = ask(*zones, "loop1.thisdcos.directory", type::kA);
  CHECK(loop.rcode == rcode::kServFail);
  CHECK(loop.records.empty());
}

TEST_CASE("what runs goes before a CNAME of the same name, and comes back to it") {
  Catalog catalog{{.cnames = {{"web.marathon.mesos", "leader.mesos"}}}};
  const Task task = make_task("web.1", "web");
  ClusterDelta delta = complete_delta();
  delta.tasks.push_back(came(task));
  const auto with = catalog.apply(delta);
  CHECK(ask(*with, "web.marathon.mesos", type::kA).data(1) == Texts{"10.0.0.5"});
  CHECK(ask(*with, "web.marathon.mesos", type::kCname).data(1).empty());
  delta.tasks = {went(task)};
  const auto without = catalog.apply(delta);
  CHECK(ask(*without, "web.marathon.mesos", type::kCname).data(1) == Texts{"leader.mesos."});
}

TEST_CASE("a CNAME that is no name, or in a place that is not free, is refused with the reason") {
  struct Row {
    std::string owner;
    std::string target;
    std::string reason;
  };
  const std::vector<Row> rows{
      {"", "leader.mesos", "expected a domain name"},
      {"a..b", "leader.mesos", "expected a domain name"},
      {"a.thisdcos.directory", "", "as the target"},
      {"a.l4lb.thisdcos.directory", "leader.mesos", "are the cluster's"},
      {"a.dcos.thisdcos.directory", "leader.mesos", "are the cluster's"},
      {"a.mesos.thisdcos.directory", "leader.mesos", "are the cluster's"},
      {"mesos", "leader.mesos", "expected a name below"},
      {"www.example.com", "leader.mesos", "expected a name below"},
      {"thisdcos.directory", "leader.mesos", "expected a name below"},
  };
  for (const Row& row : rows) {
    CAPTURE(row.owner);
    CHECK(cname_problem({}, row.owner, row.target).find(row.reason) != std::string::npos);
    CHECK_THROWS_AS(Catalog({.cnames = {{row.owner, row.target}}}), std::invalid_argument);
  }
  CHECK(cname_problem({}, "a.b.thisdcos.directory", "www.example.com").empty());
  CHECK(cname_problem({.domain = "corp"}, "a.corp", "www.example.com").empty());
}

TEST_SUITE_END();
