#include "mesos/core/vip_label.hpp"

#include <optional>
#include <string>

#include <doctest/doctest.h>

using namespace muster;
using namespace muster::mesos;

namespace {

std::string shown(const VipLabel& label) {
  const std::string port = ":" + std::to_string(label.port.number());
  if (const auto* name = std::get_if<VipName>(&label.host)) return name->str() + port;
  return to_string(Endpoint{std::get<IpAddress>(label.host), label.port});
}

}  // namespace

TEST_SUITE_BEGIN("mesos/core/vip_label");

TEST_CASE("a VIP value that cannot be meant is refused, and says why") {
  struct Row {
    std::string value;
    VipLabelError error;
    std::string framework = "marathon";
  };
  const Row rows[] = {
      {"", VipLabelError::no_port},
      {"web", VipLabelError::no_port},
      {"/web:", VipLabelError::no_port},
      {"/web:0", VipLabelError::no_port},
      {"/web:65536", VipLabelError::no_port},
      {"/web:-80", VipLabelError::no_port},
      {"/web:+80", VipLabelError::no_port},
      {"/web: 80", VipLabelError::no_port},
      {"/web:80x", VipLabelError::no_port},
      {"/web:http", VipLabelError::no_port},
      {"/web:99999999999999999999", VipLabelError::no_port},
      {":80", VipLabelError::empty_name},
      {"/:80", VipLabelError::empty_name},
      {"/...:80", VipLabelError::empty_name},
      {"/web:80", VipLabelError::empty_name, "///"},
      {"0.0.0.0:80", VipLabelError::bad_address},
      {"127.0.0.1:80", VipLabelError::bad_address},
      {"224.0.0.1:80", VipLabelError::bad_address},
      {"255.255.255.255:80", VipLabelError::bad_address},
      {"::1:80", VipLabelError::bad_address},
      {"[::]:80", VipLabelError::bad_address},
      {"[ff02::1]:80", VipLabelError::bad_address},
      {"[10.0.0.1]:80", VipLabelError::bad_address},
      {"[web]:80", VipLabelError::bad_address},
      {"[fd01::1/64]:80", VipLabelError::bad_address},
      {"/" + std::string(600, 'a') + ":80", VipLabelError::too_long},
      {"/" +
           [] {
             std::string dotted;
             for (int i = 0; i < 110; ++i) dotted += "a.";
             return dotted;
           }() +
           ":80",
       VipLabelError::too_long},
  };
  for (const Row& row : rows) {
    CAPTURE(row.value);
    const auto parsed = parse_vip_value(row.value, Protocol::tcp, row.framework);
    REQUIRE_FALSE(parsed.has_value());
    CHECK(parsed.error() == row.error);
  }
}

TEST_CASE("a VIP value is a name or an address, split at the last colon") {
  struct Row {
    const char* value;
    const char* framework;
    const char* vip;
  };
  const Row rows[] = {
      {"/web:80", "marathon", "web.marathon:80"},
      {"web:80", "marathon", "web.marathon:80"},
      {"/WEB:65535", "Marathon", "web.marathon:65535"},
      {"/mygroup/myapp:80", "marathon", "mygroupmyapp.marathon:80"},
      {"/api.hello-world:80", "dev/hello.world", "api.hello-world.devhello.world:80"},
      {"http://foo:80", "marathon", "httpfoo.marathon:80"},
      {"under_score:1", "m", "under-score.m:1"},
      {"1.2.3:80", "marathon", "1.2.3.marathon:80"},
      {"1.2.3.4:5000", "marathon", "1.2.3.4:5000"},
      {"fd01:c::1:80", "marathon", "[fd01:c::1]:80"},
      {"[fd01:c::1]:80", "marathon", "[fd01:c::1]:80"},
      {"invalid-port::1234", "marathon", "invalid-port.marathon:1234"},
  };
  for (const Row& row : rows) {
    CAPTURE(row.value);
    const auto parsed = parse_vip_value(row.value, Protocol::udp, row.framework);
    REQUIRE(parsed.has_value());
    CHECK(shown(*parsed) == row.vip);
    CHECK(parsed->protocol == Protocol::udp);
  }
}

