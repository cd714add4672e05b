#include "dns/core/mesos_records.hpp"

#include <algorithm>
#include <array>
#include <cstddef>
#include <initializer_list>

#include "base/label.hpp"
#include "dns/core/name.hpp"
#include "dns/core/task_hash.hpp"
#include "dns/core/types.hpp"

namespace muster::dns {
namespace {

constexpr std::size_t kMaxLabel = Name::kMaxLabelSize;

void fold(std::string& text) {
  for (char& c : text) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  }
}

void strip_dashes(std::string& text) {
  while (!text.empty() && text.back() == '-') text.pop_back();
}

// `_name`: the underscore counts, so a name of 63 octets loses its last one.
std::string service_label(std::string_view label) {
  std::string out{label.substr(0, kMaxLabel - 1)};
  strip_dashes(out);
  return '_' + out;
}

void add_addresses(std::vector<Record>& out, const std::string& owner,
                   const std::vector<IpAddress>& addresses) {
  if (owner.empty()) return;
  for (const IpAddress& address : addresses) out.push_back(address_record(owner, address));
}

void add_service(std::vector<Record>& out, const std::string& owner, const std::string& target,
                 Port port, std::uint16_t weight) {
  if (owner.empty() || target.empty()) return;
  out.push_back(srv_record(owner, target, port, weight));
}

std::vector<IpAddress> addresses_by(const std::vector<IpSource>& sources, const Task& task) {
  for (const IpSource source : sources) {
    const auto& found = source == IpSource::netinfo ? task.addresses : task.agent_addresses;
    if (!found.empty()) return found;
  }
  return {};
}

// The reverse of a host's address is its name; one that is an address, or no name, says nothing.
void add_host_pointer(std::vector<Record>& out, const std::string& hostname,
                      const IpAddress& address) {
  const auto name = Name::parse(hostname);
  if (!name || name->wire().size() < 2 || IpAddress::parse(hostname)) return;
  out.push_back(name_record(reverse_name(address), type::kPtr, std::string{name->wire()}));
}

std::vector<Record> sorted(std::vector<Record> records) {
  std::sort(records.begin(), records.end());
  records.erase(std::unique(records.begin(), records.end()), records.end());
  return records;
}

bool contains(const std::vector<IpAddress>& addresses, const IpAddress& address) {
  return std::find(addresses.begin(), addresses.end(), address) != addresses.end();
}

// Every address of the families that `ports` has is among them: whoever asks for the name's
// addresses and takes the SRV record's port arrives.
bool covers(const std::vector<Endpoint>& ports, const std::vector<IpAddress>& addresses) {
  bool any = false;
  for (const IpAddress& address : addresses) {
    bool family = false;
    bool found = false;
    for (const Endpoint& port : ports) {
      family = family || port.address.family() == address.family();
      found = found || port.address == address;
    }
    if (family && !found) return false;
    any = any || found;
  }
  return any;
}

std::string address_label(const IpAddress& address) {
  constexpr std::string_view kDigits = "0123456789abcdef";
  std::string text = "ip-";
  if (address.is_v4()) {
    text += address.to_string();
    std::replace(text.begin(), text.end(), '.', '-');
    return text;
  }
  for (const std::uint8_t octet : address.octets()) {
    text += kDigits[octet >> 4];
    text += kDigits[octet & 15];
  }
  return text;
}

class TaskNames {
 public:
  TaskNames(const Task& task, const Suffixes& suffixes, std::string framework)
      : task_{task}, suffixes_{suffixes}, framework_{std::move(framework)} {
    addresses_ = addresses_by(suffixes.naming.ip_sources, task);
    own_addresses_ = addresses_by({IpSource::netinfo, IpSource::host}, task);
    under_ = join_dotted(framework_, suffixes.mesos);
    slave_ = join_dotted(framework_, join({"slave"}, suffixes.mesos));
  }

  std::vector<Record> records(const std::string& label) && {
    const std::string instance = instance_label(label, task_.id, task_.agent_id);
    const std::string name = join({label}, under_);
    constexpr std::size_t kUsual = 16;  // records of a task with a port or two
    out_.reserve(kUsual);
    target_ = join({instance}, under_);
    slave_target_ = join({instance}, slave_);
    add_addresses(out_, name, addresses_);
    add_addresses(out_, target_, addresses_);
    add_addresses(out_, join({label}, slave_), task_.agent_addresses);
    add_addresses(out_, slave_target_, task_.agent_addresses);
    add_services({service_label(label)});
    add_legacy(label);
    add_dcos(label);
    for (const IpAddress& address : own_addresses_) {
      // A host's own reverse name is its agent's, however many tasks share the address.
      if (contains(task_.agent_addresses, address) || name.empty()) continue;
      out_.push_back(name_record(reverse_name(address), type::kPtr, name));
    }
    return sorted(std::move(out_));
  }

