#include "dns/io/server.hpp"

#include <algorithm>
#include <chrono>
#include <deque>
#include <fstream>
#include <iterator>
#include <malloc.h>
#include <mutex>
#include <sys/random.h>
#include <utility>

#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <prometheus/counter.h>
#include <prometheus/gauge.h>

#include "base/assert.hpp"
#include "base/io/log_once.hpp"
#include "base/io/snapshot.hpp"
#include "dns/core/catalog.hpp"
#include "dns/core/resolv_conf.hpp"
#include "dns/io/counters.hpp"
#include "dns/io/sockets.hpp"
#include "dns/io/tls_session.hpp"
#include "dns/io/worker.hpp"

namespace muster::dns {
namespace {

// A large change is built in steps, so that what is done shows and stop() need not wait long.
// Publishing what a step touched costs about as much again.
constexpr std::chrono::milliseconds kStagePerStep{50};
constexpr std::chrono::milliseconds kStageUnasked{500};  // before anybody can ask: after a restart
constexpr std::size_t kChangesPerLook = 16;              // between two looks at the clock
// Deltas that wait for a large one; what comes above joins the last of them.
constexpr std::size_t kMaxQueued = 256;

std::uint64_t random_seed() {
  std::uint64_t seed = 0;
  MUSTER_ASSERT(getrandom(&seed, sizeof seed, 0) == static_cast<ssize_t>(sizeof seed));
  return seed;
}

// Grows over restarts, as a serial should (RFC 1912 §2.2), and needs no state to do it.
std::uint32_t serial_now() {
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  return static_cast<std::uint32_t>(std::chrono::duration_cast<std::chrono::seconds>(now).count());
}

CatalogOptions catalog_options(const ServerOptions& options) {
  CatalogOptions out;
  out.domain = options.domain;
  out.ttl_seconds = options.ttl_seconds;
  out.naming = options.naming;
  out.soa = options.soa;
  out.soa_mname = options.soa_mname;
  out.soa_rname = options.soa_rname;
  out.public_addresses = options.public_addresses;
  out.cluster_key = options.cluster_key;
  out.cnames = options.cnames;
  out.hash_seed = random_seed();
  out.first_serial = serial_now();
  if (options.node_address) {
    out.node_addresses = {*options.node_address};
  } else {
    for (const Endpoint& endpoint : options.listen) {
      if (!endpoint.address.is_unspecified()) out.node_addresses.push_back(endpoint.address);
    }
  }
  for (const auto& [zone, upstreams] : options.zone_upstreams) {
    const auto name = Name::parse(zone);
    if (!name) continue;
    std::string text = name->to_string();
    text.pop_back();  // the final dot
    if (!text.empty()) out.forwarded.insert(text);
  }
  return out;
}

bool is_own(const Endpoint& upstream, const std::vector<Endpoint>& own,
            const std::vector<IpAddress>& local) {
  return std::any_of(own.begin(), own.end(), [&](const Endpoint& endpoint) {
    if (endpoint.port != upstream.port) return false;
    if (endpoint.address == upstream.address) return true;
    if (!endpoint.address.is_unspecified() ||
        endpoint.address.family() != upstream.address.family()) {
      return false;
    }
    // All of 127/8 reaches a wildcard socket, not only the address the interface shows.
    return upstream.address.is_loopback() || upstream.address.is_unspecified() ||
           std::find(local.begin(), local.end(), upstream.address) != local.end();
  });
}

Cookies::Secret random_secret() {
  Cookies::Secret secret{};
  MUSTER_ASSERT(getrandom(secret.data(), secret.size(), 0) == static_cast<ssize_t>(secret.size()));
  return secret;
}

bool has_tls(const ServerOptions& options) {
  const auto any = [](const std::vector<Upstream>& upstreams) {
    return std::any_of(upstreams.begin(), upstreams.end(),
                       [](const Upstream& upstream) { return upstream.tls; });
  };
  return any(options.upstreams) ||
         std::any_of(options.zone_upstreams.begin(), options.zone_upstreams.end(),
                     [&](const auto& zone) { return any(zone.second); });
}

// A client must never be given the address of a VIP that the kernel no longer serves.
bool withdraws(const ClusterDelta& delta) {
  return std::any_of(delta.vips.begin(), delta.vips.end(),
                     [](const auto& change) { return change.before != nullptr; });
}

// Who runs a step of a build holds it, and whoever ends the server closes it.
struct Gate {
  std::mutex mutex;
  bool closed = false;  // written by the control thread only
};

template <class T>
void append(std::vector<T>& to, const std::vector<T>& more) {
  to.insert(to.end(), more.begin(), more.end());
}

void append(ClusterDelta& to, const ClusterDelta& more) {
  to.complete = to.complete || more.complete;
  append(to.tasks, more.tasks);
  append(to.agents, more.agents);
  append(to.frameworks, more.frameworks);
  append(to.masters, more.masters);
  append(to.vips, more.vips);
}

}  // namespace

// The catalog is the control thread's, but while `building_` the builder's.
class Server::Impl {
 public:
  Impl(boost::asio::any_io_executor control, boost::asio::any_io_executor builder,
       ServerOptions options, prometheus::Registry& registry)
      : control_{std::move(control)},
        builder_{std::move(builder)},
        options_{std::move(options)},
        catalog_{catalog_options(options_)},
        cell_{catalog_.snapshot()},
        counters_{std::make_shared<Counters>(std::max(1U, options_.workers), zone_labels())},
        problems_{prometheus::BuildCounter()
                      .Name("muster_dns_problems_total")
                      .Help("Things of the cluster that no DNS record could be made of")
                      .Register(registry)},
        names_{gauge(registry, "muster_dns_names", "Names served")},
        records_{gauge(registry, "muster_dns_records", "Records served")},
        serial_{gauge(registry, "muster_dns_serial", "Serial of the zones")},
        queued_{gauge(registry, "muster_dns_queued_changes",
                      "Changes of the cluster that DNS does not show yet")},
        flush_timer_{control_} {
    options_.workers = std::max(1U, options_.workers);
    published();
  }

