#include <algorithm>
#include <utility>

#include "mesos/core/task_info.hpp"
#include "mesos/core/vip_label.hpp"

namespace muster::mesos {
namespace {

/// A TaskPort while it is put together.
struct Draft {
  TaskPort port;
  std::optional<Port> host_port;
  std::vector<Protocol> protocols;
};

class PortJoiner {
 public:
  PortJoiner(const TaskInfo& info, const std::vector<IpAddress>& agent,
             const std::string& framework_name, const std::string& task_id, Problems* problems)
      : info_{info},
        agent_{agent},
        framework_name_{framework_name},
        task_id_{task_id},
        problems_{problems},
        // A pod's mappings are not in its own container but in its statuses.
        mappings_{info.container_mappings.empty() ? info.status_mappings : info.container_mappings},
        host_network_{uses_host_network()} {}

  std::vector<TaskPort> join() {
    drafts_.reserve(info_.ports.size() + info_.indexed_vips.size());
    for (const DeclaredPort& declared : info_.ports) add_declared(declared);
    for (const IndexedVip& vip : info_.indexed_vips) add_indexed(vip);
    std::vector<TaskPort> out;
    out.reserve(drafts_.size());
    for (Draft& draft : drafts_) {
      auto& vips = draft.port.vips;
      std::sort(vips.begin(), vips.end());
      vips.erase(std::unique(vips.begin(), vips.end()), vips.end());
      out.push_back(std::move(draft.port));
    }
    return out;
  }

 private:
  bool uses_host_network() const {
    if (info_.network != NetworkMode::unknown) return info_.network == NetworkMode::host;
    // Mesos fills in the agent's own address for host networking; very old agents none at all.
    return std::all_of(info_.addresses.begin(), info_.addresses.end(), [this](const auto& from) {
      return std::find(agent_.begin(), agent_.end(), from.address) != agent_.end();
    });
  }

  static bool serves(const PortMapping& mapping, const std::vector<Protocol>& protocols) {
    return !mapping.protocol ||
           std::find(protocols.begin(), protocols.end(), *mapping.protocol) != protocols.end();
  }

  const PortMapping* find_mapping(Port PortMapping::*side, Port number,
                                  const std::vector<Protocol>& protocols) const {
    const auto found = std::find_if(mappings_.begin(), mappings_.end(), [&](const auto& mapping) {
      return mapping.*side == number && serves(mapping, protocols);
    });
    return found == mappings_.end() ? nullptr : &*found;
  }

  void add_declared(const DeclaredPort& declared) {
    Draft draft{TaskPort{declared.name, declared.protocol, declared.number, true, {}, {}, {}},
                std::nullopt, vip_protocols(declared.protocol)};
    locate(draft, declared.scope);
    draft.port.endpoints = endpoints(draft, declared.network_name);
    const std::size_t index = drafts_.size();
    for (const KeyedValue& vip : declared.vips) {
      const auto said = std::find_if(declared.policies.begin(), declared.policies.end(),
                                     [&](const auto& policy) { return policy.key == vip.key; });
      const VipPolicy policy =
          said == declared.policies.end() ? VipPolicy{} : policy_of(said->value, ", port ", index);
      for (const Protocol protocol : draft.protocols) {
        add_vip(draft, vip.value, {protocol, policy}, ", port ", index);
      }
    }
    drafts_.push_back(std::move(draft));
  }

  /// Finds out whether the declared number is the agent's or the container's, and the other one.
  /// Undeclared means the container's where a mapping says so, else the agent's where one says so.
  void locate(Draft& draft, PortScope scope) const {
    const Port number = draft.port.number;
    if (scope != PortScope::host) {
      if (const auto* inside =
              find_mapping(&PortMapping::container_port, number, draft.protocols)) {
        draft.host_port = inside->host_port;
        draft.port.container_port = number;
        return;
      }
    }
    if (scope != PortScope::container) {
      if (const auto* outside = find_mapping(&PortMapping::host_port, number, draft.protocols)) {
        draft.host_port = number;
        draft.port.container_port = outside->container_port;
        return;
      }
    }
    if (scope == PortScope::host || host_network_) {
      draft.host_port = number;
    } else {
      draft.port.container_port = number;
    }
  }

