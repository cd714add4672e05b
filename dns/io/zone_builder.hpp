#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/steady_timer.hpp>

#include "base/cluster_delta.hpp"
#include "base/io/log_once.hpp"
#include "base/io/snapshot.hpp"
#include "base/time.hpp"
#include "dns/core/catalog.hpp"
#include "dns/core/zone_snapshot.hpp"

namespace prometheus {
class Counter;
template <class T>
class Family;
class Gauge;
class Registry;
}  // namespace prometheus

namespace muster::dns {

/// Turns what changed in the cluster into snapshots of the zones, and publishes them in its cell.
///
/// A small delta at once or with the next batch; a large one in steps on the builder's executor,
/// one at a time, with nothing else of this object's beside it. All calls on the control thread.
class ZoneBuilder {
 public:
  /// Some milliseconds, and fewer than a slice of a master's whole state has: those are built
  /// beside the control thread, several slices at once.
  static constexpr std::size_t kInlineChanges = 64;
  static constexpr std::size_t kInlineVips = 512;  // and so many of those, which have few names
  static constexpr Duration kBatch{10};

  /// `changed`: another snapshot is shown now. On the control thread.
  ZoneBuilder(boost::asio::any_io_executor control, boost::asio::any_io_executor builder,
              CatalogOptions, prometheus::Registry&, std::function<void()> changed);
  ~ZoneBuilder();
  ZoneBuilder(const ZoneBuilder&) = delete;
  ZoneBuilder& operator=(const ZoneBuilder&) = delete;

  /// See Server::apply().
  void apply(const ClusterDelta&);
  /// Calls `done` once what was applied before is whole, perhaps at once. From then on somebody
  /// asks: steps are short.
  void when_whole(std::function<void()> done);
  /// Waits for a step that runs: some 100 ms. Nothing happens after. Idempotent.
  void stop();

  /// Where the workers read.
  SnapshotCell<ZoneSnapshot>& cell() noexcept { return cell_; }

  /// As shown last.
  const std::shared_ptr<const ZoneSnapshot>& snapshot() const noexcept { return snapshot_; }
  std::size_t names() const noexcept { return shown_names_; }
  std::size_t records() const noexcept { return shown_records_; }
  const Suffixes& suffixes() const { return catalog_.suffixes(); }

 private:
  /// Who runs a step holds it, and stop() closes it.
  struct Gate {
    std::mutex mutex;
    bool closed = false;  // written by the control thread only
  };

  void flush();
  void show_staged();
  void flush_at(TimePoint due);
  void build_next();
  void post_step();
  std::size_t step();
  void step_done(std::size_t left);
  void publish(bool complete);
  void published();
  void count_queued();

  boost::asio::any_io_executor control_;
  boost::asio::any_io_executor builder_;
  Catalog catalog_;  // the control thread's, but while `building_` the builder's
  SnapshotCell<ZoneSnapshot> cell_{catalog_.snapshot()};
  std::function<void()> changed_;
  std::shared_ptr<const ZoneSnapshot> snapshot_ = catalog_.snapshot();  // shown last
  std::size_t shown_names_ = 0;
  std::size_t shown_records_ = 0;
  prometheus::Family<prometheus::Counter>& problems_;
  prometheus::Gauge& names_;
  prometheus::Gauge& records_;
  prometheus::Gauge& serial_;
  prometheus::Gauge& queued_;
  boost::asio::steady_timer flush_timer_;  // for the batch behind a change that went at once
  bool flushing_ = false;
  bool staged_complete_ = false;
  TimePoint last_publish_{};
  LogOnce log_;
  std::deque<ClusterDelta> queue_;
  bool building_ = false;
  bool serving_ = false;  // written while nothing is built
  std::function<void()> when_whole_;
  ClusterDelta job_;  // the builder's
  std::size_t job_size_ = 0;
  std::size_t left_ = 0;  // of the job's changes
  std::shared_ptr<Gate> gate_ = std::make_shared<Gate>();
};

}  // namespace muster::dns
