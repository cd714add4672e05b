#include "dev/cluster.hpp"

#include <csignal>
#include <cstdio>
#include <random>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <boost/asio/as_tuple.hpp>

#include "base/endpoint.hpp"
#include "base/label.hpp"
#include "dev/cluster_impl.hpp"
#include "dev/health.hpp"
#include "dev/master_json.hpp"

namespace muster::dev {

namespace asio = boost::asio;

namespace {

constexpr auto kNoThrow = asio::as_tuple(asio::use_awaitable);
constexpr const char* kDirectory = "/run/muster-dev";
// Enough for the output of tasks and daemons; a task that prints for ever fills this and not the
// machine's memory.
constexpr const char* kTmpfsOptions = "mode=0755,size=512m";
constexpr std::uint16_t kMetricsPort = 61421;
constexpr double kReadyProbeSeconds = 1;
constexpr auto kReadyEvery = std::chrono::milliseconds{100};
// What a master took to come back, with agents following one by one (mesos-live recordings).
constexpr auto kRoutesAfter = std::chrono::milliseconds{50};
constexpr auto kRecoveredAfter = std::chrono::milliseconds{400};
constexpr auto kFirstAgentAfter = std::chrono::milliseconds{1600};
constexpr auto kNextAgentAfter = std::chrono::milliseconds{250};

void mount_private() {
  if (::mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0 ||
      ::mount("muster-dev", "/run", "tmpfs", MS_NOSUID | MS_NODEV, kTmpfsOptions) != 0 ||
      ::mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, nullptr) != 0) {
    throw std::system_error{errno, std::generic_category(), "mounting /run and /proc"};
  }
}

asio::awaitable<void> sleep_for(Duration time) {
  asio::steady_timer timer{co_await asio::this_coro::executor, time};
  co_await timer.async_wait(asio::use_awaitable);
}

/// The first named VIP an app asks for, as something to type; empty if there is none.
std::string first_vip(const std::vector<App>& apps) {
  for (const App& app : apps) {
    for (const AppPort& port : app.ports) {
      for (const Label& label : port.labels) {
        const std::size_t colon = label.value.rfind(':');
        if (!label.key.starts_with("VIP") || colon == std::string::npos) continue;
        const std::string name = domain_fragment(label.value.substr(0, colon));
        if (name.empty() || IpAddress::parse(label.value.substr(0, colon))) continue;
        const std::string target =
            name + ".marathon.l4lb.thisdcos.directory" + label.value.substr(colon);
        if (port.protocols.front() == "udp") return "muster-dev load --seconds 1 --udp " + target;
        return "curl http://" + target + "/";
      }
    }
  }
  return "";
}

}  // namespace

Cluster::Cluster(ClusterOptions options, ClusterHandles handles)
    : options_{std::move(options)},
      handles_{std::move(handles)},
      reaper_{io_.get_executor()},
      tasks_{io_.get_executor()} {}

int Cluster::run() {
  tasks_.spawn(watch_life());
  build_network();
  start_masters();
  start_agents();
  const auto report = [this](std::string line) {
    terminal_.line("[" + terminal_.age() + "] " + line);
  };
  daemons_ = std::make_unique<Daemons>(Daemons::Context{.nodes = network_.nodes,
                                                        .reaper = reaper_,
                                                        .muster = options_.muster,
                                                        .extra_config = options_.extra_config,
                                                        .source = options_.source,
                                                        .path = options_.path,
                                                        .report = report});
  launcher_ = std::make_unique<Launcher>(Launcher::Context{.executor = io_.get_executor(),
                                                           .master = *master_,
                                                           .nodes = network_.nodes,
                                                           .reaper = reaper_,
                                                           .publish = [this] { publish(); },
                                                           .report = report,
                                                           .path = options_.path,
                                                           .seed = std::random_device{}()});
  control_ = std::make_unique<ControlServer>(
      io_.get_executor(), std::move(handles_.control),
      [this](boost::json::object request, ControlServer::Progress progress) {
        return control(std::move(request), std::move(progress));
      });
  greet();
  vip_ = first_vip(options_.apps);
  launcher_->start(std::move(options_.apps));
  daemons_->start_all();
  tasks_.spawn(announce_ready());
  io_.run();
  return 0;
}

