#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

namespace muster::dns {

/// Server cookies that any of our workers, and nobody else, can make and check (RFC 7873, in the
/// interoperable form of RFC 9018). Immutable; any thread.
class Cookies {
 public:
  using Secret = std::array<std::byte, 16>;
  static constexpr std::size_t kClientSize = 8;
  static constexpr std::size_t kServerSize = 16;
  static constexpr std::size_t kMaxServerSize = 32;  // RFC 7873 §4
  static constexpr std::uint32_t kMaxAge = 3600;     // RFC 9018 §4.3
  static constexpr std::uint32_t kRenewAge = 1800;
  static constexpr std::uint32_t kMaxAhead = 300;

  explicit Cookies(const Secret& secret) noexcept : secret_{secret} {}

  /// The server cookie for a client cookie of kClientSize octets that came from `address` (4 or 16
  /// octets) at unix time `now`.
  std::array<std::byte, kServerSize> make(std::span<const std::byte> client,
                                          std::span<const std::byte> address,
                                          std::uint32_t now) const noexcept;

  /// True if `server` is one we made for this client within the last hour.
  bool valid(std::span<const std::byte> client, std::span<const std::byte> server,
             std::span<const std::byte> address, std::uint32_t now) const noexcept;

 private:
  Secret secret_;
};

/// SipHash-2-4 with 64 bits of output; `key` is 16 octets.
std::uint64_t siphash24(const Cookies::Secret& key, std::span<const std::byte> data) noexcept;

}  // namespace muster::dns
