// What goes to an upstream over a stream, and what is made of what comes; how upstreams are
// written; padding.
#include "dns/core/upstream_stream.hpp"

#include "base/rng.hpp"
#include "dns/core/padding.hpp"
#include "dns/core/query.hpp"
#include "dns/core/upstream.hpp"
#include "dns_support.hpp"
#include "tests/support/seeds.hpp"

using namespace muster;
using namespace muster::dns;
using namespace muster::dns::testing;

TEST_SUITE_BEGIN("dns/upstream stream");

namespace {

using namespace std::chrono_literals;
using Due = UpstreamStream::Due;

Bytes message(std::uint16_t id, std::size_t size = kHeaderSize) {
  Bytes out(size, std::byte{0x5A});
  out[0] = static_cast<std::byte>(id >> 8);
  out[1] = static_cast<std::byte>(id & 0xFF);
  return out;
}

Bytes framed(const Bytes& message) {
  Bytes out{static_cast<std::byte>(message.size() >> 8),
            static_cast<std::byte>(message.size() & 0xFF)};
  out.insert(out.end(), message.begin(), message.end());
  return out;
}

struct Scene {
  void ask(std::uint64_t exchange, std::uint16_t id) {
    stream.ask(now, exchange, id, message(0, 20));
  }
  void open() {
    stream.opening(now);
    stream.opened(now);
  }
  bool receive(const Bytes& octets) {
    return stream.received(
        now, octets,
        [&](std::uint64_t exchange, std::uint16_t id, std::span<const std::byte> reply) {
          if (id == refused) return false;
          CHECK(reply.size() >= kHeaderSize);
          answered.push_back(exchange);
          return true;
        },
        strays);
  }

  TimePoint now = TimePoint{} + 1h;
  UpstreamStream stream;
  std::vector<std::uint64_t> answered;
  std::uint16_t refused = 0xFFFF;
  std::uint64_t strays = 0;
};

using Exchanges = std::vector<std::uint64_t>;

}  // namespace

TEST_CASE("questions wait for the connection, leave whole, and are answered in any order") {
  Scene scene;
  CHECK(scene.stream.due(scene.now) == Due::nothing);
  scene.ask(1, 0x0102);
  scene.ask(2, 0xA0B0);
  CHECK(scene.stream.due(scene.now) == Due::open);
  CHECK(scene.stream.unsent().empty());
  scene.open();
  Bytes expected = framed(message(0x0102, 20));
  const Bytes second = framed(message(0xA0B0, 20));
  expected.insert(expected.end(), second.begin(), second.end());
  const auto unsent = scene.stream.unsent();
  CHECK(Bytes{unsent.begin(), unsent.end()} == expected);
  scene.stream.sent(22);
  CHECK(scene.stream.unsent().size() == 22);
  scene.stream.sent(22);
  CHECK(scene.stream.unsent().empty());
  CHECK(scene.receive(framed(message(0xA0B0))));
  CHECK(scene.receive(framed(message(0x0102))));
  CHECK(scene.answered == Exchanges{2, 1});
  CHECK_FALSE(scene.stream.wanted());
  CHECK_FALSE(scene.stream.has_id(0x0102));
}

TEST_CASE("replies are the same however the octets are cut") {
  muster::testing::for_each_seed(50, [](std::uint64_t seed) {
    MUSTER_SHOW_SEED(seed);
    Rng rng{seed};
    Scene scene;
    scene.open();
    Bytes all;
    Exchanges expected;
    for (std::uint16_t id = 1; id <= 30; ++id) {
      scene.ask(id, id);
      const Bytes one = framed(message(id, kHeaderSize + rng.below(3000)));
      all.insert(all.end(), one.begin(), one.end());
      expected.push_back(id);
    }
    for (std::size_t at = 0; at < all.size();) {
      const std::size_t size = std::min<std::size_t>(1 + rng.below(4000), all.size() - at);
      const auto from = all.begin() + static_cast<std::ptrdiff_t>(at);
      REQUIRE(scene.receive({from, from + static_cast<std::ptrdiff_t>(size)}));
      at += size;
    }
    CHECK(scene.answered == expected);
    CHECK(scene.strays == 0);
  });
}

