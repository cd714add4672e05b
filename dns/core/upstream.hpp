#pragma once

#include <compare>
#include <optional>
#include <string>
#include <string_view>

#include "base/endpoint.hpp"

namespace muster::dns {

/// A DNS server that is asked what is not ours.
///
/// With `tls` it is asked over TLS only (RFC 7858), by the strict profile of RFC 8310 §5: its
/// certificate is verified, or it is not asked. An address without `tls` is asked in the clear.
struct Upstream {
  // An address alone is an upstream too. NOLINTNEXTLINE(google-explicit-constructor)
  Upstream(const Endpoint& at) : endpoint{at} {}

  Endpoint endpoint;
  bool tls = false;
  /// Whom the certificate must be for, also sent as SNI: lower case, no final dot. Empty: the
  /// certificate must be for the address. Always empty without `tls`.
  std::string name{};

  /// `a.b.c.d`, `v6`, `a.b.c.d:port` or `[v6]:port`, port 53 if none is given. After `tls://` the
  /// same and `[v6]`, port 853 if none is given, then perhaps `#` and the name. Nothing for
  /// anything else; a name that is an address is not one.
  static std::optional<Upstream> parse(std::string_view text);

  friend auto operator<=>(const Upstream&, const Upstream&) = default;
};

/// As it may be written: `10.0.0.2:53`, `tls://9.9.9.9:853#dns.quad9.net`.
std::string to_string(const Upstream&);

}  // namespace muster::dns
