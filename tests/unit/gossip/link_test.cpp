#include "gossip/core/link.hpp"

#include <doctest/doctest.h>

#include "tests/sim/cluster.hpp"

using namespace muster;
using namespace muster::gossip;
using namespace std::chrono_literals;

namespace {

const TimePoint kStart{std::chrono::hours{1}};
const Endpoint kA = *Endpoint::parse("10.0.0.1:61420");
const Endpoint kB = *Endpoint::parse("10.0.0.2:61420");
const NodeUid kUidA{1, 1};
const NodeUid kUidB{2, 2};

std::vector<std::byte> text(std::string_view s) {
  const auto bytes = std::as_bytes(std::span{s});
  return {bytes.begin(), bytes.end()};
}

struct Pair {
  sim::CountingSealer seal_a{1, Rng{1}};
  sim::CountingSealer seal_b{1, Rng{2}};
  Link a{{kUidA, "c"}, seal_a};
  Link b{{kUidB, "c"}, seal_b};
  std::vector<std::vector<std::byte>> at_a;
  std::vector<std::vector<std::byte>> at_b;
  std::vector<Datagram> seen;

  // Carries datagrams to and fro until nothing moves.
  void settle(std::vector<Datagram> moving, TimePoint now = kStart) {
    for (int round = 0; round < 20 && !moving.empty(); ++round) {
      std::vector<Datagram> next;
      for (const Datagram& d : moving) {
        seen.push_back(d);
        auto got =
            d.to == kA ? a.receive(kB, d.bytes, now, next) : b.receive(kA, d.bytes, now, next);
        if (got && !got->payload.empty()) (d.to == kA ? at_a : at_b).push_back(got->payload);
      }
      moving = std::move(next);
    }
    CHECK(moving.empty());
  }
};

}  // namespace

TEST_CASE("nothing is delivered before the echo, and all of it after") {
  Pair p;
  std::vector<Datagram> out;
  p.a.send(kB, text("one"), kStart, out);
  p.a.send(kB, text("two"), kStart, out);
  REQUIRE(out.size() == 1);  // the hello
  p.settle(out);
  REQUIRE(p.at_b.size() == 2);
  CHECK(p.at_b[0] == text("one"));
  out.clear();
  p.b.send(kA, text("back"), kStart, out);
  p.settle(out);
  REQUIRE(p.at_a.size() == 1);
}

TEST_CASE("what was recorded is never believed again, in this life of the receiver or the next") {
  Pair p;
  std::vector<Datagram> out;
  p.a.send(kB, text("kill"), kStart, out);
  p.settle(out);
  REQUIRE(p.at_b.size() == 1);
  for (const Datagram& d : std::vector<Datagram>{p.seen}) {
    std::vector<Datagram> ignored;
    if (d.to == kB) CHECK_FALSE(p.b.receive(kA, d.bytes, kStart, ignored));
  }
  sim::CountingSealer seal{1, Rng{99}};
  Link reborn{{kUidB, "c"}, seal};
  for (const Datagram& d : p.seen) {
    std::vector<Datagram> ignored;
    if (d.to == kB) CHECK_FALSE(reborn.receive(kA, d.bytes, kStart, ignored));
  }
}

TEST_CASE("a peer that restarts at its address is met anew from either side") {
  Pair p;
  std::vector<Datagram> out;
  p.a.send(kB, text("x"), kStart, out);
  p.settle(out);
  sim::CountingSealer seal{1, Rng{77}};
  Link reborn{{kUidB, "c"}, seal};
  // A still uses the old session: the reborn one asks who that is.
  out.clear();
  p.a.send(kB, text("lost"), kStart + 1s, out);
  std::vector<Datagram> hello;
  CHECK_FALSE(reborn.receive(kA, out[0].bytes, kStart + 1s, hello));
  REQUIRE(hello.size() == 1);
  std::vector<Datagram> welcome;
  CHECK_FALSE(p.a.receive(kB, hello[0].bytes, kStart + 1s, welcome));
  std::vector<Datagram> confirm;
  CHECK_FALSE(reborn.receive(kA, welcome[0].bytes, kStart + 1s, confirm));
  REQUIRE(confirm.size() == 1);
  std::vector<Datagram> answer;
  CHECK(p.a.receive(kB, confirm[0].bytes, kStart + 1s, answer));
  out.clear();
  p.a.send(kB, text("again"), kStart + 1s, out);
  std::vector<Datagram> more;
  const auto got = reborn.receive(kA, out.back().bytes, kStart + 1s, more);
  REQUIRE(got);
  CHECK(got->payload == text("again"));
}