  std::vector<Endpoint> endpoints(const Draft& draft, const std::string& network) const {
    std::vector<Endpoint> out;
    if (draft.host_port) {
      out.reserve(agent_.size());
      for (const IpAddress& address : agent_) out.push_back({address, *draft.host_port});
    } else {
      // A task in several networks serves a port in the one that the port names (Mesos-DNS #554).
      const bool named = std::any_of(info_.addresses.begin(), info_.addresses.end(),
                                     [&](const auto& from) { return from.network == network; });
      for (const ContainerAddress& from : info_.addresses) {
        if (network.empty() || !named || from.network == network) {
          out.push_back({from.address, draft.port.number});
        }
      }
    }
    std::sort(out.begin(), out.end());
    out.erase(std::unique(out.begin(), out.end()), out.end());
    return out;
  }

  std::string where(const char* part, std::size_t index) const {
    return "task " + in_quotes(task_id_) + " of " + in_quotes(framework_name_) + part +
           std::to_string(index);
  }

  VipPolicy policy_of(const std::string& value, const char* part, std::size_t index) const {
    std::vector<std::string> bad;
    const VipPolicy policy = parse_vip_policy(value, bad);
    if (problems_ == nullptr) return policy;
    for (const std::string& word : bad) {
      problems_->add("vip_policy", where(part, index),
                     "VIP policy " + in_quotes(word) + ": " + std::string{kPolicyWords});
    }
    return policy;
  }

  struct How {
    Protocol protocol;
    VipPolicy policy;
  };
  void add_vip(Draft& draft, const std::string& value, const How& how, const char* part,
               std::size_t index) const {
    auto vip = parse_vip_value(value, how.protocol, framework_name_);
    if (vip) {
      vip->policy = how.policy;
      draft.port.vips.push_back(*vip);
    } else if (problems_ != nullptr) {
      problems_->add("vip_label", where(part, index),
                     "VIP label " + in_quotes(value) + ": " + std::string{to_string(vip.error())});
    }
  }

  void add_indexed(const IndexedVip& vip) {
    if (vip.index >= info_.host_ports.size()) {
      if (problems_ != nullptr) {
        problems_->add("vip_label", where(", label vip_port", vip.index),
                       "the task has " + std::to_string(info_.host_ports.size()) +
                           " ports in its resources; they count from 0");
      }
      return;
    }
    const auto said = std::find_if(info_.indexed_policies.begin(), info_.indexed_policies.end(),
                                   [&](const auto& policy) { return policy.index == vip.index; });
    const VipPolicy policy = said == info_.indexed_policies.end()
                                 ? VipPolicy{}
                                 : policy_of(said->value, ", label vip_port", vip.index);
    add_vip(draft_of(info_.host_ports[vip.index], vip.protocol), vip.value, {vip.protocol, policy},
            ", label vip_port", vip.index);
  }

  Draft& draft_of(Port host_port, Protocol protocol) {
    const auto found = std::find_if(drafts_.begin(), drafts_.end(), [&](const Draft& draft) {
      return draft.host_port == host_port &&
             std::find(draft.protocols.begin(), draft.protocols.end(), protocol) !=
                 draft.protocols.end();
    });
    if (found != drafts_.end()) return *found;
    Draft draft{TaskPort{{}, std::string{to_string(protocol)}, host_port, false, {}, {}, {}},
                host_port,
                {protocol}};
    if (const auto* mapping = find_mapping(&PortMapping::host_port, host_port, draft.protocols)) {
      draft.port.container_port = mapping->container_port;
    }
    draft.port.endpoints = endpoints(draft, {});
    drafts_.push_back(std::move(draft));
    return drafts_.back();
  }

  const TaskInfo& info_;
  const std::vector<IpAddress>& agent_;
  const std::string& framework_name_;
  const std::string& task_id_;
  Problems* problems_;
  const std::vector<PortMapping>& mappings_;
  const bool host_network_;
  std::vector<Draft> drafts_;
};

}  // namespace

std::vector<TaskPort> make_ports(const TaskInfo& info, const std::vector<IpAddress>& agent,
                                 const std::string& framework_name, const std::string& task_id,
                                 Problems* problems) {
  return PortJoiner{info, agent, framework_name, task_id, problems}.join();
}

}  // namespace muster::mesos
