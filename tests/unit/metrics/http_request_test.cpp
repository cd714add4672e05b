#include "metrics/http_request.hpp"

#include <string>

#include <doctest/doctest.h>

using namespace muster;
using namespace muster::metrics;

TEST_SUITE_BEGIN("metrics/http_request");

TEST_CASE("a request target is decoded and normalised, or refused") {
  struct Row {
    std::string what;
    std::string target;
    std::optional<std::string> path;
  };
  const std::vector<Row> rows{
      {"empty", "", std::nullopt},
      {"asterisk form", "*", std::nullopt},
      {"no slash", "metrics", std::nullopt},
      {"half an escape", "/a%2", std::nullopt},
      {"an escape that is not hex", "/a%zz", std::nullopt},
      {"a signed escape", "/a%+1", std::nullopt},
      {"an escaped NUL", "/a%00", std::nullopt},
      {"an escaped line end", "/a%0d%0a", std::nullopt},
      {"above the root", "/../etc/passwd", std::nullopt},
      {"above the root, escaped", "/%2e%2e/x", std::nullopt},
      {"above the root after a way down", "/a/../../b", std::nullopt},
      {"another scheme", "ftp://host/x", std::nullopt},
      {"absolute form without a host", "http:///x", std::nullopt},
      {"broken query", "/x?a=%2", std::nullopt},
      {"the root", "/", "/"},
      {"a path", "/v1/tasks", "/v1/tasks"},
      {"a slash at the end", "/v1/tasks/", "/v1/tasks"},
      {"doubled slashes", "//v1///tasks", "/v1/tasks"},
      {"dots", "/v1/./x/../tasks", "/v1/tasks"},
      {"escapes", "/v1/hosts/web%2Emarathon", "/v1/hosts/web.marathon"},
      {"plus is itself in a path", "/a+b", "/a+b"},
      {"absolute form", "HTTP://localhost:61421/metrics?x=1", "/metrics"},
      {"absolute form without a path", "http://localhost", "/"},
      {"a fragment", "/metrics#top", "/metrics"},
      {"UTF-8", "/caf%C3%A9", "/caf\xC3\xA9"},
  };
  for (const Row& row : rows) {
    CAPTURE(row.what);
    const auto target = parse_target(row.target);
    CHECK(target.has_value() == row.path.has_value());
    if (target && row.path) CHECK(target->request.path == *row.path);
  }
}

TEST_CASE("a query is split, decoded and bounded, and the first value of a key counts") {
  const auto target = parse_target("/x?a=1&b=two+words&a=2&&c&d=%26%3D&=e");
  REQUIRE(target);
  const std::map<std::string, std::string> expected{
      {"a", "1"}, {"b", "two words"}, {"c", ""}, {"d", "&="}, {"", "e"}};
  CHECK(target->request.query == expected);

  std::string many = "/x?";
  for (std::size_t i = 0; i < kMaxQueryParameters; ++i) many += "k=v&";
  CHECK(parse_target(many));
  CHECK_FALSE(parse_target(many + "k=v"));
}

TEST_CASE("only this host's own names are taken from a Host header") {
  const std::vector<IpAddress> own{*IpAddress::parse("10.0.0.5"), *IpAddress::parse("fd01::5")};
  const std::vector<std::string> names{"Node5.example.com", "fd01::9", ".mesos"};
  struct Row {
    std::string header;
    bool fine;
  };
  const std::vector<Row> rows{
      {"", false},
      {"evil.example.com", false},
      {"localhost.evil.example.com", false},
      {"127.0.0.1.evil.example.com", false},
      {"localhost:port", false},
      {"localhost:0", false},
      {"localhost:1:2", false},
      {"user@localhost", false},
      {"local host", false},
      {"[::1", false},
      {"[::1]x", false},
      {"[]", false},
      {"[127.0.0.1]", false},
      {"10.0.0.6", false},
      {"[fd01::6]", false},
      {"127.0.0.2", false},
      {"localhost", true},
      {"LocalHost:61421", true},
      {"localhost.", true},
      {"127.0.0.1:61421", true},
      {"127.0.0.1:", true},
      {"[::1]:61421", true},
      {"[0:0:0:0:0:0:0:1]", true},
      {"10.0.0.5:80", true},
      {"[fd01::5]:80", true},
      {"node5.EXAMPLE.com", true},
      {"[fd01::9]", true},
      {"leader.MESOS.:8123", true},
      {"a.b.mesos", true},
      {".mesos", false},
      {"mesos", false},
      {"evilmesos", false},
      {"mesos.example.com", false},
  };
  for (const Row& row : rows) {
    CAPTURE(row.header);
    CHECK(is_own_host(host_of(row.header), own, names) == row.fine);
  }
}

TEST_SUITE_END();
