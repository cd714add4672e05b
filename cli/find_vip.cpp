#include "cli/find_vip.hpp"

#include <algorithm>
#include <map>
#include <optional>

#include <boost/json.hpp>

#include "cli/ask.hpp"

namespace muster::cli {
namespace {

namespace json = boost::json;

constexpr std::string_view kSuffix = ".l4lb.thisdcos.directory";
constexpr std::size_t kMaxHints = 5;

// `name[:port][/protocol]` taken apart; an IPv6 address keeps its brackets.
struct Wanted {
  std::string host;
  std::string port;
  std::string protocol;
};

Wanted take_apart(std::string_view text) {
  Wanted out;
  if (const auto slash = text.rfind('/'); slash != std::string_view::npos && slash > 0) {
    out.protocol = text.substr(slash + 1);
    text = text.substr(0, slash);
  }
  if (text.starts_with('/')) text.remove_prefix(1);  // a label, as people write it
  const auto colon = text.rfind(':');
  const bool has_port = colon != std::string_view::npos && !text.ends_with(']') &&
                        (text.find(':') == colon || text[colon - 1] == ']');
  if (has_port) {
    out.port = text.substr(colon + 1);
    text = text.substr(0, colon);
  }
  out.host = text;
  std::ranges::transform(out.host, out.host.begin(), [](char c) {
    return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  });
  if (out.host.ends_with('.')) out.host.pop_back();
  if (out.host.ends_with(kSuffix)) out.host.resize(out.host.size() - kSuffix.size());
  return out;
}

// 3: the name or address itself; 2: its first label; 0: neither.
int closeness(const json::value& vip, const Wanted& wanted) {
  const Wanted named = take_apart(text(vip, "vip"));
  const Wanted address = take_apart(text(vip, "address"));
  if (!wanted.port.empty() && wanted.port != named.port) return 0;
  if (!wanted.protocol.empty() && wanted.protocol != text(vip, "protocol")) return 0;
  if (wanted.host == named.host || wanted.host == address.host ||
      '[' + wanted.host + ']' == address.host) {
    return 3;
  }
  const auto framework = named.host.rfind('.');
  return framework != std::string::npos && wanted.host == named.host.substr(0, framework) ? 2 : 0;
}

std::string why_of(const json::value& task) {
  const std::string state = text(task, "state");
  const std::string health = text(task, "health");
  if (state != "TASK_RUNNING") return state == "TASK_KILLING" ? "being killed" : state;
  if (health == "pending") return "running, waits for its first health check";
  if (health == "unchecked") return "running, without a Mesos health check";
  return "running, " + health;
}

// Whether the task ought to take connections: as base/task.hpp's backend_weight() has it.
bool is_fit(const json::value& task) {
  const std::string health = text(task, "health");
  return text(task, "state") == "TASK_RUNNING" && (health == "healthy" || health == "unchecked");
}

}  // namespace

std::string label_of(const json::value& vip) {
  const Wanted named = take_apart(text(vip, "vip"));
  std::string host = named.host;
  if (host.starts_with('[')) host = host.substr(1, host.size() - 2);
  return host + ':' + named.port + '/' + text(vip, "protocol");
}

std::vector<json::value> find_vips(const json::value& vips, std::string_view name) {
  const Wanted wanted = take_apart(name);
  std::vector<json::value> found;
  int best = 1;
  for (const json::value& vip : items(vips)) {
    const int close = closeness(vip, wanted);
    if (close < best || close == 0) continue;
    if (close > best) found.clear();
    best = close;
    found.push_back(vip);
  }
  return found;
}

std::string no_such_vip(const json::value& vips, std::string_view name) {
  const Wanted wanted = take_apart(name);
  const std::string part = wanted.host.substr(0, wanted.host.find('.'));
  std::string hints;
  std::size_t shown = 0;
  for (const json::value& vip : items(vips)) {
    const std::string label = label_of(vip);
    if (part.empty() || label.find(part) == std::string::npos || shown++ >= kMaxHints) continue;
    hints += (hints.empty() ? "" : ", ") + label;
  }
  return "no VIP is called \"" + std::string{name} + "\"" +
         (hints.empty() ? "; `muster vips` lists them" : "; did you mean " + hints + "?");
}

std::vector<BackendState> backend_states(const json::value& vip, const json::value& tasks) {
  const std::string label = label_of(vip);
  struct Seen {
    const json::value* task;
    bool served = false;
  };
  std::map<std::string, Seen> by_endpoint;
  std::vector<BackendState> out;
  for (const json::value& task : items(tasks)) {
    bool placed = false;
    for (const json::value& port : list(task, "ports")) {
      const auto& labels = list(port, "vips");
      if (std::ranges::find(labels, json::value(label)) == labels.end()) continue;
      for (const json::value& endpoint : list(port, "endpoints")) {
        if (!endpoint.is_string()) continue;
        by_endpoint.try_emplace(std::string{endpoint.get_string()}, Seen{&task});
        placed = true;
      }
    }
    if (!placed) {
      out.push_back({"", "out", why_of(task) + ", has no address yet", text(task, "id"),
                     text(task, "agent_addresses")});
    }
  }
  for (const json::value& backend : list(vip, "backend")) {
    const std::string endpoint = text(backend, "endpoint");
    const auto found = by_endpoint.find(endpoint);
    const bool in = number(backend, "weight") > 0;
    const bool pending = is_true(backend, "pending");
    const char* const otherwise = pending ? "pending" : "draining";
    BackendState row{endpoint, in ? "in" : otherwise,         "no task declares it any more", "",
                     "",       number(backend, "connections")};
    if (found != by_endpoint.end()) {
      found->second.served = true;
      row.why = why_of(*found->second.task);
      if (pending) row.why += in ? ", about to leave the kernel" : ", not in the kernel yet";
      row.task = text(*found->second.task, "id");
      row.agent = text(*found->second.task, "agent_addresses");
    }
    out.push_back(std::move(row));
  }
  for (const auto& [endpoint, seen] : by_endpoint) {
    if (seen.served) continue;
    const bool fit = is_fit(*seen.task);
    out.push_back({endpoint, fit ? "missing" : "out",
                   why_of(*seen.task) + (fit ? ", yet not in the load balancer" : ""),
                   text(*seen.task, "id"), text(*seen.task, "agent_addresses")});
  }
  std::ranges::stable_sort(out, {}, &BackendState::endpoint);
  return out;
}

}  // namespace muster::cli
