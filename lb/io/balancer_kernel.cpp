// The part of Balancer that goes at the kernel's pace: reading it, comparing, what follows a
// change, and what somebody else does to it.

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

constexpr Duration kMaxBackoff{10'000};
constexpr Duration kMaxRouteRetry{4'000};
/// Reads after foreign changes, should somebody change things all the time.
constexpr Duration kForeignPause{1000};
/// How often the counters are read for somebody who looks at them.
constexpr Duration kCounterAge{10'000};

}  // namespace

/// At once the first time; a table that somebody flushed must not wait.
void Balancer::Impl::read_later() {
  read_wanted_ = true;
  not_before_ = Clock::now() + (backoff_ == kFirstBackoff ? Duration{0} : backoff_);
  backoff_ = std::min(backoff_ * 2, kMaxBackoff);
  wake_.cancel();
}

void Balancer::Impl::publish_routes() {
  const auto changed = driver_->publish_routes(sources_);
  if (!changed) {
    metrics_.error("route");
    last_error_ = "route to the VIP range: " + changed.error().message();
    log_.warn("lb: " + last_error_);
    routes_due_ = Clock::now() + route_backoff_;
    route_backoff_ = std::min(route_backoff_ * 2, kMaxRouteRetry);
    wake_.cancel();
    return;
  }
  routes_due_.reset();
  route_backoff_ = kFirstRouteRetry;
  if (routes_published_) metrics_.repairs.Increment(static_cast<double>(*changed));
  routes_published_ = true;
}

/// Only now: all that is wanted is in place, and the way there.
void Balancer::Impl::retire_others() {
  if (retiring_ || !routes_published_ || !programmer_.complete()) return;
  retiring_ = retired_once_ = true;
  asio::post(worker_, [this, weak = weak_from_this(), control = control_] {
    const auto removed = driver_->retire_others();
    asio::post(control, [weak, removed] {
      const auto self = weak.lock();
      if (!self) return;
      self->retiring_ = false;
      if (!removed) {
        self->metrics_.error("handover");
        self->log_.warn("lb: the other driver's things stay: " + removed.error().message());
      } else if (*removed > 0) {
        self->log_.warn("lb: driver " + self->capabilities_.driver +
                        " serves now; the other one's things are removed");
      }
    });
  });
}

void Balancer::Impl::flush() {
  if (flushing_ || pending_.empty()) return;
  flushing_ = true;
  auto stale = std::make_shared<Stale>(std::exchange(pending_, {}));
  asio::post(worker_, [this, weak = weak_from_this(), control = control_, stale] {
    Flushed flushed;
    if (!stale->udp.empty()) flushed.udp = driver_->flush_udp(stale->udp);
    if (!stale->clients.empty()) flushed.clients = driver_->forget_clients(stale->clients);
    asio::post(control, [weak, flushed, stale] {
      if (const auto self = weak.lock()) self->flushed(flushed, *stale);
    });
  });
}

/// What could not be forgotten is tried again with the next change, or when the kernel is compared.
void Balancer::Impl::flushed(const Flushed& result, const Stale& stale) {
  flushing_ = false;
  bool all = true;
  const auto count = [&](const Result<std::size_t>& done, prometheus::Counter& counter,
                         const UdpKeep& tried, UdpKeep& pending) {
    if (done) return counter.Increment(static_cast<double>(*done));
    all = false;
    pending.insert(tried.begin(), tried.end());  // what is newer stays
    metrics_.error("conntrack");
    log_.warn("lb: stale flows could not be forgotten: " + done.error().message());
  };
  count(result.udp, metrics_.flushed, stale.udp, pending_.udp);
  count(result.clients, metrics_.clients, stale.clients, pending_.clients);
  if (all) flush();
}

void Balancer::Impl::start_read(bool exclusive) {
  reading_ = true;
  exclusive_ = exclusive;
  read_wanted_ = false;
  asio::post(worker_,
             [this, weak = weak_from_this(), control = control_, epoch = epoch_, exclusive] {
               auto result = std::make_shared<ReadResult>();
               result->state = driver_->read();
               if (result->state) result->totals = counter_.update(*result->state);
               result->limits = read_limits();
               asio::post(control, [weak, result, epoch, exclusive] {
                 if (const auto self = weak.lock())
                   self->finish_read(std::move(*result), epoch, exclusive);
               });
             });
}

void Balancer::Impl::finish_read(ReadResult result, std::uint64_t epoch, bool exclusive) {
  reading_ = false;
  exclusive_ = false;
  limits_.publish(result.limits, log_);
  if (!result.state) {
    metrics_.error("read");
    last_error_ = "reading the kernel's table: " + result.state.error().message();
    log_.warn("lb: " + last_error_);
    programmer_.distrust();
    read_later();
    return;
  }
  if (epoch != epoch_) {
    // Something was written meanwhile. Once more, and now hold our writing back: a tenth of a
    // second with 10,000 Vips. If it was somebody else's, watch() has asked for a read, which may
    // have to wait; what came to be wanted during this one does not.
    if (exclusive) {
      work(Clock::now());
    } else {
      start_read(true);
    }
    wake_.cancel();
    return;
  }
  const std::size_t repairs = programmer_.adopt(std::move(*result.state));
  metrics_.reconciles.Increment();
  metrics_.repairs.Increment(static_cast<double>(repairs));
  last_reconcile_ = Clock::now();
  if (repairs > 0) log_.warn("lb: the kernel's table was not as recorded; mending it");
  publish_counts(std::move(result.totals));
  sources_ = driver_->find_sources();
  if (options_.node_v4) sources_.v4 = options_.node_v4;
  if (options_.node_v6) sources_.v6 = options_.node_v6;
  work(Clock::now());
  if (routes_published_ && programmer_.serving()) {
    publish_routes();
    retire_others();
    keep_forward(true);
  }
  wake_.cancel();
}

void Balancer::Impl::publish_counts(std::shared_ptr<const ConnectionTotals> totals) {
  totals_ = std::move(totals);
  auto names = std::make_shared<std::map<Vip, std::string>>();
  for (const auto& [vip, counts] : *totals_) {
    if (names->size() >= ConnectionMetrics::kMaxSeries) break;
    names->emplace(vip, programmer_.table().name_of(vip));
  }
  connections_->publish(totals_, std::move(names));
}

void Balancer::Impl::export_state() {
  const auto counts = programmer_.take_counts();
  metrics_.changes.Increment(static_cast<double>(counts.changes));
  metrics_.vips.Set(static_cast<double>(programmer_.applied().size()));
  metrics_.backends.Set(static_cast<double>(programmer_.applied_backends()));
  metrics_.quarantined.Set(static_cast<double>(programmer_.quarantined()));
  metrics_.healthy.Set(status().healthy ? 1 : 0);
  metrics_.ejected.Set(static_cast<double>(programmer_.table().outliers().resting()));
  metrics_.starting.Set(static_cast<double>(programmer_.table().slow_start().starting()));
}

asio::awaitable<void> Balancer::Impl::watch() {
  // A descriptor of its own: Asio closes what it is given.
  asio::posix::stream_descriptor descriptor{control_, ::dup(driver_->monitor_fd())};
  for (;;) {
    co_await descriptor.async_wait(asio::posix::stream_descriptor::wait_read, asio::use_awaitable);
    const bool ours = driver_->drain_monitor();
    if (driver_->take_firewall_change()) forward_later();
    if (!ours) continue;
    metrics_.foreign.Increment();
    log_.warn("lb: somebody else changed what is ours; reading it again");
    ++epoch_;  // what is being read may be half old
    const TimePoint now = Clock::now();
    if (!read_wanted_) not_before_ = std::max(now, last_foreign_ + kForeignPause);
    read_wanted_ = true;
    last_foreign_ = not_before_;
    wake_.cancel();
  }
}

asio::awaitable<void> Balancer::Impl::watch_unanswered() {
  asio::posix::stream_descriptor descriptor{control_, ::dup(driver_->unanswered_fd())};
  for (;;) {
    co_await descriptor.async_wait(asio::posix::stream_descriptor::wait_read, asio::use_awaitable);
    const TimePoint now = Clock::now();
    bool changed = false;
    for (const Unanswered& connection : driver_->take_unanswered()) {
      metrics_.unanswered.Increment();
      // In a flood the first few say enough.
      if (slice_passed(now) || !programmer_.note(connection, now)) continue;
      changed = true;
      metrics_.ejections.Increment();
      spdlog::info("lb: {} does not answer; {} goes without it for a while",
                   to_string(connection.backend), to_string(connection.vip));
    }
    if (!changed) continue;
    work(now);
    wake_.cancel();  // for the end of its rest
  }
}

void Balancer::Impl::on_tick() {
  const TimePoint now = Clock::now();
  bool due = programmer_.advance(now);
  if (trust_due_ && now >= *trust_due_) {
    trust_due_.reset();
    due = programmer_.trust() || due;
  }
  if (due) work(now);
  if (routes_due_ && now >= *routes_due_) publish_routes();
  if (forward_due_ && now >= *forward_due_) keep_forward(true);
  if (reading_) return;
  if (read_wanted_ && now >= not_before_) {
    start_read(true);
  } else if (now - last_reconcile_ >= options_.reconcile_interval) {
    programmer_.retry_quarantined();
    start_read(!programmer_.knows_kernel());
  } else if (counters_wanted_ && now - last_reconcile_ >= kCounterAge) {
    counters_wanted_ = false;
    start_read(false);
  }
}

asio::awaitable<void> Balancer::Impl::tick() {
  for (;;) {
    on_tick();
    TimePoint next = last_reconcile_ + options_.reconcile_interval;
    if (counters_wanted_) next = std::min<TimePoint>(next, last_reconcile_ + kCounterAge);
    if (const auto due = programmer_.table().next()) next = std::min(next, *due);
    if (routes_due_) next = std::min(next, *routes_due_);
    if (trust_due_) next = std::min(next, *trust_due_);
    next = std::max<TimePoint>(next, Clock::now() + kFirstBackoff);
    if (forward_due_ && !forwarding_) next = std::min(next, std::max(*forward_due_, Clock::now()));
    if (read_wanted_ && !reading_) next = std::min(next, std::max(not_before_, Clock::now()));
    wake_.expires_at(next);
    boost::system::error_code woken;  // or cancelled, which the next co_await notices
    co_await wake_.async_wait(asio::redirect_error(asio::use_awaitable, woken));
  }
}

asio::awaitable<void> Balancer::Impl::run() {
  using Operation = decltype(asio::co_spawn(control_, tick(), asio::deferred));
  std::vector<Operation> all;
  all.push_back(asio::co_spawn(control_, tick(), asio::deferred));
  if (driver_->monitor_fd() >= 0) all.push_back(asio::co_spawn(control_, watch(), asio::deferred));
  if (driver_->unanswered_fd() >= 0) {
    all.push_back(asio::co_spawn(control_, watch_unanswered(), asio::deferred));
  }
  const auto [order, ended] =
      co_await asio::experimental::make_parallel_group(std::move(all))
          .async_wait(asio::experimental::wait_for_one{}, asio::use_awaitable);
  if (ended[order[0]]) std::rethrow_exception(ended[order[0]]);
}

}  // namespace muster::lb
