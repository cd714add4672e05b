#pragma once

// Private to balancer*.cpp.

#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <boost/asio/steady_timer.hpp>
#include <boost/asio/thread_pool.hpp>

#include "base/io/log_once.hpp"
#include "lb/io/balancer.hpp"
#include "lb/io/balancer_metrics.hpp"
#include "lb/io/connections.hpp"
#include "lb/io/limits.hpp"
#include "lb/io/programmer.hpp"

namespace muster::lb {

namespace asio = boost::asio;

/// How long apply() and each following step may hold the control thread. A step that has begun
/// takes some 6 ms more at worst.
inline constexpr Duration kSlice{5};
inline constexpr Duration kFirstBackoff{100};
/// A route is refused while its source address is not there, or not yet tried for duplicates.
inline constexpr Duration kFirstRouteRetry{250};

class Balancer::Impl : public std::enable_shared_from_this<Balancer::Impl> {
 public:
  Impl(asio::any_io_executor control, std::unique_ptr<Driver> driver, BalancerOptions options,
       prometheus::Registry& registry)
      : control_{control},
        driver_{std::move(driver)},
        options_{std::move(options)},
        metrics_{registry},
        limits_{registry},
        programmer_{*driver_, options_.policy},
        wake_{control} {}

  ~Impl() { worker_.join(); }

  Result<void> start();
  void restore(const ClusterDelta& delta);
  void apply(const ClusterDelta& delta);
  asio::awaitable<void> run();
  std::vector<VipStatus> vips();
  VipStatus vip_status(const Vip& vip) const;
  Status status() const;
  std::shared_ptr<ConnectionMetrics> connections() const { return connections_; }

 private:
  /// Whose old flows and remembered clients are to be looked through.
  struct Stale {
    UdpKeep udp;
    UdpKeep clients;
    bool empty() const noexcept { return udp.empty() && clients.empty(); }
  };
  struct Flushed {
    Result<std::size_t> udp = std::size_t{0};
    Result<std::size_t> clients = std::size_t{0};
  };

  /// What a read on the worker brings back.
  struct ReadResult {
    Result<KernelState> state = ErrorCode{};
    std::shared_ptr<const ConnectionTotals> totals;
    std::vector<Limit> limits = {};
  };

  bool slice_passed(TimePoint since) const { return Clock::now() - since >= kSlice; }
  void take(const ClusterDelta& delta);
  void work(TimePoint since);
  void work_later();
  void settle();
  void failed(const std::string& kind);
  void read_later();
  void flush();
  void flushed(const Flushed& result, const Stale& stale);
  void publish_routes();
  void retire_others();
  void keep_forward(bool anyway);
  void forward_later();
  void forward_kept(const Result<ForwardOutcome>& outcome);
  void start_read(bool exclusive);
  void finish_read(ReadResult result, std::uint64_t epoch, bool exclusive);
  void publish_counts(std::shared_ptr<const ConnectionTotals> totals);
  void export_state();
  asio::awaitable<void> watch();
  asio::awaitable<void> watch_unanswered();
  asio::awaitable<void> tick();
  void on_tick();

  asio::any_io_executor control_;
  std::unique_ptr<Driver> driver_;
  BalancerOptions options_;
  BalancerMetrics metrics_;
  LimitWatch limits_;
  Programmer programmer_;
  Capabilities capabilities_;
  RouteSources sources_;
  std::optional<Prefix> range_v4_;
  std::optional<Prefix> range_v6_;
  LogOnce log_;
  std::string last_error_;

  std::deque<ClusterDelta> waiting_;  // parts of deltas, in order
  std::size_t waiting_changes_ = 0;
  bool work_posted_ = false;
  std::optional<TimePoint> change_began_;  // first change not in the kernel yet
  bool routes_published_ = false;
  bool retiring_ = false;  // another driver's things are being looked at
  bool retired_once_ = false;

  std::optional<forward::Acceptance> accepted_;  // what the firewalls were last made to accept
  bool forwarding_ = false;                      // they are being looked at
  std::optional<TimePoint> forward_due_;         // again
  TimePoint last_forward_{};
  std::vector<std::string> dropping_;

  /// Goes up with every write; a read that began before one tells nothing about now.
  std::uint64_t epoch_ = 0;
  bool reading_ = false;
  bool exclusive_ = false;  // nothing is written before the read is done
  bool read_wanted_ = false;
  TimePoint not_before_{};  // for the next read that is wanted
  Duration backoff_{kFirstBackoff};
  Duration route_backoff_{kFirstRouteRetry};
  std::optional<TimePoint> routes_due_;  // again
  std::optional<TimePoint> trust_due_;   // the disk counts as much as anybody from then on
  TimePoint last_reconcile_{};
  TimePoint last_foreign_{};  // when the latest foreign change was, or will be, answered
  bool counters_wanted_ = false;
  asio::steady_timer wake_;

  std::shared_ptr<const ConnectionTotals> totals_;
  std::shared_ptr<ConnectionMetrics> connections_ = std::make_shared<ConnectionMetrics>();
  Stale pending_;
  bool flushing_ = false;
  ConnectionCounter counter_;    // the worker's
  asio::thread_pool worker_{1};  // last: joins before what its work uses is gone
};

}  // namespace muster::lb
