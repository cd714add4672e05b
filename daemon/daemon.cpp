#include "daemon/daemon.hpp"

#include <csignal>
#include <future>
#include <optional>
#include <spdlog/spdlog.h>
#include <utility>

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/signal_set.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/thread_pool.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <prometheus/counter.h>
#include <prometheus/gauge.h>
#include <prometheus/registry.h>

#include "base/io/bulk.hpp"
#include "base/io/log_once.hpp"
#include "base/io/state_file.hpp"
#include "base/io/task_group.hpp"
#include "cluster/core/cluster.hpp"
#include "daemon/api.hpp"
#include "daemon/changes.hpp"
#include "daemon/control.hpp"
#include "daemon/mesh.hpp"
#include "daemon/notify.hpp"
#include "daemon/only_one.hpp"
#include "daemon/options.hpp"
#include "daemon/version.hpp"
#include "dns/io/server.hpp"
#include "lb/io/balancer.hpp"
#include "lb/io/driver_choice.hpp"
#include "mesos/io/agent_poller.hpp"
#include "mesos/io/observer.hpp"
#include "metrics/exposition.hpp"
#include "metrics/http_server.hpp"

namespace muster::daemon {
namespace {

namespace asio = boost::asio;
constexpr auto kToken = asio::as_tuple(asio::use_awaitable);

constexpr unsigned kWorkers = 2;           // parsing and serialising; more would only add memory
constexpr Duration kSaveDelay{2000};       // a burst of changes costs one write of the state file
constexpr Duration kIdleTimer{3'600'000};  // how long the cluster timer sleeps with nothing due
constexpr std::size_t kMaxStateFile = std::size_t{1} << 30;
// The control thread must not stall: some 3 ms of work, and some 2 ms of taking references.
constexpr std::size_t kSliceRecords = 125;
constexpr std::size_t kSliceTasks = 2'000;

}  // namespace

class Daemon::Impl {
 public:
  Impl(Config config, std::function<Config()> reload);
  int run();

 private:
  bool listen();
  bool take_over_kernel();
  void open_control();
  std::optional<ClusterDelta> restore();
  void take(Observation observation);
  void take_agent(const Observation& observation);
  void take_more();
  bool note(const ClusterDelta& delta);
  void deliver(const ClusterDelta& delta);
  void report_problems();
  void reload();
  boost::json::object control(const boost::json::object& request, Control::Peer peer);
  asio::awaitable<void> watch_cluster_timer();
  asio::awaitable<void> save_when_changed();
  asio::awaitable<void> wait_for_signal();

