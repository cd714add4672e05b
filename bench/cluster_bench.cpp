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
#include "bench/cluster_tasks.hpp"
#include "cluster/core/cluster.hpp"

// What does cluster/ cost at 100,000 tasks? A snapshot whole and in slices, one event, a save and
// a restore. Arguments: tasks, agents.

using namespace muster;
using namespace muster::cluster;
using bench::make_snapshot;
using bench::make_task;

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
