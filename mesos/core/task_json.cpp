#include "mesos/core/task_json.hpp"

#include <algorithm>
#include <charconv>
#include <cstdint>

#include "mesos/core/vip_label.hpp"

namespace muster::mesos {
namespace {

namespace dom = simdjson::dom;

bool member(dom::object object, std::string_view key, dom::object& out) {
  return object[key].get(out) == simdjson::SUCCESS;
}

/// `"key":[…]`, or one level down as protobuf has it: `"key":{"key":[…]}`. `found` is the first.
bool list(dom::element found, std::string_view key, dom::array& out) {
  dom::object nested;
  if (found.get(nested) == simdjson::SUCCESS) return nested[key].get(out) == simdjson::SUCCESS;
  return found.get(out) == simdjson::SUCCESS;
}
bool list(dom::object object, std::string_view key, dom::array& out) {
  dom::element found;
  return object[key].get(found) == simdjson::SUCCESS && list(found, key, out);
}

/// What is read of a task, found in one pass over its members; of equal keys the first counts.
class TaskMembers {
 public:
  using Found = std::optional<dom::element>;

  explicit TaskMembers(dom::object task) {
    for (const auto [key, value] : task) {
      Found* const place = place_of(key);
      if (place != nullptr && !*place) *place = value;
    }
  }

  Found task_id, id, agent_id, slave_id, framework_id, state, name;
  Found health_check, discovery, resources, container, statuses, labels;

 private:
  Found* place_of(std::string_view key) noexcept {
    switch (key.size()) {
      case 2:
        return key == "id" ? &id : nullptr;
      case 4:
        return key == "name" ? &name : nullptr;
      case 5:
        return key == "state" ? &state : nullptr;
      case 6:
        return key == "labels" ? &labels : nullptr;
      case 7:
        return key == "task_id" ? &task_id : nullptr;
      case 8:
        if (key == "agent_id") return &agent_id;
        if (key == "slave_id") return &slave_id;
        return key == "statuses" ? &statuses : nullptr;
      case 9:
        if (key == "resources") return &resources;
        if (key == "container") return &container;
        return key == "discovery" ? &discovery : nullptr;
      case 12:
        if (key == "framework_id") return &framework_id;
        return key == "health_check" ? &health_check : nullptr;
      default:
        return nullptr;
    }
  }
};

std::string_view text_of(const TaskMembers::Found& found) {
  std::string_view text;
  return found && found->get(text) == simdjson::SUCCESS ? text : std::string_view{};
}

std::optional<std::uint64_t> whole_number(dom::object object, std::string_view key) {
  dom::element found;
  if (object[key].get(found) != simdjson::SUCCESS) return std::nullopt;
  std::uint64_t number = 0;
  if (found.get(number) == simdjson::SUCCESS) return number;
  double real = 0;
  if (found.get(real) != simdjson::SUCCESS || real < 0 || real > 4294967295.0) return std::nullopt;
  number = static_cast<std::uint64_t>(real);
  return static_cast<double>(number) == real ? std::optional{number} : std::nullopt;
}

std::string lower_cased(std::string_view text) {
  std::string out{text};
  for (char& c : out) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  }
  return out;
}

/// One task's parts, with what a Problem needs to name it.
class TaskReader {
 public:
  TaskReader(std::string_view id, Problems& problems) : id_{id}, problems_{problems} {}

  void read_discovery(dom::element, TaskInfo& info);
  void read_resources(dom::element, TaskInfo& info);
  void read_container(dom::element, TaskInfo& info);
  void read_statuses(dom::element, TaskInfo& info);
  void read_labels(dom::element, TaskInfo& info);
  StatusInfo read_status(dom::object status);