 private:
  using Labels = std::vector<std::string>;

  static std::string above(const Labels& labels, std::string suffix) {
    for (auto label = labels.rbegin(); label != labels.rend(); ++label) {
      suffix = join({*label}, suffix);
    }
    return suffix;
  }

  // `service` is `_T`, or the labels of an un-mangled name with the '_' on the first.
  void add_services(const Labels& service) {
    for (const char* const protocol : {"_tcp", "_udp"}) {
      const std::string slave_owner = above(service, join({protocol}, slave_));
      const std::string owner = above(service, join({protocol}, under_));
      for (const Port port : task_.host_ports) {
        add_service(out_, slave_owner, slave_target_, port, suffixes_.naming.srv_weight);
        if (!task_.discovery_name.empty()) continue;
        add_service(out_, owner, slave_target_, port, suffixes_.naming.srv_weight);
      }
    }
    if (task_.discovery_name.empty()) return;
    for (const TaskPort& port : task_.ports) {
      if (port.discovery) add_port(service, port);
    }
  }

  void add_port(const Labels& service, const TaskPort& port) {
    const std::string named = name_label(port.name, suffixes_.naming);
    for (const std::string& protocol : protocols(port.protocol)) {
      const std::string owner = above(service, join({protocol}, under_));
      add_targets(owner, port);
      if (!named.empty()) add_targets(join({service_label(named)}, owner), port);
    }
  }

  static Labels protocols(std::string_view declared) {
    Labels out;
    for (std::size_t at = 0; at <= declared.size();) {
      const std::size_t comma = std::min(declared.find(',', at), declared.size());
      const std::string label = dns_label(declared.substr(at, comma - at));
      if (!label.empty()) out.push_back(service_label(label));
      at = comma + 1;
    }
    return out.empty() ? Labels{"_tcp", "_udp"} : out;
  }

  void add_targets(const std::string& owner, const TaskPort& port) {
    if (port.endpoints.empty()) {
      add_service(out_, owner, target_, port.number, suffixes_.naming.srv_weight);
      return;
    }
    const bool by_task = covers(port.endpoints, addresses_);
    const bool by_agent = !by_task && covers(port.endpoints, task_.agent_addresses);
    for (const Endpoint& endpoint : port.endpoints) {
      std::string target = by_task ? target_ : slave_target_;
      if (!by_task && !by_agent) {
        // One network of several: a name that has this address and no other.
        target = join({address_label(endpoint.address)}, target_);
        if (!target.empty()) out_.push_back(address_record(target, endpoint.address));
      }
      add_service(out_, owner, target, endpoint.port, suffixes_.naming.srv_weight);
    }
  }

  // Mesos-DNS also published everything under DiscoveryInfo.name as it stands, dots and all.
  void add_legacy(const std::string& label) {
    std::string literal = task_.discovery_name;
    fold(literal);
    if (literal.empty() || literal == label) return;
    const std::string name = join_dotted(literal, under_);
    if (name.empty()) return;
    const std::string instance =
        literal + '-' + task_hash(task_.id.str()) + '-' + agent_tail(task_.agent_id);
    add_addresses(out_, name, addresses_);
    add_addresses(out_, join_dotted(instance, under_), addresses_);
    add_addresses(out_, join_dotted(literal, slave_), task_.agent_addresses);
    add_addresses(out_, join_dotted(instance, slave_), task_.agent_addresses);
    Labels service;
    for (std::size_t at = 0; at <= literal.size();) {
      const std::size_t dot = std::min(literal.find('.', at), literal.size());
      service.push_back(literal.substr(at, dot - at));
      at = dot + 1;
    }
    service.front().insert(0, 1, '_');
    add_services(service);
  }

