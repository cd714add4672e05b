#include "cli/commands.hpp"

#include <cstdio>
#include <string_view>

#include <boost/json.hpp>

#include "cli/http_client.hpp"
#include "cli/table.hpp"

namespace muster::cli {
namespace {

namespace json = boost::json;
using Rows = std::vector<std::vector<std::string>>;

constexpr Duration kLimit{10'000};  // a daemon with 100,000 tasks answers in well under a second

void print(std::string_view text) {
  std::fwrite(text.data(), 1, text.size(), stdout);
}

int complain(const std::string& line) {
  std::fprintf(stderr, "muster: %s\n", line.c_str());
  return 1;
}

// Values out of the daemon's JSON; what is missing prints as nothing, so that an older client can
// read a newer daemon and the other way round.
const json::value* at(const json::value& value, std::string_view key) {
  const json::object* object = value.if_object();
  return object == nullptr ? nullptr : object->if_contains(key);
}

std::string text(const json::value& value, std::string_view key) {
  const json::value* found = at(value, key);
  if (found == nullptr || found->is_null()) return "";
  if (const json::string* string = found->if_string()) return std::string{*string};
  if (const json::array* list = found->if_array()) {
    std::string joined;
    for (const json::value& item : *list) {
      if (!item.is_string()) continue;
      joined += (joined.empty() ? "" : ", ") + std::string{item.get_string()};
    }
    return joined;
  }
  return json::serialize(*found);
}

bool is_true(const json::value& value, std::string_view key) {
  const json::value* found = at(value, key);
  return found != nullptr && found->is_bool() && found->get_bool();
}

const json::array& list(const json::value& value, std::string_view key) {
  static const json::array kNone;
  const json::value* found = at(value, key);
  return found != nullptr && found->is_array() ? found->get_array() : kNone;
}

// Asks the daemon; prints its JSON as it is, or hands it to `show`.
int ask(const Target& target, const std::string& path, std::string (*show)(const json::value&)) {
  const auto reply = http_get(target.daemon, path, kLimit);
  if (!reply) {
    return complain("no answer from " + to_string(target.daemon) + " (" + reply.error().message() +
                    "); is the daemon running? (muster agent --config FILE)");
  }
  if (reply->status != 200) {
    return complain(to_string(target.daemon) + path + " answered " + std::to_string(reply->status) +
                    ": " + reply->body.substr(0, 200));
  }
  if (target.json) {
    print(reply->body);
    return 0;
  }
  boost::system::error_code error;
  const json::value value = json::parse(reply->body, error);
  if (error) return complain(to_string(target.daemon) + path + " did not answer with JSON");
  print(show(value));
  return 0;
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
  const auto with_error = [](const std::string& line, const std::string& error) {
    return error.empty() ? line : line + "; " + error;
  };
  const std::string held = text(cluster, "held_tasks");
  Rows rows{{"muster", text(status, "version") + ", up " + text(status, "uptime_seconds") + " s"}};
  rows.push_back({"ready", is_true(status, "ready") ? "yes" : "no: " + text(status, "not_ready")});
  rows.push_back({"node", text(part("node"), "addresses")});
  rows.push_back({"source", text(source, "source") + ": " + text(source, "reason")});
  rows.push_back(
      {"mesos", with_error(text(source, "state") + ' ' + text(source, "master") + ", last event " +
                               text(source, "last_event_seconds") + " s ago",
                           text(source, "last_error"))});
  rows.push_back({"cluster", text(cluster, "tasks") + " tasks, " + text(cluster, "agents") +
                                 " agents, " + text(cluster, "frameworks") + " frameworks" +
                                 (is_true(cluster, "recovering") ? ", master recovering" : "") +
                                 (held.empty() || held == "0" ? "" : ", " + held + " tasks held")});
  rows.push_back({"lb", with_error(text(lb, "driver") + ", " + text(lb, "vips") + " VIPs, " +
                                       text(lb, "backends") + " backends",
                                   text(lb, "last_error"))});
  rows.push_back(
      {"dns", with_error(text(dns, "listen") + ", " + text(dns, "names") + " names, " +
                             text(dns, "records") + " records, serial " + text(dns, "serial"),
                         text(dns, "last_error"))});
  return table(rows);
}

}  // namespace

int status(const Target& target) {
  return ask(target, "/v1/status", show_status);
}
int vips(const Target& target) {
  return ask(target, "/v1/vips", show_vips);
}
int tasks(const Target& target) {
  return ask(target, "/v1/tasks", show_tasks);
}

}  // namespace muster::cli
