#include "dns/core/query.hpp"

#include <cstring>

#include "base/byte_writer.hpp"
#include "dns/core/octets.hpp"
#include "dns/core/reply.hpp"

namespace muster::dns {
namespace {

constexpr std::uint8_t at8(std::span<const std::byte> bytes, std::size_t at) noexcept {
  return std::to_integer<std::uint8_t>(bytes[at]);
}

constexpr std::uint64_t each(std::uint8_t octet) noexcept {
  return 0x0101010101010101ULL * octet;
}

// Sets bit 5 of every octet in 'A'..'Z'. Sums cannot carry between octets: the top bits are off.
constexpr std::uint64_t fold8(std::uint64_t octets) noexcept {
  const std::uint64_t low7 = octets & each(0x7F);
  const std::uint64_t above_z = low7 + each(0x7F - 'Z');
  const std::uint64_t from_a = low7 + each(0x80 - 'A');
  const std::uint64_t upper = ~octets & (from_a ^ above_z) & each(0x80);
  return octets | (upper >> 2);
}
static_assert(fold8(0x5A41405B7A61C1DAULL) == 0x7A61405B7A61C1DAULL);

// One uncompressed name; nobody compresses the only question, and a pointer could only point
// into the header. Returns the offset after it, or 0.
std::size_t parse_name(std::span<const std::byte> message, Query& query) noexcept {
  std::size_t at = kHeaderSize;
  std::size_t labels = 0;
  for (;;) {
    if (at >= message.size()) return 0;
    const std::size_t length = at8(message, at);
    if (length == 0) break;
    if (length > Name::kMaxLabelSize || at + length + 1 - kHeaderSize >= Name::kMaxWireSize) {
      return 0;
    }
    // 127 labels of one octet are all that 255 octets hold, so this cannot overflow.
    query.label_at[labels++] = static_cast<std::uint8_t>(at - kHeaderSize);
    at += length + 1;
  }
  ++at;
  const std::size_t size = at - kHeaderSize;
  query.name_size = static_cast<std::uint8_t>(size);
  query.label_count = static_cast<std::uint8_t>(labels);
  fold_copy(query.name.data(), reinterpret_cast<const char*>(message.data()) + kHeaderSize, size);
  std::memset(query.name.data() + size, 0, Query::kPadding);
  return at;
}

// The options of an OPT record (RFC 6891 §6.1.2). False if one is cut or a COOKIE has a length
// that none may have (RFC 7873 §5.2.2).
bool parse_options(std::span<const std::byte> message, std::size_t at, std::size_t end,
                   Query& query) noexcept {
  constexpr std::uint16_t kCookie = 10;
  constexpr std::uint16_t kKeepalive = 11;
  while (at < end) {
    if (end - at < 4) return false;
    const std::uint16_t code = at16(message, at);
    const std::size_t size = at16(message, at + 2);
    at += 4;
    if (end - at < size) return false;
    if (code == kCookie && query.cookie_size == 0) {  // of several the first counts
      if (size != 8 && (size < 16 || size > 40)) return false;
      query.cookie_at = static_cast<std::uint16_t>(at);
      query.cookie_size = static_cast<std::uint8_t>(size);
    }
    if (code == kKeepalive) query.keepalive = true;
    at += size;
  }
  return true;
}

struct Found {
  std::size_t opts = 0;
  bool signature = false;
  std::uint8_t version = 0;
};

// Steps over `count` records at `at`, taking OPT from them. False if they are not all there.
bool walk_records(std::span<const std::byte> message, std::size_t& at, std::size_t count,
                  bool additional, Query& query, Found& found) noexcept {
  constexpr std::size_t kFixed = 10;  // TYPE, CLASS, TTL, RDLENGTH
  for (std::size_t i = 0; i < count; ++i) {
    const std::size_t owner = at;
    at = skip_name(message, at);
    if (at == 0 || message.size() - at < kFixed) return false;
    const std::uint16_t rtype = at16(message, at);
    const std::size_t size = at16(message, at + 8);
    if (message.size() - at - kFixed < size) return false;
    if (additional && rtype == type::kOpt) {
      if (at8(message, owner) != 0) return false;  // RFC 6891 §6.1.2: the owner is the root
      ++found.opts;
      query.udp_size = at16(message, at + 2);
      found.version = at8(message, at + 5);
      query.dnssec_ok = (at8(message, at + 6) & 0x80) != 0;
      // What options mean depends on the version, so those of others are not read.
      if (found.version == 0 && !parse_options(message, at + kFixed, at + kFixed + size, query)) {
        return false;
      }
    }
    if (additional && rtype == type::kTsig) found.signature = true;
    at += kFixed + size;
  }
  return true;
}

}  // namespace

void fold_copy(char* to, const char* from, std::size_t size) noexcept {
  std::uint64_t octets = 0;
  std::size_t at = 0;
  for (; at + 8 <= size; at += 8) {
    std::memcpy(&octets, from + at, 8);
    octets = fold8(octets);
    std::memcpy(to + at, &octets, 8);
  }
  octets = 0;
  std::memcpy(&octets, from + at, size - at);
  octets = fold8(octets);
  std::memcpy(to + at, &octets, 8);
}

QueryVerdict parse_query(std::span<const std::byte> message, Query& query) noexcept {
  if (message.size() < kHeaderSize) return QueryVerdict::drop;
  query.id = at16(message, 0);
  query.flags = at16(message, 2);
  query.question_end = 0;
  query.udp_size = 0;
  query.cookie_at = 0;
  query.cookie_size = 0;
  query.edns = false;
  query.keepalive = false;
  query.dnssec_ok = false;
  query.name_size = 0;
  query.label_count = 0;
  query.qtype = 0;
  query.qclass = 0;
  if ((query.flags & flag::kResponse) != 0) return QueryVerdict::drop;
  if ((query.flags & flag::kOpcodeMask) != 0) return QueryVerdict::not_implemented;
  const unsigned questions = at16(message, 4);
  if (questions > 1) return QueryVerdict::malformed;

  std::size_t at = kHeaderSize;
  if (questions == 1) {
    at = parse_name(message, query);
    if (at == 0 || message.size() - at < 4) return QueryVerdict::malformed;
    query.qtype = at16(message, at);
    query.qclass = at16(message, at + 2);
    at += 4;
  }
  const std::size_t question_end = at;

  Found found;
  const std::size_t before = std::size_t{at16(message, 6)} + at16(message, 8);
  if (!walk_records(message, at, before, false, query, found) ||
      !walk_records(message, at, at16(message, 10), true, query, found) || found.opts > 1) {
    return QueryVerdict::malformed;
  }
  query.edns = found.opts == 1;
  if (questions == 0) {
    const bool cookie = query.edns && found.version == 0 && query.cookie_size != 0;
    return cookie ? QueryVerdict::cookie_only : QueryVerdict::malformed;
  }
  query.question_end = static_cast<std::uint16_t>(question_end);
  if (query.edns && found.version != 0) return QueryVerdict::bad_version;
  if (found.signature) return QueryVerdict::not_auth;
  return query.qtype == type::kOpt ? QueryVerdict::malformed : QueryVerdict::ok;
}

std::vector<std::byte> make_query(const Name& name, std::uint16_t qtype,
                                  const QueryOptions& options) {
  ByteWriter out;
  out.u16(options.id);
  out.u16(static_cast<std::uint16_t>((options.recursion_desired ? flag::kRecursionDesired : 0) |
                                     (options.checking_disabled ? flag::kCheckingDisabled : 0)));
  out.u16(1);
  out.u16(0);
  out.u16(0);
  out.u16(options.udp_size != 0 ? 1 : 0);
  out.raw(std::as_bytes(std::span{name.wire()}));
  out.u16(qtype);
  out.u16(kClassIn);
  if (options.udp_size != 0) {
    out.u8(0);
    out.u16(type::kOpt);
    out.u16(options.udp_size);
    out.u32(options.dnssec_ok ? 0x8000 : 0);
    out.u16(0);
  }
  return std::move(out).release();
}

}  // namespace muster::dns
