// Cookies, access lists, rate limits and the query log.
#include "base/byte_writer.hpp"
#include "dns/core/access.hpp"
#include "dns/core/cookie.hpp"
#include "dns/core/query_log.hpp"
#include "dns/core/rate_limit.hpp"
#include "dns_support.hpp"

using namespace muster;
using namespace muster::dns;
using namespace muster::dns::testing;

TEST_SUITE_BEGIN("dns/guards");

namespace {

Bytes hex(std::string_view text) {
  Bytes out;
  for (std::size_t i = 0; i + 1 < text.size(); i += 2) {
    out.push_back(static_cast<std::byte>(std::stoi(std::string{text.substr(i, 2)}, nullptr, 16)));
  }
  return out;
}

Cookies::Secret secret(std::string_view text) {
  Cookies::Secret out{};
  const Bytes octets = hex(text);
  REQUIRE(octets.size() == out.size());
  std::copy(octets.begin(), octets.end(), out.begin());
  return out;
}

Bytes address(std::string_view text) {
  const IpAddress at = ip(text);
  const auto octets = std::as_bytes(at.octets());
  return {octets.begin(), octets.end()};
}

}  // namespace

TEST_CASE("server cookies are those of RFC 9018's examples") {
  const Cookies old{secret("e5e973e5a6b2a43f48e7dc849e37bfcf")};
  const Bytes client = hex("2464c4abcf10c957");
  const auto made = old.make(client, address("198.51.100.100"), 1559731985);
  CHECK(Bytes{made.begin(), made.end()} == hex("010000005cf79f111f8130c3eee29480"));
  const Cookies later{secret("445536bcd2513298075a5d379663c962")};
  const auto six = later.make(hex("22681ab97d52c298"),
                              address("2001:db8:220:1:59de:d0f4:8769:82b8"), 1559741961);
  CHECK(Bytes{six.begin(), six.end()} == hex("010000005cf7c609a6bb79d16625507a"));
}

TEST_CASE("a cookie counts for its client, its address, its secret and an hour") {
  const Cookies cookies{secret("e5e973e5a6b2a43f48e7dc849e37bfcf")};
  const Cookies others{secret("00000000000000000000000000000000")};
  const Bytes client = hex("2464c4abcf10c957");
  const Bytes from = address("198.51.100.100");
  constexpr std::uint32_t kNow = 1'700'000'000;
  const auto made = cookies.make(client, from, kNow);
  CHECK(cookies.valid(client, made, from, kNow));
  CHECK(cookies.valid(client, made, from, kNow + 3600));
  CHECK_FALSE(cookies.valid(client, made, from, kNow + 3601));
  CHECK_FALSE(cookies.valid(client, made, from, kNow - 301));
  CHECK_FALSE(cookies.valid(client, made, address("198.51.100.101"), kNow));
  CHECK_FALSE(cookies.valid(hex("2464c4abcf10c958"), made, from, kNow));
  CHECK_FALSE(others.valid(client, made, from, kNow));
  CHECK_FALSE(cookies.valid(client, std::span{made}.first(15), from, kNow));
  CHECK_FALSE(cookies.valid(client, {}, from, kNow));
  auto forged = made;
  forged[15] ^= std::byte{1};
  CHECK_FALSE(cookies.valid(client, forged, from, kNow));
}

TEST_CASE("a reply carries the client's cookie and a server cookie that is good next time") {
  Catalog catalog{{}};
  const auto zones = catalog.apply(complete_delta());
  const Cookies cookies{secret("e5e973e5a6b2a43f48e7dc849e37bfcf")};
  const Bytes from = address("10.0.0.9");
  const auto asked = [&](const Bytes& cookie, std::uint32_t now) {
    Bytes message = make_query(name("mesos"), type::kSoa, {.id = 1});
    ByteWriter option;
    option.u16(10);
    option.u16(static_cast<std::uint16_t>(cookie.size()));
    option.raw(cookie);
    message[message.size() - 1] = static_cast<std::byte>(option.size());
    message.insert(message.end(), option.bytes().begin(), option.bytes().end());
    Bytes out(kDefaultUdpSize);
    Query query;
    const Answer made =
        answer(message, *zones, {.cookies = &cookies, .client = from, .now = now}, out, query);
    REQUIRE(made.size > 24);
    REQUIRE(parse_reply(std::span{out}.first(made.size)).has_value());
    // OPT is last and the cookie its only option.
    return std::pair{made.cookie_valid,
                     Bytes{out.begin() + static_cast<std::ptrdiff_t>(made.size) - 24,
                           out.begin() + static_cast<std::ptrdiff_t>(made.size)}};
  };
  const auto [first_valid, cookie] = asked(bytes_of("8octets!"), 1000);
  CHECK_FALSE(first_valid);
  CHECK(Bytes{cookie.begin(), cookie.begin() + 8} == bytes_of("8octets!"));
  const auto [valid, same] = asked(cookie, 1100);
  CHECK(valid);
  CHECK(same == cookie);
  const auto [old_valid, renewed] = asked(cookie, 1000 + 1900);
  CHECK(old_valid);
  CHECK(renewed != cookie);
}

