#include "dns/core/reply.hpp"

#include <algorithm>

#include "base/byte_reader.hpp"
#include "dns/core/octets.hpp"

namespace muster::dns {
namespace {

constexpr std::uint32_t at32(std::span<const std::byte> bytes, std::size_t at) noexcept {
  return static_cast<std::uint32_t>(at16(bytes, at)) << 16 | at16(bytes, at + 2);
}

// The record at `at`; moves past it. False if it is not all there.
bool take_record(std::span<const std::byte> message, std::size_t& at, ReplyShape& shape) {
  constexpr std::size_t kFixed = 10;  // TYPE, CLASS, TTL, RDLENGTH
  const std::size_t owner = at;
  const std::size_t fixed = skip_name(message, at);
  if (fixed == 0 || message.size() - fixed < kFixed) return false;
  const std::size_t size = at16(message, fixed + 8);
  if (message.size() - fixed - kFixed < size) return false;
  at = fixed + kFixed + size;
  if (at16(message, fixed) == type::kOpt) {
    shape.opt_at = owner;
    shape.opt_size = at - owner;
    const unsigned upper = std::to_integer<unsigned>(message[fixed + 4]);
    shape.rcode = static_cast<std::uint16_t>((shape.flags & flag::kRcodeMask) | upper << 4);
    return true;
  }
  const std::uint32_t given = at32(message, fixed + 4);
  // RFC 2181 §8: a TTL with its top bit set counts as zero.
  const std::uint32_t ttl = (given & 0x80000000U) != 0 ? 0U : given;
  shape.min_ttl = std::min(shape.min_ttl, ttl);
  constexpr std::size_t kLeastSoa = 22;  // two root names and five numbers
  if (at16(message, fixed) == type::kSoa && size >= kLeastSoa) {
    shape.negative_ttl = std::min(ttl, at32(message, at - 4));
  }
  shape.ttl_offsets.push_back(static_cast<std::uint16_t>(fixed + 4));
  return true;
}

}  // namespace

std::size_t skip_name(std::span<const std::byte> message, std::size_t at) noexcept {
  const std::size_t start = at;
  while (at < message.size()) {
    const std::size_t length = std::to_integer<std::size_t>(message[at]);
    if (length == 0) return at + 1;
    if ((length & 0xC0) == 0xC0) return at + 2 <= message.size() ? at + 2 : 0;
    if ((length & 0xC0) != 0) return 0;
    at += length + 1;
    if (at - start >= Name::kMaxWireSize) return 0;
  }
  return 0;
}

Result<ReplyShape, DecodeError> walk_reply(std::span<const std::byte> message) {
  if (message.size() < kHeaderSize || message.size() > kMaxMessageSize) {
    return DecodeError::truncated;
  }
  ReplyShape shape;
  shape.id = at16(message, 0);
  shape.flags = at16(message, 2);
  shape.rcode = shape.flags & flag::kRcodeMask;
  shape.truncated = (shape.flags & flag::kTruncated) != 0;
  shape.answers = at16(message, 6);

  std::size_t at = kHeaderSize;
  for (unsigned questions = at16(message, 4); questions > 0; --questions) {
    at = skip_name(message, at);
    if (at == 0 || message.size() - at < 4) return DecodeError::truncated;
    at += 4;
  }
  shape.question_end = at;
  std::size_t records = std::size_t{at16(message, 6)} + at16(message, 8) + at16(message, 10);
  // Every record takes at least 11 octets, so this ends long before a forged count would.
  for (; records > 0; --records) {
    if (!take_record(message, at, shape)) {
      if (shape.truncated) break;
      return DecodeError::truncated;
    }
  }
  return shape;
}

bool answers_question(std::span<const std::byte> reply, std::span<const std::byte> query) noexcept {
  if (reply.size() < kHeaderSize || query.size() < kHeaderSize) return false;
  const std::uint16_t flags = at16(reply, 2);
  if (at16(reply, 0) != at16(query, 0) || (flags & flag::kResponse) == 0 ||
      (flags & flag::kOpcodeMask) != (at16(query, 2) & flag::kOpcodeMask) || at16(query, 4) != 1) {
    return false;
  }
  const std::size_t end = skip_name(query, kHeaderSize);
  if (end == 0 || query.size() - end < 4) return false;
  if (at16(reply, 4) == 0) {
    // A server that could not read the query may leave the question out of its FORMERR or
    // NOTIMP; the id and source port are then all there is to go by.
    const unsigned code = flags & flag::kRcodeMask;
    return reply.size() == kHeaderSize && (code == rcode::kFormErr || code == rcode::kNotImp);
  }
  const std::size_t size = end + 4 - kHeaderSize;
  if (at16(reply, 4) != 1 || reply.size() < kHeaderSize + size) return false;
  return std::equal(reply.begin() + kHeaderSize,
                    reply.begin() + static_cast<std::ptrdiff_t>(kHeaderSize + size),
                    query.begin() + kHeaderSize);
}

}  // namespace muster::dns