TEST_CASE("a late reply is nobody's, and its id is not given to another question before it came") {
  Scene scene;
  scene.open();
  scene.ask(1, 7);
  scene.stream.abandon(1);
  CHECK(scene.stream.has_id(7));
  CHECK_FALSE(scene.stream.wanted());
  CHECK(scene.receive(framed(message(7))));
  CHECK_FALSE(scene.stream.has_id(7));
  CHECK(scene.answered.empty());
  CHECK(scene.strays == 0);
  scene.stream.abandon(99);  // never asked here
}

TEST_CASE("what fits no question is counted, and too much of it ends the connection") {
  Scene scene;
  scene.open();
  scene.ask(1, 7);
  scene.refused = 7;
  for (unsigned i = 0; i < UpstreamStream::kMaxStray; ++i) {
    CHECK(scene.receive(framed(message(i % 2 == 0 ? 7 : 8))));
  }
  CHECK(scene.stream.wanted());  // the right one may come still
  CHECK_FALSE(scene.receive(framed(message(8))));
  CHECK(scene.strays == UpstreamStream::kMaxStray + 1);
  CHECK(scene.stream.closed(scene.now, true) == Exchanges{1});
  // The next connection starts from nothing.
  scene.open();
  CHECK(scene.receive(framed(message(8))));
}

TEST_CASE("a message shorter than a header ends the connection at once") {
  for (const std::size_t size : {std::size_t{0}, std::size_t{1}, kHeaderSize - 1}) {
    CAPTURE(size);
    Scene scene;
    scene.open();
    scene.ask(1, 7);
    CHECK_FALSE(scene.receive(framed(Bytes(size))));
    CHECK(scene.strays == 1);
    CHECK(scene.answered.empty());
  }
}

TEST_CASE("so many questions are under way and no more, given up or not") {
  Scene scene;
  scene.open();
  for (std::uint16_t id = 0; id < UpstreamStream::kMaxOutstanding; ++id) {
    CHECK_FALSE(scene.stream.full());
    scene.ask(id + 1U, id);
    scene.stream.abandon(id + 1U);
  }
  CHECK(scene.stream.full());
  CHECK(scene.receive(framed(message(5))));
  CHECK_FALSE(scene.stream.full());
}

TEST_CASE("an idle connection is closed, a silent one is given up, a slow name costs neither") {
  Scene scene;
  scene.ask(1, 1);
  SUBCASE("no connection") {
    scene.stream.opening(scene.now);
    CHECK(scene.stream.due(scene.now + UpstreamStream::kLimit - 1ms) == Due::nothing);
    CHECK(scene.stream.due(scene.now + UpstreamStream::kLimit) == Due::give_up);
  }
  SUBCASE("idle after the last reply") {
    scene.open();
    scene.now += 1s;
    CHECK(scene.receive(framed(message(1))));
    CHECK(scene.stream.next_deadline() == scene.now + UpstreamStream::kIdle);
    CHECK(scene.stream.due(scene.now + UpstreamStream::kIdle) == Due::close_idle);
    CHECK(scene.stream.closed(scene.now, false).empty());
    CHECK_FALSE(scene.stream.next_deadline().has_value());
  }
  SUBCASE("silence while questions go on being asked") {
    scene.open();
    for (std::uint16_t i = 2; i < 32; ++i) {
      CHECK(scene.stream.due(scene.now) == Due::nothing);
      scene.now += 100ms;
      scene.ask(i, i);
      scene.stream.abandon(i - 1U);
    }
    CHECK(scene.stream.due(scene.now) == Due::give_up);
  }
  SUBCASE("a reply in between") {
    scene.open();
    scene.ask(2, 2);
    scene.now += 2s;
    CHECK(scene.receive(framed(message(2))));
    CHECK(scene.stream.due(scene.now + 2s) == Due::nothing);
  }
  SUBCASE("one name that nobody waits for any more") {
    scene.open();
    scene.stream.abandon(1);
    CHECK(scene.stream.due(scene.now + UpstreamStream::kLimit) == Due::close_idle);
    scene.now += 2900ms;
    scene.ask(2, 2);  // has all the time that there is
    CHECK(scene.stream.due(scene.now + UpstreamStream::kLimit - 1ms) == Due::nothing);
  }
}

