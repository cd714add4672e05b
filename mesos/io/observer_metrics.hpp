#pragma once

#include <string>

#include <prometheus/counter.h>
#include <prometheus/family.h>
#include <prometheus/gauge.h>
#include <prometheus/histogram.h>
#include <prometheus/registry.h>

#include "mesos/io/ask_metrics.hpp"

namespace muster::mesos {

/// What an Observer counts. Control thread only; the registry must outlive it.
class ObserverMetrics : public AskMetrics {
 public:
  explicit ObserverMetrics(prometheus::Registry& registry);

  /// `type` is one of the API's; anything else is counted as "other".
  void count_event(const std::string& type);

 private:
  prometheus::Family<prometheus::Counter>& events_;

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
