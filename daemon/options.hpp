#pragma once

#include "cluster/core/cluster.hpp"
#include "daemon/config.hpp"
#include "dns/io/server.hpp"
#include "mesos/io/observer.hpp"

namespace muster::daemon {

/// What a part is given, out of the whole configuration. Files of secrets are read, and names made
/// of texts. Throw ConfigError for what only shows here: a file that is not readable, or readable
/// by others; a prefix with bits behind its length.
mesos::ObserverOptions observer_options(const Config::Mesos&);
cluster::ClusterOptions cluster_options(const Config&);
dns::ServerOptions dns_options(const Config&);

}  // namespace muster::daemon
