// The part of Balancer that goes at the pace of the node's own kernel: what is due, what it hears,
// and what comes with each comparison.

#include <algorithm>
#include <spdlog/spdlog.h>
#include <unistd.h>
#include <utility>
#include <vector>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/deferred.hpp>
#include <boost/asio/experimental/parallel_group.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/use_awaitable.hpp>

#include "lb/io/balancer_impl.hpp"

namespace muster::lb {
namespace {

/// How often the counters are read for somebody who looks at them.
constexpr Duration kCounterAge{10'000};

}  // namespace

/// Only now: all that is wanted is in place, and the way there.
void Balancer::Impl::retire_others() {
  if (retiring_ || !host_->routes_published() || !host_->programmer().complete()) return;
  retiring_ = retired_once_ = true;
  asio::post(worker_, [weak = weak_from_this(), control = control_, &driver = host_->driver()] {
    const auto removed = driver.retire_others();
    asio::post(control, [weak, removed] {
      const auto self = weak.lock();
      if (!self) return;
      self->retiring_ = false;
      if (!removed) {
        self->shared_.metrics.error("handover");
        self->shared_.log.warn("lb: the other driver's things stay: " + removed.error().message());
      } else if (*removed > 0) {
        self->shared_.log.warn("lb: driver " + self->capabilities_.driver +
                               " serves now; the other one's things are removed");
      }
    });
  });
}

void Balancer::Impl::Host::adjust(RouteSources& sources) {
  const BalancerOptions& options = owner_.shared_.options;
  if (options.node_v4) sources.v4 = options.node_v4;
  if (options.node_v6) sources.v6 = options.node_v6;
}

void Balancer::Impl::Host::read_beside(ReadResult& result) {
  if (result.state) result.totals = owner_.counter_.update(*result.state);
  result.limits = read_limits();
}

void Balancer::Impl::Host::on_read(ReadResult& result) {
  owner_.limits_.publish(result.limits, owner_.shared_.log);
}

void Balancer::Impl::Host::on_adopted(ReadResult& result) {
  owner_.publish_counts(std::move(result.totals));
}

void Balancer::Impl::Host::on_compared() {
  owner_.retire_others();
  owner_.keep_forward(true);
}

void Balancer::Impl::Host::at_rest(TimePoint now) {
  if (!owner_.counters_wanted_ || now - last_reconcile() < kCounterAge) return;
  owner_.counters_wanted_ = false;
  start_read(false);
}

void Balancer::Impl::publish_counts(std::shared_ptr<const ConnectionTotals> totals) {
  totals_ = std::move(totals);
  auto names = std::make_shared<std::map<Vip, std::string>>();
  for (const auto& [vip, counts] : *totals_) {
    if (names->size() >= ConnectionMetrics::kMaxSeries) break;
    names->emplace(vip, shared_.table.name_of(vip));
  }
  connections_->publish(totals_, std::move(names));
}

void Balancer::Impl::export_state() {
  Programmer& programmer = host_->programmer();
  BalancerMetrics& metrics = shared_.metrics;
  const auto counts = programmer.take_counts();
  metrics.changes.Increment(static_cast<double>(counts.changes));
  metrics.vips.Set(static_cast<double>(programmer.applied().size()));
  metrics.backends.Set(static_cast<double>(programmer.applied_backends()));
  metrics.quarantined.Set(static_cast<double>(programmer.quarantined()));
  metrics.healthy.Set(host_->healthy() ? 1 : 0);
  metrics.ejected.Set(static_cast<double>(shared_.table.outliers().resting()));
  metrics.starting.Set(static_cast<double>(shared_.table.slow_start().starting()));
}

asio::awaitable<void> Balancer::Impl::watch() {
  Driver& driver = host_->driver();
  // A descriptor of its own: Asio closes what it is given.
  asio::posix::stream_descriptor descriptor{control_, ::dup(driver.monitor_fd())};
  for (;;) {
    co_await descriptor.async_wait(asio::posix::stream_descriptor::wait_read, asio::use_awaitable);
    const bool ours = driver.drain_monitor();
    if (driver.take_firewall_change()) forward_later();
    if (ours) host_->foreign_change();
  }
}

void Balancer::Impl::note(const std::vector<Unanswered>& connections) {
  const TimePoint now = Clock::now();
  std::vector<Vip> changed;
  for (const Unanswered& connection : connections) {
    shared_.metrics.unanswered.Increment();
    // In a flood the first few say enough.
    if (slice_passed(now) || !shared_.table.failed(connection.vip, connection.backend, now)) {
      continue;
    }
    changed.push_back(connection.vip);
    shared_.metrics.ejections.Increment();
    spdlog::info("lb: {} does not answer; {} goes without it for a while",
                 to_string(connection.backend), to_string(connection.vip));
  }
  if (changed.empty()) return;
  host_->programmer().touch(changed);
  if (namespaces_) namespaces_->touch(changed);
  work(now);
  wake_.cancel();  // for the end of its rest
}

asio::awaitable<void> Balancer::Impl::watch_unanswered() {
  Driver& driver = host_->driver();
  asio::posix::stream_descriptor descriptor{control_, ::dup(driver.unanswered_fd())};
  for (;;) {
    co_await descriptor.async_wait(asio::posix::stream_descriptor::wait_read, asio::use_awaitable);
    note(driver.take_unanswered());
  }
}

/// True: there is something to do.
bool Balancer::Impl::advance(TimePoint now) {
  const auto back = shared_.table.advance(now);
  host_->programmer().touch(back);
  if (namespaces_) namespaces_->touch(back);
  bool due = !back.empty();
  if (trust_due_ && now >= *trust_due_) {
    trust_due_.reset();
    due = host_->programmer().trust() || due;
    if (namespaces_) namespaces_->trust();
  }
  return due;
}

void Balancer::Impl::on_tick() {
  const TimePoint now = Clock::now();
  if (advance(now)) work(now);
  if (forward_due_ && now >= *forward_due_) keep_forward(true);
  host_->tick(now);
  if (namespaces_) namespaces_->tick(now);
}

TimePoint Balancer::Impl::next_due() const {
  const TimePoint now = Clock::now();
  std::optional<TimePoint> next = shared_.table.next();
  const auto sooner = [&next](TimePoint due) { next = next ? std::min(*next, due) : due; };
  if (counters_wanted_) sooner(host_->last_reconcile() + kCounterAge);
  if (trust_due_) sooner(*trust_due_);
  if (next) next = std::max<TimePoint>(*next, now + kFirstBackoff);
  if (forward_due_ && !forwarding_) sooner(std::max(*forward_due_, now));
  sooner(host_->next_due(now));
  if (namespaces_) sooner(std::max(namespaces_->next_due(now), now));
  return *next;
}

asio::awaitable<void> Balancer::Impl::tick() {
  for (;;) {
    on_tick();
    wake_.expires_at(next_due());
    boost::system::error_code woken;  // or cancelled, which the next co_await notices
    co_await wake_.async_wait(asio::redirect_error(asio::use_awaitable, woken));
  }
}

asio::awaitable<void> Balancer::Impl::run() {
  using Operation = decltype(asio::co_spawn(control_, tick(), asio::deferred));
  Driver& driver = host_->driver();
  std::vector<Operation> all;
  all.push_back(asio::co_spawn(control_, tick(), asio::deferred));
  if (driver.monitor_fd() >= 0) all.push_back(asio::co_spawn(control_, watch(), asio::deferred));
  if (driver.unanswered_fd() >= 0) {
    all.push_back(asio::co_spawn(control_, watch_unanswered(), asio::deferred));
  }
  if (namespaces_) all.push_back(asio::co_spawn(control_, namespaces_->watch(), asio::deferred));
  const auto [order, ended] =
      co_await asio::experimental::make_parallel_group(std::move(all))
          .async_wait(asio::experimental::wait_for_one{}, asio::use_awaitable);
  if (ended[order[0]]) std::rethrow_exception(ended[order[0]]);
}

}  // namespace muster::lb
