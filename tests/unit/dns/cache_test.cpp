#include "base/byte_writer.hpp"
#include "dns/core/forwarder.hpp"
#include "dns/core/reply_cache.hpp"
#include "dns_support.hpp"

using namespace muster;
using namespace muster::dns;
using namespace muster::dns::testing;

TEST_SUITE_BEGIN("dns/cache");

namespace {

using std::chrono::seconds;
constexpr TimePoint kStart{std::chrono::hours{1}};

struct Asked {
  Bytes message;
  Query query;
};

Asked asked(std::string_view owner, std::uint16_t qtype = type::kA,
            QueryOptions options = {.id = 7}) {
  Asked out{make_query(name(owner), qtype, options), {}};
  REQUIRE(parse_query(out.message, out.query) == QueryVerdict::ok);
  return out;
}

// A reply to `to` with `count` addresses, or negative with a SOA record.
Bytes reply_of(const Asked& to, std::uint32_t ttl, unsigned count, std::uint16_t code = 0,
               std::optional<std::uint32_t> soa_minimum = {}) {
  ByteWriter out;
  out.u16(0);
  out.u16(static_cast<std::uint16_t>(0x8580 | code));
  out.u16(1);
  out.u16(static_cast<std::uint16_t>(count));
  out.u16(soa_minimum ? 1 : 0);
  out.u16(to.query.edns ? 1 : 0);
  out.raw(std::span{to.message}.subspan(kHeaderSize, to.query.question_end - kHeaderSize));
  for (unsigned i = 0; i < count; ++i) {
    out.u16(0xC00C);
    out.u16(type::kA);
    out.u16(kClassIn);
    out.u32(ttl);
    out.u16(4);
    out.u32(0xC0000200 + i);
  }
  if (soa_minimum) {
    out.u16(0xC00C);
    out.u16(type::kSoa);
    out.u16(kClassIn);
    out.u32(ttl);
    out.u16(22);
    out.u16(0);  // two root names
    for (const std::uint32_t number : {1U, 2U, 3U, 4U, *soa_minimum}) out.u32(number);
  }
  if (to.query.edns) {
    out.u8(0);
    out.u16(type::kOpt);
    out.u16(1232);
    out.u32(0);
    out.u16(0);
  }
  return std::move(out).release();
}

void keep(ReplyCache& cache, TimePoint now, const Asked& to, const Bytes& reply) {
  const auto shape = walk_reply(reply);
  REQUIRE(shape.has_value());
  cache.store(now, CacheKey{to.query}.view(), reply, *shape);
}

std::optional<Reply> found(ReplyCache& cache, TimePoint now, const Asked& to,
                           std::size_t limit = kDefaultUdpSize) {
  Bytes out(kMaxMessageSize);
  const auto hit = cache.find(now, to.message, to.query, limit, out);
  if (!hit) return std::nullopt;
  const auto reply = parse_reply(std::span{out}.first(hit->size));
  REQUIRE(reply.has_value());
  CHECK(reply->id == to.query.id);
  return reply;
}

}  // namespace

TEST_CASE("a reply is given until its TTL ends, and its TTL counts down") {
  ReplyCache cache{1 << 20};
  const Asked query = asked("www.example");
  CHECK_FALSE(found(cache, kStart, query));
  keep(cache, kStart, query, reply_of(query, 100, 2));
  // Another client spells it in its own way, and gets it back so.
  Asked other = asked("www.example", type::kA, {.id = 9});
  other.message[kHeaderSize + 1] = std::byte{'W'};
  REQUIRE(parse_query(other.message, other.query) == QueryVerdict::ok);
  const auto reply = found(cache, kStart + seconds{30}, other);
  REQUIRE(reply.has_value());
  CHECK(reply->question.substr(1, 3) == "Www");
  CHECK(reply->records.at(0).ttl == 70);
  CHECK(reply->data(1) == std::vector<std::string>{"192.0.2.0", "192.0.2.1"});
  CHECK_FALSE(reply->authoritative());
  CHECK(found(cache, kStart + seconds{99}, query));
  CHECK_FALSE(found(cache, kStart + seconds{100}, query));
}

