#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "dns/core/name.hpp"
#include "dns/core/types.hpp"

namespace muster::dns {

/// What to do with a datagram that claims to be a query.
enum class QueryVerdict : std::uint8_t {
  ok,
  drop,             // shorter than a header, or a response: answering could loop
  not_implemented,  // an opcode other than QUERY; also for a message of 12 bytes
  malformed,        // FORMERR
  bad_version,      // EDNS version over 0: BADVERS
  not_auth,         // signed with TSIG: we hold no keys
  cookie_only,      // no question but a COOKIE: wants a server cookie (RFC 7873 §5.4)
};

/// A query, parsed in place without allocation. Trivially destructible on purpose: one lives on
/// the stack for each datagram.
struct Query {
  static constexpr std::size_t kPadding = 8;
  static constexpr std::size_t kMaxLabels = 128;

  std::uint16_t id;
  std::uint16_t flags;
  std::uint16_t qtype;
  std::uint16_t qclass;
  std::uint16_t question_end;  // the question is [kHeaderSize, question_end) of the message
  std::uint16_t udp_size;      // as the client's OPT says; 0 without OPT
  std::uint16_t cookie_at;     // of the COOKIE option's data; the client's 8 octets come first
  std::uint8_t cookie_size;    // 0: none, 8: of the client alone, 16 to 40: with the server's
  bool edns;
  bool dnssec_ok;
  bool keepalive;          // the client asks for edns-tcp-keepalive (RFC 7828)
  std::uint8_t name_size;  // on the wire, with the root label
  std::uint8_t label_count;
  std::array<std::uint8_t, kMaxLabels> label_at;  // where each label starts, the root left out
  /// Lower-cased wire form, then at least kPadding zeros, so that it can be read 8 bytes a time.
  alignas(8) std::array<char, Name::kMaxWireSize + 1 + kPadding> name;

  std::string_view wire() const noexcept { return {name.data(), name_size}; }
};

/// Parses a query (RFC 1035 §4.1, RFC 6891). Untrusted input; work is linear in its size.
/// `query` is meaningful for ok, bad_version and not_auth; id and flags unless dropped.
/// Records other than OPT are skipped over; bytes after the last record are ignored.
QueryVerdict parse_query(std::span<const std::byte> message, Query& query) noexcept;

struct QueryOptions {
  std::uint16_t id = 0;
  bool recursion_desired = true;
  bool checking_disabled = false;
  std::uint16_t udp_size = kDefaultUdpSize;  // 0: no OPT
  bool dnssec_ok = false;
};

/// A query for one name, ready to send.
std::vector<std::byte> make_query(const Name& name, std::uint16_t qtype, const QueryOptions&);

/// Copies `size` octets folding ASCII upper case, eight at a time. Safe over a whole wire name:
/// a length octet is below 64 and so never looks like a letter. Writes up to 7 octets beyond
/// `size`, reads none beyond it.
void fold_copy(char* to, const char* from, std::size_t size) noexcept;

}  // namespace muster::dns
