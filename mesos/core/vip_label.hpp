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

/// Reads words between commas or spaces: `random`, `round_robin`, `source_hash`,
/// `affinity=<n>s|m|h`, `locality=none|zone|node`, `eject=on|off`. Later words win. A word that
/// cannot be read is left out and appended to `bad`; the others hold.
VipPolicy parse_vip_policy(std::string_view value, std::vector<std::string>& bad);

/// What is said of a word in `bad`.
inline constexpr std::string_view kPolicyWords =
    "it can be random, round_robin, source_hash, affinity=<1s to 24h>, locality=none|zone|node, "
    "eject=on|off";

/// True for a key that declares the policy of a VIP: `VIP_0_POLICY` that of `VIP_0`.
bool is_policy_key(std::string_view key) noexcept;
/// The key of the VIP whose policy `key` declares.
std::string_view vip_key_of(std::string_view policy_key) noexcept;

/// True for a port label's key that declares a VIP: it starts with `VIP` or `vip`, no other case.
bool is_vip_key(std::string_view key) noexcept;

/// What a declared protocol means for VIPs, without duplicates: parts between commas, "udp" is
/// udp, all else tcp, nothing at all is tcp.
std::vector<Protocol> vip_protocols(std::string_view lower_cased);

}  // namespace muster::mesos