TEST_CASE("attempts that fail come further apart, until a reply comes") {
  Scene scene;
  const auto wait_after = [&](bool failed) {
    scene.ask(1, 1);
    scene.stream.opening(scene.now);
    CHECK(scene.stream.closed(scene.now, failed) == Exchanges{1});
    scene.ask(2, 2);
    const auto next = scene.stream.next_deadline();
    REQUIRE(next.has_value());
    scene.stream.closed(scene.now, false);
    return *next <= scene.now ? Duration{0}
                              : std::chrono::duration_cast<Duration>(*next - scene.now);
  };
  std::vector<Duration> waits;
  for (int i = 0; i < 7; ++i) waits.push_back(wait_after(true));
  CHECK(waits == std::vector<Duration>{0ms, 100ms, 200ms, 400ms, 800ms, 1s, 1s});
  scene.now += 1s;
  scene.ask(1, 1);
  scene.open();
  CHECK(scene.receive(framed(message(1))));
  scene.stream.closed(scene.now, false);
  CHECK(wait_after(true) == 0ms);
}

TEST_CASE("an upstream is written as an address, or with tls:// and whom to expect") {
  struct Row {
    const char* text;
    const char* shown;  // null: refused
  };
  const Row rows[] = {
      {"8.8.8.8", "8.8.8.8:53"},
      {"8.8.8.8:5353", "8.8.8.8:5353"},
      {"2001:db8::1", "[2001:db8::1]:53"},
      {"[2001:db8::1]:54", "[2001:db8::1]:54"},
      {"tls://1.1.1.1", "tls://1.1.1.1:853"},
      {"tls://1.1.1.1:8853", "tls://1.1.1.1:8853"},
      {"tls://9.9.9.9#dns.quad9.net", "tls://9.9.9.9:853#dns.quad9.net"},
      {"tls://9.9.9.9:853#DNS.Quad9.net.", "tls://9.9.9.9:853#dns.quad9.net"},
      {"tls://2620:fe::fe#dns.quad9.net", "tls://[2620:fe::fe]:853#dns.quad9.net"},
      {"tls://[2620:fe::fe]#dns.quad9.net", "tls://[2620:fe::fe]:853#dns.quad9.net"},
      {"tls://[2620:fe::fe]:54", "tls://[2620:fe::fe]:54"},
      {"", nullptr},
      {"dns.quad9.net", nullptr},
      {"[2001:db8::1]", nullptr},
      {"9.9.9.9#dns.quad9.net", nullptr},  // in the clear nothing would be checked
      {"tls://", nullptr},
      {"tls://dns.quad9.net", nullptr},
      {"tls://9.9.9.9#", nullptr},
      {"tls://9.9.9.9#.", nullptr},
      {"tls://9.9.9.9#a..b", nullptr},
      {"tls://9.9.9.9#9.9.9.9", nullptr},
      {"tls://9.9.9.9#2620:fe::fe", nullptr},
      {"tls://9.9.9.9#dns quad9", nullptr},
      {"tls://9.9.9.9#*.quad9.net", nullptr},
      {"tls://9.9.9.9#a#b", nullptr},
      {"tls://[9.9.9.9]", nullptr},
      {"tls://9.9.9.9:0", nullptr},
      {"tls://9.9.9.9:853/", nullptr},
      {"TLS://9.9.9.9", nullptr},
      {"https://9.9.9.9", nullptr},
  };
  for (const Row& row : rows) {
    CAPTURE(row.text);
    const auto upstream = Upstream::parse(row.text);
    REQUIRE(upstream.has_value() == (row.shown != nullptr));
    if (!upstream) continue;
    CHECK(to_string(*upstream) == row.shown);
    CHECK(upstream->tls == std::string_view{row.text}.starts_with("tls"));
    CHECK(Upstream::parse(to_string(*upstream)) == upstream);
  }
  const std::string longest(63, 'a');
  CHECK(Upstream::parse("tls://1.1.1.1#" + longest).has_value());
  CHECK_FALSE(Upstream::parse("tls://1.1.1.1#a" + longest).has_value());
}

