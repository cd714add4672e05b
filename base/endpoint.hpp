#pragma once

#include <array>
#include <compare>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace muster {

/// The transport protocols a Vip can have. Mesos lets a port declare any text; what is not udp is
/// balanced as tcp (an L7 name such as "http" or "h2c" rides on it).
enum class Protocol : std::uint8_t { tcp, udp };

std::string_view to_string(Protocol) noexcept;

/// A transport port, in host byte order, never zero.
/// "Any port" is `std::optional<Port>`, so that no code has to remember what 0 means.
class Port {
 public:
  static constexpr std::optional<Port> from(std::uint64_t number) noexcept {
    if (number == 0 || number > 65535) return std::nullopt;
    return Port{static_cast<std::uint16_t>(number)};
  }

  /// Parses decimal digits and nothing else: no sign, no space, 1 to 65535.
  static std::optional<Port> parse(std::string_view text) noexcept;

  constexpr std::uint16_t number() const noexcept { return number_; }
  friend constexpr auto operator<=>(Port, Port) noexcept = default;

 private:
  constexpr explicit Port(std::uint16_t number) noexcept : number_{number} {}
  std::uint16_t number_;
};

enum class Family : std::uint8_t { v4, v6 };

/// An IPv4 or IPv6 address, without zone or prefix length. IPv4 sorts before IPv6.
/// An IPv4-mapped IPv6 address stays IPv6: it is what somebody wrote.
class IpAddress {
 public:
  using V4 = std::array<std::uint8_t, 4>;
  using V6 = std::array<std::uint8_t, 16>;

  /// Parses dotted-quad text as inet_pton(3) does (four decimal octets, no leading zeros, no
  /// shorthand) or IPv6 text by RFC 4291 §2.2, without brackets, zone or prefix length.
  /// Empty if `text` is anything else.
  static std::optional<IpAddress> parse(std::string_view text) noexcept;

  constexpr explicit IpAddress(const V4& octets) noexcept : family_{Family::v4} {
    for (std::size_t i = 0; i < octets.size(); ++i) octets_[i] = octets[i];
  }
  constexpr explicit IpAddress(const V6& octets) noexcept : family_{Family::v6}, octets_{octets} {}

  constexpr Family family() const noexcept { return family_; }
  constexpr bool is_v4() const noexcept { return family_ == Family::v4; }
  constexpr bool is_v6() const noexcept { return family_ == Family::v6; }

  /// The 4 or 16 octets in network order; valid as long as this object.
  constexpr std::span<const std::uint8_t> octets() const noexcept {
    return std::span{octets_}.first(is_v4() ? 4U : 16U);
  }
  /// Only for the family asked for; see family().
  V4 v4() const noexcept;
  const V6& v6() const noexcept;

  bool is_loopback() const noexcept;
  bool is_unspecified() const noexcept;
  bool is_link_local() const noexcept;
  bool is_multicast() const noexcept;
  /// True for an address a backend can be reached at from another node or this one: none of
  /// unspecified, multicast, IPv4 broadcast or IPv6 link-local. Loopback is left to the caller.
  bool is_unicast() const noexcept;

  /// Dotted quad, or RFC 5952 canonical IPv6 text.
  std::string to_string() const;

  friend constexpr auto operator<=>(const IpAddress&, const IpAddress&) noexcept = default;

 private:
  Family family_;
  V6 octets_{};  // IPv4 in the first four; the rest stay zero, so that comparison is by value
};

/// Where packets go: one address and one port. Says nothing about the transport.
struct Endpoint {
  IpAddress address;
  Port port;

  /// Parses `a.b.c.d:port` and `[v6]:port`.
  static std::optional<Endpoint> parse(std::string_view text) noexcept;

  friend constexpr auto operator<=>(const Endpoint&, const Endpoint&) noexcept = default;
};

/// A virtual service: what a client dials and the load balancer owns.
/// IPVS calls this a "service" and identifies it by the same three fields.
struct Vip {
  Protocol protocol;
  Endpoint endpoint;
  friend constexpr auto operator<=>(const Vip&, const Vip&) noexcept = default;
};

/// One server behind a Vip (IPVS "destination"). Weight 0 drains: established connections go on
/// and new ones go elsewhere.
struct Backend {
  Endpoint endpoint;
  std::uint16_t weight = 1;
  friend constexpr auto operator<=>(const Backend&, const Backend&) noexcept = default;
};

/// `10.0.0.1:80`, `[fd01::1]:80`.
std::string to_string(const Endpoint&);
/// `tcp/10.0.0.1:80`.
std::string to_string(const Vip&);

}  // namespace muster

template <>
struct std::hash<muster::IpAddress> {
  std::size_t operator()(const muster::IpAddress& address) const noexcept {
    const auto octets = address.octets();
    return std::hash<std::string_view>{}(
        std::string_view{reinterpret_cast<const char*>(octets.data()), octets.size()});
  }
};
