#pragma once

#include <atomic>
#include <cstdlib>
#include <exception>
#include <future>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <doctest/doctest.h>

#include "base/io/task_group.hpp"
#include "lb/io/balancer.hpp"
#include "lb/io/driver_choice.hpp"
#include "tests/scenarios/bpf_room.hpp"
#include "tests/support/lb_samples.hpp"
#include "tests/support/netns.hpp"
#include "tests/support/sockets.hpp"

namespace muster::lb {

using namespace testing;

/// The driver whose turn it is: nft, or what MUSTER_LB_DRIVER says. The same list runs for each.
inline std::string driver_name() {
  const char* name = std::getenv("MUSTER_LB_DRIVER");
  return name != nullptr ? name : "nft";
}
inline bool on_ipvs() {
  return driver_name() == "ipvs";
}
inline bool on_bpf() {
  return driver_name() == "bpf";
}
/// Where the bpf driver is to attach; of no meaning to others.
inline std::string bpf_cgroup(const std::string& name = driver_name()) {
  return name == "bpf" ? BpfRoom::get().cgroup() : std::string{};
}
inline std::unique_ptr<Driver> new_driver(const std::string& name = driver_name()) {
  auto driver = make_driver(name);
  REQUIRE(driver.has_value());
  return *std::move(driver);
}
/// The name of its tables, and what lists its routes to the ranges.
inline std::string our_table() {
  return on_ipvs() ? "muster_ipvs" : "muster";
}
inline std::string our_routes(const std::string& family = "") {
  return "ip " + family + " route show " + (on_ipvs() ? "table local proto 110" : "proto 109");
}

/// A client (as a container would be: its traffic is forwarded), a node, and a machine with four
/// backend addresses behind it. Nobody has a route to the Vip range but the client, to the node;
/// the node has no default route.
///
///     client 10.1.0.2 ── 10.1.0.1 node 10.2.0.254 ── 10.2.0.1 … 10.2.0.4 backends
///         fd00:1::2 ── fd00:1::1      fd00:2::fe ── fd00:2::1, fd00:2::2
struct Topology {
  Topology() {
    bpf_cgroup();  // before there are threads
    connect({client, "eth0", "10.1.0.2/24 fd00:1::2/64"}, {node, "c0", "10.1.0.1/24 fd00:1::1/64"});
    connect({node, "b0", "10.2.0.254/24 fd00:2::fe/64"},
            {backends, "eth0",
             "10.2.0.1/24 10.2.0.2/24 10.2.0.3/24 10.2.0.4/24 fd00:2::1/64 fd00:2::2/64"});
    node.shell("sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1");
    client.shell("ip route add default via 10.1.0.1; ip -6 route add default via fd00:1::1");
    backends.shell("ip route add default via 10.2.0.254; ip -6 route add default via fd00:2::fe");
  }

  /// A cgroup holds only so many programs.
  ~Topology() {
    if (std::uncaught_exceptions() == 0) node.run([] { (void)bpf::unpin("muster"); });
  }

  /// A server on a backend address that answers with its address.
  std::unique_ptr<NameServer> serve(const std::string& endpoint) const {
    return backends.run([&] { return std::make_unique<NameServer>(at(endpoint), endpoint); });
  }

  Netns client;
  Netns node;
  Netns backends;
};

/// A Balancer with its control thread, inside a namespace.
class Node {
 public:
  explicit Node(const Netns& netns, BalancerOptions options = {},
                std::string driver = driver_name()) {
    options.bpf_cgroup = bpf_cgroup(driver);
    std::promise<std::string> started;
    auto outcome = started.get_future();
    thread_ = std::thread{[this, &netns, &started, options, driver] {
      netns.enter();
      balancer_ = std::make_unique<Balancer>(context_.get_executor(), new_driver(driver), options,
                                             registry_);
      const auto done = balancer_->start();
      started.set_value(done ? "" : done.error().message() + ": " + balancer_->status().last_error);
      if (!done) return;
      TaskGroup group{context_.get_executor()};
      group_ = &group;
      group.spawn(balancer_->run());
      context_.run();
      // Stopping withdraws nothing.
      group.stop();
      boost::asio::co_spawn(context_, group.join(), [](const std::exception_ptr&) {});
      context_.restart();
      context_.run();
      balancer_.reset();
    }};
    const std::string problem = outcome.get();
    if (problem.empty()) return;
    thread_.join();
    FAIL(problem);
  }
  Node(const Node&) = delete;
  Node& operator=(const Node&) = delete;
  ~Node() {
    work_.reset();
    context_.stop();
    if (thread_.joinable()) thread_.join();
  }