  Config config_;
  std::function<Config()> reload_;
  prometheus::Registry registry_;
  metrics::Exposition exposition_{registry_, {kVersion, ""}};
  prometheus::Family<prometheus::Counter>& problems_;
  prometheus::Gauge& speaking_;
  prometheus::Gauge& held_own_;
  asio::io_context context_{1};
  asio::thread_pool workers_{kWorkers};
  asio::thread_pool answers_{1};  // of HTTP: they do not wait for a large state to be parsed
  TimePoint started_ = Clock::now();
  cluster::Cluster cluster_;
  bool working_ = false;                        // take_more() is under way
  std::shared_ptr<const Observation> in_work_;  // keeps its destruction for us to place
  std::optional<OnlyOne> only_;                 // before what it is held for
  std::unique_ptr<lb::Balancer> balancer_;
  std::unique_ptr<dns::Server> dns_;
  std::unique_ptr<mesos::Observer> observer_;  // null: no masters are configured
  std::unique_ptr<mesos::AgentPoller> agent_;  // null: the master says what runs here
  std::unique_ptr<Mesh> mesh_;                 // null: this node is by itself
  std::unique_ptr<metrics::HttpServer> http_;
  std::vector<std::unique_ptr<metrics::HttpServer>> mesos_dns_http_;
  std::unique_ptr<Control> control_;  // null: none is wanted, or none could be had
  asio::steady_timer cluster_timer_{context_};
  asio::steady_timer save_timer_{context_};
  RecentChanges changes_;
  bool complete_ = false;  // what was last delivered as such
  bool changed_ = false;   // since the state file was last written
  LogOnce log_once_;
  TaskGroup tasks_{context_.get_executor()};
};

Daemon::Impl::Impl(Config config, std::function<Config()> reload)
    : config_{std::move(config)},
      reload_{std::move(reload)},
      problems_{prometheus::BuildCounter()
                    .Name("muster_cluster_problems_total")
                    .Help("Records and observations that were skipped, by kind")
                    .Register(registry_)},
      speaking_{prometheus::BuildGauge()
                    .Name("muster_cluster_speaking_agents")
                    .Help("Agents whose tasks the node beside them tells, and no master")
                    .Register(registry_)
                    .Add({})},
      held_own_{prometheus::BuildGauge()
                    .Name("muster_cluster_held_own_tasks")
                    .Help("Tasks that this node's agent left out of an answer and that stay")
                    .Register(registry_)
                    .Add({})},
      cluster_{cluster_options(config_)} {
  const auto control = context_.get_executor();
  if (!config_.mesos.masters.empty() || !config_.mesos.zookeeper.empty()) {
    observer_ = std::make_unique<mesos::Observer>(
        control, workers_, observer_options(config_.mesos), registry_,
        [this](Observation observation) { take(std::move(observation)); });
  }
  if (config_.mesos.from_agent) {
    agent_ = std::make_unique<mesos::AgentPoller>(
        control, workers_, agent_options(config_), registry_,
        [this](const Observation& observation) { take_agent(observation); });
  }
  if (config_.gossip.enabled) {
    if (observer_ != nullptr) observer_->set_active(false);
    mesh_ = std::make_unique<Mesh>(
        control, workers_, config_, cluster_, observer_.get(), registry_,
        [this](const ClusterDelta& delta) { deliver(delta); },
        [this](std::vector<std::string> lines) {
          changes_.note_members(std::move(lines), std::chrono::system_clock::now());
        });
  }
  if (config_.lb.enabled) {
    lb::BalancerOptions options;
    options.node_v4 = config_.node.v4;
    options.node_v6 = config_.node.v6;
    options.ipvs_scheduler = config_.lb.ipvs_scheduler;
    options.ipvs_drain = config_.lb.ipvs_drain;
    options.bpf_cgroup = config_.lb.bpf_cgroup;
    options.forward_accept = config_.lb.forward_accept;
    options.namespace_folders = config_.lb.namespace_folders;
    options.namespace_helper = config_.lb.namespace_helper;
    auto driver = lb::make_driver(config_.lb.driver);
    if (!driver) throw ConfigError{"lb.driver: " + driver.error().message()};
    balancer_ = std::make_unique<lb::Balancer>(control, std::move(*driver), options, registry_);
    exposition_.add(balancer_->connections());
  }
  if (config_.dns.enabled) {
    dns_ = std::make_unique<dns::Server>(control, workers_.get_executor(), dns_options(config_),
                                         registry_);
    exposition_.add(dns_->collectable());
  }
  const ApiSources sources{config_,         cluster_,   observer_.get(), agent_.get(), mesh_.get(),
                           balancer_.get(), dns_.get(), exposition_,     started_,     changes_};
  const auto serve = [&](const Endpoint& at, std::vector<std::string> names, auto handler) {
    return std::make_unique<metrics::HttpServer>(control, answers_,
                                                 metrics::HttpOptions{at, std::move(names)},
                                                 registry_, std::move(handler));
  };
  http_ = serve(config_.metrics.listen, config_.metrics.allowed_hosts, make_api(sources));
  if (!config_.dns.enabled) return;
  // By our own names too: nobody else can make those point anywhere.
  std::vector<std::string> names = config_.metrics.allowed_hosts;
  names.insert(names.end(), {'.' + config_.dns.domain, ".thisdcos.directory"});
  for (const Endpoint& at : config_.dns.http_listen) {
    mesos_dns_http_.push_back(serve(at, names, make_mesos_dns_api(sources)));
  }
}

// This and take_over_kernel(): everything that can refuse to start, before anything runs.
bool Daemon::Impl::listen() {
  if (const auto done = http_->start(); !done) {
    spdlog::error("metrics: cannot listen on {}: {}", to_string(config_.metrics.listen),
                  done.error().message());
    return false;
  }
  for (std::size_t i = 0; i < mesos_dns_http_.size(); ++i) {
    if (const auto done = mesos_dns_http_[i]->start(); !done) {
      spdlog::error("dns: http_listen: cannot listen on {}: {}",
                    to_string(config_.dns.http_listen[i]), done.error().message());
      return false;
    }
  }
  if (dns_ != nullptr) {
    if (const auto done = dns_->bind(); !done) {
      spdlog::error("dns: {}", dns_->status().last_error);
      return false;
    }
  }
  if (balancer_ != nullptr) {
    auto only = OnlyOne::take();
    if (!only) {
      spdlog::error("lb: another muster balances on this node; set lb.enabled = false here");
      return false;
    }
    only_.emplace(std::move(*only));
    if (!only_->taken()) spdlog::warn("lb: whether another muster balances here is not known");
  }
  return true;
}

bool Daemon::Impl::take_over_kernel() {
  if (balancer_ == nullptr) return true;
  const auto done = balancer_->start();
  if (done) return true;
  const std::string detail = balancer_->status().last_error;
  spdlog::error("lb: {}{}{}", done.error().message(), detail.empty() ? "" : ": ", detail);
  return false;
}

int Daemon::Impl::run() {
  bool started = listen();
  if (started) {
    // Beside each other: what stands in the kernel, what stands in the file, and then the names,
    // which take longest and are made on a third thread.
    auto taken = std::async(std::launch::async, [this] { return take_over_kernel(); });
    const auto restored = restore();
    if (restored && dns_ != nullptr) dns_->apply(*restored);
    started = taken.get();
    if (started && restored && note(*restored) && balancer_ != nullptr) {
      balancer_->restore(*restored);
    }
  }
  if (started) {
    if (dns_ != nullptr) dns_->serve();
    started = mesh_ == nullptr || mesh_->start();
  }
  if (started) {
    spdlog::info("muster {} serves: metrics on {}", kVersion, to_string(http_->bound()));
    tasks_.spawn(http_->run());
    for (const auto& server : mesos_dns_http_) tasks_.spawn(server->run());
    open_control();
    if (balancer_ != nullptr) tasks_.spawn(balancer_->run());
    if (observer_ != nullptr) tasks_.spawn(observer_->run());
    if (agent_ != nullptr) {
      spdlog::info("cluster: what runs here is asked of this node's agent, {}",
                   agent_->status().agent);
      tasks_.spawn(agent_->run());
    }
    if (mesh_ != nullptr) {
      tasks_.spawn(mesh_->run());
      tasks_.spawn(mesh_->find_others());
    }
    tasks_.spawn(watch_cluster_timer());
    if (!config_.state.directory.empty()) tasks_.spawn(save_when_changed());
    tasks_.spawn(wait_for_signal());
    tasks_.spawn(keep_watchdog());
    notify("READY=1");
    run_with_bulk(context_);
  }
  if (mesh_ != nullptr) mesh_->stop();
  if (dns_ != nullptr) dns_->stop();
  workers_.join();
  answers_.join();
  return started ? 0 : 1;
}

// Without it everything works but what it is for: no reason not to serve.
void Daemon::Impl::open_control() {
  const auto& path = config_.control.socket;
  if (path.empty()) return;
  control_ =
      std::make_unique<Control>(context_.get_executor(), path,
                                [this](const boost::json::object& request, Control::Peer peer) {
                                  return control(request, peer);
                                });
  if (const auto done = control_->start(); !done) {
    spdlog::warn("control: no socket {}: {}; `muster keys` will not work", path.string(),
                 done.error().message());
    control_.reset();
    return;
  }
  tasks_.spawn(control_->run());
}

boost::json::object Daemon::Impl::control(const boost::json::object& request, Control::Peer peer) {
  const auto no = [](const std::string& why) {
    return boost::json::object{{"ok", false}, {"error", why}};
  };
  const boost::json::string& what = request.at("do").get_string();
  if (what != "keys" && what != "reload-keys") return no("not known: " + std::string{what});
  if (mesh_ == nullptr) return no("this daemon works alone: it has no keys");
  if (what == "reload-keys") {
    spdlog::info("control: user {} (process {}) has the keys read again", peer.uid, peer.pid);
    if (const std::string wrong = mesh_->reload_keys(); !wrong.empty()) return no(wrong);
    return {{"ok", true}};
  }
  boost::json::array keys;
  for (const Mesh::KeyUse& use : mesh_->keys()) {
    keys.push_back(boost::json::object{{"id", use.id},
                                       {"here", use.here},
                                       {"seals", use.seals},
                                       {"have", use.have},
                                       {"seal", use.seal}});
  }
  return {{"ok", true},
          {"file", config_.gossip.key_file.string()},
          {"alive", mesh_->status().alive},
          {"keys", std::move(keys)}};
}

std::optional<ClusterDelta> Daemon::Impl::restore() {
  if (config_.state.directory.empty()) return {};
  const auto path = config_.state.directory / "state";
  const auto bytes = read_file(path, kMaxStateFile);
  if (!bytes) {
    if (bytes.error() != boost::system::errc::no_such_file_or_directory) {
      spdlog::warn("state: cannot read {}: {}; starting without it", path.string(),
                   bytes.error().message());
    }
    return {};
  }
  auto delta = cluster_.restore(*bytes, Clock::now(), std::chrono::system_clock::now());
  if (!delta) {
    spdlog::warn("state: {} is damaged or of another version; starting without it", path.string());
    return {};
  }
  spdlog::info("state: {} tasks from {} serve until a master answers", delta->tasks.size(),
               path.string());
  return std::move(*delta);
}

// A large observation is worked off in slices, with everything else on this thread in between.
void Daemon::Impl::take(Observation observation) {
  if (mesh_ != nullptr && !mesh_->admit(observation)) return;
  const TimePoint now = Clock::now();
  const auto wall = std::chrono::system_clock::now();
  if (observation.snapshot) {
    auto snapshot = std::make_shared<const Observation>(std::move(observation));
    deliver(cluster_.begin(snapshot, now, wall));
    in_work_ = std::move(snapshot);
  } else {
    deliver(cluster_.observe(observation, now, wall));
  }
  if (cluster_.busy() && !working_) take_more();
}

// What an agent runs is little: no slices.
void Daemon::Impl::take_agent(const Observation& observation) {
  deliver(cluster_.observe_agent(observation, Clock::now(), std::chrono::system_clock::now()));
  if (cluster_.busy() && !working_) take_more();
}

void Daemon::Impl::take_more() {
  deliver(cluster_.advance(kSliceRecords, Clock::now(), std::chrono::system_clock::now()));
  working_ = cluster_.busy();
  if (working_) {
    post_bulk(context_.get_executor(), [this] { take_more(); });
  } else {
    // Freeing a large one takes as long as several slices: not here.
    asio::post(workers_, [freed = std::move(in_work_)]() mutable { freed.reset(); });
  }
}

// All that a delta is for but names and the kernel. Whether there is anything in it for these.
bool Daemon::Impl::note(const ClusterDelta& delta) {
  report_problems();
  if (mesh_ != nullptr) mesh_->flush();
  if (observer_ != nullptr && cluster_.take_wants_snapshot(Clock::now())) observer_->restart();
  speaking_.Set(static_cast<double>(cluster_.view().speakers().size()));
  held_own_.Set(static_cast<double>(cluster_.status(Clock::now()).own_held));
  cluster_timer_.cancel();  // what is due next may have moved
  if (delta.empty() && delta.complete == complete_) return false;
  complete_ = delta.complete;
  changes_.take(delta, std::chrono::system_clock::now());
  if (!std::exchange(changed_, true)) save_timer_.cancel();
  return true;
}

// A client must never be given an address that the kernel does not serve: names that go are
// withdrawn first, then the kernel follows, and only then are new names published.
void Daemon::Impl::deliver(const ClusterDelta& delta) {
  if (!note(delta)) return;
  ClusterDelta rest = delta;
  ClusterDelta withdrawn;
  withdrawn.complete = delta.complete;
  std::erase_if(rest.vips, [&](const Change<VipAllocation>& change) {
    if (change.after != nullptr) return false;
    withdrawn.vips.push_back(change);
    return true;
  });
  if (dns_ != nullptr && !withdrawn.vips.empty()) dns_->apply(withdrawn);
  if (balancer_ != nullptr) balancer_->apply(delta);
  if (dns_ != nullptr) dns_->apply(rest);
}

void Daemon::Impl::report_problems() {
  for (const Problem& problem : cluster_.take_problems()) {
    problems_.Add({{"kind", problem.kind}}).Increment();
    log_once_.warn(problem.where + ": " + problem.what);
  }
}

asio::awaitable<void> Daemon::Impl::watch_cluster_timer() {
  for (;;) {
    const auto due = cluster_.next_deadline();
    cluster_timer_.expires_at(due ? *due : Clock::now() + kIdleTimer);
    const auto [error] = co_await cluster_timer_.async_wait(kToken);
    const auto state = co_await asio::this_coro::cancellation_state;
    if (state.cancelled() != asio::cancellation_type::none) co_return;
    if (error) continue;
    deliver(cluster_.on_timer(Clock::now(), std::chrono::system_clock::now()));
  }
}

asio::awaitable<void> Daemon::Impl::save_when_changed() {
  const auto path = config_.state.directory / "state";
  for (;;) {
    save_timer_.expires_after(changed_ ? kSaveDelay : kIdleTimer);
    // A cancelled wait is only "something changed" while nobody stops us, so the delay is kept.
    const auto [error] = co_await save_timer_.async_wait(kToken);
    const auto state = co_await asio::this_coro::cancellation_state;
    const bool stopping = state.cancelled() != asio::cancellation_type::none;
    if (error && !stopping) continue;
    if (changed_) {
      changed_ = false;
      auto job = std::make_shared<cluster::SaveJob>();
      while (!job->collect(cluster_, kSliceTasks)) {
        if (!stopping) co_await yield_to_others(context_.get_executor());
      }
      asio::post(workers_, [path, job, logged = &log_once_, control = context_.get_executor()] {
        const auto written = replace_file(path, job->write());
        if (written) return;
        const std::string line = "state: cannot write " + path.string() + ": " +
                                 written.error().message() + "; a restart will wait for Mesos";
        asio::post(control, [logged, line] { logged->warn(line); });
      });
    }
    if (stopping) co_return;
  }
}

// Applies what can change while it serves, and names the rest. All or nothing of a file is taken.
void Daemon::Impl::reload() {
  if (mesh_ != nullptr && mesh_->reload_keys().empty()) {
    spdlog::info("SIGHUP: the gossip keys were read");
  }
  std::optional<Config> next;
  dns::ServerOptions dns;
  try {
    next = reload_();
    dns = dns_options(*next);
  } catch (const ConfigError& error) {
    spdlog::error("SIGHUP: the configuration stays as it is: {}", error.what());
    return;
  }
  const ConfigChange change = take_live_options(config_, *next);
  spdlog::set_level(spdlog::level::from_str(config_.log.level));
  if (dns_ != nullptr) dns_->reconfigure(dns);
  spdlog::info("SIGHUP: {}",
               change.applied.empty() ? "nothing to apply" : "applied " + change.applied);
  if (!change.later.empty()) {
    spdlog::warn("SIGHUP: at the next start, which interrupts no connection: {}", change.later);
  }
}

asio::awaitable<void> Daemon::Impl::wait_for_signal() {
  asio::signal_set signals{context_, SIGTERM, SIGINT, SIGHUP};
  for (;;) {
    const auto [error, number] = co_await signals.async_wait(kToken);
    if (error) co_return;
    if (number != SIGHUP) {
      spdlog::info("{}: stopping; the kernel goes on balancing",
                   number == SIGINT ? "SIGINT" : "SIGTERM");
      break;
    }
    reload();
  }
  notify("STOPPING=1");
  tasks_.stop();
}

Daemon::Daemon(Config config, std::function<Config()> reload)
    : impl_{std::make_unique<Impl>(std::move(config), std::move(reload))} {}
Daemon::~Daemon() = default;
int Daemon::run() {
  return impl_->run();
}

}  // namespace muster::daemon
