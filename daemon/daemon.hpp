#pragma once

#include <functional>
#include <memory>

#include "daemon/config.hpp"

namespace muster::daemon {

/// `muster agent`: owns every part, hands deltas from one to the next, and ends cleanly.
///
/// The constructor opens nothing. run() binds the sockets, takes up what the kernel and the disk
/// hold from before, and then serves until SIGTERM or SIGINT. Stopping withdraws nothing: the
/// kernel goes on balancing what it was told.
class Daemon {
 public:
  /// `reload` reads the configuration anew, on SIGHUP; it may throw ConfigError.
  Daemon(Config config, std::function<Config()> reload);
  ~Daemon();
  Daemon(const Daemon&) = delete;
  Daemon& operator=(const Daemon&) = delete;

  /// Blocks; returns the process's exit status: 0 after a clean stop, 1 when something that is
  /// needed could not be had (the reason is in the log's last line).
  int run();

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace muster::daemon
