#pragma once

#include <string>

#include <prometheus/counter.h>
#include <prometheus/gauge.h>
#include <prometheus/registry.h>

namespace muster::lb {

/// What is counted of served namespaces, in a registry that outlives it.
struct NamespaceMetrics {
  explicit NamespaceMetrics(prometheus::Registry& registry)
      : namespaces{prometheus::BuildGauge()
                       .Name("muster_lb_namespaces")
                       .Help("Network namespaces that files name, by state; refused ones are "
                             "files")
                       .Register(registry)},
        refusals{prometheus::BuildCounter()
                     .Name("muster_lb_namespace_refusals_total")
                     .Help("Files and namespaces that came to be not served, by reason")
                     .Register(registry)} {}

  void set(const char* state, std::size_t count) {
    namespaces.Add({{"state", state}}).Set(static_cast<double>(count));
  }
  void refused(const std::string& reason) { refusals.Add({{"reason", reason}}).Increment(); }

  prometheus::Family<prometheus::Gauge>& namespaces;
  prometheus::Family<prometheus::Counter>& refusals;
};

}  // namespace muster::lb
