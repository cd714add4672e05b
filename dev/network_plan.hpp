#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "dev/master_model.hpp"

/// Addresses of the cluster, and the `ip -batch` and `nft -f` texts that make it.
///
///   node i       10.66.0.i, fd66::i      on one bridge, the "switch", which is 10.66.0.254
///   master       10.66.0.250:5050        and a standby on 10.66.0.251:5050
///   containers   10.67.i.0/24, fd67:0:0:i::/64 behind node i: .1 the node, .2 the neighbour that
///                `exec --container` enters, from .3 on the tasks with a network of their own
namespace muster::dev {

/// With 60 nodes a gossiping cluster still fits a small machine; addresses would last for 249.
constexpr unsigned kMaxNodes = 60;
constexpr std::uint16_t kMasterPort = 5050;
constexpr std::uint16_t kAgentPort = 5051;
/// The first and last host part a task's container may have.
constexpr unsigned kFirstContainer = 3;
constexpr unsigned kLastContainer = 254;

std::string master_address();
std::string standby_address();
std::string node_address(unsigned node);
std::string node_address6(unsigned node);
/// `host` 1 is the node itself.
std::string container_address(unsigned node, unsigned host);
std::string container_address6(unsigned node, unsigned host);
std::string container_subnet(unsigned node);

/// For the switch's namespace: the bridge and a cable to each node and to the master, whose
/// namespaces are given as paths (`/proc/1/fd/7`).
std::string switch_batch(const std::vector<std::string>& node_paths,
                         const std::string& master_path);
std::string master_batch(unsigned nodes);
std::string node_batch(unsigned node, unsigned nodes);
/// In the node's namespace: a cable from its container bridge to the namespace at `path`.
std::string container_cable_batch(unsigned host, const std::string& path);
/// In the container's own.
std::string container_batch(unsigned node, unsigned host);

/// A host port of a node that leads to a container behind it.
struct HostPort {
  PortForward forward;
  std::string container;  // IPv4
};
/// The whole table, replaced in one transaction.
std::string host_ports_ruleset(unsigned node, const std::vector<HostPort>& ports);

}  // namespace muster::dev
