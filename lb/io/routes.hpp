#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "base/result.hpp"
#include "lb/io/driver.hpp"
#include "lb/io/netlink.hpp"

/// The one route of each family that makes Vips reachable for processes of this node:
/// `unicast RANGE dev lo proto 109 src NODE`. Without it a node that has no default route answers
/// "network unreachable" before any rule is asked. Not `local`: then the kernel would take the
/// Vip itself for the source, and host ports would answer on it.
namespace muster::lb::routes {

/// Marks a route as ours (rtm_protocol); not taken in iproute2's rt_protos. 'm'.
inline constexpr std::uint8_t kProtocol = 109;

struct Route {
  Prefix destination;
  std::optional<IpAddress> source;
  std::uint32_t table = 0;
  std::uint32_t interface = 0;
  friend auto operator<=>(const Route&, const Route&) = default;
};

/// Every route that carries our mark.
Result<std::vector<Route>> ours(netlink::Socket& socket);

/// Makes `wanted` the only ones of ours; returns how many were added or removed. A foreign route
/// to the same destination is left alone, and will do.
Result<std::size_t> publish(netlink::Socket& socket, const std::vector<Route>& wanted);

/// The source address the kernel would use towards `destination`, else the first global address.
std::optional<IpAddress> source_towards(netlink::Socket& socket, const IpAddress& destination);

/// Interface numbers of this namespace's bridges.
Result<std::vector<std::uint32_t>> bridges(netlink::Socket& socket);

/// Index of `lo`.
std::uint32_t loopback();

}  // namespace muster::lb::routes
