// Hostile datagrams against a live server: none may cost a good query its answer.
#include <cstdlib>

#include "base/rng.hpp"
#include "io_support.hpp"

using namespace muster;
using namespace muster::dns;
using namespace muster::dns::testing;

TEST_SUITE_BEGIN("dns/flood");

namespace {

std::vector<Bytes> seeds() {
  std::vector<Bytes> out;
  for (const char* const owner : {"web.marathon.mesos", "mesos", "_web._tcp.marathon.mesos",
                                  "www.example.com", "leader.mesos.thisdcos.directory"}) {
    for (const std::uint16_t qtype : {type::kA, type::kSrv, type::kAny, type::kAxfr, type::kIxfr}) {
      out.push_back(make_query(name(owner), qtype, {.id = 1, .dnssec_ok = true}));
      out.push_back(make_query(name(owner), qtype, {.id = 1, .udp_size = 0}));
    }
  }
  // With options: a cookie, one that is cut, keepalive.
  Bytes cookie = make_query(name("web.marathon.mesos"), type::kA, {.id = 1});
  const Bytes option =
      bytes_of(std::string_view{"\0\x0A\0\x08"
                                "8octets!\0\x0B\0\0",
                                16});
  cookie.back() = std::byte{16};
  cookie.insert(cookie.end(), option.begin(), option.end());
  out.push_back(cookie);
  return out;
}

Bytes mutated(Rng& rng, const std::vector<Bytes>& from) {
  Bytes out = from[rng.below(from.size())];
  const std::uint64_t changes = 1 + rng.below(6);
  for (std::uint64_t i = 0; i < changes; ++i) {
    switch (rng.below(5)) {
      case 0:
        if (!out.empty()) out[rng.below(out.size())] = static_cast<std::byte>(rng.below(256));
        break;
      case 1:
        if (!out.empty()) out[rng.below(out.size())] ^= static_cast<std::byte>(1U << rng.below(8));
        break;
      case 2:
        out.resize(rng.below(out.size() + 1));
        break;
      case 3:
        out.insert(out.begin() + static_cast<std::ptrdiff_t>(rng.below(out.size() + 1)),
                   rng.below(40), static_cast<std::byte>(rng.below(256)));
        break;
      default: {
        const Bytes& other = from[rng.below(from.size())];
        out.insert(out.end(), other.begin(), other.end());
      }
    }
  }
  return out;
}

long count_from_environment(const char* variable, long fallback) {
  const char* const text = std::getenv(variable);
  return text != nullptr ? std::atol(text) : fallback;
}

}  // namespace

TEST_CASE("mutated packets lose no good query, and never get more than they sent was worth") {
  // MUSTER_DNS_MUTATIONS=1000000 for the long run.
  const long total = count_from_environment("MUSTER_DNS_MUTATIONS", 20'000);
  const long seed = count_from_environment("MUSTER_SEED", 17);
  CAPTURE(seed);
  Rng rng{static_cast<std::uint64_t>(seed)};
  const std::vector<Bytes> from = seeds();
  ServerOptions options = local_options();
  // Nobody there: what leaves for it comes back refused.
  options.upstreams = {Endpoint{ip("127.0.0.1"), port(1)}};
  RunningServer running{options};
  ClusterDelta delta = complete_delta();
  delta.tasks.push_back(came(make_task("web.1", "web")));
  running.server.apply(delta);

  const FileDescriptor hostile = open_client(running.at(), SOCK_DGRAM);
  const FileDescriptor good = open_client(running.at(), SOCK_DGRAM);
  constexpr long kBetween = 50;
  long sent = 0;
  std::uint16_t id = 0;
  while (sent < total) {
    for (long i = 0; i < kBetween; ++i, ++sent) {
      const Bytes packet = mutated(rng, from);
      send(hostile.get(), packet.data(), packet.size(), MSG_DONTWAIT);
    }
    transmit(good, make_query(name("web.marathon.mesos"), type::kA, {.id = ++id}));
    const auto reply = parse_reply(receive(good));
    REQUIRE(reply.has_value());
    REQUIRE(reply->id == id);
    REQUIRE(reply->data(1) == std::vector<std::string>{"10.0.0.5"});
    // What came back is DNS: a reply that parses, to an id of ours.
    Bytes buffer(kMaxMessageSize);
    for (;;) {
      const ssize_t size = recv(hostile.get(), buffer.data(), buffer.size(), MSG_DONTWAIT);
      if (size < 0) break;
      REQUIRE(size >= static_cast<ssize_t>(kHeaderSize));
      REQUIRE((buffer[2] & std::byte{0x80}) != std::byte{0});
    }
  }
}

TEST_CASE("mutated TCP streams cost their own connection at most") {
  const long total = count_from_environment("MUSTER_DNS_MUTATIONS", 20'000) / 100;
  Rng rng{static_cast<std::uint64_t>(count_from_environment("MUSTER_SEED", 17))};
  const std::vector<Bytes> from = seeds();
  RunningServer running{local_options()};
  ClusterDelta delta = complete_delta();
  delta.tasks.push_back(came(make_task("web.1", "web")));
  running.server.apply(delta);
  for (long i = 0; i < total; ++i) {
    const FileDescriptor hostile = open_client(running.at(), SOCK_STREAM);
    for (int k = 0; k < 3; ++k) {
      Bytes packet = framed(mutated(rng, from));
      if (rng.below(4) == 0) packet[rng.below(2)] ^= static_cast<std::byte>(rng.below(256));
      send(hostile.get(), packet.data(), packet.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
    }
    if (i % 10 != 0) continue;
    const FileDescriptor good = open_client(running.at(), SOCK_STREAM);
    transmit(good, framed(make_query(name("web.marathon.mesos"), type::kA, {.id = 3})));
    const auto reply = parse_reply(read_message(good));
    REQUIRE(reply.has_value());
    REQUIRE(reply->rcode == rcode::kNoError);
  }
}

TEST_SUITE_END();
