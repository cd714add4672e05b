#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "base/result.hpp"
#include "dns/core/name.hpp"
#include "dns/core/types.hpp"

namespace muster::dns {

/// What a forwarder must know of an upstream's reply. Offsets are into the message.
struct ReplyShape {
  std::uint16_t id = 0;
  std::uint16_t flags = 0;
  std::uint16_t rcode = 0;  // with the upper bits from OPT
  bool truncated = false;
  std::size_t question_end = kHeaderSize;
  std::size_t opt_at = 0;    // of the OPT record; 0: none
  std::size_t opt_size = 0;  // of the whole record
  std::uint16_t answers = 0;
  std::uint32_t min_ttl = UINT32_MAX;         // over all records but OPT; a negative one is 0
  std::optional<std::uint32_t> negative_ttl;  // the smaller of a SOA record's TTL and MINIMUM
  std::vector<std::uint16_t> ttl_offsets;     // of each TTL field, OPT's left out
};

/// Walks a reply without decoding its data: names are skipped, so it cannot loop. Untrusted
/// input. A truncated reply (TC) may end in the middle of a record; any other may not.
Result<ReplyShape, DecodeError> walk_reply(std::span<const std::byte> message);

/// True if `reply` answers exactly `query`: same id, a response, same opcode and the same
/// question octet for octet, case included (RFC 5452 §9.1). Reads headers and question only.
bool answers_question(std::span<const std::byte> reply, std::span<const std::byte> query) noexcept;

/// The offset after the name at `at`, or 0 if there is no whole name. A pointer ends a name and
/// is not followed.
std::size_t skip_name(std::span<const std::byte> message, std::size_t at) noexcept;

}  // namespace muster::dns
