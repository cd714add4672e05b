#pragma once

#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include <prometheus/collectable.h>

#include "base/endpoint.hpp"
#include "base/time.hpp"
#include "lb/io/driver.hpp"

namespace muster::lb {

/// New connections to each backend of a Vip since we know it.
using ConnectionTotals = std::map<Vip, std::map<Endpoint, std::uint64_t>>;

/// What the slots of another namespace have counted from one reading to the next. Remembers only
/// those that have counted anything: a container knows few of the Vips. One thread at a time.
class ConnectionGrowth {
 public:
  ConnectionTotals update(std::vector<SlotCount> counts);

 private:
  struct Seen {
    SlotCount slot;
    bool missed = false;  // by the last reading, which may have been torn
  };
  std::vector<Seen> seen_;  // by Vip and index
};

/// Adds up what the slots count. A slot's counter goes with it, so what it counted after it was
/// last read is lost when it changes hands. One thread at a time.
class ConnectionCounter {
 public:
  /// With what add() was given: of Vips and backends that `state` has.
  std::shared_ptr<const ConnectionTotals> update(const KernelState& state);
  /// What was counted elsewhere.
  void add(const ConnectionTotals& growth);

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

  /// When somebody wanted to know last; any thread.
  TimePoint last_look() const { return looked_.load(std::memory_order_relaxed); }
  void note_look() const { looked_.store(Clock::now(), std::memory_order_relaxed); }

 private:
  mutable std::atomic<TimePoint> looked_{TimePoint{}};
  mutable std::mutex mutex_;
  std::shared_ptr<const ConnectionTotals> totals_;
  std::shared_ptr<const std::map<Vip, std::string>> names_;
};

}  // namespace muster::lb
