#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "base/result.hpp"
#include "lb/io/ipvs_kernel.hpp"

/// What can be asked and done about the IPVS driver's things without the driver being open. The
/// ranges in `layout` may be missing: claims and routes say what is ours.
namespace muster::lb::ipvs {

/// How many tables and routes of ours there are.
Result<std::size_t> present(const Layout& layout);

/// Connections through our services, in whatever state.
Result<std::size_t> held_connections(const Layout& layout);

/// Removes routes, services and tables, in this order; one line for each kind of thing removed.
Result<std::vector<std::string>> cleanup(const Layout& layout);

}  // namespace muster::lb::ipvs
