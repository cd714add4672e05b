#include "dns/io/server.hpp"

#include <algorithm>
#include <fstream>
#include <iterator>
#include <sys/random.h>
#include <utility>

#include <boost/asio/post.hpp>

#include "base/assert.hpp"
#include "base/io/log_once.hpp"
#include "dns/core/catalog.hpp"
#include "dns/core/resolv_conf.hpp"
#include "dns/io/counters.hpp"
#include "dns/io/sockets.hpp"
#include "dns/io/tls_session.hpp"
#include "dns/io/worker.hpp"

namespace muster::dns {
namespace {

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

}  // namespace

class Server::Impl {
 public:
  Impl(boost::asio::any_io_executor control, boost::asio::any_io_executor builder,
       ServerOptions options, prometheus::Registry& registry)
      : control_{std::move(control)},
        builder_{std::move(builder)},
        options_{std::move(options)},
        zones_{control_, builder_, catalog_options(options_), registry, [this] { notify(); }},
        counters_{std::make_shared<Counters>(std::max(1U, options_.workers), zone_labels())} {
    options_.workers = std::max(1U, options_.workers);
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
      auto& made = workers_.emplace_back(std::make_unique<Worker>(
          worker_options(forwarding, i), zones_.cell(), counters_->of_worker(i)));
      for (auto& sockets : per_address) made->add(std::move(sockets[i]));
    }
    return {};
  }

  void serve() {
    zones_.when_whole([this] {
      for (const auto& worker : workers_) worker->run();
    });
  }

  void apply(const ClusterDelta& delta) { zones_.apply(delta); }

  void reconfigure(const ServerOptions& options) {
    const std::uint64_t turn = ++reconfigured_;
    if (!has_tls(options)) return take_policy(options, nullptr);
    boost::asio::post(builder_, [this, closed = closed_, turn, options, control = control_] {
      auto read = TlsContext::load(options.upstream_ca_file);
      boost::asio::post(control, [this, closed, turn, options, read = std::move(read)] {
        if (*closed || turn != reconfigured_) return;
        if (read) return take_policy(options, *read);
        last_error_ = "upstream_ca_file: " + read.error() + "; what was read before stays";
        log_.warn("dns: " + last_error_);
      });
    });
  }

  void stop() {
    *closed_ = true;
    zones_.stop();
    for (const auto& worker : workers_) worker->stop();
    workers_.clear();
    zones_.cell().reap();
  }

  Status status() const {
    Status out;
    out.names = zones_.names();
    out.records = zones_.records();
    out.serial = snapshot()->serial();
    out.ready = snapshot()->complete();
    out.last_error = last_error_;
    if (last_error_.empty() && !troubles_.empty()) out.last_error = troubles_.begin()->second;
    return out;
  }

  const std::vector<Endpoint>& bound() const { return bound_; }
  const Suffixes& suffixes() const { return zones_.suffixes(); }
  const std::shared_ptr<const ZoneSnapshot>& snapshot() const { return zones_.snapshot(); }
  std::shared_ptr<prometheus::Collectable> collectable() const { return counters_; }

 private:
  // The secondaries, of another snapshot.
  void notify() {
    if (!options_.notify.empty() && !workers_.empty()) workers_.front()->notify();
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

  std::vector<std::string> zone_labels() const {
    std::vector<std::string> out;
    for (const Zone& zone : snapshot()->table().zones) out.push_back(zone.label);
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
    out.tls.report = [this, closed = closed_, worker, policy = policy_](
                         const std::string& upstream, const std::string& problem) {
      boost::asio::post(control_, [this, closed, worker, policy, upstream, problem] {
        if (!*closed && policy == policy_) note_upstream(upstream, worker, problem);
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
    for (const Zone& zone : snapshot()->table().zones) {
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

  boost::asio::any_io_executor control_;
  boost::asio::any_io_executor builder_;
  ServerOptions options_;
  ZoneBuilder zones_;
  std::shared_ptr<Counters> counters_;
  std::shared_ptr<const Cookies> cookies_ = std::make_shared<const Cookies>(random_secret());
  LogOnce log_;
  std::vector<std::unique_ptr<Worker>> workers_;
  std::vector<Endpoint> bound_;
  std::string last_error_;
  std::shared_ptr<const TlsContext> tls_;  // null: no upstream has TLS
  std::uint64_t reconfigured_ = 0;         // times; what is read for an earlier one is too late
  std::uint64_t policy_ = 0;               // that the workers have; reports of an earlier one too
  /// By upstream and worker, what is wrong between them.
  std::map<std::pair<std::string, std::size_t>, std::string> troubles_;
  std::shared_ptr<bool> closed_ = std::make_shared<bool>(false);  // the control thread's
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
