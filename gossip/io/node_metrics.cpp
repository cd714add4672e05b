#include "gossip/io/node_metrics.hpp"

#include <prometheus/counter.h>
#include <prometheus/gauge.h>
#include <prometheus/histogram.h>
#include <prometheus/registry.h>

namespace muster::gossip {
namespace {

prometheus::Histogram& histogram(prometheus::Registry& registry, const char* name,
                                 const char* help) {
  // From a good switch to the silence that raises an alert, and beyond it.
  const prometheus::Histogram::BucketBoundaries seconds{
      0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5};
  return prometheus::BuildHistogram().Name(name).Help(help).Register(registry).Add({}, seconds);
}

double seconds(std::chrono::nanoseconds duration) {
  return std::chrono::duration<double>(duration).count();
}

}  // namespace

NodeMetrics::NodeMetrics(prometheus::Registry& registry)
    : registry_{registry},
      echo_{histogram(registry, "muster_gossip_round_trip_seconds",
                      "Round trips to monitored nodes, one probe every five seconds.")},
      repair_{histogram(registry, "muster_gossip_disagreement_seconds",
                        "How long this node and all it hears had held different state, once they "
                        "held the same again.")} {}

void NodeMetrics::observe_echo(std::chrono::nanoseconds took) {
  echo_.Observe(seconds(took));
}

void NodeMetrics::observe_repair(std::chrono::nanoseconds took) {
  repair_.Observe(seconds(took));
}

void NodeMetrics::gauge(const char* name, const char* help, double value) {
  prometheus::BuildGauge().Name(name).Help(help).Register(registry_).Add({}).Set(value);
}

void NodeMetrics::counter(const char* name, const char* help, const char* label,
                          const std::string& kind, std::uint64_t value) {
  std::uint64_t& before = exported_[std::string{name} + "/" + kind];
  prometheus::Labels labels;
  if (!kind.empty()) labels.emplace(label, kind);
  auto& family = prometheus::BuildCounter().Name(name).Help(help).Register(registry_);
  family.Add(labels).Increment(static_cast<double>(value - before));
  before = value;
}

void NodeMetrics::update(const Gossip& core, const NodeStats& stats, std::uint64_t refused_writes) {
  gauge("muster_gossip_members_alive", "Members believed alive, this node included.",
        static_cast<double>(stats.members_alive));
  gauge("muster_gossip_members_known", "Members remembered, alive or not.",
        static_cast<double>(stats.members_known));
  gauge("muster_gossip_shards", "Replicated shards.", static_cast<double>(stats.shards));
  gauge("muster_gossip_records", "Replicated records.", static_cast<double>(stats.records));
  gauge("muster_gossip_pending_writes", "Records given to gossip and not yet written.",
        static_cast<double>(stats.pending_writes));
  gauge("muster_gossip_isolated", "1 while none of this node's subjects can be heard.",
        stats.isolated ? 1 : 0);
  gauge("muster_gossip_state_age_seconds",
        "Since a heartbeat last carried the very hash of all this node holds; 0 while alone.",
        seconds(stats.state_age));
  gauge("muster_gossip_longest_step_seconds",
        "CPU time gossip's thread has spent at a stretch, at most since the start.",
        seconds(stats.longest_step));
  gauge("muster_gossip_worst_lateness_seconds",
        "How late a heartbeat has been sent, at most since the start.",
        seconds(stats.worst_lateness));
  const char* events = "muster_gossip_events_total";
  const char* help = "What the gossip core has done or met.";
  const GossipStats& did = core.stats();
  const std::map<std::string, std::uint64_t> counts{
      {"alert_raised", did.alerts_raised},
      {"alert_heard", did.alerts_heard},
      {"verdict", did.verdicts},
      {"hearsay", did.hearsay},
      {"refutation", did.refutations},
      {"late", did.late},
      {"digest", did.digests},
      {"sync", did.syncs},
      {"malformed", did.malformed},
      {"unknown_kind", did.unknown_kind},
      {"invalid_delta", did.invalid_deltas},
      {"duplicate_id", did.duplicate_ids},
      {"write_refused", core.shards().refused() + refused_writes},
      {"verify_burst", core.monitor().verify_bursts()}};
  for (const auto& [kind, value] : counts) counter(events, help, "kind", kind, value);
  const char* datagrams = "muster_gossip_datagrams_total";
  counter(datagrams, "UDP datagrams.", "direction", "sent", stats.packets_sent);
  counter(datagrams, "UDP datagrams.", "direction", "received", stats.packets_received);
  const char* octets = "muster_gossip_datagram_bytes_total";
  counter(octets, "Octets of UDP datagrams.", "direction", "sent", stats.bytes_sent);
  counter(octets, "Octets of UDP datagrams.", "direction", "received", stats.bytes_received);
  counter("muster_gossip_send_errors_total", "Datagrams the kernel did not take.", "", {},
          stats.send_errors);
  counter("muster_gossip_sync_bytes_total", "Octets of bulk transfers, both ways.", "", {},
          stats.sync_bytes);
  for (const auto& [cause, count] : stats.refused) {
    counter("muster_gossip_datagrams_dropped_total", "Datagrams not let in.", "kind", cause, count);
  }
}

}  // namespace muster::gossip