TEST_CASE("a welcome that took too long costs a second hello, not the link") {
  Pair p;
  std::vector<Datagram> hello;
  p.a.send(kB, text("x"), kStart, hello);
  std::vector<Datagram> welcome;
  CHECK_FALSE(p.b.receive(kA, hello[0].bytes, kStart, welcome));
  std::vector<Datagram> confirm;
  CHECK_FALSE(p.a.receive(kB, welcome[0].bytes, kStart + 5s, confirm));
  REQUIRE(confirm.size() == 1);
  p.settle(confirm, kStart + 5s);
  std::vector<Datagram> out;
  p.a.send(kB, text("y"), kStart + 6s, out);
  p.settle(out, kStart + 6s);
  REQUIRE(p.at_b.size() == 1);
  CHECK(p.at_b[0] == text("y"));
}

TEST_CASE("a node that knocks at an address of its own comes to rest") {
  sim::CountingSealer sealer{1, Rng{1}};
  Link link{{kUidA, "c"}, sealer};
  std::vector<Datagram> moving;
  link.send(kB, text("x"), kStart, moving);  // kB leads back here, and is where it comes from
  int rounds = 0;
  for (TimePoint now = kStart; !moving.empty() && rounds < 100; now += 1ms, ++rounds) {
    std::vector<Datagram> next;
    for (const Datagram& d : moving) link.receive(kB, d.bytes, now, next);
    moving = std::move(next);
  }
  CHECK(rounds < 10);
}

TEST_CASE("noise costs a counter, and the answers to it are limited") {
  Pair p;
  Rng rng{5};
  std::vector<Datagram> out;
  for (int i = 0; i < 5000; ++i) {
    std::vector<std::byte> noise(rng.below(100));
    for (auto& octet : noise) octet = static_cast<std::byte>(rng.below(256));
    if (!noise.empty()) noise[0] = static_cast<std::byte>(0x10 | rng.below(6));
    CHECK_FALSE(p.a.receive(kB, noise, kStart, out));
  }
  CHECK(out.size() <= 200);
}

TEST_CASE("who speaks a later version only is refused by name, and told so") {
  Pair p;
  std::vector<Datagram> out;
  p.a.send(kB, text("x"), kStart, out);
  REQUIRE(out.size() == 1);
  out[0].bytes[0] ^= std::byte{0xF0};
  std::vector<Datagram> answer;
  CHECK_FALSE(p.b.receive(kA, out[0].bytes, kStart, answer));
  CHECK(p.b.drops(Drop::wrong_version) == 1);
  const auto said = p.b.take_refusals();
  REQUIRE(said.size() == 1);
  CHECK(said[0].reason == Drop::wrong_version);
  CHECK_FALSE(said[0].by_peer);
  REQUIRE(answer.size() == 1);
  CHECK_FALSE(p.a.receive(kB, answer[0].bytes, kStart, out));
  const auto heard = p.a.take_refusals();
  REQUIRE(heard.size() == 1);
  CHECK(heard[0].reason == Drop::wrong_version);
  CHECK(heard[0].by_peer);
}

TEST_CASE("a heartbeat takes 77 octets with its headers") {
  Pair p;
  std::vector<Datagram> out;
  p.a.send(kB, text("x"), kStart, out);
  p.settle(out);
  out.clear();
  p.a.send(kB, encode(Heartbeat{7}), kStart, out);
  CHECK(out[0].bytes.size() + 28 == 77);
}
