#pragma once

#include "cluster/core/cluster.hpp"
#include "daemon/config.hpp"
#include "dns/io/server.hpp"
#include "mesos/io/agent_poller.hpp"
#include "mesos/io/observer.hpp"

namespace muster::daemon {

/// What a part is given, out of the whole configuration. Files of secrets are read, and names made
/// of texts. Throw ConfigError for what only shows here: a file that is not readable, or readable
/// by others; a prefix with bits behind its length.
mesos::ObserverOptions observer_options(const Config::Mesos&);
/// With `source = "agent"` only. Also a ConfigError: it is not known where the agent is.
mesos::AgentPollerOptions agent_options(const Config&);
cluster::ClusterOptions cluster_options(const Config&);
dns::ServerOptions dns_options(const Config&);

}  // namespace muster::daemon
