#pragma once

#include <cstddef>
#include <optional>
#include <span>
#include <vector>

#include "dns/core/reply.hpp"

namespace muster::dns {

/// Queries are as long as a multiple of this, so that their length says little (RFC 8467 §4.1).
inline constexpr std::size_t kPaddedQuery = 128;

/// Pads a query (RFC 7830) that ends with an OPT record without options, as a Forwarder makes them.
/// One without EDNS stays as it is: its server need not know OPT at all.
void pad_query(std::vector<std::byte>& query);

/// `reply` without the Padding options of its OPT record: the server pads because we did, and our
/// client did not ask for that. Other options stay, in order. Nothing if there is none to take
/// out, if the options cannot be read, or if records follow, whose names could be pointed at.
std::optional<std::vector<std::byte>> without_padding(std::span<const std::byte> reply,
                                                      const ReplyShape& shape);

}  // namespace muster::dns
