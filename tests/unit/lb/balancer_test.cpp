#include "lb/io/balancer.hpp"

#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <sys/eventfd.h>
#include <utility>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>
#include <doctest/doctest.h>

#include "base/io/task_group.hpp"
#include "lb/io/connections.hpp"
#include "tests/support/fake_driver.hpp"
#include "tests/support/lb_samples.hpp"

namespace muster::lb {
namespace {

using namespace testing;

ClusterDelta delta_of(std::vector<Change<Task>> tasks, bool complete = true) {
  ClusterDelta delta;
  delta.complete = complete;
  delta.tasks = std::move(tasks);
  return delta;
}

Task web(int i) {
  return task(std::to_string(i),
              {literal("10.1." + std::to_string(i / 200) + "." + std::to_string(i % 200), 80)},
              {"192.168.0.1:80"});
}

/// A Balancer on a fake kernel, and a loop that is run by hand.
struct Fixture {
  explicit Fixture(FakeKernel& kernel, BalancerOptions options = {})
      : balancer{context.get_executor(), std::make_unique<FakeDriver>(kernel), options, registry},
        group{context.get_executor()} {
    REQUIRE(balancer.start().has_value());
  }
  ~Fixture() {
    group.stop();
    boost::asio::co_spawn(context, group.join(), [](const std::exception_ptr&) {});
    context.restart();
    context.run();
  }
  void run() { group.spawn(balancer.run()); }
  /// Lets the loop run until `done`, at most some seconds.
  template <class Done>
  bool until(Done done) {
    const TimePoint limit = Clock::now() + std::chrono::seconds{20};
    while (!done()) {
      if (Clock::now() > limit) return false;
      context.restart();
      context.run_one_for(std::chrono::milliseconds{100});
    }
    return true;
  }
  double metric(const std::string& name) const {
    for (const auto& family : registry.Collect()) {
      if (family.name != name || family.metric.empty()) continue;
      const auto& metric = family.metric[0];
      return family.type == prometheus::MetricType::Gauge ? metric.gauge.value
                                                          : metric.counter.value;
    }
    return -1;
  }

