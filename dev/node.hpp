#pragma once

#include <optional>
#include <set>
#include <string>
#include <vector>

#include "dev/network_plan.hpp"
#include "dev/port_pool.hpp"
#include "dev/sandbox.hpp"

namespace muster::dev {

/// One emulated machine: its namespaces, and what is in use on it.
/// Its private /run is `root` as the cluster's own process sees it.
struct Node {
  unsigned number = 0;
  std::string root;
  Namespaces spaces;
  Fd neighbour;  // network namespace of the container that `exec --container` enters
  std::string agent_id;
  PortPool ports;
  std::set<unsigned> containers;  // host parts in use
  std::vector<HostPort> host_ports;

  std::string name() const { return "node" + std::to_string(number); }

  /// A network namespace behind this node, addressed and connected.
  Fd add_container(unsigned host) const;
  /// The lowest free address for a container, or nothing.
  std::optional<unsigned> take_container();
  /// Makes the kernel's forwarding what host_ports says.
  void apply_host_ports() const;
};

/// The cables between all of them, from within the switch's namespace.
struct Network {
  std::vector<Node> nodes;
  Fd master;  // network namespace

  /// Makes `count` nodes with their files under `directory`, a tmpfs nobody else sees.
  static Network build(unsigned count, const std::string& directory);
};

}  // namespace muster::dev
