#include <algorithm>
#include <sys/resource.h>

#include <doctest/doctest.h>

#include "lb/io/programmer.hpp"
#include "tests/scenarios/lb_fixture.hpp"
#include "tests/support/sole_programmer.hpp"

// Times are printed, not required: they belong to the machine. `bench/` compares.
namespace muster::lb {
namespace {

using Micros = std::chrono::duration<double, std::micro>;

double cpu_milliseconds() {
  rusage usage{};
  ::getrusage(RUSAGE_THREAD, &usage);
  const auto of = [](const timeval& t) {
    return static_cast<double>(t.tv_sec) * 1e3 + static_cast<double>(t.tv_usec) / 1e3;
  };
  return of(usage.ru_utime) + of(usage.ru_stime);
}

double percentile(std::vector<double>& values, std::size_t percent) {
  std::sort(values.begin(), values.end());
  return values[(values.size() - 1) * percent / 100];
}

Task many(int vip, int backend) {
  const std::string low = std::to_string(vip / 250) + "." + std::to_string(1 + vip % 250);
  return task(std::to_string(vip) + "." + std::to_string(backend), {literal("11.0." + low, 80)},
              {"10." + std::to_string(100 + backend) + "." + low + ":8080"});
}

constexpr int kVips = 10'000;
constexpr int kBackends = 4;

TEST_CASE("ten thousand VIPs with four backends are programmed, read back and changed") {
  MUSTER_NEEDS_NETNS();
  const Netns netns;
  netns.run([] {
    const auto held = new_driver();
    Driver& driver = *held;
    DriverConfig config;
    config.range_v4 = Prefix::parse("11.0.0.0/8");
    config.bpf_cgroup = bpf_cgroup();
    REQUIRE(driver.open(config).has_value());
    SoleProgrammer programmer{driver, Policy::random};
    ClusterDelta delta;
    delta.complete = true;
    for (int i = 0; i < kVips; ++i) {
      for (int b = 0; b < kBackends; ++b) delta.tasks.push_back(added(many(i, b)));
    }
    programmer.take(delta);
    programmer.adopt(*driver.read());

    const auto settle = [&] {
      while (programmer.step() == Programmer::Outcome::more) {
      }
    };
    const double cpu = cpu_milliseconds();
    const auto began = std::chrono::steady_clock::now();
    settle();
    const Micros installed = std::chrono::steady_clock::now() - began;
    const double installed_cpu = cpu_milliseconds() - cpu;
    MESSAGE("install: " << installed.count() / 1e3 << " ms, of it CPU " << installed_cpu << " ms");
    REQUIRE(programmer.knows_kernel());
    CHECK(programmer.quarantined() == 0);
    CHECK(programmer.applied_backends() == kVips * kBackends);

    const double read_cpu = cpu_milliseconds();
    auto state = driver.read();
    MESSAGE("read back: CPU " << cpu_milliseconds() - read_cpu << " ms");
    REQUIRE(state.has_value());
    CHECK(programmer.adopt(std::move(*state)) == 0);

    std::vector<double> times;
    for (int i = 0; i < 2000; ++i) {
      const Task one = many((i * 7919) % kVips, kBackends);
      for (const bool add : {true, false}) {
        ClusterDelta change;
        change.complete = true;
        change.tasks.push_back(add ? added(one) : removed(one));
        const auto start = std::chrono::steady_clock::now();
        programmer.take(change);
        settle();
        times.push_back(Micros{std::chrono::steady_clock::now() - start}.count());
      }
    }
    MESSAGE("one backend: p50 " << percentile(times, 50) << " us, p99 " << percentile(times, 99)
                                << " us, worst " << times.back() << " us");
    CHECK(serves(programmer.applied().begin()->second,
                 programmer.table().desired(programmer.applied().begin()->first)));
  });
}

TEST_CASE("connecting through a VIP among ten thousand, and past them") {
  MUSTER_NEEDS_NETNS();
  Topology net;
  const auto server = net.serve("10.2.0.1:8080");
  Node node{net.node};
  ClusterDelta delta;
  delta.complete = true;
  for (int i = 0; i < kVips; ++i) delta.tasks.push_back(added(many(i, 0)));
  delta.tasks.push_back(added(task("x", {literal("11.200.0.1", 80)}, {"10.2.0.1:8080"})));
  node.apply(delta);
  REQUIRE(eventually([&] { return node.status().applied_vips == kVips + 1; }));
  for (const Netns* from : {&net.client, &net.node}) {
    std::vector<double> through;
    std::vector<double> past;
    from->run([&] {
      for (int i = 0; i < 4000; ++i) {
        const bool vip = i % 2 == 0;  // interleaved: both see the same noise
        const Attempt attempt = connect_tcp(at(vip ? "11.200.0.1:80" : "10.2.0.1:8080"));
        REQUIRE(attempt.error == 0);
        (vip ? through : past).push_back(static_cast<double>(attempt.took.count()));
      }
    });
    const double p50 = percentile(through, 50);
    const double other = percentile(past, 50);
    MESSAGE((from == &net.client ? "forwarded" : "local")
            << ": p50 through the VIP " << p50 << " us, past it " << other << " us");
  }
}

}  // namespace
}  // namespace muster::lb
