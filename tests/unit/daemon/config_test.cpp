#include "daemon/config.hpp"

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <set>
#include <string>
#include <unistd.h>

#include <doctest/doctest.h>

using namespace muster;
using namespace muster::daemon;

namespace {

std::string error_of(std::string_view text) {
  try {
    (void)parse_config(text, "m.toml");
  } catch (const ConfigError& error) {
    return error.what();
  }
  return "(accepted)";
}

}  // namespace

TEST_SUITE_BEGIN("daemon/config");

TEST_CASE("a wrong configuration is refused with file, line, key and what was expected") {
  struct Row {
    std::string what;
    std::string_view text;
    std::string_view error;
  };
  const std::string_view ok = "[mesos]\nmasters = \"http://10.0.0.1:5050\"\n";
  const Row rows[] = {
      {"nothing at all", "",
       "m.toml: mesos.masters: expected at least one URL like \"http://10.0.0.1:5050\""},
      {"not TOML", "[mesos\n", "m.toml:1: not TOML: "},
      {"a section that does not exist", "[mesos]\nmasters=\"http://a:1\"\n[dsn]\n",
       "m.toml:3: dsn: unknown key; is \"dns\" meant? the sections are node, mesos, dns, gossip, "
       "lb, "
       "metrics, state, control, log"},
      {"a key that does not exist", "[mesos]\nmaster=\"http://a:1\"\n",
       "m.toml:2: mesos.master: unknown key; is \"masters\" meant? [mesos] has masters, "
       "observer, "},
      {"a section that is no table", "mesos = 3\n", "m.toml:1: mesos: expected a table, got 3"},
      {"masters of the wrong type", "[mesos]\nmasters = 5050\n",
       "m.toml:2: mesos.masters: expected URLs like \"http://10.0.0.1:5050\", or one like "
       "\"zk://10.0.0.1:2181/mesos\", got 5050"},
      {"one bad master in a list", "[mesos]\nmasters = [\n \"http://a:1\",\n \"b:2\"]\n",
       "m.toml:4: mesos.masters: expected URLs like"},
      {"who may observe", "[mesos]\nobserver = true\n",
       "m.toml:2: mesos.observer: expected \"auto\", \"yes\" or \"no\", got true"},
      {"a name to join that is none", "[gossip]\njoin = [\"a b\"]\n",
       "m.toml:2: gossip.join: expected an address or name like"},
      {"a port to join that is none", "[gossip]\njoin = [\"node1:99999\"]\n",
       "m.toml:2: gossip.join: expected an address or name like"},
      {"advertising what nobody can reach", "[gossip]\nadvertise = \"0.0.0.0\"\n",
       "m.toml:2: gossip.advertise: expected an address like"},
      {"a cluster without a name", "[gossip]\ncluster = \"\"\n",
       "m.toml:2: gossip.cluster: expected a name of 1 to 64 characters"},
      {"an observer that has nobody to ask", "[mesos]\nobserver = \"yes\"\n[gossip]\n",
       "m.toml: mesos.masters: expected at least one URL"},
      {"a driver that there is not", "[lb]\ndriver = \"xdp\"\n",
       "m.toml:2: lb.driver: expected \"auto\", \"ipvs\", \"nft\" or \"bpf\", got \"xdp\""},
      {"a scheduler that is no name", "[lb]\nipvs_scheduler = \"w l c\"\n",
       "m.toml:2: lb.ipvs_scheduler: expected the name of an IPVS scheduler"},
      {"a ZooKeeper without path, its password left out of what is said",
       "[mesos]\nmasters = \"zk://u:hunter2@a:2181\"\n",
       "m.toml:2: mesos.masters: expected URLs like \"http://10.0.0.1:5050\", or one like "
       "\"zk://10.0.0.1:2181/mesos\", got \"zk://***@a:2181\""},
      {"two ZooKeepers", "[mesos]\nmasters = [\"zk://a/m\",\n \"zk://b/m\"]\n",
       "m.toml:3: mesos.masters: "},
      {"ZooKeeper and masters", "[mesos]\nmasters = [\"zk://a/m\", \"http://b:5050\"]\n",
       "m.toml: mesos.masters: expected masters or one zk:// URL, not both"},
      {"two passwords of ZooKeeper", "[mesos]\nmasters = \"zk://u:p@a/m\"\nzk_auth_file = \"/f\"\n",
       "m.toml: mesos: expected user and password in the zk:// URL or in zk_auth_file"},
      {"https without ZooKeeper", "[mesos]\nmasters = \"http://a:1\"\nhttps = true\n",
       "m.toml: mesos: https and zk_auth_file go with a zk:// URL"},
      {"a certificate without key", "[mesos]\nmasters = \"http://a:1\"\ncert_file = \"/f\"\n",
       "m.toml: mesos: expected both or none of cert_file and key_file"},
      {"a source there is not", "[mesos]\nmasters = \"http://a:1\"\nsource = \"agents\"\n",
       "m.toml:3: mesos.source: expected \"master\" or \"agent\", got"},
      {"an agent that nobody asks",
       "[mesos]\nmasters = \"http://a:1\"\nagent = \"http://a:5051\"\n",
       "m.toml: mesos: agent and agent_* go with source = \"agent\""},
      {"a user of the agent without password",
       "[mesos]\nmasters = \"http://a:1\"\nsource = \"agent\"\nagent_username = \"u\"\n",
       "m.toml: mesos: expected both or none of agent_username and agent_password_file"},
      {"a certificate for the agent without key",
       "[mesos]\nmasters = \"http://a:1\"\nsource = \"agent\"\nagent_cert_file = \"/f\"\n",
       "m.toml: mesos: expected both or none of agent_cert_file and agent_key_file"},
      {"mode", "[mesos]\nmode = \"pull\"\n",
       "m.toml:2: mesos.mode: expected \"stream\" or \"poll\", got \"pull\""},
      {"a duration without unit", "[mesos]\npoll_interval = 5\n",
       "m.toml:2: mesos.poll_interval: expected a duration like \"500ms\", \"5s\" or \"10m\""},
      {"a duration out of range", "[mesos]\npoll_interval = \"1ms\"\n",
       "m.toml:2: mesos.poll_interval: expected a duration"},
      {"two addresses of a family", "[node]\naddress = [\"10.0.0.1\", \"10.0.0.2\"]\n",
       "m.toml:2: node.address: expected one IPv4 and/or one IPv6 address of this node, got "
       "\"10.0.0.2\""},
      {"workers", "[dns]\nworkers = 0\n",
       "m.toml:2: dns.workers: expected a whole number from 1 to 64, got 0"},
      {"listen", "[dns]\nlisten = \"localhost\"\n", "m.toml:2: dns.listen: expected an address"},
      {"domain", "[dns]\ndomain = \"a..b\"\n",
       "m.toml:2: dns.domain: expected a domain name like \"mesos\", got \"a..b\""},
      {"a forward zone's upstream", "[dns.zones]\n\"corp.example\" = \"ns1\"\n",
       "m.toml:2: dns.zones.corp.example: expected an address like \"8.8.8.8\""},
      {"an upstream's name without TLS", "[dns]\nupstreams = \"9.9.9.9#dns.quad9.net\"\n",
       "m.toml:2: dns.upstreams: expected an address like \"8.8.8.8\", \"8.8.8.8:53\" or, over "
       "TLS, "
       "\"tls://9.9.9.9#dns.quad9.net\", or a list of them, got \"9.9.9.9#dns.quad9.net\""},
      {"driver", "[lb]\ndriver = \"ipvs9\"\n",
       "m.toml:2: lb.driver: expected \"auto\", \"ipvs\", \"nft\" or \"bpf\", got \"ipvs9\""},
      {"enabled", "[lb]\nenabled = \"yes\"\n",
       "m.toml:2: lb.enabled: expected true or false, got \"yes\""},
      {"level", "[log]\nlevel = \"loud\"\n", "m.toml:2: log.level: expected \"debug\""},
      {"half of the credentials", "[mesos]\nmasters=\"http://a:1\"\nusername=\"u\"\n",
       "m.toml: mesos: expected both or none of username and password_file"},
  };
  CHECK(error_of(ok) == "(accepted)");
  for (const Row& row : rows) {
    CAPTURE(row.what);
    CHECK(error_of(row.text).substr(0, row.error.size()) == row.error);
  }
}