  void add_dcos(const std::string& label) {
    const auto owner = [&](const std::string& suffix) {
      return join({label}, join_dotted(framework_, suffix));
    };
    const bool mapped =
        std::any_of(task_.ports.begin(), task_.ports.end(), [&](const TaskPort& port) {
          return std::any_of(port.endpoints.begin(), port.endpoints.end(), [&](const Endpoint& at) {
            return contains(task_.agent_addresses, at.address);
          });
        });
    add_addresses(out_, owner(suffixes_.agentip), task_.agent_addresses);
    add_addresses(out_, owner(suffixes_.containerip), own_addresses_);
    add_addresses(out_, owner(suffixes_.autoip), mapped ? task_.agent_addresses : own_addresses_);
  }

 public:
  static std::string agent_tail(const AgentId& agent) {
    const std::string_view id = agent.str();
    // A Mesos agent id ends in `-S12`; the limit only keeps a strange one servable.
    constexpr std::size_t kMaxTail = 20;
    std::string tail = dns_label(id.substr(id.rfind('-') + 1)).substr(0, kMaxTail);
    strip_dashes(tail);
    return tail;
  }

 private:
  const Task& task_;
  const Suffixes& suffixes_;
  std::string framework_;
  std::vector<IpAddress> addresses_;      // for Mesos-DNS's names
  std::vector<IpAddress> own_addresses_;  // for DC/OS's names and the reverse
  std::string under_;                     // F.D
  std::string slave_;                     // F.slave.D
  std::string target_;                    // T-H-S.F.D
  std::string slave_target_;              // T-H-S.F.slave.D
  std::vector<Record> out_;
};

}  // namespace

std::string join(std::initializer_list<std::string_view> labels, std::string_view suffix) {
  std::string out;
  if (suffix.empty()) return out;
  std::size_t size = suffix.size();
  for (const std::string_view label : labels) size += label.size() + 1;
  out.reserve(size);
  for (const std::string_view label : labels) {
    if (label.empty() || label.size() > kMaxLabel) return {};
    out += static_cast<char>(label.size());
    out += label;
  }
  out += suffix;
  if (out.size() > Name::kMaxWireSize) out.clear();
  return out;
}

std::string join_dotted(std::string_view dotted, std::string_view suffix) {
  std::string out;
  out.reserve(dotted.size() + 1 + suffix.size());
  for (std::size_t at = 0; at <= dotted.size();) {
    const std::size_t dot = std::min(dotted.find('.', at), dotted.size());
    const std::string_view label = dotted.substr(at, dot - at);
    if (label.empty() || label.size() > kMaxLabel) return {};
    out += static_cast<char>(label.size());
    out += label;
    at = dot + 1;
  }
  out += suffix;
  if (suffix.empty() || out.size() > Name::kMaxWireSize) out.clear();
  return out;
}

std::string instance_label(std::string_view name_label, const TaskId& task, const AgentId& agent) {
  const std::string tail = '-' + task_hash(task.str()) + '-' + TaskNames::agent_tail(agent);
  std::string head{name_label.substr(0, kMaxLabel - tail.size())};
  strip_dashes(head);
  return head + tail;
}

std::string name_label(std::string_view text, const Naming& naming) {
  return naming.rfc952 ? dns_label_rfc952(text) : dns_label(text);
}

std::string framework_labels(std::string_view text, const Naming& naming) {
  if (!naming.rfc952) return domain_fragment(text);
  std::string out;
  for (std::size_t at = 0; at <= text.size();) {
    const std::size_t dot = std::min(text.find('.', at), text.size());
    const std::string label = dns_label_rfc952(text.substr(at, dot - at));
    if (!label.empty()) out += (out.empty() ? "" : ".") + label;
    at = dot + 1;
  }
  return out;
}

std::string reverse_name(const IpAddress& address) {
  constexpr std::string_view kDigits = "0123456789abcdef";
  std::string out;
  const auto octets = address.octets();
  out.reserve(octets.size() * 4 + 14);  // the longest: each octet's label, and what follows them
  for (auto octet = octets.rbegin(); octet != octets.rend(); ++octet) {
    if (address.is_v4()) {
      const std::string text = std::to_string(*octet);
      out += static_cast<char>(text.size());
      out += text;
    } else {
      out += '\1';
      out += kDigits[*octet & 15];
      out += '\1';
      out += kDigits[*octet >> 4];
    }
  }
  out += address.is_v4() ? std::string_view{"\7in-addr\4arpa\0", 14}
                         : std::string_view{"\3ip6\4arpa\0", 10};
  return out;
}