  /// Runs `function` with the Balancer on its thread.
  template <class Function>
  auto call(Function function) {
    std::packaged_task<std::invoke_result_t<Function, Balancer&>()> task{
        [&] { return function(*balancer_); }};
    auto result = task.get_future();
    boost::asio::post(context_, [&task] { task(); });
    return result.get();
  }

  void apply(ClusterDelta delta) {
    call([&delta](Balancer& balancer) { balancer.apply(delta); });
  }
  void add(Task task) { apply(delta_of({added(std::move(task))})); }
  void remove(Task task) { apply(delta_of({removed(std::move(task))})); }
  void allocate(VipAllocation allocation) {
    ClusterDelta delta;
    delta.complete = true;
    delta.vips.push_back(added(std::move(allocation)));
    apply(delta);
  }
  Balancer::Status status() {
    return call([](Balancer& balancer) { return balancer.status(); });
  }
  double metric(const std::string& name) const {
    for (const auto& family : registry_.Collect()) {
      if (family.name != name || family.metric.empty()) continue;
      const auto& metric = family.metric[0];
      return family.type == prometheus::MetricType::Gauge ? metric.gauge.value
                                                          : metric.counter.value;
    }
    return 0;
  }

  static ClusterDelta delta_of(std::vector<Change<Task>> tasks) {
    ClusterDelta delta;
    delta.complete = true;
    delta.tasks = std::move(tasks);
    return delta;
  }

 private:
  boost::asio::io_context context_;
  boost::asio::executor_work_guard<boost::asio::io_context::executor_type> work_{
      context_.get_executor()};
  prometheus::Registry registry_;
  std::unique_ptr<Balancer> balancer_;
  TaskGroup* group_ = nullptr;
  std::thread thread_;
};

/// Connects again and again until stopped, and counts what fails.
class Load {
 public:
  Load(const Netns& from, const Endpoint& to)
      : thread_{[this, &from, to] {
          from.enter();
          while (!stop_) {
            const Attempt attempt = connect_tcp(to, std::chrono::seconds{10});
            ++(attempt.error == 0 ? good_ : bad_);
          }
        }} {}
  ~Load() {
    stop_ = true;
    if (thread_.joinable()) thread_.join();
  }
  void stop() {
    stop_ = true;
    thread_.join();
  }
  long good() const { return good_; }
  long bad() const { return bad_; }

 private:
  std::atomic<bool> stop_ = false;
  std::atomic<long> good_ = 0;
  std::atomic<long> bad_ = 0;
  std::thread thread_;
};

/// Polls until `done`, at most 20 s.
template <class Done>
bool eventually(Done done) {
  const auto limit = std::chrono::steady_clock::now() + std::chrono::seconds{20};
  while (!done()) {
    if (std::chrono::steady_clock::now() > limit) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds{5});
  }
  return true;
}

/// Why there can be no driver bpf here; empty if there can.
inline std::string bpf_missing() {
  const BpfRoom& room = BpfRoom::get();
  if (!room.missing().empty()) return room.missing();
  const Netns netns;
  return netns.run([&room] {
    DriverConfig config;
    config.check_only = true;
    config.bpf_cgroup = room.cgroup();
    const auto driver = new_driver("bpf");
    const auto opened = driver->open(config);
    return opened ? std::string{} : driver->detail();
  });
}

}  // namespace muster::lb

/// Leaves a test case of what the driver whose turn it is cannot do: docs/data-plane.md names each.
#define MUSTER_EXCEPT_IPVS(what)                 \
  do {                                           \
    if (::muster::lb::on_ipvs()) {               \
      MESSAGE("an exception of ipvs: " << what); \
      return;                                    \
    }                                            \
  } while (false)