  ~Impl() { stop(); }

  Result<void> bind() {
    last_error_.clear();
    if (has_tls(options_)) {
      auto read = TlsContext::load(options_.upstream_ca_file);
      if (!read) {
        last_error_ = "upstream_ca_file: " + read.error();
        return boost::system::errc::make_error_code(boost::system::errc::invalid_argument);
      }
      tls_ = std::move(*read);
    }
    std::vector<std::vector<ListenSockets>> per_address;
    for (const Endpoint& endpoint : options_.listen) {
      const std::optional<Port> port =
          options_.any_port ? std::nullopt : std::optional<Port>{endpoint.port};
      auto sockets = bind_listeners(endpoint.address, port, options_.workers);
      if (!sockets) {
        last_error_ = "cannot listen on " +
                      (port ? to_string(endpoint) : endpoint.address.to_string()) + ": " +
                      sockets.error().message();
        bound_.clear();
        return sockets.error();
      }
      bound_.push_back(sockets->front().endpoint);
      per_address.push_back(std::move(*sockets));
    }
    const ForwarderOptions forwarding = forwarder_options();
    for (unsigned i = 0; i < options_.workers; ++i) {
      auto& made = workers_.emplace_back(
          std::make_unique<Worker>(worker_options(forwarding, i), cell_, counters_->of_worker(i)));
      for (auto& sockets : per_address) made->add(std::move(sockets[i]));
    }
    return {};
  }

  void serve() {
    serve_after_build_ = building_;
    if (!building_) run_workers();
  }

  void apply(const ClusterDelta& delta) {
    if (!building_ && Catalog::changes_in(delta) <= kInlineChanges) {
      catalog_.stage(delta, 0, Catalog::changes_in(delta));
      staged_complete_ = staged_complete_ || delta.complete;
      const TimePoint due = last_publish_ + kBatch;
      const bool now_complete = delta.complete && !status_.ready;
      if (now_complete || withdraws(delta) || Clock::now() >= due) return flush();
      return flush_at(due);
    }
    if (queue_.size() < kMaxQueued) {
      queue_.push_back(delta);
    } else {
      append(queue_.back(), delta);
    }
    build_next();
    count_queued();
  }

