#pragma once

#include <string_view>
#include <vector>

#include "base/endpoint.hpp"

namespace muster::dns {

/// The `nameserver` lines of a resolv.conf(5), port 53, without those in `own` and without
/// duplicates. Lines that hold no address, or one with a zone, are skipped.
std::vector<Endpoint> parse_resolv_conf(std::string_view text, const std::vector<Endpoint>& own);

}  // namespace muster::dns
