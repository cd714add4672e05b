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

#include "lb/io/balancer.hpp"
#include "lb/io/connections.hpp"
#include "lb/io/kernel.hpp"
#include "lb/io/limits.hpp"
#include "lb/io/namespaces.hpp"

namespace muster::lb {

/// How long apply() and each following step may hold the control thread. A step that has begun
/// takes some 2 ms more.
inline constexpr Duration kSlice{3};

class Balancer::Impl : public std::enable_shared_from_this<Balancer::Impl> {
 public:
  Impl(asio::any_io_executor control, std::unique_ptr<Driver> driver,
       const BalancerOptions& options, prometheus::Registry& registry);
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
  class Host;

  bool slice_passed(TimePoint since) const { return Clock::now() - since >= kSlice; }
  void open_namespaces(const DriverConfig& config);
  Result<DriverConfig> driver_config();
  Result<Capabilities> open(const DriverConfig& config);
  void take(const ClusterDelta& delta);
  void work(TimePoint since);
  void work_later();
  void settle();
  void note(const std::vector<Unanswered>& connections);
  bool advance(TimePoint now);
  void retire_others();
  void keep_forward(bool anyway);
  void forward_later();
  void forward_kept(const Result<ForwardOutcome>& outcome);
  void publish_counts(std::shared_ptr<const ConnectionTotals> totals);
  void export_state();
  asio::awaitable<void> watch();
  asio::awaitable<void> watch_unanswered();
  asio::awaitable<void> tick();
  void on_tick();
  TimePoint next_due() const;

  asio::any_io_executor control_;
  Shared shared_;
  prometheus::Registry& registry_;
  LimitWatch limits_;
  Capabilities capabilities_;

  std::deque<ClusterDelta> waiting_;  // parts of deltas, in order
  std::size_t waiting_changes_ = 0;
  bool work_posted_ = false;
  std::optional<TimePoint> change_began_;  // first change not in the kernel yet
  bool retiring_ = false;                  // another driver's things are being looked at
  bool retired_once_ = false;

  std::optional<forward::Acceptance> accepted_;  // what the firewalls were last made to accept
  bool forwarding_ = false;                      // they are being looked at
  std::optional<TimePoint> forward_due_;         // again
  TimePoint last_forward_{};
  std::vector<std::string> dropping_;

  std::optional<TimePoint> trust_due_;  // the disk counts as much as anybody from then on
  bool counters_wanted_ = false;
  asio::steady_timer wake_;

  std::shared_ptr<const ConnectionTotals> totals_;
  std::shared_ptr<ConnectionMetrics> connections_ = std::make_shared<ConnectionMetrics>();
  ConnectionCounter counter_;               // the worker's
  asio::thread_pool worker_{1};             // joined before what its work uses is gone
  std::shared_ptr<Kernel> host_;            // the node's own
  std::shared_ptr<Namespaces> namespaces_;  // null: no folders are named
};

/// The node's own namespace: what it does beside what every kernel does.
class Balancer::Impl::Host final : public Kernel {
 public:
  Host(Impl& owner, std::unique_ptr<Driver> driver)
      : Kernel{owner.shared_, owner.worker_, std::move(driver), {}}, owner_{owner} {}

 private:
  void work() override { owner_.work(Clock::now()); }
  void wake() override { owner_.wake_.cancel(); }
  void adjust(RouteSources& sources) override;
  void on_settled() override;
  void read_beside(ReadResult& result) override;
  void on_read(ReadResult& result) override;
  void on_adopted(ReadResult& result) override;
  void on_compared() override;
  void at_rest(TimePoint now) override;

  Impl& owner_;
};

}  // namespace muster::lb
