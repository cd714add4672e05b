#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include <prometheus/counter.h>
#include <prometheus/family.h>
#include <prometheus/gauge.h>
#include <prometheus/histogram.h>
#include <prometheus/registry.h>

#include "base/io/log_once.hpp"
#include "mesos/core/problems.hpp"

namespace muster::mesos {

/// What an Observer counts. Control thread only; the registry must outlive it.
class ObserverMetrics {
 public:
  explicit ObserverMetrics(prometheus::Registry& registry);

  /// `type` is one of the API's; anything else is counted as "other".
  void count_event(const std::string& type);
  /// Counts each by its kind and names it in the log once.
  void count(const Problems& problems);
  void count_problem(const std::string& kind, const std::string& line);
  /// `which` is "client" or "master"; nothing known: nothing shown.
  void show_expiry(const char* which, std::optional<std::int64_t> unix_time);

 private:
  prometheus::Family<prometheus::Counter>& events_;
  prometheus::Family<prometheus::Counter>& problems_;
  prometheus::Family<prometheus::Gauge>& expiry_;
  LogOnce log_;

 public:
  prometheus::Counter& reconnects;
  prometheus::Counter& unchanged_states;
  prometheus::Gauge& snapshot_bytes;
  prometheus::Histogram& parse_seconds;
  prometheus::Gauge& last_event_timestamp_seconds;
  prometheus::Gauge& tasks;
  prometheus::Gauge& agents;
  prometheus::Gauge& frameworks;
  prometheus::Gauge& waiting_tasks;
  prometheus::Gauge& subscribed;
  prometheus::Gauge& zookeeper_connected;
};

}  // namespace muster::mesos
