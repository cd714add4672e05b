#pragma once

#include <cstddef>

#include "base/result.hpp"
#include "lb/io/driver.hpp"

namespace muster::lb {

/// Forgets each udp flow to a Vip of `keep` that goes to none of the backends kept for it, or was
/// never balanced: a client that holds on to its socket would otherwise send there for ever. tcp
/// needs no such thing. Reads the whole conntrack table of the caller's namespace once, filtered
/// by the kernel (5.8) to udp; returns how many flows went.
Result<std::size_t> flush_stale_udp(const UdpKeep& keep);

}  // namespace muster::lb
