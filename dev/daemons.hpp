#pragma once

#include <functional>
#include <string>
#include <vector>

#include "dev/node.hpp"
#include "dev/reaper.hpp"

namespace muster::dev {

/// The `muster agent` of each node. One that ends by itself stays away and is reported: on a dev
/// machine a crash is to be looked at, not papered over by a restart.
class Daemons {
 public:
  struct Context {
    std::vector<Node>& nodes;
    Reaper& reaper;
    std::string muster;
    std::string extra_config;
    std::string source;  // `mesos.source`
    std::string path;
    std::function<void(std::string)> report;
  };
  struct Daemon {
    int pid = 0;
    bool restart = false;  // as soon as the running one is gone
    std::string note = "not started";
  };

  explicit Daemons(Context context) : context_{std::move(context)} {}
  void start_all();
  /// False if it runs already.
  bool start(unsigned node);
  /// kill -9; false if it does not run.
  bool kill(unsigned node, bool restart);
  const Daemon& of(unsigned node) const { return daemons_[node - 1]; }
  std::string log_of(unsigned node) const;

 private:
  void ended(unsigned node, int status);

  Context context_;
  std::vector<Daemon> daemons_;
};

/// The configuration a node's daemon is started with.
std::string daemon_config(unsigned node, std::size_t nodes, const std::string& source,
                          const std::string& extra);

}  // namespace muster::dev