TEST_CASE("networks are read as they are written, and nothing else is") {
  struct Row {
    std::string text;
    bool good;
  };
  const std::vector<Row> rows{{"", false},
                              {"/", false},
                              {"10.0.0.0/", false},
                              {"10.0.0.0/33", false},
                              {"10.0.0.0/-1", false},
                              {"10.0.0.0/8x", false},
                              {"10.1.0.0/8", false},
                              {"fd00::/129", false},
                              {"fd00::1/64", false},
                              {"a/8", false},
                              {"10.0.0.0/8", true},
                              {"0.0.0.0/0", true},
                              {"10.1.2.3", true},
                              {"10.1.2.3/32", true},
                              {"fd00::/8", true},
                              {"::/0", true}};
  for (const Row& row : rows) {
    CAPTURE(row.text);
    CHECK(Prefix::parse(row.text).has_value() == row.good);
  }
}

TEST_CASE("an access list allows what its networks hold, mapped addresses too") {
  const AccessList list{
      {*Prefix::parse("10.0.0.0/9"), *Prefix::parse("fd00::/8"), *Prefix::parse("192.0.2.1")}};
  for (const char* const good :
       {"10.0.0.1", "10.127.255.255", "fdff::1", "192.0.2.1", "::ffff:10.0.0.1"}) {
    CAPTURE(std::string{good});
    CHECK(list.allows(ip(good)));
  }
  for (const char* const bad : {"10.128.0.0", "11.0.0.0", "fc00::1", "192.0.2.2", "::1"}) {
    CAPTURE(std::string{bad});
    CHECK_FALSE(list.allows(ip(bad)));
  }
  CHECK_FALSE(AccessList{}.allows(ip("127.0.0.1")));
  const AccessList open{{*Prefix::parse("0.0.0.0/0")}};
  CHECK(open.allows(ip("8.8.8.8")));
  CHECK_FALSE(open.allows(ip("2001:db8::1")));
  CHECK(AccessList{private_networks()}.allows(ip("172.31.0.1")));
  CHECK_FALSE(AccessList{private_networks()}.allows(ip("8.8.8.8")));
}

TEST_CASE("a network over its rate is dropped and slipped in turn, others are not touched") {
  using Verdict = RateLimit::Verdict;
  TimePoint now{std::chrono::hours{1}};
  RateLimit limit{10, 7};
  for (int i = 0; i < 10; ++i) CHECK(limit.take(ip("192.0.2.1"), now) == Verdict::pass);
  CHECK(limit.take(ip("192.0.2.77"), now) == Verdict::slip);
  CHECK(limit.take(ip("192.0.2.1"), now) == Verdict::drop);
  CHECK(limit.take(ip("192.0.2.1"), now) == Verdict::slip);
  CHECK(limit.take(ip("198.51.100.1"), now) == Verdict::pass);
  now += std::chrono::milliseconds{100};
  CHECK(limit.take(ip("192.0.2.1"), now) == Verdict::pass);
  CHECK(limit.take(ip("192.0.2.1"), now) == Verdict::drop);
  now += std::chrono::seconds{5};
  for (int i = 0; i < 10; ++i) CHECK(limit.take(ip("192.0.2.1"), now) == Verdict::pass);
  CHECK(limit.take(ip("192.0.2.1"), now) != Verdict::pass);
  RateLimit none{0, 7};
  CHECK(none.take(ip("192.0.2.1"), now) == Verdict::pass);
}

TEST_CASE("the query log takes one of so many, a bounded number a second, and counts the rest") {
  std::vector<std::string> lines;
  QueryLog log{3, [&](const std::string& line) { lines.push_back(line); }};
  TimePoint now{std::chrono::hours{1}};
  const std::string begin = QueryLog::begin(
      {ip("192.0.2.1"), Transport::tcp, std::string_view{"\x04\x1b[1m\x05mesos\0", 12}, 33});
  CHECK(begin == "dns: query client=192.0.2.1 transport=tcp name=\\027[1m.mesos. type=SRV");
  int taken = 0;
  for (unsigned i = 0; i < 6 * QueryLog::kMaxLinesASecond; ++i) taken += log.take(now) ? 1 : 0;
  CHECK(taken == QueryLog::kMaxLinesASecond);
  log.finish(begin, {"zone", rcode::kNxDomain, 93, true});
  log.finish("x", {"nowhere"});
  REQUIRE(lines.size() == 2);
  CHECK(lines[0] == begin + " rcode=NXDOMAIN octets=93 from=zone truncated=yes missed=100");
  CHECK(lines[1] == "x rcode=none octets=0 from=nowhere");
  now += std::chrono::seconds{1};
  CHECK_FALSE(log.take(now));
  CHECK_FALSE(log.take(now));
  CHECK(log.take(now));
  QueryLog none{0, {}};
  CHECK_FALSE(none.take(now));
}

TEST_SUITE_END();
