#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/result.hpp"
#include "base/task.hpp"

namespace muster::mesos {

/// Why a VIP label's value was refused.
enum class VipLabelError {
  no_port,      // no ':' or what follows the last one is no port 1-65535
  bad_address,  // an address nobody can dial: unspecified, loopback, multicast, broadcast,
                // link-local; or brackets around something that is no IPv6 address
  empty_name,   // nothing is left of the name, or of the framework's, as DNS labels
  too_long,     // longer than kMaxVipValue
};

std::string_view to_string(VipLabelError) noexcept;

inline constexpr std::size_t kMaxVipValue = 512;

/// Reads `/name:port`, `name:port`, `a.b.c.d:port`, `v6:port` or `[v6]:port`: split at the last
/// colon, as dcos_l4lb_mesos_poller does. The name becomes `domain_fragment(name)` "."
/// `domain_fragment(framework_name)`, so that `/web` and `web` are one VIP.
Result<VipLabel, VipLabelError> parse_vip_value(std::string_view value, Protocol protocol,
                                                std::string_view framework_name);

/// True for a port label's key that declares a VIP: it starts with `VIP` or `vip`, no other case.
bool is_vip_key(std::string_view key) noexcept;

/// What a declared protocol means for VIPs, without duplicates: parts between commas, "udp" is
/// udp, all else tcp, nothing at all is tcp.
std::vector<Protocol> vip_protocols(std::string_view lower_cased);

}  // namespace muster::mesos
