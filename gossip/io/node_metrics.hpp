#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <string>

#include "gossip/core/gossip.hpp"
#include "gossip/io/node_stats.hpp"

namespace prometheus {
class Histogram;
class Registry;
}  // namespace prometheus

namespace muster::gossip {

/// What a node shows on /metrics. Gossip's thread only.
class NodeMetrics {
 public:
  explicit NodeMetrics(prometheus::Registry& registry);

  void observe_echo(std::chrono::nanoseconds took);
  void observe_repair(std::chrono::nanoseconds took);
  /// Once a second. The core's counters, those of `stats` that only the shell knows, and
  /// `refused` writes of the shell's own.
  void update(const Gossip& core, const NodeStats& stats, std::uint64_t refused_writes);

 private:
  void gauge(const char* name, const char* help, double value);
  void counter(const char* name, const char* help, const char* label, const std::string& kind,
               std::uint64_t value);

  prometheus::Registry& registry_;
  prometheus::Histogram& echo_;
  prometheus::Histogram& repair_;
  std::map<std::string, std::uint64_t> exported_;
};

}  // namespace muster::gossip