 private:
  void read_port(dom::object port, std::size_t index, TaskInfo& info);
  void read_port_label(DeclaredPort& port, std::string_view key, std::string_view value,
                       std::size_t index);
  void read_range_text(std::string_view text, TaskInfo& info);
  void add_range(std::uint64_t begin, std::uint64_t end, TaskInfo& info);
  void read_networks(dom::object holder, StatusInfo& status);
  void read_address(std::string_view text, std::string_view network, StatusInfo& status);
  void read_mappings(dom::object holder, std::vector<PortMapping>& out);
  // Texts for Problems are made when there is one: nearly no task has any.
  std::string where() const { return "task " + in_quotes(id_); }
  std::string where(std::size_t port) const { return where() + ", port " + std::to_string(port); }
  void limit(std::string_view what, std::size_t max) {
    problems_.add("limit", where(),
                  std::string{what} + ": only the first " + std::to_string(max) + " are taken");
  }
  /// Visits `list` up to `max` elements that are objects.
  template <class Visit>
  void each(dom::array list, std::string_view what, std::size_t max, Visit visit);

  std::string_view id_;
  Problems& problems_;
};

template <class Visit>
void TaskReader::each(dom::array list, std::string_view what, std::size_t max, Visit visit) {
  std::size_t index = 0;
  for (const dom::element element : list) {
    if (index == max) return limit(what, max);
    dom::object object;
    if (element.get(object) == simdjson::SUCCESS) {
      visit(object, index);
    } else {
      problems_.add("task", where(), std::string{what} + ": an entry is not an object");
    }
    ++index;
  }
}

void TaskReader::read_discovery(dom::element found, TaskInfo& info) {
  dom::object discovery;
  if (found.get(discovery) != simdjson::SUCCESS) return;
  info.discovery_name = text_member(discovery, "name").substr(0, kMaxText);
  dom::array ports;
  if (!list(discovery, "ports", ports)) return;
  each(ports, "discovery ports", kMaxPorts,
       [&](dom::object port, std::size_t index) { read_port(port, index, info); });
}

void TaskReader::read_port(dom::object port, std::size_t index, TaskInfo& info) {
  const auto number = whole_number(port, "number");
  if (number == std::uint64_t{0}) return;  // Marathon's "any port", before there is one
  const auto valid = number ? Port::from(*number) : std::nullopt;
  if (!valid) {
    problems_.add("port", where(index), "needs a number from 1 to 65535");
    return;
  }
  DeclaredPort declared{.name = std::string{text_member(port, "name").substr(0, kMaxText)},
                        .protocol = lower_cased(text_member(port, "protocol").substr(0, kMaxText)),
                        .number = *valid,
                        .scope = PortScope::undeclared,
                        .network_name = {},
                        .vips = {},
                        .policies = {}};
  dom::array labels;
  if (list(port, "labels", labels)) {
    each(labels, "port labels", kMaxLabels, [&](dom::object label, std::size_t) {
      read_port_label(declared, text_member(label, "key"), text_member(label, "value"), index);
    });
  }
  info.ports.push_back(std::move(declared));
}

void TaskReader::read_port_label(DeclaredPort& port, std::string_view key, std::string_view value,
                                 std::size_t index) {
  if (is_vip_key(key)) {
    const bool policy = is_policy_key(key);
    auto& labels = policy ? port.policies : port.vips;
    if (labels.size() == kMaxVipsPerPort) {
      problems_.add("limit", where(index),
                    "more than " + std::to_string(kMaxVipsPerPort) + " VIP labels");
    } else {
      labels.push_back({std::string{(policy ? vip_key_of(key) : key).substr(0, kMaxText)},
                        std::string{value.substr(0, kMaxVipValue + 1)}});
    }
  } else if (key == "network-name") {
    port.network_name = value.substr(0, kMaxText);
  } else if (key == "network-scope") {
    const auto scope = value == "host"        ? PortScope::host
                       : value == "container" ? PortScope::container
                                              : PortScope::undeclared;
    const bool contradicts = port.scope != PortScope::undeclared && port.scope != scope;
    if (scope == PortScope::undeclared || contradicts) {
      problems_.add("port", where(index),
                    "label network-scope is " + in_quotes(value) +
                        (contradicts ? " too" : "; it can be \"host\" or \"container\""));
    } else {
      port.scope = scope;
    }
  }
}

void TaskReader::read_resources(dom::element resources, TaskInfo& info) {
  dom::object by_name;
  if (resources.get(by_name) == simdjson::SUCCESS) {
    std::string_view ports;
    if (by_name["ports"].get(ports) == simdjson::SUCCESS) read_range_text(ports, info);
    return;
  }
  dom::array typed;
  if (resources.get(typed) != simdjson::SUCCESS) return;
  for (const dom::element element : typed) {
    dom::object resource;
    if (element.get(resource) != simdjson::SUCCESS) continue;
    dom::object inner;
    // /state has revocable ports under a name of their own, so they are left out here too.
    if (text_member(resource, "name") != "ports" || member(resource, "revocable", inner)) continue;
    dom::array ranges;
    if (member(resource, "ranges", inner) && list(inner, "range", ranges)) {
      each(ranges, "port ranges", kMaxHostPorts, [&](dom::object range, std::size_t) {
        add_range(whole_number(range, "begin").value_or(0), whole_number(range, "end").value_or(0),
                  info);
      });
    } else if (member(resource, "scalar", inner)) {
      const std::uint64_t number = whole_number(inner, "value").value_or(0);
      add_range(number, number, info);
    }
  }
}

void TaskReader::read_range_text(std::string_view text, TaskInfo& info) {
  // "[31000-31001, 31005-31005]"
  if (text.starts_with('[')) text.remove_prefix(1);
  if (text.ends_with(']')) text.remove_suffix(1);
  const auto number = [](std::string_view digits) {
    while (digits.starts_with(' ')) digits.remove_prefix(1);
    while (digits.ends_with(' ')) digits.remove_suffix(1);
    const auto port = Port::parse(digits);
    return port ? std::uint64_t{port->number()} : 0U;
  };
  for (std::size_t at = 0; at < text.size() && info.host_ports.size() < kMaxHostPorts;) {
    const std::size_t comma = std::min(text.find(',', at), text.size());
    const std::string_view range = text.substr(at, comma - at);
    const std::size_t dash = std::min(range.find('-'), range.size());
    const std::uint64_t begin = number(range.substr(0, dash));
    add_range(begin, dash == range.size() ? begin : number(range.substr(dash + 1)), info);
    at = comma + 1;
  }
}

void TaskReader::add_range(std::uint64_t begin, std::uint64_t end, TaskInfo& info) {
  if (!Port::from(begin) || !Port::from(end) || begin > end) {
    problems_.add("resources", where(), "a range of ports must be two ports from 1 to 65535");
    return;
  }
  for (std::uint64_t number = begin; number <= end; ++number) {
    if (info.host_ports.size() == kMaxHostPorts) return limit("ports in resources", kMaxHostPorts);
    info.host_ports.push_back(*Port::from(number));
  }
}

void TaskReader::read_container(dom::element found, TaskInfo& info) {
  dom::object container;
  if (found.get(container) != simdjson::SUCCESS) return;
  dom::object docker;
  if (member(container, "docker", docker)) {
    const std::string_view network = text_member(docker, "network");
    if (network == "HOST") info.network = NetworkMode::host;
    if (network == "BRIDGE" || network == "USER") info.network = NetworkMode::container;
    read_mappings(docker, info.container_mappings);
  }
  if (text_member(container, "type") == "DOCKER") return;  // mappings are docker's alone there
  dom::array networks;
  if (!list(container, "network_infos", networks)) return;
  each(networks, "networks", kMaxAddresses, [&](dom::object network, std::size_t) {
    // A NetworkInfo without a name leaves the container in the host's network (network/cni).
    if (!text_member(network, "name").empty()) info.network = NetworkMode::container;
    read_mappings(network, info.container_mappings);
  });
}

void TaskReader::read_mappings(dom::object holder, std::vector<PortMapping>& out) {
  dom::array mappings;
  if (!list(holder, "port_mappings", mappings)) return;
  each(mappings, "port mappings", kMaxMappings, [&](dom::object mapping, std::size_t) {
    const auto outside = Port::from(whole_number(mapping, "host_port").value_or(0));
    const auto inside = Port::from(whole_number(mapping, "container_port").value_or(0));
    if (!outside || !inside) {
      problems_.add("port", where(), "a port mapping needs host_port and container_port, 1-65535");
      return;
    }
    const std::string protocol = lower_cased(text_member(mapping, "protocol").substr(0, kMaxText));
    const auto protocols = vip_protocols(protocol);
    const bool both = protocol.empty() || protocols.size() > 1;
    if (out.size() < kMaxMappings) {
      out.push_back({*outside, *inside, both ? std::nullopt : std::optional{protocols.front()}});
    }
  });
}

void TaskReader::read_statuses(dom::element found, TaskInfo& info) {
  dom::array statuses;
  if (found.get(statuses) != simdjson::SUCCESS) return;
  // By time; where that is equal or absent the later one is the newer.
  std::vector<std::pair<double, StatusInfo>> by_time;
  by_time.reserve(std::min(statuses.size(), kMaxStatuses));
  each(statuses, "statuses", kMaxStatuses, [&](dom::object status, std::size_t) {
    double timestamp = 0;
    if (status["timestamp"].get(timestamp) != simdjson::SUCCESS) timestamp = 0;
    by_time.emplace_back(timestamp, read_status(status));
  });
  const auto older = [](const auto& a, const auto& b) { return a.first < b.first; };
  if (!std::is_sorted(by_time.begin(), by_time.end(), older)) {
    std::stable_sort(by_time.begin(), by_time.end(), older);
  }
  for (auto& [timestamp, status] : by_time) merge_status(info, std::move(status));
}

StatusInfo TaskReader::read_status(dom::object status) {
  StatusInfo out;
  out.state = state_member(status, "state").value_or(TaskState::unknown);
  bool healthy = false;
  if (status["healthy"].get(healthy) == simdjson::SUCCESS) out.healthy = healthy;
  dom::object container;
  // While a task starts these are the agent's; merge_status() takes those of RUNNING only.
  if (out.state == TaskState::running && member(status, "container_status", container)) {
    read_networks(container, out);
  }
  return out;
}

void TaskReader::read_networks(dom::object holder, StatusInfo& status) {
  dom::array networks;
  if (!list(holder, "network_infos", networks)) return;
  each(networks, "networks", kMaxAddresses, [&](dom::object network, std::size_t) {
    status.has_networks = true;
    const std::string_view name = text_member(network, "name").substr(0, kMaxText);
    read_mappings(network, status.mappings);
    dom::array addresses;
    if (!list(network, "ip_addresses", addresses)) {
      const std::string_view legacy = text_member(network, "ip_address");  // Mesos < 0.26
      if (!legacy.empty()) read_address(legacy, name, status);
      return;
    }
    each(addresses, "addresses", kMaxAddresses, [&](dom::object address, std::size_t) {
      const std::string_view text = text_member(address, "ip_address");
      if (!text.empty()) read_address(text, name, status);
    });
  });
}

void TaskReader::read_address(std::string_view text, std::string_view network, StatusInfo& status) {
  // CNI leaves the prefix length at IPv6 addresses, and "protocol" says IPv4 where it was not set.
  const auto address = IpAddress::parse(text.substr(0, text.find('/')));
  if (!address || !address->is_unicast()) {
    problems_.add("address", where(), in_quotes(text) + " is no address of a container");
  } else if (status.addresses.size() == kMaxAddresses) {
    limit("addresses", kMaxAddresses);
  } else {
    status.addresses.push_back({*address, std::string{network}});
  }
}

void TaskReader::read_labels(dom::element found, TaskInfo& info) {
  constexpr std::string_view kPrefix = "vip_port";
  dom::array labels;
  if (!list(found, "labels", labels)) return;
  each(labels, "task labels", kMaxLabels, [&](dom::object label, std::size_t) {
    const std::string_view raw = text_member(label, "key");
    if (raw.size() <= kPrefix.size() || (raw[0] != 'v' && raw[0] != 'V')) return;
    const std::string key = lower_cased(raw.substr(0, kMaxText));
    if (!key.starts_with(kPrefix)) return;
    std::size_t index = 0;
    const char* const end = key.data() + key.size();
    const auto parsed = std::from_chars(key.data() + kPrefix.size(), end, index);
    const std::string_view value = text_member(label, "value").substr(0, kMaxVipValue + 1);
    if (parsed.ec == std::errc{} && std::string_view{parsed.ptr, end} == "_policy") {
      if (info.indexed_policies.size() < kMaxPorts) {
        info.indexed_policies.push_back({index, std::string{value}});
      } else {
        limit("vip_port labels", kMaxPorts);
      }
      return;
    }
    const bool udp = value.starts_with("udp://");
    if (parsed.ec != std::errc{} || parsed.ptr != end || (!udp && !value.starts_with("tcp://"))) {
      problems_.add("vip_label", where(),
                    "label " + in_quotes(raw) + ": " + in_quotes(value) +
                        " should read vip_port<N>: tcp://<vip> or udp://<vip>");
    } else if (info.indexed_vips.size() < kMaxPorts) {
      info.indexed_vips.push_back(
          {index, udp ? Protocol::udp : Protocol::tcp, std::string{value.substr(6)}});
    } else {
      limit("vip_port labels", kMaxPorts);
    }
  });
}

}  // namespace

