#include "mesos/core/elements.hpp"

#include <cstring>
#include <simdjson.h>
#include <vector>

#include "mesos/core/task_json.hpp"

namespace muster::mesos {

namespace dom = simdjson::dom;

/// One simdjson parser, reused: its tape and string buffers stay as large as the largest element.
class ElementParser::Impl {
 public:
  explicit Impl(Problems& sink) : problems{sink} {}

  /// The element; valid until the next call. simdjson reads up to SIMDJSON_PADDING octets past
  /// the end, so an extent is copied into a buffer that has them.
  std::optional<dom::element> parse(std::string_view json) {
    if (json.empty()) return std::nullopt;  // a member that is not there
    if (buffer_.size() < json.size() + simdjson::SIMDJSON_PADDING) {
      buffer_.resize(2 * json.size() + simdjson::SIMDJSON_PADDING);
    }
    std::memcpy(buffer_.data(), json.data(), json.size());
    dom::element element;
    if (parser_.parse(buffer_.data(), json.size(), false).get(element) != simdjson::SUCCESS) {
      return std::nullopt;
    }
    return element;
  }

  std::optional<dom::object> parse_object(std::string_view json, std::string_view kind) {
    dom::object object;
    const auto element = parse(json);
    if (element && element->get(object) == simdjson::SUCCESS) return object;
    problems.add(kind, "one " + std::string{kind}, "not a JSON object: " + in_quotes(json));
    return std::nullopt;
  }

  Problems& problems;

 private:
  dom::parser parser_;
  std::vector<char> buffer_;
};

namespace {

/// The operator API wraps what /state and recovered ones have flat.
dom::object member_or_self(dom::object object, std::string_view key) {
  dom::object inner;
  return object[key].get(inner) == simdjson::SUCCESS ? inner : object;
}

void read_addresses(Agent& agent, std::string_view pid, Problems& problems) {
  if (const auto endpoint = endpoint_of_pid(pid)) {
    agent.port = endpoint->port;
    if (endpoint->address.is_unicast()) agent.addresses.push_back(endpoint->address);
  }
  if (!agent.addresses.empty()) return;
  if (!pid.empty()) {
    problems.add("address", "agent " + in_quotes(agent.id.str()),
                 "its pid " + in_quotes(pid) + " should end in \"@address:port\"");
  }
  const auto literal = IpAddress::parse(agent.hostname);
  if (literal && literal->is_unicast()) agent.addresses.push_back(*literal);
}

/// `region/zone` of `{"domain":{"fault_domain":{"region":{"name":…},"zone":{"name":…}}}}`.
std::string zone_of(dom::object info) {
  dom::object domain;
  if (info["domain"]["fault_domain"].get(domain) != simdjson::SUCCESS) return {};
  std::string_view region;
  std::string_view zone;
  if (domain["region"]["name"].get(region) != simdjson::SUCCESS ||
      domain["zone"]["name"].get(zone) != simdjson::SUCCESS ||
      region.size() + zone.size() >= kMaxText) {
    return {};
  }
  return std::string{region}.append("/").append(zone);
}

}  // namespace

ElementParser::ElementParser(Problems& problems) : impl_{std::make_unique<Impl>(problems)} {}
ElementParser::~ElementParser() = default;

std::optional<std::pair<TaskKey, TaskInfo>> ElementParser::task(std::string_view json) {
  const auto object = impl_->parse_object(json, "task");
  if (!object) return std::nullopt;
  return task_from_json(*object, impl_->problems);
}

std::optional<TaskKey> ElementParser::task_key(std::string_view json) {
  const auto object = impl_->parse_object(json, "task");
  if (!object) return std::nullopt;
  auto key = task_key_from_json(*object);
  if (!key) impl_->problems.add("task", "one task", "needs its id and framework id");
  return key;
}

std::optional<TaskUpdated> ElementParser::task_updated(std::string_view json) {
  const auto object = impl_->parse_object(json, "event");
  if (!object) return std::nullopt;
  TaskUpdated update;
  dom::object status;
  const bool has_status = (*object)["status"].get(status) == simdjson::SUCCESS;
  const auto framework = id_member(*object, "framework_id");
  const auto task = has_status ? id_member(status, "task_id") : std::nullopt;
  const auto state = state_member(*object, "state");
  if (!framework || !task || !state) {
    impl_->problems.add(
        "event", "TASK_UPDATED",
        "needs framework_id, status.task_id and a state that Mesos has: " + in_quotes(json));
    return std::nullopt;
  }
  update.key = {FrameworkId{*framework}, TaskId{*task}};
  update.state = *state;
  update.status = status_from_json(status, *task, impl_->problems);
  return update;
}

std::optional<Agent> ElementParser::agent(std::string_view json) {
  const auto object = impl_->parse_object(json, "agent");
  if (!object) return std::nullopt;
  const dom::object info = member_or_self(*object, "agent_info");
  Agent agent;
  agent.id = AgentId{id_member(info, "id").value_or(std::string{})};
  agent.hostname = text_member(info, "hostname");
  if (agent.id.empty() || agent.hostname.size() > kMaxText) {
    impl_->problems.add("agent", "one agent", "needs an id and a hostname: " + in_quotes(json));
    return std::nullopt;
  }
  std::uint64_t port = 0;
  if (info["port"].get(port) == simdjson::SUCCESS) agent.port = Port::from(port);
  agent.zone = zone_of(info);
  read_addresses(agent, text_member(*object, "pid"), impl_->problems);
  return agent;
}

std::optional<Framework> ElementParser::framework(std::string_view json) {
  const auto object = impl_->parse_object(json, "framework");
  if (!object) return std::nullopt;
  const dom::object info = member_or_self(*object, "framework_info");
  Framework framework;
  framework.id = FrameworkId{id_member(info, "id").value_or(std::string{})};
  framework.name = text_member(info, "name");
  framework.hostname = text_member(info, "hostname");
  if (framework.id.empty() || framework.name.size() > kMaxText ||
      framework.hostname.size() > kMaxText) {
    impl_->problems.add("framework", "one framework", "needs an id: " + in_quotes(json));
    return std::nullopt;
  }
  framework.endpoint = endpoint_of_pid(text_member(*object, "pid"));
  return framework;
}

std::optional<std::string> ElementParser::id(std::string_view json) {
  const auto element = impl_->parse(json);
  return element ? id_value(*element) : std::nullopt;
}

std::optional<std::string> ElementParser::text(std::string_view json) {
  const auto element = impl_->parse(json);
  std::string_view text;
  if (!element || element->get(text) != simdjson::SUCCESS) return std::nullopt;
  return std::string{text};
}

std::optional<double> ElementParser::number(std::string_view json) {
  const auto element = impl_->parse(json);
  double number = 0;
  if (!element || element->get(number) != simdjson::SUCCESS) return std::nullopt;
  return number;
}

std::optional<Endpoint> endpoint_of_pid(std::string_view pid) {
  const std::size_t at = pid.rfind('@');
  if (at == std::string_view::npos) return std::nullopt;
  return Endpoint::parse(pid.substr(at + 1));
}

}  // namespace muster::mesos
