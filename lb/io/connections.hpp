#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include <prometheus/collectable.h>

#include "base/endpoint.hpp"
#include "lb/io/driver.hpp"

namespace muster::lb {

/// New connections to each backend of a Vip since we know it.
using ConnectionTotals = std::map<Vip, std::map<Endpoint, std::uint64_t>>;

/// Adds up what the slots count. A slot's counter goes with it, so what it counted after it was
/// last read is lost when it changes hands. One thread at a time.
class ConnectionCounter {
 public:
  std::shared_ptr<const ConnectionTotals> update(const KernelState& state);

 private:
  struct Slot {
    Endpoint backend;
    std::uint64_t count;
  };
  std::map<Vip, std::vector<std::optional<Slot>>> seen_;
  ConnectionTotals seen_backends_;  // where the kernel counts by backend
  ConnectionTotals totals_;
};

/// Shows the totals at scrape time, on any thread: one series for each Vip and for each backend of
/// one, and one of either kind for all that are beyond the limits.
class ConnectionMetrics final : public prometheus::Collectable {
 public:
  static constexpr std::size_t kMaxSeries = 2000;
  static constexpr std::size_t kMaxBackendSeries = 10'000;

  void publish(std::shared_ptr<const ConnectionTotals> totals,
               std::shared_ptr<const std::map<Vip, std::string>> names);
  std::vector<prometheus::MetricFamily> Collect() const override;

 private:
  mutable std::mutex mutex_;
  std::shared_ptr<const ConnectionTotals> totals_;
  std::shared_ptr<const std::map<Vip, std::string>> names_;
};

}  // namespace muster::lb