TEST_CASE("defaults are what the manual says, and values arrive") {
  const Config config = parse_config(R"(
[node]
address = ["10.0.0.1", "fd01::1"]
[mesos]
masters = ["http://10.0.0.1:5050", "https://m2:5050"]
mode = "poll"
poll_interval = "10s"
[dns]
listen = ["127.0.0.1", "[::1]:5353"]
upstreams = []
[dns.zones]
"corp.example" = ["10.9.9.9", "10.9.9.10:5300", "tls://[fd01::9]#ns.corp.example"]
[state]
directory = ""
)",
                                     "m.toml");
  CHECK(config.node.v4->to_string() == "10.0.0.1");
  CHECK(config.node.v6->to_string() == "fd01::1");
  CHECK(config.mesos.masters.size() == 2);
  CHECK(config.mesos.poll);
  CHECK(config.mesos.poll_interval == std::chrono::seconds{10});
  REQUIRE(config.dns.listen.size() == 2);
  CHECK(to_string(config.dns.listen[0]) == "127.0.0.1:53");
  CHECK(to_string(config.dns.listen[1]) == "[::1]:5353");
  REQUIRE(config.dns.upstreams);
  CHECK(config.dns.upstreams->empty());
  CHECK(to_string(config.dns.zones.at("corp.example")[1]) == "10.9.9.10:5300");
  CHECK(to_string(config.dns.zones.at("corp.example")[2]) == "tls://[fd01::9]:853#ns.corp.example");
  CHECK(to_string(config.metrics.listen) == "127.0.0.1:61421");
  CHECK(config.state.directory.empty());

  const Config least = parse_config("[mesos]\nmasters = \"http://10.0.0.1:5050\"\n", "m.toml");
  CHECK_FALSE(least.mesos.poll);
  CHECK_FALSE(least.dns.upstreams);
  REQUIRE(least.dns.listen.size() == 1);
  CHECK(to_string(least.dns.listen[0]) == "127.0.0.1:53");
  CHECK(least.state.directory == "/var/lib/muster");
}

