#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <boost/asio/io_context.hpp>

#include "dev/app.hpp"
#include "dev/fd.hpp"

namespace muster::dev {

struct ClusterOptions {
  std::string name = "default";
  unsigned nodes = 1;
  std::string muster;             // absolute path of the daemon's binary
  std::string source = "master";  // who tells the daemons what runs: "master" or "agent"
  std::string extra_config;       // TOML, appended to every node's configuration
  std::string path;               // PATH of tasks and of `exec`
  std::vector<App> apps;
  bool color = false;  // the terminal can rewrite its last line
};

/// What the cluster's own process (pid 1 of its namespace) inherits from the supervisor.
struct ClusterHandles {
  Fd control;    // listening
  Fd life;       // closed when the supervisor is gone; "ready" is written to it once
  Fd host_proc;  // the host's /proc, for the pids people see there
  int host_pid = -1;
};

/// Builds the network, starts master, tasks and daemons, and serves control until the supervisor
/// is gone or asks to stop. Must run as pid 1 of a pid namespace, in mount and network namespaces
/// of its own. Returns the exit status.
int run_cluster(ClusterOptions options, ClusterHandles handles);

}  // namespace muster::dev
