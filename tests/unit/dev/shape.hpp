#pragma once

#include <fstream>
#include <iterator>
#include <map>
#include <set>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include <boost/json/parse.hpp>
#include <boost/json/value.hpp>

/// What JSON documents of a Mesos master look like: for each kind of object in them (a running
/// task of /state, a status update from an executor, ...) which paths are always there, which
/// ever, with which types, and in which order the keys come.
namespace muster::testing {

namespace json = boost::json;

inline std::string type_name(const json::value& value) {
  if (value.is_object()) return "object";
  if (value.is_array()) return "list";
  if (value.is_string()) return "string";
  if (value.is_bool()) return "bool";
  if (value.is_double()) return "number with a point";
  if (value.is_int64() || value.is_uint64()) return "whole number";
  return "null";
}

struct Shape {
  unsigned seen = 0;
  std::map<std::string, unsigned> counts;               // path -> objects that have it
  std::map<std::string, std::set<std::string>> types;   // path -> types it ever had
  std::set<std::pair<std::string, std::string>> order;  // a came before b in the same object
};

class Shapes {
 public:
  /// `skip`: members whose content has a kind of its own or is free text.
  void add(const std::string& kind, const json::object& object, const std::set<std::string>& skip) {
    Shape& shape = shapes_[kind];
    ++shape.seen;
    std::set<std::string> here;
    walk(shape, object, "", skip, here);
    for (const std::string& path : here) ++shape.counts[path];
  }

  const std::map<std::string, Shape>& all() const { return shapes_; }

  /// Why objects of shape `emulated` could not have come from where these come from.
  std::vector<std::string> complaints(const Shapes& emulated) const {
    std::vector<std::string> out;
    for (const auto& [kind, shape] : emulated.all()) {
      const auto found = shapes_.find(kind);
      if (found == shapes_.end()) {
        out.push_back(kind + ": never recorded");
        continue;
      }
      compare(kind, found->second, shape, out);
    }
    return out;
  }

 private:
  static void walk(Shape& shape, const json::object& object, const std::string& at,
                   const std::set<std::string>& skip, std::set<std::string>& here) {
    std::vector<std::string> before;
    for (const auto& member : object) {
      const std::string key{member.key()};
      const std::string path = at + "." + key;
      here.insert(path);
      shape.types[path].insert(type_name(member.value()));
      for (const std::string& earlier : before) shape.order.insert({earlier, path});
      before.push_back(path);
      if (skip.count(key) == 0) descend(shape, member.value(), path, skip, here);
    }
  }

  static void descend(Shape& shape, const json::value& value, const std::string& path,
                      const std::set<std::string>& skip, std::set<std::string>& here) {
    if (value.is_object()) walk(shape, value.get_object(), path, skip, here);
    if (!value.is_array()) return;
    for (const json::value& item : value.get_array()) {
      here.insert(path + "[]");
      shape.types[path + "[]"].insert(type_name(item));
      descend(shape, item, path + "[]", skip, here);
    }
  }

  /// Whether a task has these is its definition's affair, not the master's.
  static bool configured(const std::string& path) {
    static const std::set<std::string> paths{".labels",    ".discovery",   ".health_check",
                                             ".container", ".kill_policy", ".resources.ports",
                                             ".check",     ".labels[]"};
    return paths.count(path) != 0;
  }

  static void compare(const std::string& kind, const Shape& real, const Shape& ours,
                      std::vector<std::string>& out) {
    for (const auto& [path, count] : real.counts) {
      if (configured(path)) continue;
      const auto have = ours.counts.find(path);
      if (count == real.seen && (have == ours.counts.end() || have->second < ours.seen)) {
        out.push_back(kind + ": " + path + " is always there");
      }
    }
    for (const auto& [path, types] : ours.types) {
      if (configured(path)) continue;
      const auto known = real.types.find(path);
      if (known == real.types.end()) {
        out.push_back(kind + ": " + path + " was never seen");
        continue;
      }
      for (const std::string& type : types) {
        if (known->second.count(type) == 0) {
          out.push_back(kind + ": " + path + " is a " + *known->second.begin() + ", not a " + type);
        }
      }
    }
    for (const auto& [a, b] : ours.order) {
      if (real.order.count({b, a}) != 0 && real.order.count({a, b}) == 0) {
        out.push_back(kind + ": " + b + " comes before " + a);
      }
    }
  }

