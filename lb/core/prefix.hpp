#pragma once

#include <compare>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/endpoint.hpp"

namespace muster::lb {

/// `11.0.0.0/8`. Bits beyond the length are zero.
struct Prefix {
  IpAddress address;
  std::uint8_t length = 0;
  static std::optional<Prefix> parse(std::string_view text);
  static Prefix whole(const IpAddress& address);  // only this one
  bool contains(const IpAddress& other) const noexcept;
  IpAddress last() const noexcept;
  std::string to_string() const;
  friend auto operator<=>(const Prefix&, const Prefix&) = default;
};

}  // namespace muster::lb
