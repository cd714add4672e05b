#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include <prometheus/counter.h>
#include <prometheus/family.h>
#include <prometheus/gauge.h>
#include <prometheus/registry.h>

#include "base/io/log_once.hpp"
#include "mesos/core/problems.hpp"

namespace muster::mesos {

/// What is counted of asking a master and of asking an agent. Control thread only; the registry
/// must outlive it.
class AskMetrics {
 public:
  struct Names {
    std::string who;       // "master" or "agent"
    std::string log;       // how its log lines begin
    std::string problems;  // of the metrics
    std::string expiry;
  };

  AskMetrics(prometheus::Registry& registry, Names names);

  /// Counts each by its kind and names it in the log once.
  void count(const Problems& problems);
  void count_problem(const std::string& kind, const std::string& line);
  /// When the certificates of either end of a connection end; nothing known: nothing shown.
  void show_client_expiry(std::optional<std::int64_t> unix_time);
  void show_peer_expiry(std::optional<std::int64_t> unix_time);

 private:
  const Names names_;
  prometheus::Family<prometheus::Counter>& problems_;
  prometheus::Family<prometheus::Gauge>& expiry_;
  LogOnce log_;
};

/// One that has no labels.
prometheus::Gauge& add_gauge(prometheus::Registry& registry, const char* name, const char* help);

}  // namespace muster::mesos
