#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace muster::dns {

/// "SRV", or "TYPE4711" for what has no name here (RFC 3597 §5).
std::string type_text(std::uint16_t type);
/// The reverse, in any case; empty for what is neither.
std::optional<std::uint16_t> parse_type(std::string_view text) noexcept;
/// "NXDOMAIN", or "RCODE23".
std::string rcode_text(std::uint16_t rcode);

/// A wire name, which must be valid, in presentation form with the final dot.
std::string wire_text(std::string_view wire);

/// RDATA in presentation form; `\# n hex` (RFC 3597 §5) for unknown types and for data that is
/// not what its type says. [at, at + size) must lie inside `message`.
std::string data_text(std::uint16_t type, std::span<const std::byte> message, std::size_t at,
                      std::size_t size);

/// A whole reply the way dig prints one: header line, OPT, question and the sections. Ends with
/// a line that says so if the message is cut short or malformed. Safe for a terminal.
std::string reply_text(std::span<const std::byte> message);

}  // namespace muster::dns
