#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "base/result.hpp"
#include "lb/io/driver.hpp"
#include "lb/io/netlink.hpp"

/// The routes that make Vips reachable, one for the range of each family.
///
/// For nft: `unicast RANGE dev lo proto 109 src NODE`. Without it a node that has no default route
/// answers "network unreachable" before any rule is asked. For IPVS: `local RANGE dev lo proto 110
/// src NODE`, because it takes packets in only where the node takes them for its own; that host
/// ports do not answer on it is the guard's work. Without `src` the kernel would take the Vip
/// itself for the source.
namespace muster::lb::routes {

/// Mark a route as ours (rtm_protocol), and whose of ours; not taken in iproute2's rt_protos.
inline constexpr std::uint8_t kNft = 109;
inline constexpr std::uint8_t kIpvs = 110;

struct Route {
  Prefix destination;
  std::optional<IpAddress> source;
  std::uint32_t table = 0;
  std::uint32_t interface = 0;
  bool local = false;  // what is sent there is for this node
  friend auto operator<=>(const Route&, const Route&) = default;
};

/// Every route that carries the mark.
Result<std::vector<Route>> ours(netlink::Socket& socket, std::uint8_t mark);

/// Makes `wanted` the only ones with this mark; returns how many were added or removed. A foreign
/// route to the same destination is left alone, and will do.
Result<std::size_t> publish(netlink::Socket& socket, std::uint8_t mark,
                            const std::vector<Route>& wanted);
/// One more, or one less; 0: it was there already, or was not.
Result<std::size_t> change(netlink::Socket& socket, std::uint8_t mark, const Route& route,
                           bool add);

/// The source address the kernel would use towards `destination`, else the first global address.
std::optional<IpAddress> source_towards(netlink::Socket& socket, const IpAddress& destination);

/// Interface numbers of this namespace's bridges.
Result<std::vector<std::uint32_t>> bridges(netlink::Socket& socket);

/// Index of `lo`, the same in every network namespace (LOOPBACK_IFINDEX).
inline constexpr std::uint32_t kLoopback = 1;

}  // namespace muster::lb::routes