std::vector<Record> task_records(const Task& task, const Suffixes& suffixes,
                                 std::vector<Problem>* problems) {
  // Mesos-DNS knows an agent by its address; without one the task's host is not in the cluster.
  if (!is_serving(task) || task.agent_addresses.empty()) return {};
  std::string framework = framework_labels(task.framework_name, suffixes.naming);
  const std::string label =
      name_label(task.discovery_name.empty() ? task.name : task.discovery_name, suffixes.naming);
  const bool servable =
      !framework.empty() && !label.empty() &&
      !join_dotted(framework, join({label, "_tcp", "slave"}, suffixes.mesos)).empty();
  if (!servable) {
    if (problems != nullptr) {
      problems->push_back({"dns_name",
                           "task " + task.id.str() + " of framework " + task.framework_id.str(),
                           "no DNS name can be made of task name \"" + task.name +
                               "\" and framework name \"" + task.framework_name + '"'});
    }
    return {};
  }
  return TaskNames{task, suffixes, std::move(framework)}.records(label);
}

std::vector<Record> agent_records(const Agent& agent, const Suffixes& suffixes) {
  std::vector<Record> out;
  const std::string slave = join({"slave"}, suffixes.mesos);
  add_addresses(out, slave, agent.addresses);
  if (agent.port && !agent.addresses.empty()) {
    add_service(out, join({"_slave", "_tcp"}, suffixes.mesos), slave, *agent.port,
                suffixes.naming.srv_weight);
  }
  for (const IpAddress& address : agent.addresses) add_host_pointer(out, agent.hostname, address);
  return sorted(std::move(out));
}

std::vector<Record> framework_records(const Framework& framework, const Suffixes& suffixes) {
  std::vector<Record> out;
  const std::string name = framework_labels(framework.name, suffixes.naming);
  const std::string owner = name.empty() ? std::string{} : join_dotted(name, suffixes.mesos);
  if (owner.empty()) return out;
  if (framework.endpoint) {
    out.push_back(address_record(owner, framework.endpoint->address));
    add_service(out, join({"_framework", "_tcp"}, owner), owner, framework.endpoint->port,
                suffixes.naming.srv_weight);
  } else if (const auto address = IpAddress::parse(framework.hostname)) {
    out.push_back(address_record(owner, *address));
  }
  return sorted(std::move(out));
}

std::vector<Record> vip_records(const VipAllocation& vip, const Suffixes& suffixes,
                                std::vector<Problem>* problems) {
  std::vector<Record> out;
  std::string name = vip.name.str();
  fold(name);
  const std::string owner = join_dotted(name, suffixes.l4lb);
  if (owner.empty()) {
    if (problems != nullptr) {
      problems->push_back(
          {"dns_name", "vip " + vip.name.str(), "the VIP's name cannot be a DNS name"});
    }
    return out;
  }
  for (const auto& address : {vip.v4, vip.v6}) {
    if (!address) continue;
    out.push_back(address_record(owner, *address));
    out.push_back(name_record(reverse_name(*address), type::kPtr, owner));
  }
  return sorted(std::move(out));
}

std::vector<Record> master_records(const std::set<Master>& masters, const Suffixes& suffixes) {
  constexpr std::size_t kZkNames = 5;  // zk-1.zk to zk-5.zk, whatever the number of masters
  std::vector<Record> out;
  std::vector<IpAddress> addresses;
  for (const Master& master : masters) {
    const IpAddress& address = master.endpoint.address;
    const std::string number = std::to_string(addresses.size());
    out.push_back(address_record(join({"master" + number}, suffixes.mesos), address));
    out.push_back(address_record(join({"master"}, suffixes.mesos), address));
    out.push_back(address_record(join({"master"}, suffixes.dcos), address));
    addresses.push_back(address);
    add_host_pointer(out, master.hostname, address);
    if (!master.leading) continue;
    const std::string leader = join({"leader"}, suffixes.mesos);
    out.push_back(address_record(leader, address));
    out.push_back(address_record(join({"leader"}, suffixes.dcos), address));
    for (const char* const protocol : {"_tcp", "_udp"}) {
      add_service(out, join({"_leader", protocol}, suffixes.mesos), leader, master.endpoint.port,
                  suffixes.naming.srv_weight);
    }
  }
  for (std::size_t i = 0; i < kZkNames && !addresses.empty(); ++i) {
    const std::string label = "zk-" + std::to_string(i + 1);
    out.push_back(address_record(join({label}, suffixes.zk), addresses[i % addresses.size()]));
  }
  return sorted(std::move(out));
}

}  // namespace muster::dns
