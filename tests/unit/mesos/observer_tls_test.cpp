#include <chrono>
#include <filesystem>

#include <boost/asio/ssl/context.hpp>
#include <doctest/doctest.h>

#include "cluster_text.hpp"
#include "observer_fixture.hpp"
#include "scripted_zookeeper.hpp"
#include "tests/support/test_certificates.hpp"

using namespace muster;
using namespace muster::mesos;
using namespace muster::mesos::testing;
using muster::testing::TestCertificate;
using muster::testing::TestFolder;
namespace ssl = boost::asio::ssl;

namespace {

Reply streaming() {
  return {{stream_head(),
           chunk(record(subscribed(get_state("", agent_v1("S0", "slave(1)@10.0.0.1:5051"), ""))))},
          true};
}

bool contains(const std::string& text, std::string_view part) {
  return text.find(part) != std::string::npos;
}

/// What a cluster with an authority of its own has.
struct Authority {
  TestFolder folder;
  TestCertificate root = TestCertificate::make("root", nullptr, "");
  TestCertificate client = TestCertificate::make("muster", &root, "", 7200);
  ssl::context server{ssl::context::tls_server};
  std::string ca_file = folder.put("ca.pem", root.certificate_pem());
  std::string cert_file = folder.put("client.pem", client.certificate_pem());
  std::string key_file = folder.put("client.key", client.key_pem());

  explicit Authority(const std::string& names = "IP:127.0.0.1", long valid_seconds = 3600) {
    serve(TestCertificate::make("master", &root, names, valid_seconds));
  }
  void serve(const TestCertificate& with) {
    const std::string chain = with.certificate_pem();
    server.use_certificate_chain({chain.data(), chain.size()});
    const std::string key = with.key_pem();
    server.use_private_key({key.data(), key.size()}, ssl::context::pem);
  }
  void want_client_certificates() {
    server.set_verify_mode(ssl::verify_peer | ssl::verify_fail_if_no_peer_cert);
    server.load_verify_file(ca_file);
  }
};

}  // namespace

TEST_SUITE_BEGIN("mesos/io/observer TLS");

TEST_CASE("a master without a good certificate is not asked, and gets no credentials") {
  struct Row {
    const char* what;
    std::string names;
    long valid_seconds;
    bool own_ca;
    const char* error;
  };
  const Row rows[] = {
      {"another host's", "IP:127.0.0.2,DNS:localhost", 3600, true, "verify failed"},
      {"nobody's", "", 3600, true, "verify failed"},
      {"one that has ended", "IP:127.0.0.1", -60, true, "verify failed"},
      {"one of an authority that is not ours", "IP:127.0.0.1", 3600, false, "cannot connect"},
  };
  for (const Row& row : rows) {
    CAPTURE(row.what);
    Authority authority{row.names, row.valid_seconds};
    Authority other;
    Observed observed{1, &authority.server};
    observed.options.access.ca_file = row.own_ca ? authority.ca_file : other.ca_file;
    observed.options.access.bearer_token = "t0ken";
    observed.master().script = {streaming()};
    observed.start();
    REQUIRE(observed.until(
        [&] { return contains(observed.observer->status().last_error, row.error); }));
    CHECK(observed.master().requests.empty());
    CHECK(observed.seen.empty());
  }
}

TEST_CASE("files that are no certificates are said, and no connection is made") {
  Authority authority;
  Observed observed{1, &authority.server};
  ObserverOptions& options = observed.options;
  options.access.ca_file = authority.ca_file;
  options.access.cert_file = authority.cert_file;
  options.access.key_file = authority.key_file;
  std::string error;
  SUBCASE("no such file") {
    options.access.ca_file = (authority.folder.path() / "none").string();
    error = "ca_file";
  }
  SUBCASE("no certificate in it") {
    options.access.cert_file = authority.folder.put("junk", "junk");
    error = "cert_file";
  }
  SUBCASE("another one's key") {
    options.access.key_file = authority.folder.put("other", authority.root.key_pem());
    error = "key_file";
  }
  SUBCASE("a key that needs a password, which nobody is asked for") {
    options.access.key_file = authority.folder.put("locked", authority.client.key_pem("hunter2"));
    error = "key_file";
  }
  observed.start();
  REQUIRE(observed.until([&] { return contains(observed.observer->status().last_error, error); }));
  CHECK(observed.master().sni.empty());
}

