#include "lb/io/kernel.hpp"

#include <algorithm>
#include <utility>

#include <boost/asio/post.hpp>

namespace muster::lb {
namespace {

constexpr Duration kMaxBackoff{10'000};
constexpr Duration kMaxRouteRetry{4'000};
/// Reads after foreign changes, should somebody change things all the time.
constexpr Duration kForeignPause{1000};
constexpr Duration kMaxForeignPause{16'000};

}  // namespace

Kernel::Kernel(Shared& shared, asio::thread_pool& worker, std::unique_ptr<Driver> driver,
               Traits traits)
    : shared_{shared},
      worker_{worker},
      driver_{std::move(driver)},
      traits_{std::move(traits)},
      programmer_{*driver_,
                  shared.table,
                  {.step_commands = traits_.step_commands, .replace_in_steps = traits_.in_steps}} {}

std::string Kernel::line(const std::string& what) const {
  return traits_.name.empty() ? "lb: " + what : "lb: namespace " + traits_.name + ": " + what;
}

std::string Kernel::last_error() const {
  return programmer_.last_error().empty() ? last_error_ : programmer_.last_error();
}

RouteSources Kernel::find_sources() {
  sources_ = driver_->find_sources();
  adjust(sources_);
  return sources_;
}

std::unique_ptr<Driver> Kernel::retire() {
  return std::exchange(driver_, nullptr);
}

void Kernel::begin(KernelState state) {
  programmer_.adopt(std::move(state));
  last_reconcile_ = Clock::now();
}

Kernel::Turn Kernel::step() {
  if (exclusive_ || !programmer_.knows_kernel()) return Turn::blocked;
  ++epoch_;
  switch (programmer_.step()) {
    case Programmer::Outcome::must_read:
      failed();
      return Turn::blocked;
    case Programmer::Outcome::more:
      return Turn::more;
    case Programmer::Outcome::idle:
      break;
  }
  return Turn::idle;
}

void Kernel::settle() {
  backoff_ = kFirstBackoff;
  if (!routes_published_) publish_routes();
  on_settled();
  for (auto& [vip, backends] : programmer_.take_udp_changes()) {
    pending_.udp.insert_or_assign(vip, std::move(backends));
  }
  for (auto& [vip, backends] : programmer_.take_affinity_changes()) {
    pending_.clients.insert_or_assign(vip, std::move(backends));
  }
  flush();
}

void Kernel::failed() {
  error("kernel");
  last_error_ = programmer_.last_error();
  shared_.log.warn(line("the kernel refused a change: " + last_error_));
  read_later();
}

/// At once the first time; a table that somebody flushed must not wait.
void Kernel::read_later() {
  read_wanted_ = true;
  not_before_ = Clock::now() + (backoff_ == kFirstBackoff ? Duration{0} : backoff_);
  backoff_ = std::min(backoff_ * 2, kMaxBackoff);
  wake();
}

void Kernel::publish_routes() {
  const auto changed = driver_->publish_routes(sources_);
  if (!changed) {
    error("route");
    last_error_ = "route to the VIP range: " + changed.error().message();
    shared_.log.warn(line(last_error_));
    routes_due_ = Clock::now() + route_backoff_;
    route_backoff_ = std::min(route_backoff_ * 2, kMaxRouteRetry);
    wake();
    return;
  }
  routes_due_.reset();
  const bool waits = traits_.awaits_sources && (!sources_.v4 || !sources_.v6);
  if (waits) {
    routes_due_ = Clock::now() + route_backoff_;
    route_backoff_ = std::min(route_backoff_ * 2, kMaxRouteRetry);
    wake();
  } else {
    route_backoff_ = kFirstRouteRetry;
    if (routes_published_) shared_.metrics.repairs.Increment(static_cast<double>(*changed));
  }
  routes_published_ = true;
}

void Kernel::flush() {
  if (flushing_ || pending_.empty()) return;
  flushing_ = true;
  auto stale = std::make_shared<Stale>(std::exchange(pending_, {}));
  asio::post(worker_,
             [&driver = *driver_, weak = weak_from_this(), control = shared_.control, stale] {
               Flushed flushed;
               if (!stale->udp.empty()) flushed.udp = driver.flush_udp(stale->udp);
               if (!stale->clients.empty()) flushed.clients = driver.forget_clients(stale->clients);
               asio::post(control, [weak, flushed, stale] {
                 if (const auto self = weak.lock()) self->flushed(flushed, *stale);
               });
             });
}

/// What could not be forgotten is tried again with the next change, or when the kernel is compared.
void Kernel::flushed(const Flushed& result, const Stale& stale) {
  if (retired()) return;
  flushing_ = false;
  bool all = true;
  const auto count = [&](const Result<std::size_t>& done, prometheus::Counter& counter,
                         const UdpKeep& tried, UdpKeep& pending) {
    if (done) return counter.Increment(static_cast<double>(*done));
    all = false;
    pending.insert(tried.begin(), tried.end());  // what is newer stays
    error("conntrack");
    shared_.log.warn(line("stale flows could not be forgotten: " + done.error().message()));
  };
  count(result.udp, shared_.metrics.flushed, stale.udp, pending_.udp);
  count(result.clients, shared_.metrics.clients, stale.clients, pending_.clients);
  if (all) flush();
}

void Kernel::start_read(bool exclusive) {
  reading_ = true;
  exclusive_ = exclusive;
  read_wanted_ = false;
  // Who retires meanwhile lives until this is done; its driver goes by way of the same worker.
  asio::post(worker_, [self = shared_from_this(), &driver = *driver_, control = shared_.control,
                       epoch = epoch_, exclusive]() mutable {
    auto result = std::make_shared<ReadResult>();
    result->state = driver.read();
    self->read_beside(*result);
    const std::weak_ptr<Kernel> weak = std::exchange(self, nullptr);
    asio::post(control, [weak, result, epoch, exclusive] {
      const auto kernel = weak.lock();
      if (kernel) kernel->finish_read(std::move(*result), epoch, exclusive);
    });
  });
}

void Kernel::finish_read(ReadResult result, std::uint64_t epoch, bool exclusive) {
  if (retired()) return;
  reading_ = false;
  exclusive_ = false;
  on_read(result);
  if (!result.state) {
    error("read");
    last_error_ = "reading the kernel's table: " + result.state.error().message();
    shared_.log.warn(line(last_error_));
    programmer_.distrust();
    read_later();
    return;
  }
  if (epoch != epoch_) {
    // Something was written meanwhile. Once more, and now hold our writing back: a tenth of a
    // second with 10,000 Vips. If it was somebody else's, foreign_change() has asked for a read,
    // which may have to wait; what came to be wanted during this one does not.
    if (exclusive) {
      work();
    } else {
      start_read(true);
    }
    wake();
    return;
  }
  const std::size_t repairs = programmer_.adopt(std::move(*result.state));
  shared_.metrics.reconciles.Increment();
  shared_.metrics.repairs.Increment(static_cast<double>(repairs));
  last_reconcile_ = Clock::now();
  if (repairs > 0) shared_.log.warn(line("the kernel's table was not as recorded; mending it"));
  on_adopted(result);
  find_sources();
  work();
  if (routes_published_ && programmer_.serving()) {
    publish_routes();
    on_compared();
  }
  wake();
}

void Kernel::foreign_change() {
  shared_.metrics.foreign.Increment();
  shared_.log.warn(line("somebody else changed what is ours; reading it again"));
  ++epoch_;  // what is being read may be half old
  const TimePoint now = Clock::now();
  if (!read_wanted_) {
    const bool again = traits_.tires && now < last_foreign_ + foreign_pause_ * 2;
    foreign_pause_ = again ? std::min(foreign_pause_ * 2, kMaxForeignPause) : kForeignPause;
    not_before_ = std::max<TimePoint>(now, last_foreign_ + foreign_pause_);
  }
  read_wanted_ = true;
  last_foreign_ = not_before_;
  wake();
}

void Kernel::tick(TimePoint now) {
  if (routes_due_ && now >= *routes_due_) {
    if (traits_.awaits_sources) find_sources();
    publish_routes();
  }
  if (reading_) return;
  if (read_wanted_ && now >= not_before_) {
    start_read(true);
  } else if (now - last_reconcile_ >= shared_.options.reconcile_interval) {
    programmer_.retry_quarantined();
    const bool known = programmer_.knows_kernel() && programmer_.quarantined() == 0;
    if (known && traits_.trusts_generation && driver_->untouched()) {
      last_reconcile_ = now;
      work();
      return;
    }
    start_read(!programmer_.knows_kernel());
  } else {
    at_rest(now);
  }
}

TimePoint Kernel::next_due(TimePoint now) const {
  TimePoint next = last_reconcile_ + shared_.options.reconcile_interval;
  if (routes_due_) next = std::min(next, *routes_due_);
  next = std::max<TimePoint>(next, now + kFirstBackoff);
  if (read_wanted_ && !reading_) next = std::min(next, std::max(not_before_, now));
  return next;
}

}  // namespace muster::lb
