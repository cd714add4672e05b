#include "dev/load.hpp"

#include <boost/json/parse.hpp>
#include <doctest/doctest.h>

#include "dev/dns_query.hpp"
#include "dev/load_report.hpp"

using namespace muster;
using namespace muster::dev;

namespace {

std::span<const std::uint8_t> octets(const std::string& text) {
  return {reinterpret_cast<const std::uint8_t*>(text.data()), text.size()};
}

/// The query as an answer with one A record of 10.0.0.1.
std::string answered(std::string query) {
  query[2] = static_cast<char>(0x81);
  query[3] = static_cast<char>(0x80);
  query[7] = 1;
  return query + std::string{"\xc0\x0c\0\1\0\1\0\0\0\5\0\4\x0a\0\0\1", 16};
}

}  // namespace

TEST_CASE("names that are none give no query") {
  for (const char* name : {"", ".", "a..b", ".a", "a..", " "}) {
    CAPTURE(name);
    CHECK((std::string_view{name} == " ") == !dns_query(7, name, Family::v4).empty());
  }
  CHECK(dns_query(7, std::string(64, 'a'), Family::v4).empty());
  CHECK_FALSE(dns_query(7, std::string(63, 'a') + ".b.", Family::v4).empty());
}

TEST_CASE("answers cut short or not ours are not believed") {
  const std::string query = dns_query(0x1234, "web.marathon", Family::v4);
  const std::string answer = answered(query);
  const auto good = parse_dns_answer(octets(answer), 0x1234, Family::v4);
  REQUIRE(good);
  REQUIRE(good->addresses.size() == 1);
  CHECK(good->addresses[0].to_string() == "10.0.0.1");
  CHECK_FALSE(parse_dns_answer(octets(answer), 0x1235, Family::v4));
  CHECK_FALSE(parse_dns_answer(octets(query), 0x1234, Family::v4));  // a question
  CHECK(parse_dns_answer(octets(answer), 0x1234, Family::v6)->addresses.empty());
  for (std::size_t size = 0; size < answer.size(); ++size) {
    CAPTURE(size);
    const std::string part = answer.substr(0, size);
    CHECK_FALSE(parse_dns_answer(octets(part), 0x1234, Family::v4));
  }
}

TEST_CASE("nameservers are read as glibc reads them") {
  CHECK(nameservers("").front().to_string() == "127.0.0.1");
  CHECK(
      nameservers("nameserver\nnameservers 1.2.3.4\n# nameserver 9.9.9.9\n").front().to_string() ==
      "127.0.0.1");
  const auto two = nameservers("search x\nnameserver \t10.66.0.1 # mine\nnameserver fd66::1");
  REQUIRE(two.size() == 2);
  CHECK(two[1].to_string() == "fd66::1");
  CHECK(nameservers("nameserver 1.1.1.1\nnameserver 1.1.1.2\nnameserver 1.1.1.3\n"
                    "nameserver 1.1.1.4\n")
            .size() == 3);
}

TEST_CASE("targets that are none are refused") {
  LoadOptions options;
  for (const char* url : {"", "web", "https://web/", "http://", "http:///x", "http://a:0/",
                          "http://a:x/", "http://a:70000", "http://[::1"}) {
    CAPTURE(url);
    CHECK_THROWS(parse_url(url, options));
  }
  for (const char* target : {"", ":7", "a", "a:", "a:0"}) {
    CAPTURE(target);
    CHECK_THROWS(parse_udp_target(target, options));
  }
  parse_url("http://web.marathon:8080/a/b?c", options);
  CHECK(options.host == "web.marathon");
  CHECK(options.port == 8080);
  CHECK(options.path == "/a/b?c");
  parse_url("http://[fd66::1]/", options);
  CHECK(options.host == "fd66::1");
}

TEST_CASE("a failure inside an instance is not counted with those that never reached one") {
  LoadReport report;
  CHECK(report.all_answered());
  for (int i = 1; i <= 100; ++i) {
    report.add({.latency_ms = static_cast<double>(i), .failure = {}, .task = "t1"});
  }
  report.add({.failure = LoadFailure::refused});
  report.add({.at_seconds = 1.5, .failure = LoadFailure::reset, .connected = true});
  report.add({.failure = LoadFailure::timed_out, .connected = true});
  CHECK_FALSE(report.all_answered());
  const auto json = boost::json::parse(report.json(200, 1)).as_object();
  CHECK(json.at("sent").as_int64() == 103);
  CHECK(json.at("answered").as_int64() == 100);
  CHECK(json.at("failed_before_connect").as_object().at("count").as_int64() == 1);
  const auto& after = json.at("failed_after_connect").as_object();
  CHECK(after.at("count").as_int64() == 2);
  CHECK(after.at("kinds").as_object().at("reset").as_int64() == 1);
  CHECK(json.at("answers_by_task").as_object().at("t1").as_int64() == 100);
  CHECK(json.at("latency_ms").as_object().at("p99").as_double() == 99);
  CHECK(json.at("latency_ms").as_object().at("max").as_double() == 100);
  CHECK(report.text().find("failed after connect     2 (reset 1, timed_out 1)") !=
        std::string::npos);
}

TEST_CASE("only the first failures are shown one by one") {
  LoadReport report;
  for (int i = 0; i < 1000; ++i) report.add({.failure = LoadFailure::dns});
  const auto json = boost::json::parse(report.json(1, 1)).as_object();
  CHECK(json.at("failed").as_int64() == 1000);
  CHECK(json.at("first_failures").as_array().size() == LoadReport::kShownFailures);
}
