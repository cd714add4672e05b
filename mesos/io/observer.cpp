#include "mesos/io/observer.hpp"

#include <algorithm>
#include <chrono>

#include <boost/asio/post.hpp>
#include <boost/asio/thread_pool.hpp>

#include "mesos/io/observer_impl.hpp"

// Whom to ask and when, and what is learnt.

// GCC 12 does not see that a coroutine frame's new and delete are a pair.
#pragma GCC diagnostic ignored "-Wmismatched-new-delete"

namespace muster::mesos {
namespace {

// A master that subscribes us and hangs up at once must not be asked for its state four times a
// second.
constexpr Duration kStable{10'000};
constexpr Duration kStreamRetry{5 * 60'000};  // after polling because streaming was refused
constexpr Duration kResolveLimit{5'000};
constexpr Duration kResolveRetry{60'000};
// A starting master answers 404 to everything for some milliseconds.
constexpr int kNotFoundBeforePolling = 3;

}  // namespace

asio::awaitable<void> Observer::Impl::run() {
  if (detector_) {
    co_await either(either(watch_masters(), resolve_names()), watch_zookeeper());
  } else {
    co_await either(watch_masters(), resolve_names());
  }
}

/// Only while a master is to be asked: of many nodes one or two are.
asio::awaitable<void> Observer::Impl::watch_zookeeper() {
  for (;;) {
    while (!active_ && !asking_) co_await change_.async_wait(kToken);
    co_await either(detector_->run(), until_inactive());
    metrics_.zookeeper_connected.Set(0);
  }
}

asio::awaitable<void> Observer::Impl::until_inactive() {
  while (active_ || asking_) co_await change_.async_wait(kToken);
}

void Observer::Impl::follow_zookeeper() {
  ZkOptions options;
  options.url = *options_.zookeeper;
  options.connect_timeout = options_.connect_timeout;
  options.session_timeout = options_.zookeeper_timeout;
  options.backoff_min = options_.backoff_min;
  options.backoff_max = std::min(options_.backoff_max, options.backoff_max);
  options.seed = options_.seed;
  detector_.emplace(
      control_, options,
      ZkDetector::Events{
          [this](std::vector<MasterInfo> masters) { take_masters(std::move(masters)); },
          [this](bool connected) { metrics_.zookeeper_connected.Set(connected ? 1 : 0); },
          [this](const std::string& error) {
            metrics_.count_problem("zookeeper", error);
            if (targets_.list().empty()) status_.last_error = error;
          }});
}

/// Another leader is asked at once, and the former one no more. While nobody leads, the former
/// one is: it knows best that it has ended.
void Observer::Impl::take_masters(std::vector<MasterInfo> masters) {
  if (masters.empty()) {
    metrics_.count_problem("zookeeper", "no master leads, says ZooKeeper");
    if (targets_.list().empty()) status_.last_error = "no master leads, says ZooKeeper";
    return;
  }
  std::vector<MasterUrl> list;
  master_addresses_.clear();
  for (const MasterInfo& info : masters) {
    const bool by_name = options_.zookeeper_https && !info.hostname.empty();  // as certificates are
    const MasterUrl url{options_.zookeeper_https,
                        by_name ? info.hostname : info.endpoint.address.to_string(),
                        info.endpoint.port};
    if (std::find(list.begin(), list.end(), url) != list.end()) continue;
    list.push_back(url);
    master_addresses_.insert_or_assign(url.host, std::vector{info.endpoint.address});
  }
  const std::vector<MasterUrl> before = targets_.list();
  if (!before.empty() && before.front() == list.front()) {
    targets_.extend(std::move(list));
  } else {
    targets_.replace(std::move(list));
    restart();
  }
  names_are_new_ = true;
  resolve_now_.cancel();
}

asio::awaitable<void> Observer::Impl::watch_masters() {
  for (;;) {
    restart_ = false;
    if (!active_ || targets_.list().empty()) {
      show(active_ ? "waiting" : "idle", {});
      if (!active_) status_.last_error.clear();
      co_await until_changed();
      continue;
    }
    const TimePoint begun = Clock::now();
    Ending ending;
    co_await either(visit_next(ending), until_changed());
    metrics_.subscribed.Set(0);
    metrics_.reconnects.Increment();
    if (!active_ || restart_) continue;
    if (!ending.error.empty()) fail(ending.error);
    const bool stable = ending.learnt && Clock::now() - begun >= kStable;
    if (stable) rounds_ = 0;
    // The list is gone through without a pause: one of them leads.
    const bool round_is_over = targets_.failed(ending.learnt);
    if (!round_is_over && !ending.learnt) continue;
    show("waiting", {});
    co_await either(sleep_for(backoff()), until_changed());
    if (!stable) ++rounds_;
  }
}

asio::awaitable<void> Observer::Impl::visit_next(Ending& ending) {
  const Target target = targets_.next();
  show("connecting", to_string(target.url));
  ending = co_await visit(target);
}

asio::awaitable<void> Observer::Impl::until_changed() {
  const bool active = active_;
  // Something else may have cancelled the wait, or ended it before it began.
  while (active == active_ && !restart_) co_await change_.async_wait(kToken);
}

/// Exponential from backoff_min to backoff_max, then anywhere in its upper half.
Duration Observer::Impl::backoff() {
  const auto doublings = std::min<std::size_t>(rounds_, 16);
  const auto full = std::min(options_.backoff_max.count(),
                             options_.backoff_min.count() * (std::int64_t{1} << doublings));
  const auto half = static_cast<std::uint64_t>(std::max<std::int64_t>(full / 2, 0));
  return Duration{static_cast<std::int64_t>(half + rng_.below(half + 1))};
}

asio::awaitable<Ending> Observer::Impl::visit(Target target) {
  if (options_.mode == ObserverOptions::Mode::poll) {
    co_return co_await poll(std::move(target), std::nullopt);
  }
  HttpRequest subscribe;
  subscribe.post = true;
  subscribe.target = "/api/v1";
  subscribe.body = R"({"type":"SUBSCRIBE"})";
  auto opened = co_await open(target, std::move(subscribe));
  if (!opened) co_return Ending{.error = opened.error()};
  const unsigned status = opened->head.status;
  const Target found = opened->target;
  if (status == 200) {
    not_found_ = 0;
    co_return co_await stream(std::move(*opened));
  }
  if (status == 404 && ++not_found_ < kNotFoundBeforePolling) {
    co_return Ending{.error = sentence(found.url, "404: not ready, or no Mesos master")};
  }
  if (!refuses_streaming(status)) {
    std::string error = co_await refusal(std::move(*opened));
    co_return Ending{.error = std::move(error)};
  }
  not_found_ = 0;
  metrics_.count_problem("streaming_refused",
                         sentence(found.url, "SUBSCRIBE was refused with " +
                                                 std::to_string(status) + "; polling /state"));
  opened = std::string{};  // closes the connection
  co_return co_await poll(found, Clock::now() + kStreamRetry);
}

void Observer::Impl::take_snapshot(Snapshot& snapshot, std::size_t octets) {
  metrics_.count(snapshot.problems);
  metrics_.snapshot_bytes.Set(static_cast<double>(octets));
  const TimePoint now = Clock::now();
  Observation observation = state_.take(snapshot, now);
  masters_ = all_masters(leader_);
  observation.masters = masters_;
  status_.last_snapshot = now;
  status_.last_error.clear();
  publish(std::move(observation));
  names_are_new_ = true;
  resolve_now_.cancel();
}

/// The former tables of a large cluster take long to destroy.
void Observer::Impl::retire(Snapshot snapshot) {
  asio::post(workers_, [former = std::move(snapshot)]() mutable { former = {}; });
}

void Observer::Impl::publish(Observation observation) {
  status_.tasks = state_.tasks();
  status_.agents = state_.agents();
  status_.frameworks = state_.frameworks();
  metrics_.tasks.Set(static_cast<double>(state_.tasks()));
  metrics_.agents.Set(static_cast<double>(state_.agents()));
  metrics_.frameworks.Set(static_cast<double>(state_.frameworks()));
  metrics_.waiting_tasks.Set(static_cast<double>(state_.waiting()));
  on_observation_(std::move(observation));
}

void Observer::Impl::note_arrival() {
  status_.last_event = Clock::now();
  const auto unix_time = std::chrono::system_clock::now().time_since_epoch();
  metrics_.last_event_timestamp_seconds.Set(std::chrono::duration<double>(unix_time).count());
}

/// The leader and all that are configured, by endpoint, each once.
std::vector<Master> Observer::Impl::all_masters(std::optional<Master> leader) const {
  std::map<Endpoint, Master> out;
  for (const MasterUrl& url : targets_.list()) {
    std::vector<IpAddress> addresses;
    if (const auto literal = IpAddress::parse(url.host)) {
      addresses.push_back(*literal);
    } else if (const auto known = master_addresses_.find(url.host);
               known != master_addresses_.end()) {
      addresses = known->second;
    }
    for (const IpAddress& address : addresses) {
      const Endpoint endpoint{address, url.port};
      out.emplace(endpoint, Master{endpoint, url.host, false});
    }
  }
  if (leader) out.insert_or_assign(leader->endpoint, *leader);
  std::vector<Master> masters;
  masters.reserve(out.size());
  for (auto& [endpoint, master] : out) masters.push_back(std::move(master));
  return masters;
}

/// Finds the addresses of agents and masters that are known by name only, and says them later.
asio::awaitable<void> Observer::Impl::resolve_names() {
  for (;;) {
    resolve_now_.expires_after(kResolveRetry);
    if (!names_are_new_) co_await resolve_now_.async_wait(kToken);
    names_are_new_ = false;
    for (const std::string& host : state_.unresolved_hosts()) {
      const auto addresses = co_await resolver_.resolve(host, kResolveLimit);
      if (!addresses) {
        metrics_.count_problem("address", "agent host " + in_quotes(host) +
                                              " has no address: " + addresses.error().message());
        continue;
      }
      Observation observation = state_.resolved(host, *addresses);
      if (!is_empty(observation)) publish(std::move(observation));
    }
    const std::vector<MasterUrl> masters_now = targets_.list();  // it may change meanwhile
    for (const MasterUrl& url : masters_now) {
      if (options_.zookeeper || IpAddress::parse(url.host)) continue;
      const auto addresses = co_await resolver_.resolve(url.host, kResolveLimit);
      if (addresses) master_addresses_.insert_or_assign(url.host, *addresses);
    }
    auto masters = all_masters(leader_);
    if (status_.last_snapshot == TimePoint{} || masters == masters_) continue;
    masters_ = masters;
    Observation observation;
    observation.recovering = state_.recovering();
    observation.masters = std::move(masters);
    publish(std::move(observation));
  }
}

void Observer::Impl::show(std::string_view state, const std::string& master) {
  status_.state = state;
  status_.master = master.empty() ? master : master.substr(master.find("//") + 2);
}

void Observer::Impl::fail(const std::string& error) {
  status_.last_error = error;
  metrics_.count_problem("master", error);
}

Observer::Observer(asio::any_io_executor control, asio::thread_pool& workers,
                   ObserverOptions options, prometheus::Registry& registry,
                   OnObservation on_observation)
    : impl_{std::make_unique<Impl>(std::move(control), workers, std::move(options), registry,
                                   std::move(on_observation))} {}
Observer::~Observer() = default;

asio::awaitable<void> Observer::run() {
  return impl_->run();
}
asio::awaitable<Result<std::vector<IpAddress>, std::string>> Observer::agents() {
  return impl_->agents();
}
void Observer::set_active(bool active) {
  impl_->set_active(active);
}
void Observer::restart() {
  impl_->restart();
}
const Observer::Status& Observer::status() const {
  return impl_->status();
}

}  // namespace muster::mesos
