#pragma once

#include <memory>
#include <string>

#include "lb/io/driver.hpp"

namespace muster::lb {

/// nf_tables over netlink. See lb/README.md for the shape of the table. `table` matters to what
/// needs no open(), which brings its own.
///
/// Needs CAP_NET_ADMIN and Linux 5.10. Without `nf_conntrack_timeout` in the kernel it works, but
/// without SYN failover, and says so in its capabilities.
std::unique_ptr<Driver> make_nft_driver(const std::string& table = "muster");

}  // namespace muster::lb
