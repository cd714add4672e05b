#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "metrics/http_server.hpp"

namespace muster::metrics {

inline constexpr std::size_t kMaxQueryParameters = 32;

/// A request target (RFC 9112 §3.2, origin form or absolute form) taken apart.
struct Target {
  HttpRequest request;    // method not set
  std::string authority;  // of an absolute form; else empty
};

/// Empty if the target is neither form, has a broken percent escape, a control character or NUL
/// (escaped or not), climbs above "/", or has more than kMaxQueryParameters.
std::optional<Target> parse_target(std::string_view target);

/// The host part of a Host header, lower-case, without port and without a dot at the end; an
/// IPv6 address keeps its brackets. Empty text if it is not `host`, `host:port` or `[v6]:port`.
std::string host_of(std::string_view host_header);

/// True for localhost, 127.0.0.1, [::1], any of `addresses` or of `names` (compared as host_of);
/// one of `names` that begins with a dot stands for every name that ends in it.
bool is_own_host(std::string_view host, const std::vector<IpAddress>& addresses,
                 const std::vector<std::string>& names);

}  // namespace muster::metrics
