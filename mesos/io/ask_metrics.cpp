#include "mesos/io/ask_metrics.hpp"

#include <utility>

namespace muster::mesos {

AskMetrics::AskMetrics(prometheus::Registry& registry, Names names)
    : names_{std::move(names)},
      problems_{prometheus::BuildCounter()
                    .Name(names_.problems)
                    .Help("Parts of the " + names_.who + "'s state that were skipped, by kind")
                    .Register(registry)},
      expiry_{prometheus::BuildGauge()
                  .Name(names_.expiry)
                  .Help("Unix time at which a certificate used with the " + names_.who + " ends")
                  .Register(registry)} {}

void AskMetrics::count(const Problems& problems) {
  for (const Problem& problem : problems.kept()) {
    count_problem(problem.kind, problem.where + ": " + problem.what);
  }
  if (problems.left_out() > 0) {
    problems_.Add({{"kind", "more"}}).Increment(static_cast<double>(problems.left_out()));
  }
}

void AskMetrics::count_problem(const std::string& kind, const std::string& line) {
  problems_.Add({{"kind", kind}}).Increment();
  log_.warn(names_.log + ": " + line);
}

void AskMetrics::show_client_expiry(std::optional<std::int64_t> unix_time) {
  if (unix_time) expiry_.Add({{"certificate", "client"}}).Set(static_cast<double>(*unix_time));
}

void AskMetrics::show_peer_expiry(std::optional<std::int64_t> unix_time) {
  if (unix_time) expiry_.Add({{"certificate", names_.who}}).Set(static_cast<double>(*unix_time));
}

prometheus::Gauge& add_gauge(prometheus::Registry& registry, const char* name, const char* help) {
  return prometheus::BuildGauge().Name(name).Help(help).Register(registry).Add({});
}

}  // namespace muster::mesos
