#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include "base/endpoint.hpp"

namespace muster {

/// An address with its port, or an address alone, which then has `default_port` (not 0).
inline std::optional<Endpoint> parse_endpoint(std::string_view text, std::uint16_t default_port) {
  if (const auto address = IpAddress::parse(text)) {
    return Endpoint{*address, *Port::from(default_port)};
  }
  return Endpoint::parse(text);
}

}  // namespace muster