std::string_view text_member(dom::object object, std::string_view key) {
  std::string_view text;
  return object[key].get(text) == simdjson::SUCCESS ? text : std::string_view{};
}

std::optional<std::string> id_value(dom::element element) {
  std::string_view text;
  dom::object wrapped;
  if (element.get(wrapped) == simdjson::SUCCESS) {
    text = text_member(wrapped, "value");
  } else if (element.get(text) != simdjson::SUCCESS) {
    return std::nullopt;
  }
  if (text.empty() || text.size() > kMaxText) return std::nullopt;
  return std::string{text};
}

std::optional<std::string> id_member(dom::object object, std::string_view key) {
  dom::element element;
  if (object[key].get(element) != simdjson::SUCCESS) return std::nullopt;
  return id_value(element);
}

std::optional<TaskState> state_member(dom::object object, std::string_view key) {
  return parse_task_state(text_member(object, key));
}

StatusInfo status_from_json(dom::object status, std::string_view task, Problems& problems) {
  return TaskReader{task, problems}.read_status(status);
}

std::optional<TaskKey> task_key_from_json(dom::object task) {
  auto id = id_member(task, "task_id");
  if (!id) id = id_member(task, "id");
  auto framework = id_member(task, "framework_id");
  if (!id || !framework) return std::nullopt;
  return TaskKey{FrameworkId{std::move(*framework)}, TaskId{std::move(*id)}};
}

