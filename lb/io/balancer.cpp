#include "lb/io/balancer.hpp"

#include <algorithm>
#include <cerrno>
#include <deque>
#include <spdlog/spdlog.h>
#include <unistd.h>
#include <utility>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/deferred.hpp>
#include <boost/asio/experimental/parallel_group.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/thread_pool.hpp>
#include <boost/asio/use_awaitable.hpp>

#include "base/io/log_once.hpp"
#include "lb/io/balancer_metrics.hpp"
#include "lb/io/connections.hpp"
#include "lb/io/driver_choice.hpp"
#include "lb/io/limits.hpp"
#include "lb/io/programmer.hpp"

namespace muster::lb {
namespace {

namespace asio = boost::asio;

/// How long apply() and each following step may hold the control thread. A step that has begun
/// takes some 10 ms more at worst.
constexpr Duration kSlice{8};
/// Task changes taken in at once; some 5 ms.
constexpr std::size_t kSliceChanges = 2000;
/// Changes that may wait their turn. Beyond, they are taken in at once: a pause is better than
/// memory without end.
constexpr std::size_t kMaxWaiting = 1'000'000;
constexpr Duration kFirstBackoff{100};
constexpr Duration kMaxBackoff{10'000};
/// A route is refused while its source address is not there, or not yet tried for duplicates.
constexpr Duration kFirstRouteRetry{250};
constexpr Duration kMaxRouteRetry{4'000};
/// Reads after foreign changes, should somebody change things all the time.
constexpr Duration kForeignPause{1000};
/// How often the counters are read for somebody who looks at them.
constexpr Duration kCounterAge{10'000};

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

ClusterDelta slice_of(const ClusterDelta& delta, std::size_t from) {
  ClusterDelta slice;
  const std::size_t to = std::min(delta.tasks.size(), from + kSliceChanges);
  slice.tasks.assign(delta.tasks.begin() + static_cast<std::ptrdiff_t>(from),
                     delta.tasks.begin() + static_cast<std::ptrdiff_t>(to));
  if (from == 0) {
    slice.agents = delta.agents;
    slice.vips = delta.vips;
    slice.former_vips = delta.former_vips;
  }
  // Complete only with its last part: until then there is no telling what to prune.
  slice.complete = delta.complete && to == delta.tasks.size();
  return slice;
}

}  // namespace

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
  void apply(const ClusterDelta& delta);
  asio::awaitable<void> run();
  std::vector<VipStatus> vips();
  Status status() const;
  std::shared_ptr<ConnectionMetrics> connections() const { return connections_; }

 private:
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
  LogOnce log_;
  std::string last_error_;

  std::deque<ClusterDelta> waiting_;  // parts of deltas, in order
  std::size_t waiting_changes_ = 0;
  bool work_posted_ = false;
  std::optional<TimePoint> change_began_;  // first change not in the kernel yet
  bool routes_published_ = false;
  bool retiring_ = false;  // another driver's things are being looked at
  bool retired_once_ = false;

  /// Goes up with every write; a read that began before one tells nothing about now.
  std::uint64_t epoch_ = 0;
  bool reading_ = false;
  bool exclusive_ = false;  // nothing is written before the read is done
  bool read_wanted_ = false;
  TimePoint not_before_{};  // for the next read that is wanted
  Duration backoff_{kFirstBackoff};
  Duration route_backoff_{kFirstRouteRetry};
  std::optional<TimePoint> routes_due_;  // again
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

Result<void> Balancer::Impl::start() {
  DriverConfig config{.table = options_.table,
                      .range_v4 = {},
                      .range_v6 = {},
                      .policy = options_.policy,
                      .scheduler = options_.ipvs_scheduler,
                      .drain = options_.ipvs_drain,
                      .bpf_cgroup = options_.bpf_cgroup};
  for (const auto& [text, range] : {std::pair{&options_.vip_range_v4, &config.range_v4},
                                    std::pair{&options_.vip_range_v6, &config.range_v6}}) {
    if (text->empty()) continue;
    *range = Prefix::parse(*text);
    const Family family = range == &config.range_v4 ? Family::v4 : Family::v6;
    if (*range && (*range)->address.family() == family) continue;
    last_error_ = "\"" + *text + "\" is not a range such as 11.0.0.0/8";
    return Errc::bad_range;
  }
  auto opened = driver_->open(config);
  if (!opened) {
    last_error_ = opened.error().message() + ": " + driver_->detail();
    return opened.error();
  }
  capabilities_ = *opened;
  if (!capabilities_.passed_over.empty()) {
    log_.warn("lb: driver " + capabilities_.driver + ", because " + capabilities_.passed_over);
  }
  if (!capabilities_.syn_failover) {
    log_.warn("lb: no SYN failover: " + capabilities_.syn_failover_missing);
  }
  if (!capabilities_.ejection_missing.empty()) {
    log_.warn("lb: backends that do not answer are not noticed: " + capabilities_.ejection_missing);
  }
  sources_ = driver_->find_sources();
  if (options_.node_v4) sources_.v4 = options_.node_v4;
  if (options_.node_v6) sources_.v6 = options_.node_v6;
  std::vector<IpAddress> node;
  if (sources_.v4) node.push_back(*sources_.v4);
  if (sources_.v6) node.push_back(*sources_.v6);
  programmer_.table().set_node(std::move(node));

  auto state = driver_->read();
  if (!state) {
    last_error_ = state.error().message() + ": " + driver_->detail();
    return state.error();
  }
  const bool absent = state->schema == KernelState::Schema::absent;
  publish_counts(counter_.update(*state));
  programmer_.adopt(std::move(*state));
  last_reconcile_ = Clock::now();
  // An empty table serves nobody yet; building it shows whether the kernel can.
  if (absent && programmer_.step() == Programmer::Outcome::must_read) {
    last_error_ = programmer_.last_error();
    return Errc::missing_feature;
  }
  export_state();
  return {};
}

void Balancer::Impl::take(const ClusterDelta& delta) {
  programmer_.take(delta);
  for (const Problem& problem : programmer_.table().take_problems()) {
    metrics_.error(problem.kind);
    log_.warn("lb: " + problem.where + ": " + problem.what);
  }
}

void Balancer::Impl::apply(const ClusterDelta& delta) {
  const TimePoint began = Clock::now();
  if (!change_began_) change_began_ = began;
  const std::size_t changes = delta.tasks.size();
  const bool fits = waiting_changes_ + changes <= kMaxWaiting;
  std::size_t from = 0;
  if (waiting_.empty()) {
    if (changes <= kSliceChanges) {
      take(delta);
    } else {
      take(slice_of(delta, 0));
    }
    from = kSliceChanges;
  }
  for (; from < changes || (from == 0 && !waiting_.empty()); from += kSliceChanges) {
    waiting_.push_back(slice_of(delta, from));
    waiting_changes_ += waiting_.back().tasks.size();
  }
  while (!fits && !waiting_.empty()) {
    waiting_changes_ -= waiting_.front().tasks.size();
    take(waiting_.front());
    waiting_.pop_front();
  }
  work(began);
}

/// Goes on for a slice of time, and posts the rest.
void Balancer::Impl::work(TimePoint since) {
  for (;;) {
    if (exclusive_ || !programmer_.knows_kernel()) break;
    ++epoch_;
    const auto outcome = programmer_.step();
    if (outcome == Programmer::Outcome::must_read) {
      failed("kernel");
      break;
    }
    if (outcome == Programmer::Outcome::idle) {
      if (waiting_.empty()) break;
      waiting_changes_ -= waiting_.front().tasks.size();
      take(waiting_.front());
      waiting_.pop_front();
    }
    if (slice_passed(since)) {
      work_later();
      return;
    }
  }
  if (!exclusive_ && programmer_.serving()) settle();
  export_state();
}

void Balancer::Impl::work_later() {
  if (work_posted_) return;
  work_posted_ = true;
  asio::post(control_, [weak = weak_from_this()] {
    const auto self = weak.lock();
    if (!self) return;
    self->work_posted_ = false;
    self->work(Clock::now());
  });
}

/// All that was wanted is in the kernel.
void Balancer::Impl::settle() {
  backoff_ = kFirstBackoff;
  if (change_began_) {
    const std::chrono::duration<double> took = Clock::now() - *change_began_;
    metrics_.programming.Observe(took.count());
    change_began_.reset();
    spdlog::debug("lb: the kernel has every change");
  }
  if (!routes_published_) publish_routes();
  if (!retired_once_) retire_others();
  for (auto& [vip, backends] : programmer_.take_udp_changes()) {
    pending_.udp.insert_or_assign(vip, std::move(backends));
  }
  for (auto& [vip, backends] : programmer_.take_affinity_changes()) {
    pending_.clients.insert_or_assign(vip, std::move(backends));
  }
  flush();
}

void Balancer::Impl::failed(const std::string& kind) {
  metrics_.error(kind);
  last_error_ = programmer_.last_error();
  log_.warn("lb: the kernel refused a change: " + last_error_);
  read_later();
}

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
    // second with 10,000 Vips. If it was somebody else's, watch() has asked for a read.
    if (!exclusive) start_read(true);
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
}

asio::awaitable<void> Balancer::Impl::watch() {
  // A descriptor of its own: Asio closes what it is given.
  asio::posix::stream_descriptor descriptor{control_, ::dup(driver_->monitor_fd())};
  for (;;) {
    co_await descriptor.async_wait(asio::posix::stream_descriptor::wait_read, asio::use_awaitable);
    if (!driver_->drain_monitor()) continue;
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
  if (programmer_.advance(now)) work(now);
  if (routes_due_ && now >= *routes_due_) publish_routes();
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
    if (const auto rested = programmer_.table().outliers().next()) next = std::min(next, *rested);
    if (routes_due_) next = std::min(next, *routes_due_);
    next = std::max<TimePoint>(next, Clock::now() + kFirstBackoff);
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

std::vector<Balancer::VipStatus> Balancer::Impl::vips() {
  if (!std::exchange(counters_wanted_, true)) wake_.cancel();
  std::vector<VipStatus> all;
  for (const Vip& vip : programmer_.table().vips()) {
    const auto service = programmer_.table().desired(vip);
    VipStatus entry{.name = service->name,
                    .vip = vip,
                    .backends = {},
                    .quarantined = programmer_.is_quarantined(vip)};
    const auto counts = totals_ ? totals_->find(vip) : ConnectionTotals::const_iterator{};
    const bool counted = totals_ && counts != totals_->end();
    const auto resting = programmer_.table().outliers().resting(vip);
    for (const Backend& backend : service->backends) {
      const auto count =
          counted ? counts->second.find(backend.endpoint) : decltype(counts->second.end()){};
      const bool known = counted && count != counts->second.end();
      entry.backends.push_back({backend.endpoint, backend.weight, known ? count->second : 0,
                                resting.contains(backend.endpoint)});
    }
    all.push_back(std::move(entry));
  }
  return all;
}

Balancer::Status Balancer::Impl::status() const {
  const bool healthy = programmer_.knows_kernel() && programmer_.quarantined() == 0;
  std::string error = programmer_.last_error().empty() ? last_error_ : programmer_.last_error();
  return {.driver = capabilities_.driver,
          .healthy = healthy,
          .last_error = healthy ? std::string{} : std::move(error),
          .applied_vips = programmer_.applied().size(),
          .applied_backends = programmer_.applied_backends(),
          .last_reconcile = last_reconcile_};
}

Balancer::Balancer(asio::any_io_executor control, std::unique_ptr<Driver> driver,
                   BalancerOptions options, prometheus::Registry& registry)
    : impl_{std::make_shared<Impl>(control, std::move(driver), std::move(options), registry)} {}
Balancer::~Balancer() = default;

Result<void> Balancer::start() {
  return impl_->start();
}
void Balancer::apply(const ClusterDelta& delta) {
  impl_->apply(delta);
}
asio::awaitable<void> Balancer::run() {
  return impl_->run();
}
std::vector<Balancer::VipStatus> Balancer::vips() const {
  return impl_->vips();
}
Balancer::Status Balancer::status() const {
  return impl_->status();
}
std::shared_ptr<prometheus::Collectable> Balancer::connections() const {
  return impl_->connections();
}

Result<std::vector<std::string>> cleanup(const std::string& table) {
  auto driver = make_driver("auto", table);
  if (!driver) return driver.error();
  return (*driver)->cleanup();
}

}  // namespace muster::lb
