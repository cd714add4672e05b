#pragma once

#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include <prometheus/collectable.h>
#include <prometheus/registry.h>

#include "metrics/http_server.hpp"

namespace muster::metrics {

inline constexpr std::string_view kExpositionContentType = "text/plain; version=0.0.4";

struct BuildInfo {
  std::string version;   // "0.1.0"
  std::string revision;  // of the source; may be empty
};

/// All that /metrics shows: a Registry, further Collectables (per-thread counters that are summed
/// when somebody looks), `muster_build_info` and the conventional `process_*`.
/// Any thread may call any of it.
class Exposition {
 public:
  /// `registry` must outlive this.
  Exposition(const prometheus::Registry& registry, BuildInfo build);

  /// Asked at every scrape, on a worker thread, for as long as it lives.
  void add(std::weak_ptr<const prometheus::Collectable> source);

  /// The text format 0.0.4, families sorted by name, each once whoever collected it. Collects on
  /// the calling thread: meant for the worker pool.
  HttpResponse render() const;

 private:
  const prometheus::Registry& registry_;
  BuildInfo build_;
  mutable std::mutex mutex_;
  std::vector<std::weak_ptr<const prometheus::Collectable>> sources_;  // guarded by mutex_
};

/// process_resident_memory_bytes, process_virtual_memory_bytes, process_cpu_seconds_total,
/// process_open_fds, process_max_fds, process_start_time_seconds and process_threads, read from
/// /proc. What cannot be read is left out.
std::vector<prometheus::MetricFamily> process_metrics();

}  // namespace muster::metrics