std::optional<std::pair<TaskKey, TaskInfo>> task_from_json(dom::object task, Problems& problems) {
  const TaskMembers members{task};
  const auto id_of = [](const TaskMembers::Found& v1, const TaskMembers::Found& v0) {
    auto id = v1 ? id_value(*v1) : std::nullopt;
    return id || !v0 ? id : id_value(*v0);
  };
  auto id = id_of(members.task_id, members.id);
  auto agent = id_of(members.agent_id, members.slave_id);
  auto framework = id_of(members.framework_id, std::nullopt);
  const auto state = parse_task_state(text_of(members.state));
  const std::string_view name = text_of(members.name);
  if (!id || !agent || !framework || !state || name.size() > kMaxText) {
    problems.add("task", id ? "task " + in_quotes(*id) : std::string{"one task"},
                 "needs its id, framework id, agent id, a name and a state that Mesos has");
    return std::nullopt;
  }
  TaskInfo info;
  info.agent = AgentId{std::move(*agent)};
  info.name = name;
  info.state = *state;
  if (!is_terminal(*state)) {
    info.has_health_check = members.health_check && members.health_check->is_object();
    TaskReader reader{*id, problems};
    if (members.discovery) reader.read_discovery(*members.discovery, info);
    if (members.resources) reader.read_resources(*members.resources, info);
    if (members.container) reader.read_container(*members.container, info);
    if (members.statuses) reader.read_statuses(*members.statuses, info);
    if (members.labels) reader.read_labels(*members.labels, info);
  }
  return std::pair{TaskKey{FrameworkId{std::move(*framework)}, TaskId{std::move(*id)}},
                   std::move(info)};
}

}  // namespace muster::mesos