void Cluster::build_network() {
  mount_private();
  network_ = Network::build(options_.nodes, kDirectory);
}

void Cluster::start_masters() {
  const WallTime now = wall_now();
  const std::string cluster = options_.name;
  std::random_device seed;
  master_ = std::make_unique<Master>(
      Master::Identity{.address = master_address(), .port = kMasterPort, .cluster = cluster},
      seed(), now);
  standby_ = std::make_unique<Master>(
      Master::Identity{.address = standby_address(), .port = kMasterPort, .cluster = cluster},
      seed(), now);
  standby_->set_phase(MasterPhase::standby);
  faults_ = std::make_unique<MasterFaults>(acts());
  HttpServer::Options options;
  options.handler = [this](const ApiRequest& request) { return master_answer(true, request); };
  options.stream_head = [this] {
    return std::vector<std::string>{event_subscribed(*master_), event_heartbeat()};
  };
  options.heartbeat = event_heartbeat();
  options.heartbeat_seconds = kHeartbeatSeconds;
  master_http_ = std::make_unique<HttpServer>(io_.get_executor(), options);
  options.handler = [this](const ApiRequest& request) { return master_answer(false, request); };
  standby_http_ = std::make_unique<HttpServer>(io_.get_executor(), options);
  const int net = network_.master.get();
  master_http_->listen(listen_in(net, master_address(), kMasterPort).release());
  standby_http_->listen(listen_in(net, standby_address(), kMasterPort).release());
}

void Cluster::start_agents() {
  const WallTime now = wall_now();
  for (Node& node : network_.nodes) {
    node.agent_id = master_->next_agent_id();
    const std::string address = node_address(node.number);
    const MesosAgent agent{.id = node.agent_id,
                           .hostname = address,
                           .address = address,
                           .port = kAgentPort,
                           .cpus = 64,
                           .mem = 65536,
                           .disk = 65536,
                           .attributes = {{.key = "node", .value = node.name()}}};
    master_->add_agent(agent, now);
    AgentSide& side = agents_.emplace_back(
        AgentSide{.info = agent, .started = now, .faults = MasterFaults{agent_acts(node.number)}});
    HttpServer::Options options;
    options.handler = [this, &side](const ApiRequest& request) {
      return agent_side_answer(side, request);
    };
    auto& http = agents_http_.emplace_back(
        std::make_unique<HttpServer>(io_.get_executor(), std::move(options)));
    http->listen(listen_in(node.spaces.net.get(), address, kAgentPort).release());
  }
  master_->subscribe_framework(now);
}

void Cluster::greet() {
  const std::string last = std::to_string(options_.nodes);
  terminal_.line("muster-dev: cluster \"" + options_.name + "\", " + last +
                 (options_.nodes == 1 ? " node" : " nodes") + "; Ctrl-C ends it");
  std::vector<std::vector<std::string>> rows;
  for (const Node& node : network_.nodes) {
    rows.push_back({node.name(), node_address(node.number), node_address6(node.number),
                    "containers " + container_subnet(node.number)});
  }
  rows.push_back(
      {"master", master_address() + ":5050", "", "standby " + standby_address() + ":5050"});
  std::string table = aligned(rows, "  ");
  table.pop_back();
  terminal_.line(table);
  const std::string name = name_option();
  terminal_.line("In another terminal: muster-dev ps" + name + "; muster-dev exec" + name +
                 " 1 -- sh; muster-dev logs" + name + " 1");
}

std::string Cluster::name_option() const {
  return options_.name == "default" ? "" : " --name " + options_.name;
}

