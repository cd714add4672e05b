#include <algorithm>

#include <boost/json.hpp>

#include "cli/ask.hpp"
#include "cli/find_vip.hpp"
#include "cli/table.hpp"

namespace muster::cli {
namespace {

namespace json = boost::json;

std::string in_short(const std::vector<BackendState>& states, bool quarantined) {
  if (quarantined) return "the kernel refuses this VIP; the daemon's log says why";
  const auto count = [&](std::string_view state) {
    return std::ranges::count(states, state, &BackendState::state);
  };
  const auto in = count("in");
  std::string line = in == 0   ? "refuses connections at once: no backend takes any"
                     : in == 1 ? "1 backend takes connections"
                               : std::to_string(in) + " backends take connections";
  for (const auto& [state, words] : {std::pair{"pending", " pending"},
                                     {"draining", " draining"},
                                     {"out", " out"},
                                     {"missing", " missing"}}) {
    if (const auto n = count(state); n > 0) line += ", " + std::to_string(n) + words;
  }
  return line;
}

std::string shown(const json::value& vip, const std::vector<BackendState>& states) {
  std::vector<std::vector<std::string>> rows{{"  BACKEND", "STATE", "CONNECTIONS", "WHY", "TASK"}};
  for (const BackendState& row : states) {
    const bool known = !row.endpoint.empty();
    rows.push_back({"  " + (known ? row.endpoint : "-"), row.state,
                    known ? std::to_string(static_cast<std::uint64_t>(row.connections)) : "",
                    row.why, row.task});
  }
  return printable(label_of(vip)) + "  " + text(vip, "address") + "\n  " +
         in_short(states, is_true(vip, "quarantined")) + "\n\n" + table(rows);
}

json::value as_json(const json::value& vip, const std::vector<BackendState>& states) {
  json::array backends;
  for (const BackendState& row : states) {
    backends.push_back(json::object{{"endpoint", row.endpoint},
                                    {"state", row.state},
                                    {"why", row.why},
                                    {"connections", static_cast<std::uint64_t>(row.connections)},
                                    {"task", row.task},
                                    {"agent", row.agent}});
  }
  return json::object{{"vip", text(vip, "vip")},
                      {"protocol", text(vip, "protocol")},
                      {"address", text(vip, "address")},
                      {"quarantined", is_true(vip, "quarantined")},
                      {"backends", std::move(backends)}};
}

}  // namespace

int vip(const Target& target, const std::string& name) {
  const auto vips = ask_daemon(target, "/v1/vips");
  if (!vips) return complain(vips.error().line);
  const auto found = find_vips(*vips, name);
  if (found.empty()) return complain(no_such_vip(*vips, name));
  bool good = true;
  json::array all;
  std::string page;
  for (const json::value& vip : found) {
    const auto tasks = ask_daemon(target, "/v1/tasks?vip=" + escaped(label_of(vip)));
    if (!tasks) return complain(tasks.error().line);
    const auto states = backend_states(vip, *tasks);
    const bool taking = std::ranges::any_of(states, &BackendState::takes_connections);
    good = good && taking && !is_true(vip, "quarantined");
    all.push_back(as_json(vip, states));
    page += (page.empty() ? "" : "\n") + shown(vip, states);
  }
  if (target.json) {
    print_json(all);
  } else {
    print(page);
  }
  return good ? kGood : kTrouble;
}

}  // namespace muster::cli
