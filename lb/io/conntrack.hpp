#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>

#include "base/endpoint.hpp"
#include "base/result.hpp"
#include "lb/io/driver.hpp"
#include "lb/io/netlink.hpp"

namespace muster::lb {

enum class FlowEnd : std::uint8_t { source, destination };
/// One end of a flow, out of CTA_TUPLE_ORIG or _REPLY; none: of another protocol (IPPROTO_).
std::optional<Endpoint> flow_end(netlink::Bytes tuple, Family family, std::uint8_t protocol,
                                 FlowEnd which);

/// Forgets each udp flow to a Vip of `keep` that goes to none of the backends kept for it, or was
/// never balanced: a client that holds on to its socket would otherwise send there for ever. tcp
/// needs no such thing. Reads the whole conntrack table of the caller's namespace once, filtered
/// by the kernel (5.8) to udp; returns how many flows went.
Result<std::size_t> flush_stale_udp(const UdpKeep& keep);
/// The same in the namespace of `socket`.
Result<std::size_t> flush_stale_udp(netlink::Socket& socket, const UdpKeep& keep);

}  // namespace muster::lb
