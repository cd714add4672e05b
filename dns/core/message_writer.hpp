#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "dns/core/query.hpp"
#include "dns/core/types.hpp"

namespace muster::dns {

/// Writes into a buffer whose size somebody else has checked.
class MessageWriter {
 public:
  /// Begins after `written` octets that are there already.
  explicit MessageWriter(std::byte* to, std::size_t written = 0) noexcept
      : start_{to}, at_{to + written} {}

  void u8(std::size_t value) noexcept { *at_++ = static_cast<std::byte>(value & 0xFF); }
  void u16(std::size_t value) noexcept {
    u8(value >> 8);
    u8(value);
  }
  void u32(std::size_t value) noexcept {
    u16(value >> 16);
    u16(value);
  }
  void raw(const void* from, std::size_t size) noexcept {
    std::memcpy(at_, from, size);
    at_ += size;
  }
  std::size_t size() const noexcept { return static_cast<std::size_t>(at_ - start_); }

 private:
  std::byte* start_;
  std::byte* at_;
};

struct SectionCounts {
  std::size_t answers = 0;
  std::size_t authority = 0;
  std::size_t additional = 0;
};

/// What goes into the OPT record of a reply.
struct OptContent {
  /// Client and server cookie (RFC 7873 §4).
  std::array<std::byte, 24> cookie{};
  bool has_cookie = false;
  /// Over TCP, to who asks: how long an idle connection is kept, in 100 ms (RFC 7828); 0: unsaid.
  std::uint16_t keepalive = 0;

  std::size_t size() const noexcept {
    return kOptSize + (has_cookie ? 4 + cookie.size() : 0) + (keepalive != 0 ? 6 : 0);
  }
};

inline constexpr std::size_t kExtendedErrorSize = 6;  // code, length, info code (RFC 8914 §2)

/// The header is written last, when it is known what follows it.
inline void write_header(std::byte* to, const Query& query, std::size_t flags, std::size_t code,
                         const SectionCounts& counts, bool question, bool opt) noexcept {
  MessageWriter out{to};
  out.u16(query.id);
  out.u16(flag::kResponse | flags | (code & flag::kRcodeMask));
  out.u16(question ? 1 : 0);
  out.u16(counts.answers);
  out.u16(counts.authority);
  out.u16(counts.additional + (opt ? 1 : 0));
}

/// content.size() octets, and kExtendedErrorSize more with an extended error.
inline void write_opt(MessageWriter& out, const Query& query, std::size_t code,
                      std::uint16_t extended_error, const OptContent& content) noexcept {
  constexpr std::uint16_t kCookieOption = 10;
  constexpr std::uint16_t kKeepaliveOption = 11;
  constexpr std::uint16_t kExtendedErrorOption = 15;
  out.u8(0);
  out.u16(type::kOpt);
  out.u16(kDefaultUdpSize);
  // Extended RCODE, version 0, and DO copied back (RFC 3225 §3).
  out.u8(code >> 4);
  out.u8(0);
  out.u16(query.dnssec_ok ? 0x8000U : 0U);
  out.u16(content.size() - kOptSize + (extended_error != 0 ? kExtendedErrorSize : 0));
  if (extended_error != 0) {
    out.u16(kExtendedErrorOption);
    out.u16(2);
    out.u16(extended_error);
  }
  if (content.has_cookie) {
    out.u16(kCookieOption);
    out.u16(content.cookie.size());
    out.raw(content.cookie.data(), content.cookie.size());
  }
  if (content.keepalive != 0) {
    out.u16(kKeepaliveOption);
    out.u16(2);
    out.u16(content.keepalive);
  }
}

}  // namespace muster::dns
