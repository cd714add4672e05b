#include <algorithm>
#include <string_view>
#include <utility>

#include "daemon/api_parts.hpp"
#include "daemon/mesh.hpp"
#include "daemon/version.hpp"

namespace muster::daemon {
namespace {

json::object observation(const ApiSources& from, TimePoint now) {
  json::object out;
  if (from.mesh == nullptr) {
    out = {{"source", "this node"}, {"reason", "without gossip every node asks the master itself"}};
  } else {
    const auto& mesh = from.mesh->status();
    const bool own = mesh.role == cluster::Role::publisher;
    out = {{"source", own                      ? std::string{"this node"}
                      : mesh.publisher.empty() ? std::string{"nobody"}
                                               : "node " + mesh.publisher.str()},
           {"reason",
            own ? "this node publishes what all nodes read" : "one node asks the master for all"}};
  }
  const mesos::Observer::Status none;
  const auto& status = from.observer != nullptr ? from.observer->status() : none;
  out.emplace("state", status.state);
  out.emplace("master", status.master);
  out.emplace("last_event_seconds", seconds_since(status.last_event, now));
  out.emplace("last_snapshot_seconds", seconds_since(status.last_snapshot, now));
  out.emplace("last_error", status.last_error);
  return out;
}

/// Who says what runs on this node.
json::object agent_part(const ApiSources& from, TimePoint now) {
  if (from.agent == nullptr) return {{"source", "master"}};
  const auto& poller = from.agent->status();
  const auto status = from.cluster.status(now);
  return {
      {"source", "agent"},
      {"state", poller.state},
      {"agent", poller.agent},
      {"id", poller.id.str()},
      {"tasks", status.own_tasks},
      {"held_tasks", status.own_held},
      {"last_answer_seconds", seconds_since(poller.last_answer, now)},
      {"last_change_seconds", seconds_since(poller.last_change, now)},
      {"last_error", poller.last_error},
  };
}

std::string said(const Member& member, std::string_view key) {
  const auto found = member.metadata.find(std::string{key});
  return found == member.metadata.end() ? std::string{} : found->second;
}

json::object gossip_part(const ApiSources& from) {
  if (from.mesh == nullptr) return {{"enabled", false}};
  const auto& status = from.mesh->status();
  return {
      {"enabled", true},
      {"id", from.mesh->self().str()},
      {"role", to_string(status.role)},
      {"publisher", status.publisher.str()},
      {"members_alive", status.alive},
      {"members_known", status.known},
      {"held_host_deaths", status.held},
  };
}

json::object cluster_part(const ApiSources& from, TimePoint now) {
  const auto status = from.cluster.status(now);
  const auto& view = from.cluster.view();
  return {
      {"complete", status.complete},
      {"recovering", status.recovering},
      {"held_tasks", status.held_tasks},
      {"held_seconds", seconds_since(status.held_since.value_or(TimePoint{}), now)},
      {"tasks", view.tasks().size()},
      {"agents", view.agents().size()},
      {"frameworks", view.frameworks().size()},
      {"masters", view.masters().size()},
      {"vips", view.vips().size()},
      {"speaking_agents", status.speakers},
  };
}

/// Network namespaces that are served beside the node's own; null: none are asked for.
json::value namespaces_part(const std::optional<lb::Balancer::NamespaceStatus>& status) {
  if (!status) return nullptr;
  json::array trouble;
  for (const auto& one : status->trouble) {
    trouble.push_back(json::object{{"where", one.where}, {"why", one.why}});
  }
  return json::object{{"served", status->served},
                      {"opening", status->opening},
                      {"not_served", std::move(trouble)},
                      {"more", status->more},
                      {"error", status->error}};
}

json::object lb_part(const ApiSources& from, TimePoint now) {
  if (from.balancer == nullptr) return {{"driver", "off"}};
  const auto status = from.balancer->status();
  return {
      {"driver", status.driver},
      {"healthy", status.healthy},
      {"vips", status.applied_vips},
      {"backends", status.applied_backends},
      {"last_reconcile_seconds", seconds_since(status.last_reconcile, now)},
      {"last_error", status.last_error},
      {"dropping", texts(status.dropping, [](const std::string& chain) { return chain; })},
      {"namespaces", namespaces_part(status.namespaces)},
  };
}

json::object dns_part(const ApiSources& from) {
  if (from.dns == nullptr) return {{"listen", "off"}};
  const auto status = from.dns->status();
  return {
      {"listen", texts(from.dns->bound(), [](const Endpoint& e) { return to_string(e); })},
      {"ready", status.ready},
      {"names", status.names},
      {"records", status.records},
      {"serial", status.serial},
      {"last_error", status.last_error},
  };
}

}  // namespace

Answer nodes_answer(const ApiSources& from) {
  std::vector<Member> members;
  NodeId self;
  if (from.mesh != nullptr) {
    members = from.mesh->members();
    self = from.mesh->self();
  }
  return [members = std::move(members), self] {
    json::array nodes;
    for (const Member& member : members) {
      // The dead hold no seat, whatever they said last.
      const bool alive = member.status == MemberStatus::alive;
      const std::string role = alive ? said(member, cluster::kRoleKey) : std::string{};
      nodes.push_back(json::object{
          {"id", member.id.str()},
          {"status", to_string(member.status)},
          {"endpoints", texts(member.endpoints, [](const Endpoint& e) { return to_string(e); })},
          {"agent", member.agent_endpoint ? json::value(to_string(*member.agent_endpoint))
                                          : json::value(nullptr)},
          {"self", member.id == self},
          {"observer", role == "publisher" || role == "standby"},
          {"publisher", role == "publisher"},
          {"role", role},
          {"version", said(member, "version")},
          {"source", said(member, kSourceKey)},
          {"epoch", member.epoch},
      });
    }
    return as_json(json::object{{"nodes", std::move(nodes)}});
  };
}

std::vector<std::string> not_ready(const ApiSources& from) {
  std::vector<std::string> reasons;
  if (!from.cluster.status(Clock::now()).complete) {
    const std::string error =
        from.observer != nullptr ? from.observer->status().last_error : std::string{};
    reasons.push_back("no complete state from a master yet" +
                      (error.empty() ? std::string{} : ": " + error));
  }
  if (from.balancer != nullptr && !from.balancer->status().healthy) {
    reasons.push_back("the kernel does not hold what it should: " +
                      from.balancer->status().last_error);
  }
  if (from.dns != nullptr && !from.dns->status().ready) reasons.emplace_back("DNS is not ready");
  return reasons;
}

Answer status_answer(const ApiSources& from) {
  const TimePoint now = Clock::now();
  const std::vector<std::string> reasons = not_ready(from);
  json::array addresses;
  if (from.config.node.v4) addresses.emplace_back(from.config.node.v4->to_string());
  if (from.config.node.v6) addresses.emplace_back(from.config.node.v6->to_string());
  json::object status{
      {"version", kVersion},
      {"uptime_seconds", seconds_since(from.started, now)},
      {"ready", reasons.empty()},
      {"not_ready", texts(reasons, [](const std::string& reason) { return reason; })},
      {"node", json::object{{"addresses", std::move(addresses)}}},
      {"observation", observation(from, now)},
      {"agent", agent_part(from, now)},
      {"gossip", gossip_part(from)},
      {"cluster", cluster_part(from, now)},
      {"lb", lb_part(from, now)},
      {"dns", dns_part(from)},
  };
  return [status = std::move(status)] { return as_json(status); };
}

}  // namespace muster::daemon
