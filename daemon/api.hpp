#pragma once

#include <memory>
#include <string>
#include <vector>

#include "base/time.hpp"
#include "cluster/core/cluster.hpp"
#include "daemon/changes.hpp"
#include "daemon/config.hpp"
#include "dns/io/server.hpp"
#include "lb/io/balancer.hpp"
#include "mesos/io/agent_poller.hpp"
#include "mesos/io/observer.hpp"
#include "metrics/exposition.hpp"
#include "metrics/http_server.hpp"

namespace muster::daemon {

class Mesh;

/// What the HTTP answers are made from. All of it outlives the HTTP server; read on the control
/// thread only.
struct ApiSources {
  const Config& config;
  const cluster::Cluster& cluster;
  const mesos::Observer* observer;  // null: no masters are configured
  const mesos::AgentPoller* agent;  // null: the master says what runs here
  const Mesh* mesh;                 // null: without gossip
  const lb::Balancer* balancer;     // null: switched off
  const dns::Server* dns;           // null: switched off
  const metrics::Exposition& exposition;
  TimePoint started;
  const RecentChanges& changes;
};

/// Why this node should not be relied on yet; empty: ready.
std::vector<std::string> not_ready(const ApiSources&);

/// Answers `/metrics`, `/healthz`, `/readyz`, `/v1/status`, `/v1/nodes`, `/v1/vips`, `/v1/tasks`,
/// `/v1/records`, `/v1/changes` and the status page.
metrics::Handler make_api(ApiSources);

/// Mesos-DNS's HTTP API and nothing else: `/v1/version`, `/v1/config`, `/v1/hosts/…`,
/// `/v1/services/…`, `/v1/enumerate`, `/v1/axfr`. For a port of its own, which others may reach.
metrics::Handler make_mesos_dns_api(ApiSources);

}  // namespace muster::daemon
