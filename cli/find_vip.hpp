#pragma once

#include <string>
#include <string_view>
#include <vector>

#include <boost/json/value.hpp>

#include "cli/commands.hpp"

namespace muster::cli {

/// `web.marathon:80/tcp` for a VIP as /v1/vips has it: what labels and /v1/tasks?vip= call it.
std::string label_of(const boost::json::value& vip);

/// Those that `name` may mean: `web`, `web.marathon`, the whole domain name, the address, each with
/// or without port and `/tcp` or `/udp`. An exact match hides looser ones.
std::vector<boost::json::value> find_vips(const boost::json::value& vips, std::string_view name);

/// What to say when there is none: names that look alike.
std::string no_such_vip(const boost::json::value& vips, std::string_view name);

/// One backend, or one task that could be one.
struct BackendState {
  std::string endpoint;  // empty: the task has none yet
  std::string state;     // "in", "pending", "draining", "out", "missing"
  std::string why;
  std::string task;
  std::string agent;
  double connections = 0;
  bool takes_connections() const { return state == "in"; }
};

/// The VIP's backends joined with the tasks that declare it (/v1/tasks?vip=).
std::vector<BackendState> backend_states(const boost::json::value& vip,
                                         const boost::json::value& tasks);

}  // namespace muster::cli
