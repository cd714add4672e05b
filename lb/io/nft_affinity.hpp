#pragma once

#include <cstddef>
#include <string_view>

#include "base/result.hpp"
#include "lb/io/driver.hpp"
#include "lb/io/netlink.hpp"

namespace muster::lb::nft {

/// Lets the clients of these Vips go whose backend is not among those kept: packets fill the maps
/// of clients, and nothing but time would empty them. Reads each map concerned once; returns how
/// many went. `socket` is known to the monitor as ours.
Result<std::size_t> forget_clients(netlink::Socket& socket, std::string_view table,
                                   const UdpKeep& keep);

}  // namespace muster::lb::nft