TEST_CASE("only keys that start with VIP or vip declare one") {
  CHECK(is_vip_key("VIP_0"));
  CHECK(is_vip_key("vip_0"));
  CHECK(is_vip_key("VIP_3a1f"));
  CHECK(is_vip_key("VIPx"));
  CHECK_FALSE(is_vip_key("Vip_0"));
  CHECK_FALSE(is_vip_key("MY_VIP_0"));
  CHECK_FALSE(is_vip_key("VI"));
}

TEST_CASE("a key that ends in _POLICY is about a VIP and declares none") {
  CHECK(is_policy_key("VIP_0_POLICY"));
  CHECK(is_policy_key("vip_0_policy"));
  CHECK(is_policy_key("VIP_POLICY"));
  CHECK_FALSE(is_policy_key("VIP_0"));
  CHECK_FALSE(is_policy_key("_POLICY"));
  CHECK_FALSE(is_policy_key("VIP_0POLICY"));
  CHECK(vip_key_of("VIP_0_POLICY") == "VIP_0");
}

TEST_CASE("a policy is words, each of which is refused alone") {
  using Spread = VipPolicy::Spread;
  using Locality = VipPolicy::Locality;
  struct Row {
    std::string value;
    VipPolicy policy;
    std::vector<std::string> bad = {};
  };
  const Row rows[] = {
      {"", {}},
      {" , ", {}},
      {"random", {.spread = Spread::random}},
      {"source_hash,eject=off", {.spread = Spread::source_hash, .eject = false}},
      {"round_robin, affinity=10m, locality=zone",
       {.spread = Spread::round_robin, .locality = Locality::zone, .affinity_seconds = 600}},
      {"random round_robin", {.spread = Spread::round_robin}},
      {"locality=node eject=off eject=on", {.locality = Locality::node}},
      {"affinity=1s", {.affinity_seconds = 1}},
      {"affinity=24h", {.affinity_seconds = 86400}},
      {"slow_start=30s", {.slow_start_seconds = 30}},
      {"slow_start=1h affinity=2m", {.affinity_seconds = 120, .slow_start_seconds = 3600}},
      {"slow_start=61m slow_start=0s slow_start slow_start=",
       {},
       {"slow_start=61m", "slow_start=0s", "slow_start", "slow_start="}},
      {"Random affinity=0s affinity=25h affinity=10 affinity=-1s affinity=s affinity=1d",
       {},
       {"Random", "affinity=0s", "affinity=25h", "affinity=10", "affinity=-1s", "affinity=s",
        "affinity=1d"}},
      {"wlc, affinity=99999999999999999999h, round_robin",
       {.spread = Spread::round_robin},
       {"wlc", "affinity=99999999999999999999h"}},
      {std::string(600, 'a'), {}, {std::string(512, 'a')}},
  };
  for (const Row& row : rows) {
    CAPTURE(row.value);
    std::vector<std::string> bad;
    CHECK(parse_vip_policy(row.value, bad) == row.policy);
    CHECK(bad == row.bad);
  }
}

TEST_CASE("udp is udp, both are both and anything else is balanced as tcp") {
  using P = std::vector<Protocol>;
  CHECK(vip_protocols("") == P{Protocol::tcp});
  CHECK(vip_protocols("tcp") == P{Protocol::tcp});
  CHECK(vip_protocols("udp") == P{Protocol::udp});
  CHECK(vip_protocols("udp,tcp") == P{Protocol::tcp, Protocol::udp});
  CHECK(vip_protocols("tcp, udp") == P{Protocol::tcp, Protocol::udp});
  CHECK(vip_protocols("h2c") == P{Protocol::tcp});
  CHECK(vip_protocols("udp,h2c") == P{Protocol::tcp, Protocol::udp});
  CHECK(vip_protocols(",") == P{Protocol::tcp});
}

TEST_SUITE_END();
