#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "dns/core/zone_snapshot.hpp"

namespace muster::dns {

/// The addresses of a name that an SRV record points at.
struct TargetAddresses {
  std::string_view name;                    // wire form
  std::vector<std::string_view> addresses;  // RDATA of A (4 octets) and AAAA (16)
};

struct RRset {
  std::uint16_t type = 0;
  std::vector<std::string_view> data;       // RDATA of each record
  std::vector<TargetAddresses> additional;  // of an SRV set, each target once
};

/// An RRset of more octets is cut: with header, question and OPT it must stay within a TCP
/// message of 65,535.
inline constexpr std::size_t kMaxSetSize = 65'000;
/// Additional records beyond this are left out; a client asks for those it needs.
inline constexpr std::size_t kMaxAdditionalSize = 16'384;

/// A node's block; see NodeView. `sets` must not be more than 255.
NodePtr render_node(std::string_view owner, std::uint8_t zone, std::uint32_t ttl_seconds,
                    std::span<const RRset> sets);

}  // namespace muster::dns