  std::map<std::string, Shape> shapes_;
};

inline const json::array& list(const json::object& object, std::string_view key) {
  return object.at(key).as_array();
}

inline std::string word(const json::object& object, std::string_view key) {
  const json::value* found = object.if_contains(key);
  return found == nullptr ? "" : std::string{found->as_string()};
}

inline const std::set<std::string>& own_kind() {
  static const std::set<std::string> members{"statuses",  "health_check", "discovery",
                                             "container", "labels",       "kill_policy"};
  return members;
}

/// What a task's definition made of it: the same whatever becomes of the task.
inline void add_definition(Shapes& out, const std::string& version, const json::object& task) {
  if (const json::value* check = task.if_contains("health_check")) {
    out.add(version + " health check " + word(check->as_object(), "type"), check->as_object(), {});
  }
  if (const json::value* discovery = task.if_contains("discovery")) {
    const json::value* ports = discovery->as_object().if_contains("ports");
    if (ports != nullptr && !ports->as_object().empty()) {
      out.add(version + " discovery", discovery->as_object(), {});
    }
  }
  if (const json::value* container = task.if_contains("container")) {
    out.add(version + " container " + word(container->as_object(), "type"), container->as_object(),
            {});
  }
}

/// GET /state.
inline void add_state(Shapes& out, const json::object& state) {
  out.add("v0 master", state,
          {"slaves", "recovered_slaves", "frameworks", "completed_frameworks", "flags"});
  for (const json::value& slave : list(state, "slaves")) {
    out.add("v0 agent", slave.as_object(), {"attributes"});
  }
  for (const json::value& value : list(state, "frameworks")) {
    const json::object& framework = value.as_object();
    out.add("v0 framework", framework,
            {"tasks", "unreachable_tasks", "completed_tasks", "executors", "offers"});
    for (const char* where : {"tasks", "completed_tasks"}) {
      for (const json::value& one : list(framework, where)) {
        const json::object& task = one.as_object();
        if (!word(task, "executor_id").empty()) continue;  // of a pod: not emulated
        out.add("v0 task " + word(task, "state"), task, own_kind());
        add_definition(out, "v0", task);
        for (const json::value& status : list(task, "statuses")) {
          out.add("v0 status " + word(status.as_object(), "state"), status.as_object(), {});
        }
      }
    }
  }
}

inline void add_v1_status(Shapes& out, const json::object& status) {
  const std::string reason = word(status, "reason");
  // Which reason the master gives differs with the story; that it gives one does not.
  const bool from_master = word(status, "source") == "SOURCE_MASTER";
  out.add("v1 status " + word(status, "state") + " from " + word(status, "source") + " " +
              (from_master ? "" : reason),
          status, {"unreachable_time"});
}

inline void add_v1_task(Shapes& out, const json::object& task, const std::string& where) {
  if (task.contains("executor_id")) return;
  out.add("v1 task " + word(task, "state") + " in " + where, task, own_kind());
  add_definition(out, "v1", task);
  if (!task.contains("statuses")) return;
  for (const json::value& status : list(task, "statuses")) add_v1_status(out, status.as_object());
}

/// The get_state member of GET_STATE and SUBSCRIBED.
inline void add_get_state(Shapes& out, const json::object& state) {
  out.add("v1 state", state,
          {"tasks", "unreachable_tasks", "completed_tasks", "executors", "frameworks",
           "completed_frameworks", "agents", "recovered_agents"});
  const json::object& tasks = state.at("get_tasks").as_object();
  for (const char* where : {"tasks", "completed_tasks"}) {
    for (const json::value& task : list(tasks, where)) {
      add_v1_task(out, task.as_object(), "GET_STATE");
    }
  }
  for (const json::value& one : list(state.at("get_frameworks").as_object(), "frameworks")) {
    out.add("v1 framework in GET_STATE", one.as_object(), {});
  }
  for (const json::value& one : list(state.at("get_agents").as_object(), "agents")) {
    out.add("v1 agent in GET_STATE", one.as_object(), {"attributes"});
  }
}

/// GET /state of an agent. A task in it has the shape that a master gives it.
inline void add_agent_state(Shapes& out, const json::object& state) {
  out.add("v0 of itself", state,
          {"frameworks", "completed_frameworks", "flags", "attributes", "reserved_resources_full"});
  for (const json::value& value : list(state, "frameworks")) {
    const json::object& framework = value.as_object();
    if (word(framework, "name") != "marathon") continue;  // the only one that is emulated
    out.add("v0 framework of an agent", framework, {"executors", "completed_executors"});
    for (const char* executors : {"executors", "completed_executors"}) {
      for (const json::value& one : list(framework, executors)) {
        const json::object& executor = one.as_object();
        for (const char* where : {"tasks", "completed_tasks"}) {
          for (const json::value& task : list(executor, where)) {
            if (!word(task.as_object(), "executor_id").empty()) continue;  // of a pod
            out.add("v0 executor with " + std::string{where}, executor,
                    {"tasks", "queued_tasks", "completed_tasks", "labels"});
            out.add("v0 task " + word(task.as_object(), "state"), task.as_object(), own_kind());
          }
        }
      }
    }
  }
}

/// GET_STATE of an agent.
inline void add_agent_get_state(Shapes& out, const json::object& answer) {
  const json::object& state = answer.at("get_state").as_object();
  out.add("v1 state of an agent", answer,
          {"launched_tasks", "queued_tasks", "completed_tasks", "executors", "completed_executors",
           "frameworks", "completed_frameworks"});
  const json::object& tasks = state.at("get_tasks").as_object();
  for (const char* where : {"launched_tasks", "completed_tasks"}) {
    for (const json::value& task : list(tasks, where)) {
      add_v1_task(out, task.as_object(), "GET_STATE");
    }
  }
}

/// One record of the event stream.
inline void add_event(Shapes& out, const json::object& event) {
  const std::string type = word(event, "type");
  out.add(type, event, {"subscribed", "agent", "framework", "framework_info", "task", "status"});
  if (type == "SUBSCRIBED") {
    const json::object& subscribed = event.at("subscribed").as_object();
    out.add("subscribed", subscribed, {"get_state"});
    add_get_state(out, subscribed.at("get_state").as_object());
  } else if (type == "TASK_ADDED") {
    add_v1_task(out, event.at("task_added").as_object().at("task").as_object(), "an event");
  } else if (type == "TASK_UPDATED") {
    add_v1_status(out, event.at("task_updated").as_object().at("status").as_object());
  } else if (type == "AGENT_ADDED") {
    out.add("v1 agent in an event", event.at("agent_added").as_object().at("agent").as_object(),
            {"attributes"});
  } else if (type == "FRAMEWORK_ADDED" || type == "FRAMEWORK_UPDATED") {
    const char* member = type == "FRAMEWORK_ADDED" ? "framework_added" : "framework_updated";
    out.add("v1 framework in an event", event.at(member).as_object().at("framework").as_object(),
            {});
  }
}

inline std::string read_file(const std::string& path) {
  std::ifstream in{path, std::ios::binary};
  if (!in) throw std::runtime_error{"cannot read " + path};
  return {std::istreambuf_iterator<char>{in}, {}};
}

inline std::vector<json::object> read_lines(const std::string& path) {
  std::vector<json::object> out;
  std::ifstream in{path};
  for (std::string line; std::getline(in, line);) {
    const std::size_t tab = line.rfind('\t');  // whole recordings have time, offset and length
    if (tab != std::string::npos) line.erase(0, tab + 1);
    if (!line.empty()) out.push_back(json::parse(line).as_object());
  }
  return out;
}

}  // namespace muster::testing
