#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <string_view>
#include <vector>

#include "tests/sim/cluster.hpp"

// gossip_sim_bench [NODES] [LOSS_PERCENT] [RUNS] [IDLE_SECONDS]
// Prints, one line each: deaths until all know, dissemination, idle cost, false failures.
using namespace muster;
using namespace muster::gossip;
using namespace std::chrono_literals;
using sim::Cluster;

namespace {

double ms(TimePoint a, TimePoint b) {
  return std::chrono::duration<double, std::milli>(a - b).count();
}

struct Figures {
  std::vector<double> death;
  std::vector<double> p99;
  std::vector<double> last;
  std::uint64_t false_failures = 0;
};

// How long one small record takes to each node.
void disseminate(Cluster& cluster, std::size_t publisher, std::uint64_t n, Figures& figures) {
  std::vector<double> times;
  const TimePoint begin = cluster.now();
  cluster.on_record = [&](auto, const RecordWrite&) { times.push_back(ms(cluster.now(), begin)); };
  cluster.publish(publisher, {{"agent/x", "task", std::vector<std::byte>(60 + n % 7)}});
  cluster.run_for(1500ms);
  cluster.on_record = nullptr;
  std::sort(times.begin(), times.end());
  if (times.size() != cluster.running()) {
    figures.last.push_back(1500);
    return;
  }
  figures.p99.push_back(times[times.size() * 99 / 100]);
  figures.last.push_back(times.back());
}

void one_death(Cluster& cluster, std::size_t victim, Figures& figures) {
  TimePoint last{};
  std::size_t aware = 0;
  cluster.on_member = [&](auto, const MemberChange& change) {
    if (change.after.head.uid != cluster.node(victim).uid ||
        change.after.head.status == MemberStatus::alive) {
      return;
    }
    ++aware;
    last = cluster.now();
  };
  const TimePoint begin = cluster.now();
  cluster.cut_off(victim);
  cluster.run_for(1200ms);
  cluster.on_member = nullptr;
  figures.death.push_back(cluster.unaware_of_death(victim) == 0 ? ms(last, begin) : 1e9);
}

void print(const char* what, std::vector<double> values) {
  if (values.empty()) return;
  std::sort(values.begin(), values.end());
  std::printf("  %-34s median %8.1f ms  worst %8.1f ms  (%zu)\n", what, values[values.size() / 2],
              values.back(), values.size());
}

std::size_t argument(int argc, char** argv, int i, std::size_t otherwise) {
  return argc > i ? static_cast<std::size_t>(std::strtoull(argv[i], nullptr, 10)) : otherwise;
}

}  // namespace

int main(int argc, char** argv) {
  const std::size_t nodes = argument(argc, argv, 1, 1000);
  const std::size_t runs = argument(argc, argv, 3, 10);
  const std::size_t idle = argument(argc, argv, 4, 10);
  sim::NetworkOptions network;
  network.loss_percent = static_cast<std::uint32_t>(argument(argc, argv, 2, 0));
  const auto wall = std::chrono::steady_clock::now();
  Figures figures;
  Cluster cluster{nodes, 1, network};
  cluster.start_warm();
  cluster.run_for(3s);
  cluster.begin_publishing(0);
  cluster.reset_counters();
  const std::chrono::seconds idle_for{idle};
  cluster.run_for(std::chrono::duration_cast<Duration>(idle_for));
  double packets = 0;
  double bytes = 0;
  for (std::size_t i = 0; i < nodes; ++i) {
    packets =
        std::max(packets, static_cast<double>(cluster.node(i).packets) / static_cast<double>(idle));
    bytes = std::max(bytes, static_cast<double>(cluster.node(i).bytes) / static_cast<double>(idle));
  }
  std::printf("nodes %zu, loss %u %%\n", nodes, network.loss_percent);
  std::printf("  busiest idle node: %.1f packets/s, %.0f B/s sent\n", packets, bytes);
  for (std::size_t run = 0; run < runs; ++run) disseminate(cluster, 0, run, figures);
  for (std::size_t run = 0; run < runs; ++run) one_death(cluster, 1 + run, figures);
  print("death known to all", figures.death);
  print("change at 99 % of nodes", figures.p99);
  print("change at the last node", figures.last);
  std::printf(
      "  false failures: %llu in %.0f virtual s\n",
      static_cast<unsigned long long>(cluster.false_deaths()),
      std::chrono::duration<double>(cluster.now() - TimePoint{std::chrono::hours{1}}).count());
  std::printf("  wall %.1f s\n",
              std::chrono::duration<double>(std::chrono::steady_clock::now() - wall).count());
  return 0;
}