TEST_CASE("a zk:// URL is kept without its password, which is kept apart") {
  const Config config = parse_config(
      "[mesos]\nmasters = \"zk://mesos:s3:cret@10.0.0.1,zk2:2182/mesos\"\nhttps = true\n",
      "m.toml");
  CHECK(config.mesos.masters.empty());
  CHECK(config.mesos.zookeeper == "zk://10.0.0.1:2181,zk2:2182/mesos");
  CHECK(config.mesos.zookeeper_auth == "mesos:s3:cret");
  CHECK(config.mesos.https);
  const Config file = parse_config(
      "[mesos]\nmasters = \"zk://a/mesos\"\nzk_auth_file = \"/etc/muster/zk\"\n"
      "cert_file = \"/c\"\nkey_file = \"/k\"\n",
      "m.toml");
  CHECK(file.mesos.zookeeper_auth.empty());
  CHECK(file.mesos.zk_auth_file == "/etc/muster/zk");
  CHECK(file.mesos.cert_file == "/c");
  CHECK(file.mesos.key_file == "/k");
}

TEST_CASE("files with secrets must be out of others' reach") {
  namespace fs = std::filesystem;
  std::string name = (fs::temp_directory_path() / "muster.XXXXXX").string();
  const fs::path folder = ::mkdtemp(name.data());
  const fs::path path = folder / "muster.toml";
  const auto load_with = [&](unsigned mode, const char* text) {
    std::ofstream{path} << text;
    fs::permissions(path, static_cast<fs::perms>(mode));
    try {
      load_config(path, {});
    } catch (const ConfigError& error) {
      return std::string{error.what()};
    }
    return std::string{"(accepted)"};
  };
  const char* const secret = "[mesos]\nmasters = \"zk://u:hunter2@a/m\"\n";
  const char* const open = "[mesos]\nmasters = \"zk://a/m\"\n";
  for (const unsigned mode : {0600U, 0640U, 0400U, 0440U}) {
    CAPTURE(mode);
    CHECK(load_with(mode, secret) == "(accepted)");
    CHECK(is_private(path));
  }
  for (const unsigned mode : {0644U, 0604U, 0602U, 0660U, 0620U, 0601U}) {
    CAPTURE(mode);
    const std::string error = load_with(mode, secret);
    CHECK(error.find("others can read it") != std::string::npos);
    CHECK(error.find("hunter2") == std::string::npos);
    CHECK_FALSE(is_private(path));
    CHECK(load_with(mode, open) == "(accepted)");
  }
  CHECK_FALSE(is_private(folder / "none"));
  fs::remove_all(folder);
}

