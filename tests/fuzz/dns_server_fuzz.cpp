// The whole way of a query through the server's core: answer, transfer or forward, cache.
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <span>
#include <vector>

#include "base/byte_reader.hpp"
#include "dns/core/answer.hpp"
#include "dns/core/catalog.hpp"
#include "dns/core/forwarder.hpp"
#include "dns/core/reply.hpp"
#include "dns/core/transfer.hpp"
#include "tests/fuzz/dns_cluster.hpp"

namespace {

using namespace muster;
using namespace muster::dns;
using Bytes = std::vector<std::byte>;

const Cookies kCookies{Cookies::Secret{}};
const Bytes kClient{std::byte{10}, std::byte{0}, std::byte{0}, std::byte{9}};

std::shared_ptr<const ZoneSnapshot> make_zones() {
  return Catalog{{.cluster_key = "key",
                  .cnames = {{"a.thisdcos.directory", "b.thisdcos.directory"},
                             {"b.thisdcos.directory", "app.fw.mesos"},
                             {"c.thisdcos.directory", "c.thisdcos.directory"},
                             {"d.mesos", "nobody.fw.mesos"},
                             {"e.mesos", "www.example.com"}}}}
      .apply(testing::dns_cluster(true));
}

// Every name and every record of a message reads, and nothing is left over.
void check(std::span<const std::byte> message) {
  ByteReader in{message};
  std::array<std::uint16_t, 6> head{};
  for (auto& word : head) word = in.u16();
  if (!in.ok() || (head[1] & flag::kResponse) == 0 || head[2] > 1) std::abort();
  if (head[2] == 1 && (!Name::decode(message, in) || in.take(4).size() != 4)) std::abort();
  for (unsigned i = 0; i < unsigned{head[3]} + head[4] + head[5]; ++i) {
    if (!Name::decode(message, in)) std::abort();
    in.take(8);
    in.take(in.u16());
    if (!in.ok()) std::abort();
  }
  if (in.remaining() != 0) std::abort();
}

void check_transfer(const std::shared_ptr<const ZoneSnapshot>& zones, std::uint8_t zone,
                    std::span<const std::byte> message, const Query& query) {
  Transfer sender{zones, zone, message, query};
  for (Bytes next = sender.next(); !next.empty(); next = sender.next()) check(next);
}

// The input as an upstream's reply to the query it begins with; then the same again from the cache.
void check_forward(std::span<const std::byte> message, const Query& query) {
  const TimePoint now{std::chrono::hours{1}};
  Forwarder forwarder{
      {.upstreams = {Endpoint{IpAddress{IpAddress::V4{192, 0, 2, 1}}, *Port::from(53)}},
       .zone_upstreams = {},
       .parallel = 1,
       .cache_octets = 1 << 16}};
  Forwarder::Actions actions;
  forwarder.ask(now, message, query, Transport::udp, 1, actions);
  if (actions.sends.size() != 1) std::abort();
  const Forwarder::Send send = actions.sends[0];
  Bytes reply{message.begin(), message.end()};
  reply[0] = reply[1] = std::byte{0};
  reply[2] |= std::byte{0x80};
  forwarder.on_reply(now, send.exchange, 0, Transport::udp, 0, reply, actions);
  Bytes out(kMaxMessageSize);
  const auto hit = forwarder.cached(now, message, query, Transport::udp, out);
  if (!hit) return;
  if (hit->size < kHeaderSize || hit->size > kDefaultUdpSize) std::abort();
  if (!walk_reply(std::span{out}.first(hit->size))) std::abort();
  if (std::memcmp(out.data(), message.data(), 2) != 0) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const auto zones = make_zones();
  const std::vector<std::uint8_t> copy(data, data + size);
  const auto message = std::as_bytes(std::span{copy});
  for (const Transport transport : {Transport::udp, Transport::tcp}) {
    Bytes out(transport == Transport::udp ? kDefaultUdpSize : kMaxMessageSize);
    Query query;
    const AnswerOptions options{.rotation = static_cast<std::uint32_t>(size),
                                .transport = transport,
                                .cookies = &kCookies,
                                .client = kClient,
                                .now = 1'700'000'000,
                                .tcp_keepalive = 100};
    const Answer made = answer(message, *zones, options, out, query);
    if (made.kind == Answer::Kind::reply) {
      if (made.size > out.size()) std::abort();
      check(std::span{out}.first(made.size));
      if (query.question_end > 0) check(std::span{out}.first(make_slip(out, query)));
    } else if (made.kind == Answer::Kind::transfer) {
      check_transfer(zones, made.zone, message, query);
      check(std::span{out}.first(soa_answer(message, *zones, options, out, query).size));
    } else if (made.kind == Answer::Kind::forward && transport == Transport::udp) {
      check_forward(message, query);
    }
  }
  return 0;
}
