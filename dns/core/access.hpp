#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/endpoint.hpp"

namespace muster::dns {

/// All addresses that begin with the same `bits`.
struct Prefix {
  IpAddress address;
  unsigned bits;

  /// `10.0.0.0/8`, `fd00::/8`, or an address for itself alone. Empty for anything else; bits
  /// beyond the length must be zero.
  static std::optional<Prefix> parse(std::string_view text) noexcept;
  bool contains(const IpAddress&) const noexcept;
  friend bool operator==(const Prefix&, const Prefix&) = default;
};

std::string to_string(const Prefix&);

/// Who may. An IPv4-mapped IPv6 client counts as its IPv4 address.
class AccessList {
 public:
  AccessList() = default;
  explicit AccessList(std::vector<Prefix> prefixes) : prefixes_{std::move(prefixes)} {}

  bool empty() const noexcept { return prefixes_.empty(); }
  bool allows(const IpAddress&) const noexcept;

 private:
  std::vector<Prefix> prefixes_;
};

/// Loopback, link-local and the private networks (RFC 1918, 6598, 4193, 3927): whose queries for
/// names of others are forwarded unless the configuration says otherwise. An open resolver is
/// a weapon (RFC 5358).
std::vector<Prefix> private_networks();

}  // namespace muster::dns
