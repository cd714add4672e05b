#include <algorithm>
#include <array>
#include <fstream>
#include <string>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include <doctest/doctest.h>

#include "tests/scenarios/lb_namespace_fixture.hpp"

/// What a namespace costs. Figures are printed, and read from a release build: docs/limits.md.
namespace muster::lb {
namespace {

constexpr int kBackends = 4;
// What is sanitized takes many times as long, and its figures mean nothing.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr std::array kSizes{200};
constexpr int kChanged = 50;
constexpr std::size_t kMany = 10;
#else
constexpr std::array kSizes{1000, 10'000};
constexpr int kChanged = 1000;
constexpr std::size_t kMany = 50;
#endif

Task many(int vip, int backend) {
  return task(
      std::to_string(vip) + "." + std::to_string(backend),
      {literal("11.1." + std::to_string(vip / 250) + "." + std::to_string(vip % 250 + 1), 80)},
      {"10.2.0." + std::to_string(backend + 1) + ":8080"});
}

double cpu_milliseconds() {
  rusage used{};
  ::getrusage(RUSAGE_SELF, &used);
  return static_cast<double>(used.ru_utime.tv_sec + used.ru_stime.tv_sec) * 1e3 +
         static_cast<double>(used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1e3;
}

/// Of the calling thread: others' turns on the processor do not count.
double thread_milliseconds() {
  timespec used{};
  ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &used);
  return static_cast<double>(used.tv_sec) * 1e3 + static_cast<double>(used.tv_nsec) / 1e6;
}

long resident_kib() {
  std::ifstream file{"/proc/self/statm"};
  long size = 0;
  long pages = 0;
  file >> size >> pages;
  return pages * (::sysconf(_SC_PAGESIZE) / 1024);
}

/// What the kernel has for itself: rough, for others use it meanwhile.
long kernel_kib() {
  std::ifstream file{"/proc/meminfo"};
  long sum = 0;
  for (std::string name, unit; file >> name;) {
    long size = 0;
    file >> size;
    if (name == "Slab:" || name == "Percpu:") sum += size;
    std::getline(file, unit);
  }
  return sum;
}

struct Room {
  explicit Room(int vips, std::size_t namespaces)
      : containers(namespaces), node{net.node, folder.options()} {
    ClusterDelta delta;
    delta.complete = true;
    for (int i = 0; i < vips; ++i) {
      for (int b = 0; b < kBackends; ++b) delta.tasks.push_back(added(many(i, b)));
    }
    node.apply(std::move(delta));
    REQUIRE(
        eventually([&] { return node.status().applied_vips == static_cast<std::uint64_t>(vips); }));
  }
  void name(std::size_t from, std::size_t to) {
    for (std::size_t i = from; i < to; ++i)
      folder.name("c" + std::to_string(i), containers[i].path());
    REQUIRE(eventually([&] { return served(node) == to; }));
    for (std::size_t i = from; i < to; ++i) {
      REQUIRE(eventually([&] { return !containers[i].shell("ip route show proto 109").empty(); }));
    }
  }

  Bypass net;
  Folder folder;
  std::vector<Netns> containers;
  Node node;
};

TEST_CASE("from a file to a connection, and what a namespace holds") {
  MUSTER_NEEDS_NETNS();
  for (const int vips : kSizes) {
    Room room{vips, 11};
    if (!room.net.attach(room.containers[0]).empty()) return;
    for (std::size_t i = 1; i < room.containers.size(); ++i) {
      room.containers[i].shell("ip addr add 10.9.0.1/32 dev lo");
    }
    std::vector<std::unique_ptr<NameServer>> servers;
    for (int b = 1; b <= kBackends; ++b) {
      servers.push_back(room.net.serve("10.2.0." + std::to_string(b) + ":8080"));
    }
    const auto began = std::chrono::steady_clock::now();
    room.folder.name("c0", room.containers[0].path());
    room.containers[0].run([] {
      const auto limit = std::chrono::steady_clock::now() + std::chrono::seconds{60};
      while (connect_tcp(at("11.1.0.1:80")).error != 0 &&
             std::chrono::steady_clock::now() < limit) {
        std::this_thread::sleep_for(std::chrono::milliseconds{1});
      }
    });
    const std::chrono::duration<double, std::milli> first =
        std::chrono::steady_clock::now() - began;
    REQUIRE(
        eventually([&] { return !room.containers[0].shell("ip route show proto 109").empty(); }));
    const std::chrono::duration<double, std::milli> all = std::chrono::steady_clock::now() - began;
    const auto [counts, whole] = room.containers[0].run([] {
      DriverConfig config{.range_v4 = Prefix::parse("11.0.0.0/8"),
                          .range_v6 = Prefix::parse("fd01:c::/64")};
      config.check_only = true;
      const auto driver = new_driver("nft");
      REQUIRE(driver->open(config).has_value());
      const double before = thread_milliseconds();
      REQUIRE(driver->read_counts().has_value());
      const double counted = thread_milliseconds();
      REQUIRE(driver->read().has_value());
      return std::pair{counted - before, thread_milliseconds() - counted};
    });
    MESSAGE(vips << " VIPs: to read the counts takes " << counts << " ms, to read all " << whole
                 << " ms");
    const long resident = resident_kib();
    const long kernel = kernel_kib();
    room.name(1, room.containers.size());
    MESSAGE(vips << " VIPs: connected after " << first.count() << " ms, all there after "
                 << all.count() << " ms; each of ten more namespaces: daemon "
                 << (resident_kib() - resident) / 10 << " KiB, kernel "
                 << (kernel_kib() - kernel) / 10 << " KiB");
    CHECK(room.node.status().healthy);
  }
}

TEST_CASE("what one change costs with one namespace and with fifty") {
  MUSTER_NEEDS_NETNS();
  constexpr int kChanges = 50;
  Room room{kChanged, kMany};
  for (const Netns& container : room.containers) container.shell("ip addr add 10.9.0.1/32 dev lo");
  std::size_t before = 0;
  for (const std::size_t namespaces : {std::size_t{0}, std::size_t{1}, kMany}) {
    room.name(before, namespaces);
    before = namespaces;
    double longest = 0;
    double last = 0;
    const double cpu = cpu_milliseconds();
    for (int i = 0; i < kChanges; ++i) {
      const Task one = many(i, kBackends);
      for (const bool add : {true, false}) {
        room.node.apply(Node::delta_of({add ? added(one) : removed(one)}));
        for (int turn = 0; turn < 20; ++turn) {
          const double worked = room.node.call([](Balancer&) { return thread_milliseconds(); });
          if (turn > 0) longest = std::max(longest, worked - last);
          last = worked;
        }
      }
    }
    MESSAGE(namespaces << " namespaces: " << (cpu_milliseconds() - cpu) / (2 * kChanges)
                       << " ms of CPU a change; between two answers the control thread worked "
                       << longest << " ms at most");
  }
  CHECK(room.node.status().healthy);
}

}  // namespace
}  // namespace muster::lb
