#pragma once

#include <compare>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/endpoint.hpp"
#include "base/id.hpp"

namespace muster {

/// What the cluster believes about one node's daemon.
enum class MemberStatus : std::uint8_t {
  alive,
  left,         // said so itself: a stop or an upgrade; says nothing about the host
  daemon_down,  // silent, but its host answers: nothing leaves the load balancer
  host_down,    // silent, and so is its host
};

std::string_view to_string(MemberStatus) noexcept;

/// One node of the cluster, as every node knows it.
struct Member {
  NodeId id;  // a UUID, kept on the node's disk
  MemberStatus status = MemberStatus::alive;
  std::uint32_t epoch = 0;                 // grows with every start of the daemon
  std::vector<Endpoint> endpoints;         // where its gossip listens, preferred first
  AgentId agent;                           // of the Mesos agent on this node; may be empty
  std::optional<Endpoint> agent_endpoint;  // of that agent's HTTP API
  std::map<std::string, std::string> metadata;
  friend bool operator==(const Member&, const Member&) = default;
};

/// Takes out whoever is not alive and has been replaced: at its first endpoint a living member of a
/// later epoch is. That is the same node with a new identity, as its disk was lost, or another one
/// that was given its address; the former one cannot come back there.
///
/// For people and for counts only. Who works out which hosts are dead, or which news are old, has
/// to remember the replaced too.
void erase_replaced(std::vector<Member>& members);

}  // namespace muster
