#include "lb/io/balancer.hpp"

#include <algorithm>
#include <spdlog/spdlog.h>
#include <utility>

#include <boost/asio/post.hpp>

#include "base/io/bulk.hpp"
#include "lb/io/balancer_impl.hpp"
#include "lb/io/driver_choice.hpp"
#include "lb/io/nft_driver.hpp"

namespace muster::lb {
namespace {

/// Task changes taken in at once; some 2 ms.
constexpr std::size_t kSliceChanges = 500;
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

/// What cannot be looked into is left: there need be nothing.
void clean_namespaces(const std::string& table, const std::vector<std::string>& folders,
                      const std::string& helper, std::vector<std::string>& removed) {
  if (!netns::FolderWatch{folders}.something_there()) return;
  const auto gate = netns::make_gate(folders, helper);
  const auto found = gate->look();
  if (!found) return;
  for (const auto& [id, request] : netns::choose(*found, {}).serve) {
    auto opened = gate->open(request);
    if (!opened || opened->verdict != netns::Verdict::good) continue;
    const auto driver = make_nft_driver(table, netns::make_source(std::move(opened->sockets)));
    const auto gone = driver->cleanup();
    if (!gone) continue;
    for (const std::string& what : *gone) removed.push_back(request.name + ": " + what);
  }
}

}  // namespace

Balancer::Impl::Impl(asio::any_io_executor control, std::unique_ptr<Driver> driver,
                     const BalancerOptions& options, prometheus::Registry& registry)
    : control_{control},
      shared_{.control = control,
              .options = options,
              .metrics = BalancerMetrics{registry},
              .table = VipTable{options.policy}},
      registry_{registry},
      limits_{registry},
      wake_{control},
      host_{std::make_shared<Host>(*this, std::move(driver))} {}

Result<DriverConfig> Balancer::Impl::driver_config() {
  const BalancerOptions& options = shared_.options;
  DriverConfig config{.table = options.table,
                      .range_v4 = {},
                      .range_v6 = {},
                      .policy = options.policy,
                      .scheduler = options.ipvs_scheduler,
                      .drain = options.ipvs_drain,
                      .bpf_cgroup = options.bpf_cgroup};
  for (const auto& [text, range] : {std::pair{&options.vip_range_v4, &config.range_v4},
                                    std::pair{&options.vip_range_v6, &config.range_v6}}) {
    if (text->empty()) continue;
    *range = Prefix::parse(*text);
    const Family family = range == &config.range_v4 ? Family::v4 : Family::v6;
    if (*range && (*range)->address.family() == family) continue;
    host_->keep_error("\"" + *text + "\" is not a range such as 11.0.0.0/8");
    return Errc::bad_range;
  }
  return config;
}

Result<Capabilities> Balancer::Impl::open(const DriverConfig& config) {
  auto opened = host_->driver().open(config);
  if (!opened) return opened;
  if (!opened->passed_over.empty()) {
    shared_.log.warn("lb: driver " + opened->driver + ", because " + opened->passed_over);
  }
  if (!opened->syn_failover) {
    shared_.log.warn("lb: no SYN failover: " + opened->syn_failover_missing);
  }
  if (!opened->ejection_missing.empty()) {
    shared_.log.warn("lb: backends that do not answer are not noticed: " +
                     opened->ejection_missing);
  }
  return opened;
}

Result<void> Balancer::Impl::start() {
  const auto config = driver_config();
  if (!config) return config.error();
  shared_.range_v4 = config->range_v4;
  shared_.range_v6 = config->range_v6;
  auto opened = open(*config);
  if (!opened) {
    host_->keep_error(host_->driver().detail());
    return opened.error();
  }
  capabilities_ = std::move(*opened);
  const RouteSources sources = host_->find_sources();
  std::vector<IpAddress> node;
  if (sources.v4) node.push_back(*sources.v4);
  if (sources.v6) node.push_back(*sources.v6);
  shared_.table.set_node(std::move(node));

  auto state = host_->driver().read();
  if (!state) {
    host_->keep_error(host_->driver().detail());
    return state.error();
  }
  const bool absent = state->schema == KernelState::Schema::absent;
  publish_counts(counter_.update(*state));
  host_->begin(std::move(*state));
  // An empty table serves nobody yet; building it shows whether the kernel can.
  if (absent && host_->programmer().step() == Programmer::Outcome::must_read) {
    return Errc::missing_feature;
  }
  export_state();
  if (!shared_.options.namespace_folders.empty()) open_namespaces(*config);
  return {};
}

void Balancer::Impl::open_namespaces(const DriverConfig& config) {
  namespaces_ = std::make_shared<Namespaces>(
      shared_, config, registry_,
      Namespaces::Hooks{
          .wake = [this] { wake_.cancel(); },
          .host_busy = [this] { return work_posted_; },
          .unanswered = [this](const std::vector<Unanswered>& connections) { note(connections); },
          .last_look = [this] { return connections_->last_look(); },
          .counted =
              [this](const ConnectionTotals& growth) {
                asio::post(worker_, [this, growth] { counter_.add(growth); });
              }});
}

void Balancer::Impl::take(const ClusterDelta& delta) {
  const std::vector<Vip> touched = shared_.table.apply(delta, Clock::now());
  shared_.complete = shared_.complete || delta.complete;
  host_->programmer().take(touched, delta.complete);
  if (namespaces_) namespaces_->take(touched, delta.complete);
  for (const Problem& problem : shared_.table.take_problems()) {
    shared_.metrics.error(problem.kind);
    shared_.log.warn("lb: " + problem.where + ": " + problem.what);
  }
}

void Balancer::Impl::restore(const ClusterDelta& delta) {
  take(delta);
  host_->programmer().doubt();
  if (namespaces_) namespaces_->doubt();
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
  const auto due = shared_.table.next();
  if (due && *due < wake_.expiry()) wake_.cancel();
}

/// Goes on for a slice of time, and posts the rest.
void Balancer::Impl::work(TimePoint since) {
  for (;;) {
    const Kernel::Turn turn = host_->step();
    if (turn == Kernel::Turn::blocked) break;
    if (turn == Kernel::Turn::idle) {
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
  if (host_->may_settle()) settle();
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
  if (change_began_) {
    const std::chrono::duration<double> took = Clock::now() - *change_began_;
    shared_.metrics.programming.Observe(took.count());
    change_began_.reset();
    spdlog::debug("lb: the kernel has every change");
  }
  host_->settle();
}

void Balancer::Impl::Host::on_settled() {
  if (!owner_.retired_once_) owner_.retire_others();
  owner_.keep_forward(false);
}

Balancer::Status Balancer::Impl::status() const {
  const bool healthy = host_->healthy();
  const Programmer& programmer = host_->programmer();
  return {.driver = capabilities_.driver,
          .healthy = healthy,
          .last_error = healthy ? std::string{} : host_->last_error(),
          .applied_vips = programmer.applied().size(),
          .applied_backends = programmer.applied_backends(),
          .last_reconcile = host_->last_reconcile(),
          .dropping = dropping_,
          .namespaces = namespaces_ ? std::optional{namespaces_->status()} : std::nullopt};
}

Balancer::Balancer(asio::any_io_executor control, std::unique_ptr<Driver> driver,
                   const BalancerOptions& options, prometheus::Registry& registry)
    : impl_{std::make_shared<Impl>(control, std::move(driver), options, registry)} {}
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

Result<std::vector<std::string>> cleanup(const std::string& table,
                                         const std::vector<std::string>& namespace_folders,
                                         const std::string& namespace_helper) {
  auto driver = make_driver("auto", table);
  if (!driver) return driver.error();
  auto removed = (*driver)->cleanup();
  if (!removed) return removed;
  clean_namespaces(table, namespace_folders, namespace_helper, *removed);
  return removed;
}

}  // namespace muster::lb
