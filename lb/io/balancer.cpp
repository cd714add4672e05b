#include "lb/io/balancer.hpp"

#include <algorithm>
#include <spdlog/spdlog.h>
#include <utility>

#include "base/io/bulk.hpp"
#include "lb/io/balancer_impl.hpp"
#include "lb/io/driver_choice.hpp"

namespace muster::lb {
namespace {

/// Task changes taken in at once; some 5 ms.
constexpr std::size_t kSliceChanges = 2000;
/// Changes that may wait their turn. Beyond, they are taken in at once: a pause is better than
/// memory without end.
constexpr std::size_t kMaxWaiting = 1'000'000;

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
  range_v4_ = config.range_v4;
  range_v6_ = config.range_v6;
  auto opened = driver_->open(config);
  if (!opened) {
    last_error_ = driver_->detail();
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
    last_error_ = driver_->detail();
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
  programmer_.take(delta, Clock::now());
  for (const Problem& problem : programmer_.table().take_problems()) {
    metrics_.error(problem.kind);
    log_.warn("lb: " + problem.where + ": " + problem.what);
  }
}

void Balancer::Impl::restore(const ClusterDelta& delta) {
  take(delta);
  programmer_.doubt();
  trust_due_ = Clock::now() + kTrustDisk;
  work(Clock::now());
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
  if (!work_posted_) work(began);
  // Somebody starts slowly, and will be due for more sooner than anything else is.
  const auto due = programmer_.table().next();
  if (due && *due < wake_.expiry()) wake_.cancel();
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
  post_bulk(control_, [weak = weak_from_this()] {
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
  keep_forward(false);
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

Balancer::Status Balancer::Impl::status() const {
  const bool healthy = programmer_.knows_kernel() && programmer_.quarantined() == 0;
  std::string error = programmer_.last_error().empty() ? last_error_ : programmer_.last_error();
  return {.driver = capabilities_.driver,
          .healthy = healthy,
          .last_error = healthy ? std::string{} : std::move(error),
          .applied_vips = programmer_.applied().size(),
          .applied_backends = programmer_.applied_backends(),
          .last_reconcile = last_reconcile_,
          .dropping = dropping_};
}

Balancer::Balancer(asio::any_io_executor control, std::unique_ptr<Driver> driver,
                   BalancerOptions options, prometheus::Registry& registry)
    : impl_{std::make_shared<Impl>(control, std::move(driver), std::move(options), registry)} {}
Balancer::~Balancer() = default;

Result<void> Balancer::start() {
  return impl_->start();
}
void Balancer::restore(const ClusterDelta& delta) {
  impl_->restore(delta);
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