  boost::asio::io_context context;
  prometheus::Registry registry;
  Balancer balancer;
  TaskGroup group;
};

TEST_CASE("a small change is in the kernel when apply returns") {
  FakeKernel kernel;
  Fixture fixture{kernel};
  fixture.balancer.apply(delta_of({added(web(1)), added(web(2))}));
  CHECK(kernel.state.vips.size() == 2);
  CHECK(fixture.balancer.status().healthy);
  CHECK(fixture.balancer.status().applied_vips == 2);
  CHECK(fixture.balancer.status().applied_backends == 2);
  CHECK(fixture.balancer.vips().size() == 2);
  CHECK(fixture.balancer.vips()[0].name == "10.1.0.1:80");
  CHECK(fixture.metric("muster_lb_vips") == 2);
  CHECK(fixture.metric("muster_lb_applied_changes_total") == 2);
}

TEST_CASE("routes come after the first elements") {
  FakeKernel kernel;
  BalancerOptions options;
  options.node_v4 = ip("192.168.0.1");
  Fixture fixture{kernel, options};
  kernel.after_write = [&](const KernelState& state) {
    if (!state.vips.empty()) CHECK_FALSE(kernel.routes.v4.has_value());
  };
  fixture.balancer.apply(delta_of({added(web(1))}));
  CHECK(kernel.routes.v4 == ip("192.168.0.1"));
}

TEST_CASE("a large change follows in steps, in order with what comes after it") {
  FakeKernel kernel;
  Fixture fixture{kernel};
  std::vector<Change<Task>> tasks;
  for (int i = 0; i < 5000; ++i) tasks.push_back(added(web(i)));
  fixture.balancer.apply(delta_of(std::move(tasks)));
  CHECK(kernel.state.vips.size() < 5000);
  fixture.balancer.apply(delta_of({removed(web(4999))}));
  CHECK(fixture.until([&] { return kernel.state.vips.size() == 4999; }));
  CHECK_FALSE(kernel.state.vips.contains(tcp("10.1.24.199:80")));
}

TEST_CASE("a bad range and a missing privilege are told before anything is done") {
  FakeKernel kernel;
  boost::asio::io_context context;
  for (const char* range : {"11.0.0.0", "fd01:c::/64", "11.0.0.0/40"}) {
    CAPTURE(range);
    prometheus::Registry registry;
    BalancerOptions options;
    options.vip_range_v4 = range;
    Balancer balancer{context.get_executor(), std::make_unique<FakeDriver>(kernel), options,
                      registry};
    const auto started = balancer.start();
    REQUIRE_FALSE(started.has_value());
    CHECK(started.error() == Errc::bad_range);
    CHECK(balancer.status().last_error.find(range) != std::string::npos);
  }
  CHECK(kernel.calls == 0);
}

TEST_CASE("a refused change is tried again") {
  FakeKernel kernel;
  Fixture fixture{kernel};
  fixture.run();
  kernel.fail_at = kernel.calls + 1;
  fixture.balancer.apply(delta_of({added(web(1))}));
  CHECK_FALSE(fixture.balancer.status().healthy);
  CHECK_FALSE(fixture.balancer.status().last_error.empty());
  CHECK(fixture.until([&] { return fixture.balancer.status().healthy; }));
  CHECK(kernel.state.vips.size() == 1);
  CHECK(fixture.metric("muster_lb_errors_total") == 1);
}

TEST_CASE("routes that the kernel refuses for now are tried again, though nothing else happens") {
  FakeKernel kernel;
  kernel.routes_to_refuse = 3;
  BalancerOptions options;
  options.node_v4 = ip("192.168.0.1");
  options.reconcile_interval = std::chrono::hours{1};
  Fixture fixture{kernel, options};
  fixture.run();
  fixture.balancer.apply(delta_of({added(web(1))}));
  CHECK(fixture.until([&] {
    const std::scoped_lock lock{kernel.mutex};
    return kernel.routes_changed == 1;
  }));
  CHECK(kernel.routes_to_refuse == 0);
}

TEST_CASE("a foreign flush is mended at once") {
  FakeKernel kernel;
  Fixture fixture{kernel};
  fixture.run();
  fixture.balancer.apply(delta_of({added(web(1)), added(web(2))}));
  kernel.flush_all();
  CHECK(fixture.until([&] { return kernel.state.vips.size() == 2; }));
  CHECK(fixture.until([&] { return fixture.metric("muster_lb_reconcile_repairs_total") == 2; }));
  CHECK(fixture.metric("muster_lb_foreign_changes_total") == 1);
}

TEST_CASE("a steady reconcile writes nothing") {
  FakeKernel kernel;
  BalancerOptions options;
  options.reconcile_interval = Duration{20};
  Fixture fixture{kernel, options};
  fixture.run();
  fixture.balancer.apply(delta_of({added(web(1)), added(web(2))}));
  const std::size_t writes = kernel.writes;
  CHECK(fixture.until([&] { return fixture.metric("muster_lb_reconciles_total") >= 3; }));
  CHECK(kernel.writes == writes);
  CHECK(fixture.metric("muster_lb_reconcile_repairs_total") == 0);
}

TEST_CASE("changes that come while the kernel is read are not lost") {
  FakeKernel kernel;
  BalancerOptions options;
  options.reconcile_interval = Duration{1};
  Fixture fixture{kernel, options};
  fixture.run();
  for (int i = 0; i < 500; ++i) {
    fixture.balancer.apply(delta_of({added(web(i))}));
    fixture.context.restart();
    fixture.context.poll();
  }
  CHECK(fixture.until([&] { return kernel.state.vips.size() == 500; }));
  CHECK(fixture.until([&] { return fixture.balancer.status().healthy; }));
  CHECK(fixture.metric("muster_lb_reconcile_repairs_total") == 0);
}

TEST_CASE("of no backend is it said that it takes connections before the kernel has it") {
  const auto backend = [](int i) {
    return task(std::to_string(i), {literal("10.1.0.1", 80)},
                {"192.168.0." + std::to_string(i) + ":80"});
  };
  using Said = std::map<std::string, std::pair<int, bool>>;  // weight, pending
  const auto said = [](const Balancer& balancer) {
    Said found;
    for (const auto& vip : balancer.vips()) {
      for (const auto& one : vip.backends) {
        found[to_string(one.endpoint)] = {one.weight, one.pending};
      }
    }
    return found;
  };
  FakeKernel kernel;
  {
    Fixture fixture{kernel};
    fixture.balancer.apply(delta_of({added(backend(1)), added(backend(3))}));
    CHECK(said(fixture.balancer) ==
          Said{{"192.168.0.1:80", {1, false}}, {"192.168.0.3:80", {1, false}}});
  }
  Fixture fixture{kernel};
  SUBCASE("because the kernel counts more than the disk for a while") {
    fixture.balancer.restore(delta_of({added(backend(1)), added(backend(2))}));
    CHECK(said(fixture.balancer) == Said{{"192.168.0.1:80", {1, false}},
                                         {"192.168.0.2:80", {0, true}},
                                         {"192.168.0.3:80", {1, true}}});
    fixture.run();
    CHECK(fixture.until([&] {
      return said(fixture.balancer) ==
             Said{{"192.168.0.1:80", {1, false}}, {"192.168.0.2:80", {1, false}}};
    }));
  }
  SUBCASE("because the kernel refused, and has not been read again") {
    kernel.fail_at = kernel.calls + 1;
    fixture.balancer.apply(delta_of({added(backend(1)), added(backend(2)), added(backend(3))}));
    CHECK(said(fixture.balancer) == Said{{"192.168.0.1:80", {1, false}},
                                         {"192.168.0.2:80", {0, true}},
                                         {"192.168.0.3:80", {1, false}}});
  }
  SUBCASE("and what nobody speaks of before the state is whole is shown as it is") {
    CHECK(said(fixture.balancer) ==
          Said{{"192.168.0.1:80", {1, true}}, {"192.168.0.3:80", {1, true}}});
  }
}

TEST_CASE("a change that waited for a read does not wait for the next one") {
  FakeKernel kernel;
  Fixture fixture{kernel};
  fixture.run();
  fixture.balancer.apply(delta_of({added(web(1))}));
  std::size_t reads_before_write = 0;
  std::unique_lock reading{kernel.mutex};  // what is read takes that long
  const std::size_t reads = kernel.reads;
  kernel.after_write = [&](const KernelState&) { reads_before_write = kernel.reads; };
  const auto foreign = [&] {
    ::eventfd_write(kernel.news(), 1);
    const double seen = fixture.metric("muster_lb_foreign_changes_total");
    return fixture.until([&] { return fixture.metric("muster_lb_foreign_changes_total") > seen; });
  };
  REQUIRE(foreign());
  // The first read begins at once, and nothing is written before it ends.
  const auto waits = [&] {
    fixture.context.restart();
    return fixture.context.poll() == 0;
  };
  REQUIRE(fixture.until(waits));
  fixture.balancer.apply(delta_of({added(web(2))}));
  REQUIRE(foreign());
  reading.unlock();
  CHECK(fixture.until([&] {
    const std::scoped_lock lock{kernel.mutex};
    return kernel.state.vips.size() == 2;
  }));
  CHECK(reads_before_write == reads + 1);
}

TEST_CASE("a quarantined VIP is shown, and tried again at the next reconcile") {
  FakeKernel kernel;
  BalancerOptions options;
  options.reconcile_interval = Duration{300};
  Fixture fixture{kernel, options};
  fixture.run();
  kernel.poison = {tcp("10.1.0.1:80")};
  fixture.balancer.apply(delta_of({added(web(1)), added(web(2))}));
  CHECK(fixture.until([&] { return fixture.metric("muster_lb_quarantined_vips") == 1; }));
  CHECK(kernel.state.vips.size() == 1);
  CHECK(fixture.balancer.vips()[0].quarantined);
  {
    const std::scoped_lock lock{kernel.mutex};
    kernel.poison.clear();
  }
  CHECK(fixture.until([&] { return kernel.state.vips.size() == 2; }));
  CHECK(fixture.until([&] { return fixture.balancer.status().healthy; }));
}

TEST_CASE("udp VIPs that change have their stale flows forgotten") {
  FakeKernel kernel;
  Fixture fixture{kernel};
  const Task one = task("1", {literal("10.1.0.1", 53, Protocol::udp)}, {"192.168.0.1:53"});
  fixture.balancer.apply(delta_of({added(one)}));
  const auto flushes = [&] {
    const std::scoped_lock lock{kernel.mutex};
    return kernel.flushes.size();
  };
  CHECK(fixture.until([&] { return flushes() == 1; }));
  fixture.balancer.apply(delta_of({removed(one)}));
  CHECK(fixture.until([&] { return flushes() == 2; }));
  CHECK(kernel.flushes[1] == UdpKeep{{udp("10.1.0.1:53"), {}}});
}

TEST_CASE("flows that could not be forgotten are tried again with the next change") {
  FakeKernel kernel;
  kernel.flushes_to_refuse = 1;
  Fixture fixture{kernel};
  const Task one = task("1", {literal("10.1.0.1", 53, Protocol::udp)}, {"192.168.0.1:53"});
  const auto flushed = [&] {
    const std::scoped_lock lock{kernel.mutex};
    return kernel.flushes.size();
  };
  fixture.balancer.apply(delta_of({added(one)}));
  CHECK(fixture.until([&] { return fixture.metric("muster_lb_errors_total") > 0; }));
  CHECK(flushed() == 0);
  const Task two = task("2", {literal("10.1.0.2", 53, Protocol::udp)}, {"192.168.0.1:53"});
  fixture.balancer.apply(delta_of({added(two)}));
  CHECK(fixture.until([&] { return flushed() == 1; }));
  CHECK(kernel.flushes[0].contains(udp("10.1.0.1:53")));
  CHECK(kernel.flushes[0].contains(udp("10.1.0.2:53")));
}

TEST_CASE("what slots count is summed for each backend, whatever happens to the slots") {
  ConnectionCounter counter;
  const Vip vip = tcp("10.1.0.1:80");
  const Endpoint a = at("10.0.0.1:1");
  const Endpoint b = at("10.0.0.2:1");
  KernelState state;
  state.vips[vip] = {.selector = Selector{Policy::random, 2}, .slots = {a, b}};
  state.connections[vip] = {10, 20};
  CHECK(counter.update(state)->at(vip) == std::map<Endpoint, std::uint64_t>{{a, 10}, {b, 20}});
  state.connections[vip] = {15, 20};
  CHECK(counter.update(state)->at(vip).at(a) == 15);
  // a left; its slot went to b, and began at 0 again.
  state.vips[vip].slots = {b, b};
  state.connections[vip] = {3, 21};
  CHECK(counter.update(state)->at(vip) == std::map<Endpoint, std::uint64_t>{{b, 24}});
}

TEST_CASE("connections counted by backend add up over removal and return") {
  ConnectionCounter counter;
  const Vip vip = tcp("11.0.0.1:80");
  const auto seen = [&](std::map<Endpoint, std::uint64_t> counts) {
    KernelState state;
    state.vips[vip].slots = {at("10.0.0.1:1")};
    if (!counts.empty()) state.backend_connections[vip] = std::move(counts);
    return counter.update(state)->at(vip);
  };
  CHECK(seen({{at("10.0.0.1:1"), 5}}).at(at("10.0.0.1:1")) == 5);
  // Somebody ahead of it in the order changes nothing.
  CHECK(seen({{at("10.0.0.0:1"), 2}, {at("10.0.0.1:1"), 9}}) ==
        std::map<Endpoint, std::uint64_t>{{at("10.0.0.0:1"), 2}, {at("10.0.0.1:1"), 9}});
  // Its counter began anew: removed and added between two readings.
  CHECK(seen({{at("10.0.0.1:1"), 3}}).at(at("10.0.0.1:1")) == 12);
}

TEST_CASE("connection series end at a bound, and the rest is one series") {
  auto totals = std::make_shared<ConnectionTotals>();
  for (int i = 0; i < 3000; ++i) {
    const Vip vip = tcp("10.1." + std::to_string(i / 200) + "." + std::to_string(i % 200) + ":80");
    (*totals)[vip][at("10.0.0.1:1")] = 2;
  }
  ConnectionMetrics metrics;
  metrics.publish(totals, nullptr);
  const auto families = metrics.Collect();
  REQUIRE(families.size() == 2);
  REQUIRE(families[0].metric.size() == ConnectionMetrics::kMaxSeries + 1);
  CHECK(families[0].metric.back().counter.value == 2000);
  CHECK(families[1].metric.size() == 3000);
  auto wide = std::make_shared<ConnectionTotals>();
  for (std::uint16_t i = 1; i <= ConnectionMetrics::kMaxBackendSeries + 5; ++i) {
    (*wide)[tcp("10.1.0.1:80")][{ip("10.0.0.1"), port(i)}] = 3;
  }
  metrics.publish(wide, nullptr);
  const auto again = metrics.Collect();
  CHECK(again[0].metric.size() == 1);
  REQUIRE(again[1].metric.size() == ConnectionMetrics::kMaxBackendSeries + 1);
  CHECK(again[1].metric.back().counter.value == 15);
}

}  // namespace
}  // namespace muster::lb