TEST_CASE("gossip is on where it is spoken of, and then others may ask the master") {
  CHECK_FALSE(parse_config("[mesos]\nmasters = \"http://a:1\"\n", "m.toml").gossip.enabled);
  const Config config = parse_config(
      "[gossip]\njoin = [\"10.0.0.1\", \"node2.example\", \"[fd00::1]:7\", \"n3:9\"]\nlisten = "
      "\"10.0.0.9\"\n",
      "m.toml");
  CHECK(config.gossip.enabled);
  CHECK(config.mesos.masters.empty());
  const std::vector<std::string> join{"10.0.0.1:61420", "node2.example:61420", "[fd00::1]:7",
                                      "n3:9"};
  CHECK(config.gossip.join == join);
  REQUIRE(config.gossip.listen);
  CHECK(to_string(*config.gossip.listen) == "10.0.0.9:61420");
  const Config off =
      parse_config("[mesos]\nmasters = \"http://a:1\"\n[gossip]\nenabled = false\n", "m.toml");
  CHECK_FALSE(off.gossip.enabled);
}

TEST_CASE("the environment goes over the file, and the command line over both") {
  const std::string_view file =
      "[mesos]\nmasters = \"http://a:1\"\n[dns]\nttl_seconds = 7\nworkers = 2\n";
  Overrides overrides;
  overrides.environment = {{"MUSTER_DNS_TTL_SECONDS", "8"},
                           {"MUSTER_DNS_WORKERS", "3"},
                           {"MUSTER_MESOS_POLL_INTERVAL", "9s"},
                           {"MUSTER_DNS_SOA_REFRESH", "11"},
                           {"MUSTER_GOSSIP_JOIN", "[\"10.0.0.1\", \"10.0.0.2\"]"},
                           {"MUSTER_SEED", "5"}};
  overrides.set = {"dns.ttl_seconds=10", "dns.listen=127.0.0.2",
                   "dns.zones={\"corp.example\" = \"10.9.9.9\"}"};
  const Config config = parse_config(file, "m.toml", overrides);
  CHECK(config.dns.ttl_seconds == 10);
  CHECK(config.dns.workers == 3);
  CHECK(config.dns.soa_refresh == 11);
  CHECK(config.mesos.poll_interval == std::chrono::seconds{9});
  CHECK(config.gossip.join == std::vector<std::string>{"10.0.0.1:61420", "10.0.0.2:61420"});
  CHECK(to_string(config.dns.listen.at(0)) == "127.0.0.2:53");
  CHECK(to_string(config.dns.zones.at("corp.example").at(0)) == "10.9.9.9:53");
}

