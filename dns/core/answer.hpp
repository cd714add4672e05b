#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "dns/core/cookie.hpp"
#include "dns/core/query.hpp"
#include "dns/core/types.hpp"
#include "dns/core/zone_snapshot.hpp"

namespace muster::dns {

struct Answer {
  enum class Kind : std::uint8_t {
    reply,     // `size` octets were written
    drop,      // never answered: no whole header, or a response
    forward,   // not in our zones; `query` is what was asked
    transfer,  // AXFR or IXFR of `zone`: whether this client may is the caller's to know
  };
  static constexpr std::uint8_t kNoZone = 255;
  static constexpr std::uint8_t kForwardedZone = 254;  // from what an upstream said

  Kind kind = Kind::drop;
  std::uint8_t zone = kNoZone;  // index into ZoneSnapshot::zones()
  std::uint16_t rcode = 0;
  std::uint16_t qtype = 0;
  bool truncated = false;
  bool no_data = false;       // NOERROR without an answer
  bool cookie_valid = false;  // the client has shown a server cookie of ours: it is no forgery
  std::size_t size = 0;
};

struct AnswerOptions {
  /// Which of several answers comes first: modulo their number. Callers count up.
  std::uint32_t rotation = 0;
  Transport transport = Transport::udp;
  std::size_t max_udp_size = kDefaultUdpSize;
  bool recursion_available = true;  // set if queries outside our zones are forwarded
  /// Null: cookies are not answered. Then the client's address, 4 or 16 octets, and unix time.
  const Cookies* cookies = nullptr;
  std::span<const std::byte> client{};
  std::uint32_t now = 0;
  std::uint16_t tcp_keepalive = 0;  // in 100 ms; said over TCP to who asks (RFC 7828)
};

/// Answers one query from the snapshot into `out`, which should hold max_udp_size or, over TCP,
/// kMaxMessageSize octets; what does not fit is truncated. Allocates nothing, never throws.
/// `query` receives the parsed query, for whoever forwards it.
///
/// RFC 1035, 2181, 2308, 2782, 3597, 4343, 6891, 7828, 7873, 8020, 8482, 8914, 9018; docs/dns.md
/// says which choice was made where they leave one.
Answer answer(std::span<const std::byte> message, const ZoneSnapshot& zones,
              const AnswerOptions& options, std::span<std::byte> out, Query& query) noexcept;
/// The same for who has parsed the message already, and what parse_query() said of it.
Answer answer(std::span<const std::byte> message, const Query& query, QueryVerdict verdict,
              const ZoneSnapshot& zones, const AnswerOptions& options,
              std::span<std::byte> out) noexcept;

/// A reply without records: `code` and, for EDNS clients, OPT and an extended error (0: none).
/// For what the forwarder has to refuse. Returns the octets written; `out` must hold 512.
std::size_t empty_reply(std::span<const std::byte> message, const Query& query, std::uint16_t code,
                        std::uint16_t extended_error, bool recursion_available,
                        std::span<std::byte> out) noexcept;

/// The zone's SOA record in answer to an IXFR query: over UDP it says "come over TCP" (RFC 1995
/// §2). For Kind::transfer only.
Answer soa_answer(std::span<const std::byte> message, const ZoneSnapshot& zones,
                  const AnswerOptions& options, std::span<std::byte> out,
                  const Query& query) noexcept;

/// Makes an answer to a UDP client empty but for its question, with TC: the client comes again
/// over TCP, where its address is proven. For response-rate limits. Returns the octets left.
std::size_t make_slip(std::span<std::byte> reply, const Query& query) noexcept;

}  // namespace muster::dns