  void reconfigure(const ServerOptions& options) {
    const std::uint64_t turn = ++reconfigured_;
    if (!has_tls(options)) return take_policy(options, nullptr);
    boost::asio::post(builder_, [this, gate = gate_, turn, options, control = control_] {
      auto read = TlsContext::load(options.upstream_ca_file);
      boost::asio::post(control, [this, gate, turn, options, read = std::move(read)] {
        if (gate->closed || turn != reconfigured_) return;
        if (read) return take_policy(options, *read);
        last_error_ = "upstream_ca_file: " + read.error() + "; what was read before stays";
        log_.warn("dns: " + last_error_);
      });
    });
  }

  void stop() {
    {
      const std::scoped_lock lock{gate_->mutex};  // until a step that runs has ended
      gate_->closed = true;
    }
    flush_timer_.cancel();
    for (const auto& worker : workers_) worker->stop();
    workers_.clear();
    cell_.reap();
  }

  Status status() const {
    Status out = status_;
    out.last_error = last_error_;
    if (last_error_.empty() && !troubles_.empty()) out.last_error = troubles_.begin()->second;
    return out;
  }

  const std::vector<Endpoint>& bound() const { return bound_; }
  const Suffixes& suffixes() const { return catalog_.suffixes(); }
  std::shared_ptr<const ZoneSnapshot> snapshot() const { return snapshot_; }
  std::shared_ptr<prometheus::Collectable> collectable() const { return counters_; }

 private:
  void run_workers() {
    serving_ = true;
    for (const auto& worker : workers_) worker->run();
  }

  void take_policy(const ServerOptions& options, std::shared_ptr<const TlsContext> tls) {
    last_error_.clear();
    tls_ = std::move(tls);
    options_.upstream_ca_file = options.upstream_ca_file;
    options_.upstreams = options.upstreams;
    options_.zone_upstreams = options.zone_upstreams;
    options_.parallel_upstreams = options.parallel_upstreams;
    options_.cache_octets = options.cache_octets;
    options_.recursion_from = options.recursion_from;
    options_.transfer_to = options.transfer_to;
    options_.rate_limit = options.rate_limit;
    options_.query_log = options.query_log;
    troubles_.clear();
    ++policy_;
    const ForwarderOptions forwarding = forwarder_options();
    for (std::size_t i = 0; i < workers_.size(); ++i) workers_[i]->take(policy(forwarding, i));
  }

  static prometheus::Gauge& gauge(prometheus::Registry& registry, const char* name,
                                  const char* help) {
    return prometheus::BuildGauge().Name(name).Help(help).Register(registry).Add({});
  }

  std::vector<std::string> zone_labels() const {
    std::vector<std::string> out;
    for (const Zone& zone : snapshot_->table().zones) out.push_back(zone.label);
    return out;
  }

  ForwarderOptions forwarder_options() const {
    const std::vector<IpAddress> local = local_addresses();
    const auto others = [&](std::vector<Upstream> upstreams) {
      std::erase_if(upstreams,
                    [&](const Upstream& at) { return is_own(at.endpoint, bound_, local); });
      return upstreams;
    };
    ForwarderOptions out;
    out.parallel = options_.parallel_upstreams;
    out.cache_octets = options_.cache_octets;
    out.upstreams = others(options_.upstreams);
    for (const auto& [zone, upstreams] : options_.zone_upstreams) {
      if (const auto name = Name::parse(zone)) {
        out.zone_upstreams.emplace(name->wire(), others(upstreams));
      }
    }
    return out;
  }

  Worker::Policy policy(const ForwarderOptions& forwarding, std::size_t worker) {
    Worker::Policy out;
    out.forwarder = forwarding;
    out.tls.context = tls_;
    out.tls.report = [this, gate = gate_, worker, policy = policy_](const std::string& upstream,
                                                                    const std::string& problem) {
      boost::asio::post(control_, [this, gate, worker, policy, upstream, problem] {
        if (!gate->closed && policy == policy_) note_upstream(upstream, worker, problem);
      });
    };
    std::vector<Prefix> recursion = options_.recursion_from;
    for (const IpAddress& own : local_addresses()) {
      recursion.push_back({own, own.is_v4() ? 32U : 128U});
    }
    out.recursion = AccessList{std::move(recursion)};
    out.transfer = AccessList{options_.transfer_to};
    // Each worker sees its share of a client's sockets, which may be all of them.
    out.rate_limit = options_.rate_limit;
    out.query_log = options_.query_log;
    out.rate_seed = random_seed();
    return out;
  }