TEST_CASE("a private authority's master is asked by https, and when it ends is a metric") {
  Authority authority;
  Observed observed{1, &authority.server};
  observed.options.access.ca_file = authority.ca_file;
  observed.options.access.bearer_token = "t0ken";
  observed.master().script = {streaming()};
  observed.start();
  REQUIRE(observed.until([&] { return !observed.seen.empty(); }));
  CHECK(contains(observed.master().requests.at(0), "Authorization: Bearer t0ken\r\n"));
  CHECK(observed.master().sni.at(0).empty());  // RFC 6066 §3: an address is no server name
  CHECK(observed.master().shown.empty());
  const std::string metrics = observed.metrics();
  const std::string series = "expiry_timestamp_seconds{certificate=\"master\"} ";
  REQUIRE(contains(metrics, series));
  const double ends = std::stod(metrics.substr(metrics.find(series) + series.size()));
  const auto now =
      std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch());
  CHECK(ends > now.count() + 3000);
  CHECK(ends < now.count() + 4200);
  CHECK_FALSE(contains(metrics, "certificate=\"client\""));
  CHECK_FALSE(contains(metrics, "t0ken"));
}

TEST_CASE("a name is sent as server name and checked") {
  Authority authority{"DNS:localhost"};
  Observed observed{1, &authority.server};
  observed.options.access.ca_file = authority.ca_file;
  observed.options.masters = {
      *MasterUrl::parse("https://localhost:" + std::to_string(observed.master().port()))};
  observed.master().script = {streaming()};
  observed.start();
  REQUIRE(observed.until([&] { return !observed.seen.empty(); }));
  CHECK(observed.master().sni.at(0) == "localhost");
}

TEST_CASE("a master that wants a certificate gets ours") {
  Authority authority;
  authority.want_client_certificates();
  Observed observed{1, &authority.server};
  observed.options.access.ca_file = authority.ca_file;
  observed.master().script = {streaming()};
  SUBCASE("where we have one") {
    observed.options.access.cert_file = authority.cert_file;
    observed.options.access.key_file = authority.key_file;
    observed.start();
    REQUIRE(observed.until([&] { return !observed.seen.empty(); }));
    CHECK(observed.master().shown == "/CN=muster");
    CHECK(contains(observed.metrics(), "certificate=\"client\""));
  }
  SUBCASE("and where we have none it refuses us") {
    observed.start();
    REQUIRE(observed.until([&] { return !observed.observer->status().last_error.empty(); }));
    CHECK(observed.seen.empty());
  }
}

TEST_CASE("a renewed certificate is shown with the next connection") {
  Authority authority;
  authority.want_client_certificates();
  Observed observed{1, &authority.server};
  observed.options.access.ca_file = authority.ca_file;
  observed.options.access.cert_file = authority.cert_file;
  observed.options.access.key_file = authority.key_file;
  observed.master().script = {streaming()};
  observed.start();
  REQUIRE(observed.until([&] { return observed.seen.size() == 1; }));
  const auto next = TestCertificate::make("muster-renewed", &authority.root, "");
  authority.folder.put("client.pem", next.certificate_pem());
  authority.folder.put("client.key", next.key_pem());
  // File systems may count time in steps longer than this test takes.
  for (const std::string& file : {authority.cert_file, authority.key_file}) {
    std::filesystem::last_write_time(
        file, std::filesystem::last_write_time(file) + std::chrono::seconds{5});
  }
  observed.observer->restart();
  REQUIRE(observed.until([&] { return observed.seen.size() == 2; }));
  CHECK(observed.master().shown == "/CN=muster-renewed");
}

TEST_CASE("https is not left for http, wherever a master sends us") {
  Authority authority;
  Observed observed{1, &authority.server};
  observed.options.access.ca_file = authority.ca_file;
  observed.options.access.bearer_token = "t0ken";
  observed.options.masters = {*MasterUrl::parse(observed.master().url())};
  observed.masters.push_back(std::make_unique<ScriptedMaster>(observed.context));
  const ScriptedMaster& plain = observed.master(1);
  observed.master().script = {
      {{answer("307 Temporary Redirect", "Location: " + plain.url() + "\r\n", "")}, false}};
  observed.start();
  REQUIRE(observed.until(
      [&] { return contains(observed.observer->status().last_error, "from https to http"); }));
  CHECK(plain.requests.empty());
}

TEST_SUITE_END();
