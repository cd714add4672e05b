#include "mesos/io/observer_metrics.hpp"

#include <algorithm>
#include <array>
#include <string_view>

namespace muster::mesos {
namespace {

using prometheus::BuildCounter;
using prometheus::BuildHistogram;
using prometheus::Registry;

// master.proto, Event.Type: a label must not have as many values as somebody cares to send.
constexpr std::array<std::string_view, 9> kTypes{
    "SUBSCRIBED",      "TASK_ADDED",        "TASK_UPDATED",      "AGENT_ADDED", "AGENT_REMOVED",
    "FRAMEWORK_ADDED", "FRAMEWORK_UPDATED", "FRAMEWORK_REMOVED", "HEARTBEAT"};

}  // namespace

ObserverMetrics::ObserverMetrics(Registry& registry)
    : AskMetrics{registry,
                 {.who = "master",
                  .log = "Mesos",
                  .problems = "muster_mesos_problems_total",
                  .expiry = "muster_mesos_certificate_expiry_timestamp_seconds"}},
      events_{BuildCounter()
                  .Name("muster_mesos_events_total")
                  .Help("Events received from the Mesos master")
                  .Register(registry)},
      reconnects{BuildCounter()
                     .Name("muster_mesos_reconnects_total")
                     .Help("Streams and polls that ended and were begun anew")
                     .Register(registry)
                     .Add({})},
      unchanged_states{BuildCounter()
                           .Name("muster_mesos_unchanged_states_total")
                           .Help("States polled that were the same as the one before")
                           .Register(registry)
                           .Add({})},
      snapshot_bytes{add_gauge(registry, "muster_mesos_snapshot_bytes",
                               "Size of the last complete state received")},
      parse_seconds{
          BuildHistogram()
              .Name("muster_mesos_parse_seconds")
              .Help("Time to parse an event or a complete state")
              .Register(registry)
              .Add({}, prometheus::Histogram::BucketBoundaries{0.00002, 0.00005, 0.0001, 0.001,
                                                               0.01, 0.1, 0.25, 0.5, 1, 5})},
      last_event_timestamp_seconds{
          add_gauge(registry, "muster_mesos_last_event_timestamp_seconds",
                    "Unix time of the last event or state, heartbeats too")},
      tasks{add_gauge(registry, "muster_mesos_tasks",
                      "Tasks that the master lists and that can run")},
      agents{add_gauge(registry, "muster_mesos_agents", "Agents that the master lists")},
      frameworks{
          add_gauge(registry, "muster_mesos_frameworks", "Frameworks that the master lists")},
      waiting_tasks{add_gauge(registry, "muster_mesos_waiting_tasks",
                              "Tasks whose agent or framework has not been announced yet")},
      subscribed{add_gauge(registry, "muster_mesos_subscribed",
                           "1 while the stream of the leading master is held")},
      zookeeper_connected{
          add_gauge(registry, "muster_mesos_zookeeper_connected",
                    "1 while ZooKeeper says who leads; 0 also where none is configured")} {}

void ObserverMetrics::count_event(const std::string& type) {
  const bool known = std::find(kTypes.begin(), kTypes.end(), type) != kTypes.end();
  events_.Add({{"type", known ? type : "other"}}).Increment();
}

}  // namespace muster::mesos