  Worker::Options worker_options(const ForwarderOptions& forwarding, std::size_t worker) {
    Worker::Options out;
    out.policy = policy(forwarding, worker);
    out.first_rotation = static_cast<std::uint32_t>(random_seed());
    out.cookies = cookies_;
    out.query_sink = options_.query_sink;
    if (worker != 0) return out;
    out.notify = options_.notify;
    for (const Zone& zone : snapshot_->table().zones) {
      if (!zone.fixed && !zone.partial) out.notify_apexes.push_back(zone.apex);
    }
    return out;
  }

  void note_upstream(const std::string& upstream, std::size_t worker, const std::string& problem) {
    if (problem.empty()) {
      troubles_.erase({upstream, worker});
      return;
    }
    std::string text = "upstream " + upstream + ": " + problem;
    log_.warn("dns: " + text);
    troubles_[{upstream, worker}] = std::move(text);
  }

  // Everything that is staged becomes visible.
  void flush() {
    flush_timer_.cancel();
    flushing_ = false;
    publish(std::exchange(staged_complete_, false));
    published();
  }

  void flush_at(TimePoint due) {
    if (std::exchange(flushing_, true)) return;
    flush_timer_.expires_at(due);
    flush_timer_.async_wait([this, gate = gate_](const ErrorCode& error) {
      if (error || gate->closed || !flushing_) return;
      flush();
    });
  }

  void build_next() {
    if (building_ || queue_.empty()) return;
    building_ = true;
    flush_timer_.cancel();  // the first step publishes what is staged
    flushing_ = false;
    job_ = std::move(queue_.front());
    queue_.pop_front();
    job_size_ = left_ = Catalog::changes_in(job_);
    post_step();
  }

  void post_step() {
    boost::asio::post(builder_, [this, gate = gate_] {
      const std::scoped_lock lock{gate->mutex};
      if (gate->closed) return;
      const std::size_t left = step();
      boost::asio::post(control_, [this, gate, left] {
        if (!gate->closed) step_done(left);
      });
    });
  }

  // On the builder: stages of the job for some time and publishes. Returns what is left.
  std::size_t step() {
    const TimePoint end = Clock::now() + (serving_ ? kStagePerStep : kStageUnasked);
    std::size_t done = job_size_ - left_;
    while (done < job_size_ && Clock::now() < end) {
      catalog_.stage(job_, done, kChangesPerLook);
      done = std::min(job_size_, done + kChangesPerLook);
    }
    const bool whole = done == job_size_;
    const bool before = std::exchange(staged_complete_, false);
    publish(before || (whole && job_.complete));
    if (whole) job_ = {};
    return job_size_ - done;
  }

  void step_done(std::size_t left) {
    left_ = left;
    published();
    if (left > 0) {
      post_step();
    } else {
      building_ = false;
      // What building took goes back to the system: else it is ours for ever.
      if (queue_.empty()) boost::asio::post(builder_, [] { malloc_trim(0); });
      // What came meanwhile is not waited for: that may go on for long.
      if (std::exchange(serve_after_build_, false)) run_workers();
      build_next();
    }
    count_queued();
  }

  // Whoever has the catalog.
  void publish(bool complete) {
    const ZoneSnapshot* const before = catalog_.snapshot().get();
    const auto& after = catalog_.publish(complete);
    if (after.get() == before) return;
    cell_.publish(after);
    last_publish_ = Clock::now();
  }

