#pragma once

#include <string>

#include "dev/cluster.hpp"

namespace muster::dev {

/// Runs a cluster until it is told to stop (exit status 0), it fails (1) or this process is
/// signalled (0), and exits.
/// The cluster lives in a pid namespace whose first process dies with this one, so that nothing
/// is left however it ends: no process, interface, namespace or file.
/// `ready_file`, if not empty, is written once everything is ready and removed at the end.
[[noreturn]] void supervise(ClusterOptions options, const std::string& ready_file);

}  // namespace muster::dev