TEST_CASE("what is wrong outside of the file is said with the place that it came from") {
  const auto error = [](Overrides overrides) -> std::string {
    try {
      (void)parse_config("[mesos]\nmasters = \"http://a:1\"\n", "m.toml", overrides);
    } catch (const ConfigError& thrown) {
      return thrown.what();
    }
    return "(accepted)";
  };
  CHECK(error({.environment = {{"MUSTER_DNS_WORKERS", "none"}}, .set = {}}) ==
        "MUSTER_DNS_WORKERS: dns.workers: expected a whole number from 1 to 64, got \"none\"");
  CHECK(error({.environment = {{"MUSTER_DNS_WORKER", "1"}}, .set = {}}) ==
        "MUSTER_DNS_WORKER: no such option; is MUSTER_DNS_WORKERS meant?");
  CHECK(error({.environment = {}, .set = {"dns.workers=99"}}) ==
        "--set: dns.workers: expected a whole number from 1 to 64, got 99");
  CHECK(error({.environment = {}, .set = {"dns.worker=1"}}) ==
        "--set dns.worker=1: expected an option and its value like dns.ttl_seconds=10; is "
        "dns.workers meant?");
  CHECK(error({.environment = {}, .set = {"dns.workers"}})
            .starts_with("--set dns.workers: expected"));
  CHECK(error({.environment = {}, .set = {"dns.zones={\"a b\" = \"10.0.0.1\"}"}})
            .starts_with("--set: dns.zones.a b: expected a domain name as the key"));
}

TEST_CASE("what is printed as in force reads back as the same, without passwords") {
  const auto path =
      std::filesystem::temp_directory_path() / ("muster-config-test-" + std::to_string(getpid()));
  const auto write = [&](const std::string& text) { std::ofstream{path} << text; };
  write(
      "[mesos]\nmasters = [\"http://me:secret@a:1\"]\n[dns]\nworkers = 2\n[dns.soa]\nretry = 4\n");
  Overrides overrides;
  overrides.environment = {{"MUSTER_LOG_LEVEL", "debug"}};
  const std::string first = print_config(path, overrides);
  CHECK(first.find("secret") == std::string::npos);
  write("[mesos]\nmasters = \"zk://me:sec/r@et@a,b/mesos\"\n");
  CHECK(print_config(path, {}).find("masters = 'zk://***@a,b/mesos'") != std::string::npos);
  CHECK(first.find("\nworkers = 2\n") != std::string::npos);
  CHECK(first.find("\n# ttl_seconds = 5\n") != std::string::npos);
  CHECK(first.find("level = 'debug'  # MUSTER_LOG_LEVEL\n") != std::string::npos);
  write(first);
  const Config config = load_config(path, {});
  CHECK(config.log.level == "debug");
  CHECK(config.dns.soa_retry == 4);
  CHECK_FALSE(config.gossip.enabled);
  std::filesystem::remove(path);
}

TEST_CASE("a new configuration is taken over as far as it can be, and the rest is named") {
  const auto with = [](const std::string& rest) {
    return parse_config("[mesos]\nmasters = \"http://a:1\"\n" + rest, "m.toml");
  };
  Config config = with("[dns]\nworkers = 2\nupstreams = [\"10.0.0.1\"]\nrate_limit = 5\n");
  const Config next = with(
      "[dns]\nworkers = 3\nupstreams = [\"tls://10.0.0.2\"]\nupstream_ca_file = \"/ca.pem\"\n"
      "[log]\nlevel = \"debug\"\n");
  const ConfigChange change = take_live_options(config, next);
  CHECK(change.applied == "dns.upstreams, dns.upstream_ca_file, dns.rate_limit, log.level");
  CHECK(change.later == "dns.workers");
  CHECK(to_string(config.dns.upstreams->at(0)) == "tls://10.0.0.2:853");
  CHECK(config.dns.upstream_ca_file == "/ca.pem");
  CHECK(config.dns.rate_limit == 0);
  CHECK(config.dns.workers == 2);
  CHECK(config.log.level == "debug");
  // What waits for the next start is named again, what is applied is not.
  const ConfigChange again = take_live_options(config, next);
  CHECK(again.applied.empty());
  CHECK(again.later == "dns.workers");
}

TEST_CASE("every option has a meaning, a default and one place") {
  const auto options = config_options();
  CHECK(options.size() > 50);
  std::set<std::string> paths;
  for (const OptionHelp& option : options) {
    CAPTURE(option.path);
    CHECK(paths.insert(option.path).second);
    CHECK_FALSE(option.meaning.empty());
    CHECK_FALSE(option.fallback.empty());
  }
  CHECK(paths.contains("dns.soa.mname"));
  CHECK(paths.contains("dns.zones"));
}

TEST_SUITE_END();
