#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <unistd.h>

#include <boost/json.hpp>
#include <doctest/doctest.h>

#include "cli/find_vip.hpp"
#include "cli/keys.hpp"
#include "cli/resolv.hpp"
#include "cli/table.hpp"
#include "gossip/io/seal.hpp"

namespace muster::cli {
namespace {

namespace fs = std::filesystem;
namespace json = boost::json;

TEST_CASE("printable text cannot drive a terminal") {
  struct Row {
    std::string what, text, expected;
  };
  const std::vector<Row> rows{
      {"escape", "\x1b[2Jx", "?[2Jx"},
      {"newline and tab", "a\nb\tc", "a?b?c"},
      {"DEL", "a\x7f", "a?"},
      {"C1 control", "a\xc2\x9b", "a??"},
      {"right-to-left override", "a\xe2\x80\xaehgf", "a???hgf"},
      {"isolate", "\xe2\x81\xa6", "???"},
      {"cut short", "a\xe2\x82", "a??"},
      {"overlong", "\xc0\xaf", "??"},
      {"lone continuation", "\x80", "?"},
      {"beyond Unicode", "\xf5\x80\x80\x80", "????"},
      {"letters", "Grüße, 世界 ✓", "Grüße, 世界 ✓"},
  };
  for (const Row& row : rows) {
    CAPTURE(row.what);
    CHECK(printable(row.text) == row.expected);
  }
}

TEST_CASE("a table is as wide as its characters") {
  CHECK(table({{"A", "B"}, {"ü", "x"}, {"long", ""}}) == "A     B\nü     x\nlong\n");
}

json::value vip(const std::string& name, const std::string& address,
                const std::string& protocol = "tcp") {
  return json::object{{"vip", name}, {"address", address}, {"protocol", protocol}};
}

TEST_CASE("a VIP is found by whatever people call it") {
  const json::value vips = json::array{
      vip("web.marathon.l4lb.thisdcos.directory:80", "11.0.0.1:80"),
      vip("web.marathon.l4lb.thisdcos.directory:443", "11.0.0.1:443"),
      vip("web.other.l4lb.thisdcos.directory:80", "11.0.0.2:80"),
      vip("dns.marathon.l4lb.thisdcos.directory:53", "11.0.0.3:53"),
      vip("dns.marathon.l4lb.thisdcos.directory:53", "11.0.0.3:53", "udp"),
      vip("[fd01::5]:80", "[fd01::5]:80"),
      vip("10.9.8.7:80", "10.9.8.7:80"),
  };
  struct Row {
    std::string name;
    std::vector<std::string> expected;
  };
  const std::vector<Row> rows{
      {"", {}},
      {"we", {}},
      {":80", {}},
      {"web.marathon:81", {}},
      {"web", {"web.marathon:80/tcp", "web.marathon:443/tcp", "web.other:80/tcp"}},
      {"web:443", {"web.marathon:443/tcp"}},
      {"web.other", {"web.other:80/tcp"}},
      {"/web.other:80", {"web.other:80/tcp"}},
      {"WEB.Other.l4lb.thisdcos.directory.", {"web.other:80/tcp"}},
      {"dns.marathon:53", {"dns.marathon:53/tcp", "dns.marathon:53/udp"}},
      {"dns:53/udp", {"dns.marathon:53/udp"}},
      {"11.0.0.1", {"web.marathon:80/tcp", "web.marathon:443/tcp"}},
      {"11.0.0.1:443", {"web.marathon:443/tcp"}},
      {"fd01::5", {"fd01::5:80/tcp"}},
      {"[fd01::5]:80/tcp", {"fd01::5:80/tcp"}},
      {"10.9.8.7:80", {"10.9.8.7:80/tcp"}},
  };
  for (const Row& row : rows) {
    CAPTURE(row.name);
    std::vector<std::string> found;
    for (const json::value& each : find_vips(vips, row.name)) found.push_back(label_of(each));
    CHECK(found == row.expected);
  }
}

TEST_CASE("each backend has its reason") {
  const auto task = [](const std::string& id, const std::string& state, const std::string& health,
                       json::array endpoints) {
    return json::object{
        {"id", id},
        {"state", state},
        {"health", health},
        {"ports", json::array{json::object{{"endpoints", std::move(endpoints)},
                                           {"vips", json::array{"web.marathon:80/tcp"}}}}}};
  };
  json::value web = vip("web.marathon.l4lb.thisdcos.directory:80", "11.0.0.1:80");
  web.get_object()["backend"] = json::array{
      json::object{{"endpoint", "10.0.0.1:1"}, {"weight", 1}, {"connections", 7}},
      json::object{{"endpoint", "10.0.0.2:1"}, {"weight", 0}},
      json::object{{"endpoint", "10.0.0.5:1"}, {"weight", 1}},
  };
  const json::value tasks = json::array{
      task("a", "TASK_RUNNING", "healthy", {"10.0.0.1:1"}),
      task("b", "TASK_RUNNING", "unhealthy", {"10.0.0.2:1"}),
      task("c", "TASK_RUNNING", "healthy", {"10.0.0.3:1"}),
      task("d", "TASK_STAGING", "unchecked", {}),
      task("e", "TASK_STARTING", "unchecked", {"10.0.0.4:1"}),
  };
  std::vector<std::string> said;
  for (const BackendState& row : backend_states(web, tasks)) {
    said.push_back(row.endpoint + ' ' + row.state + ": " + row.why + " (" + row.task + ")");
  }
  CHECK(said == std::vector<std::string>{
                    " out: TASK_STAGING, has no address yet (d)",
                    "10.0.0.1:1 in: running, healthy (a)",
                    "10.0.0.2:1 draining: running, unhealthy (b)",
                    "10.0.0.3:1 missing: running, healthy, yet not in the load balancer (c)",
                    "10.0.0.4:1 out: TASK_STARTING (e)",
                    "10.0.0.5:1 in: no task declares it any more ()",
                });
}

TEST_CASE("resolv.conf: muster comes first, what else was there is kept") {
  const IpAddress own{IpAddress::V4{127, 0, 0, 1}};
  const std::string head =
      "# Written by `muster resolv install`; `muster resolv remove` puts the former one back.\n";
  CHECK(resolv_conf_with("", own) == head + "nameserver 127.0.0.1\noptions timeout:1 attempts:3\n");
  CHECK(resolv_conf_with("search a b\nnameserver 1.1.1.1\nnameserver 127.0.0.1\nnameserver "
                         "2.2.2.2\nnameserver 3.3.3.3\n"
                         "options ndots:2 timeout:9 rotate\n",
                         own) == head +
                                     "nameserver 127.0.0.1\nnameserver 1.1.1.1\nnameserver "
                                     "2.2.2.2\nsearch a b\noptions timeout:1 attempts:3 ndots:2\n");
}

struct Root {
  fs::path path = fs::path{MUSTER_SOURCE_DIR} / ("build/resolv-test." + std::to_string(getpid()));
  Root() { fs::create_directories(path / "etc"); }
  ~Root() { fs::remove_all(path); }
  void write(const std::string& text) const { std::ofstream{path / "etc/resolv.conf"} << text; }
  std::string read(const char* file = "etc/resolv.conf") const {
    std::ifstream in{path / file};
    return {std::istreambuf_iterator<char>{in}, {}};
  }
};

TEST_CASE("resolv install and remove leave everything as it was, also when done twice") {
  const Root root;
  const ResolvOptions options{.root = root.path};
  const std::string former = "nameserver 192.0.2.1\n";
  root.write(former);
  for (int i = 0; i < 2; ++i) CHECK(resolv_install(options) == 0);
  CHECK(root.read().find("nameserver 127.0.0.1\nnameserver 192.0.2.1\n") != std::string::npos);
  CHECK((fs::status(root.path / "etc/resolv.conf").permissions() & fs::perms::others_read) !=
        fs::perms::none);
  for (int i = 0; i < 2; ++i) CHECK(resolv_remove(options) == 0);
  CHECK(root.read() == former);
  CHECK(std::distance(fs::directory_iterator{root.path / "etc"}, {}) == 1);
}

TEST_CASE("resolv remove leaves alone what somebody wrote since") {
  const Root root;
  const ResolvOptions options{.root = root.path};
  root.write("nameserver 192.0.2.1\n");
  CHECK(resolv_install(options) == 0);
  root.write("nameserver 192.0.2.9\n");
  CHECK(resolv_remove(options) == 0);
  CHECK(root.read() == "nameserver 192.0.2.9\n");
}

TEST_CASE("resolv install: a link is put back as a link") {
  const Root root;
  const ResolvOptions options{.root = root.path};
  std::ofstream{root.path / "etc/real"} << "nameserver 192.0.2.1\n";
  fs::create_symlink("real", root.path / "etc/resolv.conf");
  CHECK(resolv_install(options) == 0);
  CHECK_FALSE(fs::is_symlink(root.path / "etc/resolv.conf"));
  CHECK(resolv_remove(options) == 0);
  CHECK(fs::read_symlink(root.path / "etc/resolv.conf") == "real");
}

TEST_CASE(
    "resolv install: where systemd-resolved answers it gets a drop-in, and only the cluster's "
    "domains go to muster") {
  const Root root;
  const ResolvOptions options{.root = root.path};
  root.write("nameserver 127.0.0.53\n");
  for (int i = 0; i < 2; ++i) CHECK(resolv_install(options) == 0);
  const char* file = "etc/systemd/resolved.conf.d/muster.conf";
  CHECK(root.read(file).find("DNS=127.0.0.1\nDomains=~mesos ~thisdcos.directory") !=
        std::string::npos);
  CHECK(root.read() == "nameserver 127.0.0.53\n");
  CHECK(resolv_remove(options) == 0);
  CHECK_FALSE(fs::exists(root.path / file));
}

TEST_CASE("keys: a key file is edited line by line, and comments stay") {
  const std::string one(64, '1');
  const std::string two(64, '2');
  const std::string id_one = gossip::key_id(*gossip::parse_key(one));
  const std::string id_two = gossip::key_id(*gossip::parse_key(two));
  CHECK(id_one.size() == 8);
  CHECK(id_one != id_two);
  const std::string file = "# ours\n" + one + "\n";
  const std::string both = with_key(file, two);
  CHECK(both == "# ours\n" + one + "\n" + two + "\n");
  CHECK(with_key(both, two).empty());
  CHECK(with_key(both, "no key").empty());
  CHECK(with_key_first(both, id_two) == "# ours\n" + two + "\n" + one + "\n");
  CHECK(with_key_first(both, id_one) == both);
  CHECK(without_key(both, id_two) == file);
  CHECK(without_key(file, id_one).empty());  // the last one
  CHECK(without_key(both, "00000000").empty());
  std::string full;
  for (char digit = 'a'; digit <= 'f'; ++digit) full += std::string(64, digit) + '\n';
  full = with_key(with_key(full, one), two);
  CHECK_FALSE(full.empty());
  CHECK(with_key(full, std::string(64, '3')).empty());
}

}  // namespace
}  // namespace muster::cli