TEST_CASE("what a reply depends on keeps it apart: type, EDNS, DO, CD, RD") {
  ReplyCache cache{1 << 20};
  const Asked query = asked("www.example");
  keep(cache, kStart, query, reply_of(query, 100, 1));
  CHECK_FALSE(found(cache, kStart, asked("www.example", type::kAaaa)));
  CHECK_FALSE(found(cache, kStart, asked("ww.example")));
  CHECK_FALSE(found(cache, kStart, asked("www.example", type::kA, {.udp_size = 0})));
  CHECK_FALSE(found(cache, kStart, asked("www.example", type::kA, {.dnssec_ok = true})));
  CHECK_FALSE(found(cache, kStart, asked("www.example", type::kA, {.checking_disabled = true})));
  CHECK_FALSE(found(cache, kStart, asked("www.example", type::kA, {.recursion_desired = false})));
}

TEST_CASE("how long a reply is kept follows from what it is") {
  struct Row {
    std::string what;
    std::uint32_t ttl;
    unsigned count;
    std::uint16_t code;
    std::optional<std::uint32_t> minimum;
    int seconds;  // 0: not at all
  };
  const std::vector<Row> rows{
      {"truncated", 100, 1, 0x200, {}, 0},
      {"REFUSED", 100, 0, rcode::kRefused, {}, 0},
      {"FORMERR", 100, 0, rcode::kFormErr, {}, 0},
      {"NXDOMAIN without SOA", 100, 0, rcode::kNxDomain, {}, 0},
      {"NODATA without SOA", 100, 0, 0, {}, 0},
      {"TTL 0", 0, 1, 0, {}, 0},
      {"a negative TTL is zero", 0x80000001, 1, 0, {}, 0},
      {"SERVFAIL", 100, 0, rcode::kServFail, {}, 1},
      {"NXDOMAIN", 20, 0, rcode::kNxDomain, 30, 20},
      {"NXDOMAIN by MINIMUM", 30, 0, rcode::kNxDomain, 20, 20},
      {"NXDOMAIN is capped", 9999, 0, rcode::kNxDomain, 9999, 60},
      {"NODATA", 9, 0, 0, 9, 9},
      {"an answer", 5, 3, 0, {}, 5},
      {"a long one is capped", 1'000'000, 1, 0, {}, 86'400},
  };
  for (const Row& row : rows) {
    CAPTURE(row.what);
    ReplyCache cache{1 << 20};
    const Asked query = asked("x.example");
    keep(cache, kStart, query, reply_of(query, row.ttl, row.count, row.code, row.minimum));
    CHECK(found(cache, kStart, query).has_value() == (row.seconds > 0));
    if (row.seconds == 0) continue;
    CHECK(found(cache, kStart + seconds{row.seconds - 1}, query));
    CHECK_FALSE(found(cache, kStart + seconds{row.seconds}, query));
  }
}

TEST_CASE("what does not fit the client is cut, with TC and OPT") {
  ReplyCache cache{1 << 20};
  const Asked query = asked("many.example");
  keep(cache, kStart, query, reply_of(query, 100, 60));
  CHECK(found(cache, kStart, query)->data(1).size() == 60);
  const auto cut = found(cache, kStart, query, kMinUdpSize);
  CHECK(cut->truncated());
  CHECK(cut->edns);
  CHECK(cut->data(1).empty());
}

TEST_CASE("the cache stays within its octets, and what is asked for outlives the rest") {
  ReplyCache cache{64 * 1024};
  const Asked loved = asked("loved.example");
  keep(cache, kStart, loved, reply_of(loved, 100, 1));
  for (int i = 0; i < 1000; ++i) {
    const Asked other = asked("other" + std::to_string(i) + ".example");
    keep(cache, kStart, other, reply_of(other, 100, 1));
    CHECK(found(cache, kStart, loved));
    REQUIRE(cache.octets() <= 64 * 1024);
  }
  CHECK(cache.size() > 50);
  CHECK_FALSE(found(cache, kStart, asked("other0.example")));
  ReplyCache none{0};
  keep(none, kStart, loved, reply_of(loved, 100, 1));
  CHECK(none.size() == 0);
}

TEST_CASE("a name much asked for is fetched again before it ends, once") {
  ReplyCache cache{1 << 20};
  const Asked query = asked("hot.example");
  keep(cache, kStart, query, reply_of(query, 100, 1));
  Bytes out(kDefaultUdpSize);
  const auto refresh = [&](int at) {
    return cache.find(kStart + seconds{at}, query.message, query.query, 1232, out)->refresh;
  };
  CHECK_FALSE(refresh(10));
  CHECK_FALSE(refresh(89));
  CHECK(refresh(90));
  CHECK_FALSE(refresh(91));
}

TEST_CASE("when nobody answers an old answer is given, with TTL 30, and not asked for each time") {
  ForwarderOptions options;
  options.upstreams = {Endpoint{ip("192.0.2.1"), port(53)}};
  options.cache_octets = 1 << 20;
  Forwarder forwarder{options};
  const Asked query = asked("old.example");
  Forwarder::Actions actions;
  const auto ask_at = [&](TimePoint now) {
    actions = {};
    forwarder.ask(now, query.message, query.query, Transport::udp, 1, actions);
  };
  ask_at(kStart);
  REQUIRE(actions.sends.size() == 1);
  Bytes reply = reply_of(query, 60, 1);
  forwarder.on_reply(kStart, actions.sends[0].exchange, 0, Transport::udp, 0, reply, actions);
  REQUIRE(actions.replies.size() == 1);

  // An hour later nobody answers: within two seconds the old answer is there.
  const TimePoint later = kStart + std::chrono::hours{1};
  Bytes out(kDefaultUdpSize);
  CHECK_FALSE(forwarder.cached(later, query.message, query.query, Transport::udp, out));
  ask_at(later);
  CHECK(actions.replies.empty());
  TimePoint now = later;
  while (actions.replies.empty()) {
    const auto due = forwarder.next_deadline();
    REQUIRE(due.has_value());
    now = *due;
    forwarder.on_time(now, actions);
  }
  CHECK(now - later < seconds{2});
  const auto stale = parse_reply(actions.replies[0].reply);
  REQUIRE(stale.has_value());
  CHECK(stale->rcode == rcode::kNoError);
  CHECK(stale->records.at(0).ttl == 30);
  // For half a minute the upstream is left alone.
  const auto again =
      forwarder.cached(now + seconds{29}, query.message, query.query, Transport::udp, out);
  REQUIRE(again.has_value());
  CHECK(again->stale);
  CHECK_FALSE(forwarder.cached(now + seconds{30}, query.message, query.query, Transport::udp, out));
  CHECK(forwarder.stats().cache_stale == 2);
  // NXDOMAIN is news, not a failure.
  ask_at(now + seconds{31});
  reply = reply_of(query, 60, 0, rcode::kNxDomain, 60);
  forwarder.on_reply(now + seconds{31}, actions.sends.at(0).exchange, 0, Transport::udp, 0, reply,
                     actions);
  CHECK(parse_reply(actions.replies.at(0).reply)->rcode == rcode::kNxDomain);
}

TEST_CASE("asking two upstreams at once is there for who had it so") {
  ForwarderOptions options;
  options.upstreams = {Endpoint{ip("192.0.2.1"), port(53)}, Endpoint{ip("192.0.2.2"), port(53)},
                       Endpoint{ip("192.0.2.3"), port(53)}};
  options.parallel = 2;
  Forwarder forwarder{options};
  const Asked query = asked("www.example");
  Forwarder::Actions actions;
  forwarder.ask(kStart, query.message, query.query, Transport::udp, 1, actions);
  REQUIRE(actions.sends.size() == 2);
  CHECK(actions.sends[0].upstream != actions.sends[1].upstream);
}

TEST_SUITE_END();
