#pragma once

#include <memory>
#include <string>

#include "lb/io/driver.hpp"

namespace muster::lb {

/// IPVS over generic netlink, with a table of nf_tables around it (ipvs_guard.hpp) and the routes
/// that bring packets to it.
///
/// Needs CAP_NET_ADMIN, write access to /proc/sys/net/ipv4/vs, Linux 4.19. What it cannot do is
/// one table in docs/data-plane.md: above all, a connection stays with the backend that its first
/// packet got. A backend that leaves is kept at weight 0 until its connections have ended, at most
/// DriverConfig::drain. Changes of IPVS by others are found by read() only: the kernel tells of
/// none. `table` matters to what needs no open(), which brings its own.
std::unique_ptr<Driver> make_ipvs_driver(const std::string& table = "muster");

}  // namespace muster::lb
