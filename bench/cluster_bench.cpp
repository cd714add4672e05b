#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <malloc.h>
#include <string>
#include <time.h>
#include <unistd.h>
#include <vector>

#include "base/rng.hpp"
#include "base/time.hpp"
#include "cluster/core/cluster.hpp"

// What does cluster/ cost at 100,000 tasks? A snapshot whole and in slices, one event, a save and
// a restore. Arguments: tasks, agents.

using namespace muster;
using namespace muster::cluster;

namespace {

constexpr Cluster::WallTime kWall{std::chrono::seconds{1'700'000'000}};

// CPU time of this thread: what the work costs, also on a machine that is busy with other work.
struct Stopwatch {
  static double now() {
    timespec time{};
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
    return static_cast<double>(time.tv_sec) * 1e3 + static_cast<double>(time.tv_nsec) / 1e6;
  }
  double milliseconds() const { return now() - start; }
  double start = now();
};

double resident_megabytes() {
  std::ifstream in{"/proc/self/statm"};
  double size = 0;
  double resident = 0;
  in >> size >> resident;
  return resident * static_cast<double>(sysconf(_SC_PAGESIZE)) / 1e6;
}

IpAddress address_of_agent(std::size_t agent) {
  return IpAddress{IpAddress::V4{10, 1, static_cast<std::uint8_t>(agent >> 8),
                                 static_cast<std::uint8_t>(agent & 0xFF)}};
}

// Ids as long as Mesos' and Marathon's own are.
std::string agent_id(std::size_t n) {
  return "6f1d2f7e-4f0c-4f4b-9a3e-0d6c5b8a7e21-S" + std::to_string(n);
}

std::string framework_id(std::size_t n) {
  return "6f1d2f7e-4f0c-4f4b-9a3e-0d6c5b8a7e21-000" + std::to_string(n);
}

Task make_task(std::size_t n, std::size_t agents) {
  const std::size_t agent = n % agents;
  Task task;
  task.id = TaskId{"app-" + std::to_string(n % 1000) + ".instance-2c0b7a52-6c1e-11ee-9d2b-" +
                   std::to_string(100'000'000'000 + n) + "._app.1"};
  task.framework_id = FrameworkId{framework_id(n % 5)};
  task.agent_id = AgentId{agent_id(agent)};
  task.framework_name = "marathon";
  task.name = "app-" + std::to_string(n % 1000);
  task.state = TaskState::running;
  task.health = Health::healthy;
  task.agent_addresses = {address_of_agent(agent)};
  task.addresses = {address_of_agent(agent)};
  const Port host = Port::from(10'000 + n / agents % 50'000).value();
  task.host_ports = {host};
  task.ports = {{.name = "http",
                 .protocol = "tcp",
                 .number = Port::from(80).value(),
                 .container_port = {},
                 .endpoints = {{address_of_agent(agent), host}},
                 .vips = {{VipName{task.name + ".marathon"}, Port::from(80).value()}}}};
  return task;
}

Observation make_snapshot(std::size_t tasks, std::size_t agents) {
  Observation all;
  all.snapshot = true;
  for (std::size_t i = 0; i < agents; ++i) {
    all.agents.push_back({AgentId{agent_id(i)},
                          "node" + std::to_string(i) + ".example.com",
                          {address_of_agent(i)},
                          Port::from(5051)});
  }
  for (std::size_t i = 0; i < 5; ++i) {
    all.frameworks.push_back({FrameworkId{framework_id(i)}, "marathon", "m1.example.com", {}});
  }
  for (std::size_t i = 0; i < tasks; ++i) all.tasks.push_back(make_task(i, agents));
  return all;
}

void print_events(Cluster& cluster, std::size_t tasks, std::size_t agents, TimePoint& now) {
  constexpr std::size_t kEvents = 20'000;
  Rng rng{1};
  std::vector<double> micros;
  std::size_t changes = 0;
  for (std::size_t i = 0; i < kEvents; ++i) {
    Observation event;
    Task task = make_task(rng.below(tasks), agents);
    switch (i % 3) {
      case 0:
        task.health = Health::unhealthy;
        event.tasks = {task};
        break;
      case 1:
        event.tasks_gone = {{key_of(task), GoneReason::terminal}};
        break;
      default:
        event.tasks = {make_task(tasks + i, agents)};
    }
    now += Duration{1};
    const Stopwatch watch;
    changes += cluster.observe(event, now, kWall).tasks.size();
    micros.push_back(watch.milliseconds() * 1000);
  }
  std::sort(micros.begin(), micros.end());
  std::printf("event, %zu changes:          p50 %.1f us  p99 %.1f us  max %.1f us\n", changes,
              micros[kEvents / 2], micros[kEvents * 99 / 100], micros.back());
}

void print_slices(const Observation& snapshot, const char* what, Cluster& cluster, TimePoint now) {
  const auto copy = std::make_shared<const Observation>(snapshot);
  double longest = 0;
  const Stopwatch all;
  cluster.begin(copy, now, kWall);
  std::size_t slices = 0;
  while (cluster.busy()) {
    const Stopwatch watch;
    cluster.advance(500, now, kWall);
    longest = std::max(longest, watch.milliseconds());
    ++slices;
  }
  std::printf("%-27s  %.0f ms in %zu slices, the longest %.2f ms\n", what, all.milliseconds(),
              slices, longest);
}

}  // namespace

int main(int argc, char** argv) {
  const std::size_t tasks = argc > 1 ? std::strtoul(argv[1], nullptr, 10) : 100'000;
  const std::size_t agents = argc > 2 ? std::strtoul(argv[2], nullptr, 10) : 1'000;
  const Observation snapshot = make_snapshot(tasks, agents);
  TimePoint now{std::chrono::seconds{1000}};
  const double before = resident_megabytes();
  {
    Cluster sliced;
    print_slices(snapshot, "first snapshot, sliced:", sliced, now);
    malloc_trim(0);
    std::printf("resident memory it took:     %.0f MB\n", resident_megabytes() - before);
    print_slices(snapshot, "the same again, sliced:", sliced, now);
    Observation nothing;
    nothing.snapshot = true;
    print_slices(nothing, "an empty one, all held:", sliced, now);
  }
  Cluster cluster;
  Stopwatch watch;
  const std::size_t seen = cluster.observe(snapshot, now, kWall).tasks.size();
  std::printf("first snapshot, %zu tasks:  %.0f ms\n", seen, watch.milliseconds());
  watch = {};
  cluster.observe(snapshot, now, kWall);
  std::printf("the same again:              %.0f ms\n", watch.milliseconds());
  watch = {};
  SaveJob job;
  double longest = 0;
  for (bool done = false; !done;) {
    const Stopwatch slice;
    done = job.collect(cluster, 5000);
    longest = std::max(longest, slice.milliseconds());
  }
  const double collected = watch.milliseconds();
  watch = {};
  const auto saved = job.write();
  std::printf(
      "save:                        %.1f ms (longest slice %.1f), then %.0f ms for %.1f MB\n",
      collected, longest, watch.milliseconds(), static_cast<double>(saved.size()) / 1e6);
  {
    Cluster restored;
    watch = {};
    const auto delta = restored.restore(saved, now, kWall);
    std::printf("restore:                     %.0f ms\n", watch.milliseconds());
    if (!delta || delta->tasks.size() != tasks) return 1;
  }
  print_events(cluster, tasks, agents, now);
  return 0;
}
