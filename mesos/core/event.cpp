#include "mesos/core/event.hpp"

#include <algorithm>
#include <memory>

#include "mesos/core/elements.hpp"
#include "mesos/core/json_scan.hpp"
#include "mesos/core/snapshot_builder.hpp"

namespace muster::mesos {
namespace {

/// The extents of an event's parts; the type need not come first.
struct Parts {
  std::string_view type;
  std::string_view content;  // of the member that carries it, one level down
};

bool is_content(std::string_view key) noexcept {
  return key == "task_added" || key == "task_updated" || key == "agent_added" ||
         key == "agent_removed" || key == "framework_added" || key == "framework_updated" ||
         key == "framework_removed";
}

/// The member `key` of the object `json`; empty if it has none.
std::string_view inside(std::string_view json, std::string_view key) {
  JsonScan scan{json};
  std::string_view found;
  scan.object([&](std::string_view name) {
    if (name == key) found = scan.skip();
  });
  return found;
}

std::string type_label(std::string_view json) {
  constexpr std::size_t kMax = 40;
  if (json.size() < 3 || json.size() > kMax + 2 || json.front() != '"') return "other";
  json = json.substr(1, json.size() - 2);
  const bool is_name = std::all_of(json.begin(), json.end(),
                                   [](char c) { return (c >= 'A' && c <= 'Z') || c == '_'; });
  return is_name ? std::string{json} : "other";
}

void read_content(const Parts& parts, Event& event) {
  ElementParser elements{event.problems};
  if (event.type == "HEARTBEAT") {
    event.content = Heartbeat{};
  } else if (event.type == "TASK_ADDED") {
    if (auto task = elements.task(inside(parts.content, "task"))) {
      event.content = TaskAdded{std::move(task->first), std::move(task->second)};
    }
  } else if (event.type == "TASK_UPDATED") {
    if (auto update = elements.task_updated(parts.content)) event.content = std::move(*update);
  } else if (event.type == "AGENT_ADDED") {
    if (auto agent = elements.agent(inside(parts.content, "agent"))) {
      event.content = AgentAdded{std::move(*agent)};
    }
  } else if (event.type == "AGENT_REMOVED") {
    if (auto id = elements.id(inside(parts.content, "agent_id"))) {
      event.content = AgentRemoved{AgentId{std::move(*id)}};
    } else {
      event.problems.add("event", "AGENT_REMOVED", "needs an agent_id");
    }
  } else if (event.type == "FRAMEWORK_ADDED" || event.type == "FRAMEWORK_UPDATED") {
    if (auto framework = elements.framework(inside(parts.content, "framework"))) {
      event.content = FrameworkKnown{std::move(*framework)};
    }
  } else if (event.type == "FRAMEWORK_REMOVED") {
    if (auto framework = elements.framework(inside(parts.content, "framework_info"))) {
      event.content = FrameworkRemoved{std::move(framework->id)};
    }
  }
}

void read_subscribed(JsonScan& scan, SnapshotBuilder& builder) {
  scan.object([&](std::string_view key) {
    if (key == "get_state") read_get_state(scan, builder);
    if (key == "heartbeat_interval_seconds") builder.set_heartbeat(scan.skip());
  });
}

/// All but the joining of a SUBSCRIBED event, whose parts are left in `builder`.
Result<Event, ParseError> read_event(std::string_view json,
                                     std::unique_ptr<SnapshotBuilder>& builder) {
  Event event;
  Parts parts;
  JsonScan scan{json};
  const bool is_object = scan.object([&](std::string_view key) {
    if (key == "type") {
      parts.type = scan.skip();
    } else if (key == "subscribed" && scan.peek() == '{') {
      if (!builder) builder = std::make_unique<SnapshotBuilder>();
      read_subscribed(scan, *builder);
    } else if (is_content(key)) {
      parts.content = scan.skip();
    }
  });
  if (!is_object || !scan.finish()) return ParseError::not_json;
  event.type = type_label(parts.type);
  if (event.type != "SUBSCRIBED") {
    builder.reset();
    read_content(parts, event);
  } else if (!builder) {
    event.problems.add("event", "SUBSCRIBED", "needs the member subscribed");
  }
  return event;
}

}  // namespace

Result<Event, ParseError> parse_event(std::string_view json, const KnownHosts& hosts) {
  std::unique_ptr<SnapshotBuilder> builder;  // only a SUBSCRIBED needs one
  auto event = read_event(json, builder);
  if (event && builder) event->content = std::move(*builder).finish(hosts);
  return event;
}

Result<Event, ParseError> consume_event(std::string json, const KnownHosts& hosts) {
  std::unique_ptr<SnapshotBuilder> builder;
  auto event = read_event(json, builder);
  std::string{}.swap(json);
  if (event && builder) event->content = std::move(*builder).finish(hosts);
  return event;
}

}  // namespace muster::mesos