TEST_CASE("queries with EDNS fill blocks of 128 octets, others stay as they are") {
  for (std::size_t labels = 1; labels < 60; ++labels) {
    CAPTURE(labels);
    std::string owner = "x";
    for (std::size_t i = 1; i < labels; ++i) owner += ".abc";
    const Bytes bare = make_query(name(owner), type::kA, {.id = 1, .udp_size = 0});
    Bytes without = bare;
    pad_query(without);
    CHECK(without == bare);
    Bytes query = make_query(name(owner), type::kA, {.id = 1});
    const std::size_t before = query.size();
    pad_query(query);
    CHECK(query.size() % kPaddedQuery == 0);
    CHECK(query.size() - before < kPaddedQuery + 4);
    Query parsed;
    CHECK(parse_query(query, parsed) == QueryVerdict::ok);
    const auto shape = walk_reply(query);
    REQUIRE(shape.has_value());
    CHECK(shape->opt_at + shape->opt_size == query.size());
    // And the way back.
    const auto stripped = without_padding(query, *shape);
    REQUIRE(stripped.has_value());
    CHECK(*stripped == make_query(name(owner), type::kA, {.id = 1}));
  }
}

TEST_CASE("only padding is taken out of a reply's options, and nothing that cannot be read") {
  struct Row {
    const char* what;
    std::string options;
    std::optional<std::string> left;
  };
  const Row rows[] = {
      {"none", "", std::nullopt},
      {"another", std::string{"\0\3\0\1x", 5}, std::nullopt},
      {"padding of nothing", std::string{"\0\x0C\0\0", 4}, ""},
      {"padding that is not zeros", std::string{"\0\x0C\0\2ab", 6}, ""},
      {"between others", std::string{"\0\3\0\1x\0\x0C\0\1\0\0\5\0\1y", 15},
       std::string{"\0\3\0\1x\0\5\0\1y", 10}},
      {"twice", std::string{"\0\x0C\0\0\0\3\0\0\0\x0C\0\0", 12}, std::string{"\0\3\0\0", 4}},
      {"longer than there is", std::string{"\0\x0C\0\3a", 5}, std::nullopt},
      {"half an option behind it", std::string{"\0\x0C\0\0\0\3\0", 7}, std::nullopt},
  };
  for (const Row& row : rows) {
    CAPTURE(row.what);
    const auto with = [](const std::string& options) {
      Bytes out = make_query(name("www.example"), type::kA, {.id = 1});
      out[out.size() - 1] = static_cast<std::byte>(options.size());
      const Bytes octets = bytes_of(options);
      out.insert(out.end(), octets.begin(), octets.end());
      return out;
    };
    const Bytes reply = with(row.options);
    const auto shape = walk_reply(reply);
    REQUIRE(shape.has_value());
    const auto left = without_padding(reply, *shape);
    REQUIRE(left.has_value() == row.left.has_value());
    if (left) CHECK(*left == with(*row.left));
  }
  // A record behind it: names in there may be pointed at.
  Bytes reply = make_query(name("www.example"), type::kA, {.id = 1});
  pad_query(reply);
  reply[11] = std::byte{2};
  const Bytes record = bytes_of(std::string{"\0\0\1\0\1\0\0\0\0\0\0", 11});
  reply.insert(reply.end(), record.begin(), record.end());
  const auto shape = walk_reply(reply);
  REQUIRE(shape.has_value());
  CHECK_FALSE(without_padding(reply, *shape).has_value());
}

TEST_SUITE_END();