void Cluster::publish() {
  const std::vector<std::string> events = master_->take_events();
  if (master_up_) leading_http().publish(events);
}

asio::awaitable<void> Cluster::watch_life() {
  asio::posix::stream_descriptor life{io_, ::dup(handles_.life.get())};
  char octet;
  co_await life.async_read_some(asio::buffer(&octet, 1), kNoThrow);
  // As pid 1 of the namespace: the kernel kills everything in it, and with the last holder of
  // each go namespaces, cables and the tmpfs. There is nothing to tidy by hand.
  ::_exit(0);
}

asio::awaitable<bool> Cluster::node_ready(unsigned node) {
  if (daemons_->of(node).pid == 0) co_return false;
  int socket = -1;
  try {
    socket = socket_in(network_.nodes[node - 1].spaces.net.get()).release();
  } catch (const std::exception&) {  // out of descriptors, say
    co_return false;
  }
  const unsigned status = co_await probe_http(socket, kMetricsPort, "/readyz", kReadyProbeSeconds);
  co_return status == 200;
}

asio::awaitable<bool> Cluster::all_ready(bool apps_only, std::string* why) {
  bool good = launcher_->all_running(*why);
  if (apps_only) co_return good;
  unsigned ready = 0;
  for (const Node& node : network_.nodes) {
    const bool one = co_await node_ready(node.number);
    if (one) ++ready;
  }
  *why += ", " + std::to_string(ready) + "/" + std::to_string(options_.nodes) + " nodes ready";
  co_return good&& ready == options_.nodes;
}

asio::awaitable<void> Cluster::announce_ready() {
  for (;;) {  // as long as it takes: the supervisor decides when it is too long
    std::string why;
    const bool ready = co_await all_ready(false, &why);
    if (ready) break;
    terminal_.status("waiting: " + why);
    co_await sleep_for(kReadyEvery);
  }
  terminal_.settle(
      "[" + terminal_.age() + "] ready: every task runs, every node answers" +
      (vip_.empty() ? "" : "; try: muster-dev exec" + name_option() + " 1 -- " + vip_));
  [[maybe_unused]] const auto told = ::write(handles_.life.get(), "ready\n", 6);
}

asio::awaitable<void> Cluster::bring_master_back() {
  ++following_;  // those that followed the former one do so no more
  master_->restart(wall_now());
  const std::string address = master_->identity().address;
  leading_http().listen(listen_in(network_.master.get(), address, kMasterPort).release());
  master_up_ = true;
  co_await sleep_for(kRoutesAfter);
  co_await agents_follow();
}

asio::awaitable<void> Cluster::agents_follow() {
  // A master that goes meanwhile has others after it.
  const std::uint64_t mine = ++following_;
  master_->set_phase(MasterPhase::recovering);
  co_await sleep_for(kRecoveredAfter);
  if (mine != following_) co_return;
  master_->set_phase(MasterPhase::leading);
  co_await sleep_for(kFirstAgentAfter);
  bool subscribed = false;
  for (const Node& node : network_.nodes) {
    if (mine != following_) co_return;
    master_->agent_returns(node.agent_id, wall_now());
    publish();
    co_await sleep_for(kNextAgentAfter);
    if (!std::exchange(subscribed, true)) {
      master_->subscribe_framework(wall_now());
      publish();
    }
  }
}

int run_cluster(ClusterOptions options, ClusterHandles handles) {
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  ::setsid();  // Ctrl-C is the supervisor's to hear
  ::signal(SIGPIPE, SIG_IGN);
  // Never destroyed: what it holds ends with this process, which is all there is to do.
  Cluster cluster{std::move(options), std::move(handles)};
  try {
    ::_exit(cluster.run());
  } catch (const std::exception& error) {
    std::fprintf(stderr, "muster-dev: %s\n", error.what());
    ::_exit(1);
  }
}

}  // namespace muster::dev
