#include "base/endpoint.hpp"

#include <type_traits>

#include <doctest/doctest.h>

#include "base/id.hpp"

using namespace muster;

static_assert(!std::is_convertible_v<std::string, NodeId>);
static_assert(!std::is_convertible_v<FrameworkId, TaskId>);

TEST_SUITE_BEGIN("base/endpoint");

TEST_CASE("an IPv4 address is four decimal octets and nothing else") {
  struct Row {
    std::string_view text;
    bool valid;
  };
  const Row rows[] = {
      {"0.0.0.0", true},   {"255.255.255.255", true}, {"11.0.0.1", true},   {"", false},
      {"1.2.3", false},    {"1.2.3.4.5", false},      {"1.2.3.256", false}, {"1.2.3.-4", false},
      {"01.2.3.4", false}, {"1.2.3.4 ", false},       {" 1.2.3.4", false},  {"1..3.4", false},
  };
  for (const Row& row : rows) {
    CAPTURE(row.text);
    const auto address = IpAddress::parse(row.text);
    CHECK(address.has_value() == row.valid);
    if (address) CHECK(address->to_string() == row.text);
  }
}

TEST_CASE("IPv6 text is read by RFC 4291 and written by RFC 5952") {
  struct Row {
    std::string_view text;
    std::string_view canonical;  // empty: not an address
  };
  const Row rows[] = {
      {"::", "::"},
      {"::1", "::1"},
      {"1::", "1::"},
      {"fd01:c::6D6D:9c64:fd19:f251", "fd01:c::6d6d:9c64:fd19:f251"},
      {"2001:0db8:0000:0000:0001:0000:0000:0001", "2001:db8::1:0:0:1"},
      {"1:0:2:3:4:5:6:7", "1:0:2:3:4:5:6:7"},
      {"0:0:1:0:0:0:0:0", "0:0:1::"},
      {"::ffff:1.2.3.4", "::ffff:102:304"},
      {"1:2:3:4:5:6:1.2.3.4", "1:2:3:4:5:6:102:304"},
      {"1::1.2.3.4:5", ""},
      {"1.2.3.4::", ""},
      {"1:2:3:4:5:6:7", ""},
      {"1:2:3:4:5:6:7:8:9", ""},
      {"1:2:3:4::5:6:7:8", ""},
      {"::1::", ""},
      {":::", ""},
      {":1", ""},
      {"1:", ""},
      {"12345::", ""},
      {"g::", ""},
      {"-1::", ""},
      {"+1::", ""},
      {"0x1::", ""},
      {"[::1]", ""},
      {"fe80::1%eth0", ""},
      {"fd01::1/64", ""},
  };
  for (const Row& row : rows) {
    CAPTURE(row.text);
    const auto address = IpAddress::parse(row.text);
    CHECK(address.has_value() == !row.canonical.empty());
    if (address) {
      CHECK(address->to_string() == row.canonical);
      CHECK(IpAddress::parse(address->to_string()) == address);
    }
  }
}

TEST_CASE("an endpoint puts IPv6 into brackets and insists on them") {
  CHECK(to_string(*Endpoint::parse("10.0.0.1:80")) == "10.0.0.1:80");
  CHECK(to_string(*Endpoint::parse("[fd01::1]:80")) == "[fd01::1]:80");
  for (const auto* text : {"", ":80", "10.0.0.1", "10.0.0.1:", "10.0.0.1:0", "10.0.0.1:65536",
                           "10.0.0.1:+80", "fd01::1:80", "[10.0.0.1]:80", "[fd01::1]", "x:80"}) {
    CAPTURE(text);
    CHECK_FALSE(Endpoint::parse(text));
  }
}

TEST_CASE("zero is not a port") {
  CHECK_FALSE(Port::from(0));
  CHECK_FALSE(Port::from(65536));
  CHECK(Port::from(65535)->number() == 65535);
}

TEST_CASE("addresses that no packet can be sent to are told apart") {
  for (const auto* text : {"0.0.0.0", "255.255.255.255", "224.0.0.1", "::", "ff02::1", "fe80::1"}) {
    CAPTURE(text);
    CHECK_FALSE(IpAddress::parse(text)->is_unicast());
  }
  for (const auto* text : {"10.0.0.1", "169.254.1.1", "fd01::1", "2001:db8::1"}) {
    CAPTURE(text);
    CHECK(IpAddress::parse(text)->is_unicast());
  }
  CHECK(IpAddress::parse("127.9.9.9")->is_loopback());
  CHECK(IpAddress::parse("::1")->is_loopback());
}

TEST_SUITE_END();
