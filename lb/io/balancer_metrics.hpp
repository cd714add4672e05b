#pragma once

#include <string>

#include <prometheus/counter.h>
#include <prometheus/gauge.h>
#include <prometheus/histogram.h>
#include <prometheus/registry.h>

namespace muster::lb {

/// What the load balancer counts, in a registry that outlives it.
struct BalancerMetrics {
  explicit BalancerMetrics(prometheus::Registry& registry)
      : vips{gauge(registry, "muster_lb_vips", "VIPs in the kernel")},
        backends{gauge(registry, "muster_lb_backends", "Backends in the kernel, over all VIPs")},
        quarantined{
            gauge(registry, "muster_lb_quarantined_vips", "VIPs the kernel refuses one by one")},
        healthy{gauge(registry, "muster_lb_healthy",
                      "1 if the kernel is known to hold what it should")},
        programming{
            prometheus::BuildHistogram()
                .Name("muster_lb_programming_seconds")
                .Help("Time to bring a change into the kernel")
                .Register(registry)
                .Add({}, prometheus::Histogram::BucketBoundaries{0.0001, 0.0003, 0.001, 0.003, 0.01,
                                                                 0.03, 0.1, 0.3, 1})},
        changes{
            counter(registry, "muster_lb_applied_changes_total", "VIPs brought to a new state")},
        errors{prometheus::BuildCounter()
                   .Name("muster_lb_errors_total")
                   .Help("What the kernel refused or the input lacked, by kind")
                   .Register(registry)},
        reconciles{counter(registry, "muster_lb_reconciles_total",
                           "Comparisons of the record with the kernel")},
        repairs{counter(registry, "muster_lb_reconcile_repairs_total",
                        "VIPs and routes found to be other than recorded")},
        foreign{counter(registry, "muster_lb_foreign_changes_total",
                        "Times somebody else changed what is ours")},
        flushed{
            counter(registry, "muster_lb_udp_flows_flushed_total", "Stale udp flows forgotten")},
        clients{counter(registry, "muster_lb_affinity_clients_moved_total",
                        "Clients with affinity to a backend that takes no more connections")},
        unanswered{counter(registry, "muster_lb_unanswered_connections_total",
                           "Connections to a backend that did not answer within a second")},
        ejections{counter(registry, "muster_lb_ejections_total",
                          "Times a backend that did not answer was given a rest")},
        ejected{gauge(registry, "muster_lb_ejected_backends",
                      "Backends that rest because they did not answer")},
        starting{gauge(registry, "muster_lb_starting_backends",
                       "Backends that are new, of VIPs with slow_start, and have less than their "
                       "share yet")},
        accepting{gauge(registry, "muster_lb_forward_chains_accepting",
                        "Firewall chains that accept forwarded VIP traffic by rules of ours")},
        dropping{
            gauge(registry, "muster_lb_forward_chains_dropping",
                  "Firewall chains that drop forwarded packets they do not know, without rules "
                  "of ours")} {}

  static prometheus::Gauge& gauge(prometheus::Registry& registry, const char* name,
                                  const char* help) {
    return prometheus::BuildGauge().Name(name).Help(help).Register(registry).Add({});
  }
  static prometheus::Counter& counter(prometheus::Registry& registry, const char* name,
                                      const char* help) {
    return prometheus::BuildCounter().Name(name).Help(help).Register(registry).Add({});
  }
  void error(const std::string& kind, double count = 1) {
    errors.Add({{"kind", kind}}).Increment(count);
  }

  prometheus::Gauge& vips;
  prometheus::Gauge& backends;
  prometheus::Gauge& quarantined;
  prometheus::Gauge& healthy;
  prometheus::Histogram& programming;
  prometheus::Counter& changes;
  prometheus::Family<prometheus::Counter>& errors;
  prometheus::Counter& reconciles;
  prometheus::Counter& repairs;
  prometheus::Counter& foreign;
  prometheus::Counter& flushed;
  prometheus::Counter& clients;
  prometheus::Counter& unanswered;
  prometheus::Counter& ejections;
  prometheus::Gauge& ejected;
  prometheus::Gauge& starting;
  prometheus::Gauge& accepting;
  prometheus::Gauge& dropping;
};

}  // namespace muster::lb
