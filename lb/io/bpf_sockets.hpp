#pragma once

#include <cstddef>

#include "base/result.hpp"
#include "lb/io/bpf_kernel.hpp"
#include "lb/io/driver.hpp"

namespace muster::lb::bpf {

/// Ends the udp sockets that were connected through one of these Vips to a backend that it has no
/// more: their owner's next call fails (ECONNABORTED), and whoever connects again gets another.
/// A socket that is not connected needs nothing: each datagram is balanced anew. Returns how many
/// there were. Errors: EOPNOTSUPP where the kernel was built without CONFIG_INET_DIAG_DESTROY.
Result<std::size_t> destroy_stale_sockets(const Maps& maps, const UdpKeep& keep);

}  // namespace muster::lb::bpf
