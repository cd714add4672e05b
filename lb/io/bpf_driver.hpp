#pragma once

#include <memory>
#include <string>

#include "lb/io/driver.hpp"

namespace muster::lb {

/// nftables, and above it programs that balance what this node's own processes open before a packet
/// is made (docs/adr/017-bpf-above-nft.md). Nothing depends on them: what they leave alone,
/// nftables balances.
///
/// Needs CAP_BPF beside CAP_NET_ADMIN, and Linux 5.14. Where muster was built without, open() says
/// so: Errc::no_bpf_build.
std::unique_ptr<Driver> make_bpf_driver(const std::string& table);

}  // namespace muster::lb
