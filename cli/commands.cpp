#include "cli/commands.hpp"

#include <algorithm>
#include <chrono>

#include <boost/json.hpp>

#include "cli/ask.hpp"
#include "cli/table.hpp"

namespace muster::cli {
namespace {

namespace json = boost::json;
using Rows = std::vector<std::vector<std::string>>;

// Asks the daemon; prints its JSON as it is, or what `show` makes of it.
int ask(const Target& target, const std::string& path, std::string (*show)(const json::value&),
        bool (*good)(const json::value&) = nullptr) {
  const auto value = ask_daemon(target, path);
  if (!value) return complain(value.error().line);
  if (target.json) {
    print_json(*value);
  } else {
    print(show(*value));
  }
  return good == nullptr || good(*value) ? kGood : kTrouble;
}

std::string show_vips(const json::value& vips) {
  if (!vips.is_array() || vips.get_array().empty()) return "no VIPs\n";
  Rows rows{{"VIP", "ADDRESS", "BACKEND", "WEIGHT", "CONNECTIONS"}};
  for (const json::value& vip : vips.get_array()) {
    std::string name = text(vip, "vip") + '/' + text(vip, "protocol");
    std::string address = text(vip, "address");
    const json::array& backends = list(vip, "backend");
    if (backends.empty()) rows.push_back({name, address, "none: refuses connections"});
    for (const json::value& backend : backends) {
      rows.push_back({name, address, text(backend, "endpoint"), text(backend, "weight"),
                      text(backend, "connections")});
      name.clear();
      address.clear();
    }
  }
  return table(rows);
}

std::string show_tasks(const json::value& tasks) {
  if (!tasks.is_array() || tasks.get_array().empty()) return "no tasks\n";
  Rows rows{{"TASK", "FRAMEWORK", "STATE", "HEALTH", "AGENT", "ENDPOINTS", "ID"}};
  for (const json::value& task : tasks.get_array()) {
    std::string endpoints;
    for (const json::value& port : list(task, "ports")) {
      const std::string more = text(port, "endpoints");
      if (!more.empty()) endpoints += (endpoints.empty() ? "" : ", ") + more;
    }
    if (endpoints.empty()) endpoints = text(task, "addresses");
    rows.push_back({text(task, "name"), text(task, "framework"), text(task, "state"),
                    text(task, "health"), text(task, "agent_addresses"), endpoints,
                    text(task, "id")});
  }
  return table(rows);
}

std::string show_members(const json::value& answer) {
  Rows rows{{"NODE", "STATUS", "ADDRESS", "ROLE", "VERSION", "AGENT"}};
  for (const json::value& node : list(answer, "nodes")) {
    std::string role = is_true(node, "self") ? "this node" : "";
    const char* duty = is_true(node, "publisher")  ? "publisher"
                       : is_true(node, "observer") ? "observer"
                                                   : "";
    if (!role.empty() && *duty != 0) role += ", ";
    rows.push_back({text(node, "id"), text(node, "status"), text(node, "endpoints"), role + duty,
                    text(node, "version"), text(node, "agent")});
  }
  return rows.size() == 1 ? "no nodes\n" : table(rows);
}

bool members_good(const json::value& answer) {
  for (const json::value& node : list(answer, "nodes")) {
    if (text(node, "status").ends_with("_down")) return false;
  }
  return true;
}

std::string show_records(const json::value& answer) {
  Rows rows{{"NAME", "TYPE", "DATA"}};
  for (const json::value& record : list(answer, "records")) {
    rows.push_back({text(record, "name"), text(record, "type"), text(record, "data")});
  }
  if (rows.size() == 1) return "no records\n";
  return table(rows) + (is_true(answer, "more") ? "and more: give a part of the name\n" : "");
}

std::string ago(double seconds) {
  if (seconds < 120) return std::to_string(static_cast<int>(seconds)) + " s";
  if (seconds < 7200) return std::to_string(static_cast<int>(seconds / 60)) + " min";
  return std::to_string(static_cast<int>(seconds / 3600)) + " h";
}

std::string show_changes(const json::value& answer) {
  const std::chrono::duration<double> now = std::chrono::system_clock::now().time_since_epoch();
  Rows rows{{"AGO", "WHAT"}};
  for (const json::value& change : list(answer, "changes")) {
    rows.push_back({ago(now.count() - number(change, "at")), text(change, "text")});
  }
  return rows.size() == 1 ? "nothing has changed since the daemon started\n" : table(rows);
}

std::string with_error(const std::string& line, const std::string& error) {
  return error.empty() ? line : line + "; " + error;
}

/// Who says what runs on this node. Daemons of earlier versions do not tell: nothing.
std::string told_by(const json::value& agent) {
  const std::string source = text(agent, "source");
  if (source == "master") return "the master tells what runs here";
  if (source.empty()) return {};
  const std::string held = text(agent, "held_tasks");
  const std::string age = text(agent, "last_answer_seconds");
  const bool answers = text(agent, "state") == "polling";
  return with_error(text(agent, "agent") +
                        (answers ? " tells what runs here" : " does not answer") +
                        ", last answer " + (age.empty() ? "never" : age + " s ago") + ", " +
                        text(agent, "tasks") + " tasks" +
                        (held.empty() || held == "0" ? "" : ", " + held + " of them held"),
                    text(agent, "last_error"));
}

/// The network namespaces beside the node's own; empty: there are none, nor should be.
std::string namespaces_line(const json::value& lb) {
  constexpr std::size_t kMost = 3;
  const json::value* part = at(lb, "namespaces");
  if (part == nullptr || !part->is_object()) return {};
  const json::array& troubled = list(*part, "not_served");
  const double more = number(*part, "more");
  const std::string error = text(*part, "error");
  if (number(*part, "served") + number(*part, "opening") + more == 0 && troubled.empty() &&
      error.empty()) {
    return {};
  }
  std::string line = text(*part, "served") + " served";
  if (number(*part, "opening") > 0) line += ", " + text(*part, "opening") + " on their way";
  std::size_t named = 0;
  for (const json::value& one : troubled) {
    if (++named > kMost) break;
    line += "; not " + text(one, "where") + ": " + text(one, "why");
  }
  const auto rest = static_cast<std::size_t>(more) + troubled.size() - std::min(named, kMost);
  if (rest > 0 && troubled.size() + static_cast<std::size_t>(more) > kMost) {
    line += "; and " + std::to_string(rest) + " more are not";
  }
  return with_error(line, error);
}

std::string show_status(const json::value& status) {
  const json::value none = json::object{};
  const auto part = [&](std::string_view key) -> const json::value& {
    const json::value* found = at(status, key);
    return found == nullptr ? none : *found;
  };
  const json::value& source = part("observation");
  const json::value& cluster = part("cluster");
  const json::value& lb = part("lb");
  const json::value& dns = part("dns");
  const std::string held = text(cluster, "held_tasks");
  Rows rows{{"muster", text(status, "version") + ", up " + text(status, "uptime_seconds") + " s"}};
  rows.push_back({"ready", is_true(status, "ready") ? "yes" : "no: " + text(status, "not_ready")});
  rows.push_back({"node", text(part("node"), "addresses")});
  rows.push_back({"source", text(source, "source") + ": " + text(source, "reason")});
  const std::string age = text(source, "last_event_seconds");
  rows.push_back(
      {"mesos", with_error(age.empty() ? "news come by way of another node"
                                       : text(source, "state") + ' ' + text(source, "master") +
                                             ", last event " + age + " s ago",
                           text(source, "last_error"))});
  if (std::string agent = told_by(part("agent")); !agent.empty()) {
    rows.push_back({"agent", std::move(agent)});
  }
  if (const json::value& gossip = part("gossip"); is_true(gossip, "enabled")) {
    rows.push_back({"gossip", text(gossip, "role") + ", " + text(gossip, "members_alive") + " of " +
                                  text(gossip, "members_known") + " members alive"});
  }
  rows.push_back({"cluster", text(cluster, "tasks") + " tasks, " + text(cluster, "agents") +
                                 " agents, " + text(cluster, "frameworks") + " frameworks" +
                                 (is_true(cluster, "recovering") ? ", master recovering" : "") +
                                 (held.empty() || held == "0" ? "" : ", " + held + " tasks held")});
  rows.push_back({"lb", with_error(text(lb, "driver") + ", " + text(lb, "vips") + " VIPs, " +
                                       text(lb, "backends") + " backends",
                                   text(lb, "last_error"))});
  if (std::string line = namespaces_line(lb); !line.empty()) {
    rows.push_back({"namespaces", std::move(line)});
  }
  rows.push_back(
      {"dns", with_error(text(dns, "listen") + ", " + text(dns, "names") + " names, " +
                             text(dns, "records") + " records, serial " + text(dns, "serial"),
                         text(dns, "last_error"))});
  return table(rows);
}

bool status_good(const json::value& status) {
  return is_true(status, "ready");
}

}  // namespace

int status(const Target& target) {
  return ask(target, "/v1/status", show_status, status_good);
}
int vips(const Target& target) {
  return ask(target, "/v1/vips", show_vips);
}
int tasks(const Target& target) {
  return ask(target, "/v1/tasks", show_tasks);
}
int changes(const Target& target) {
  return ask(target, "/v1/changes", show_changes);
}

int members(const Target& target) {
  const auto answer = ask_daemon(target, "/v1/nodes");
  if (!answer && answer.error().status != 404) return complain(answer.error().line);
  if (!answer || list(*answer, "nodes").empty()) {
    return complain("this daemon works alone: it keeps no list of other nodes");
  }
  if (target.json) {
    print_json(*answer);
  } else {
    print(show_members(*answer));
  }
  return members_good(*answer) ? kGood : kTrouble;
}

int records(const Target& target, const std::string& part) {
  constexpr const char* kMost = "100000";
  return ask(target, "/v1/records?limit=" + std::string{kMost} + "&contains=" + escaped(part),
             show_records);
}

}  // namespace muster::cli