  // On the control thread, with nothing under way at the builder.
  void published() {
    if (std::exchange(snapshot_, catalog_.snapshot()) != catalog_.snapshot() &&
        !options_.notify.empty() && !workers_.empty()) {
      workers_.front()->notify();
    }
    for (const Problem& problem : catalog_.take_problems()) {
      problems_.Add({{"kind", problem.kind}}).Increment();
      log_.warn(problem.where + ": " + problem.what);
    }
    status_.names = catalog_.names();
    status_.records = catalog_.records();
    status_.serial = snapshot_->serial();
    status_.ready = snapshot_->complete();
    names_.Set(static_cast<double>(status_.names));
    records_.Set(static_cast<double>(status_.records));
    serial_.Set(static_cast<double>(status_.serial));
  }

  void count_queued() {
    std::size_t waiting = building_ ? left_ : 0;
    for (const ClusterDelta& delta : queue_) waiting += Catalog::changes_in(delta);
    queued_.Set(static_cast<double>(waiting));
  }

  boost::asio::any_io_executor control_;
  boost::asio::any_io_executor builder_;
  ServerOptions options_;
  Catalog catalog_;
  std::shared_ptr<const ZoneSnapshot> snapshot_ = catalog_.snapshot();  // shown last
  Status status_;
  SnapshotCell<ZoneSnapshot> cell_;
  std::shared_ptr<Counters> counters_;
  prometheus::Family<prometheus::Counter>& problems_;
  prometheus::Gauge& names_;
  prometheus::Gauge& records_;
  prometheus::Gauge& serial_;
  prometheus::Gauge& queued_;
  boost::asio::steady_timer flush_timer_;  // for the batch behind a change that went at once
  bool flushing_ = false;
  bool staged_complete_ = false;
  TimePoint last_publish_{};
  std::shared_ptr<const Cookies> cookies_ = std::make_shared<const Cookies>(random_secret());
  LogOnce log_;
  std::vector<std::unique_ptr<Worker>> workers_;
  std::vector<Endpoint> bound_;
  std::deque<ClusterDelta> queue_;
  bool building_ = false;
  bool serve_after_build_ = false;
  bool serving_ = false;  // written while nothing is built
  ClusterDelta job_;      // the builder's
  std::size_t job_size_ = 0;
  std::size_t left_ = 0;  // of the job's changes
  std::string last_error_;
  std::shared_ptr<const TlsContext> tls_;  // null: no upstream has TLS
  std::uint64_t reconfigured_ = 0;         // times; what is read for an earlier one is too late
  std::uint64_t policy_ = 0;               // that the workers have; reports of an earlier one too
  /// By upstream and worker, what is wrong between them.
  std::map<std::pair<std::string, std::size_t>, std::string> troubles_;
  std::shared_ptr<Gate> gate_ = std::make_shared<Gate>();
};

Server::Server(boost::asio::any_io_executor control, boost::asio::any_io_executor builder,
               ServerOptions options, prometheus::Registry& registry)
    : impl_{std::make_unique<Impl>(std::move(control), std::move(builder), std::move(options),
                                   registry)} {}

Server::~Server() = default;

Result<void> Server::bind() {
  return impl_->bind();
}

void Server::serve() {
  impl_->serve();
}

Result<void> Server::start() {
  auto bound = bind();
  if (bound) serve();
  return bound;
}

std::vector<Endpoint> Server::bound() const {
  return impl_->bound();
}

void Server::apply(const ClusterDelta& delta) {
  impl_->apply(delta);
}

void Server::reconfigure(const ServerOptions& options) {
  impl_->reconfigure(options);
}

Server::Status Server::status() const {
  return impl_->status();
}

std::shared_ptr<const ZoneSnapshot> Server::snapshot() const {
  return impl_->snapshot();
}

const Suffixes& Server::suffixes() const noexcept {
  return impl_->suffixes();
}

std::shared_ptr<prometheus::Collectable> Server::collectable() const {
  return impl_->collectable();
}

void Server::stop() {
  impl_->stop();
}

std::vector<Endpoint> system_upstreams(const std::vector<Endpoint>& own, const std::string& file) {
  std::ifstream in{file};
  const std::string text{std::istreambuf_iterator<char>{in}, {}};
  const std::vector<IpAddress> local = local_addresses();
  std::vector<Endpoint> out = parse_resolv_conf(text, own);
  std::erase_if(out, [&](const Endpoint& at) { return is_own(at, own, local); });
  return out;
}

}  // namespace muster::dns
