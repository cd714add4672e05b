#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#include "tests/sim/cluster.hpp"

// gossip_sim_bench [--check] [--runs N] [--seconds N] [--nodes N] [--seed N] [--only TEXT] [ROW...]
//
// Rows: death third stalls idle change restart (these by default), hour, and big (--nodes, 10,000;
// every node knows every other, 200 octets each: that takes 20 GB, 5,000 nodes take 5).
// Virtual time on one thread: the figures do not depend on the machine. --runs: deaths and
// changes per figure. --seconds: of virtual time in `hour`. --only: names like death-1000-30 that
// hold this text.
using namespace muster;
using namespace muster::gossip;
using namespace std::chrono_literals;
using sim::Cluster;

namespace {

struct Settings {
  bool check = false;
  std::size_t runs = 20;
  std::uint64_t seconds = 600;
  std::size_t nodes = 10'000;
  std::uint64_t seed = 1;
  std::string only;
};

int rows = 0;
int met = 0;

void row(const std::string& id, const std::string& figure, double value, const char* unit,
         double bar) {
  ++rows;
  const bool ok = value <= bar;
  met += ok ? 1 : 0;
  std::printf("%-22s %-46s %10.1f %-10s %8.0f  %s\n", id.c_str(), figure.c_str(), value, unit, bar,
              ok ? "met" : "SHORT");
  std::fflush(stdout);
}

double ms(std::chrono::nanoseconds duration) {
  return std::chrono::duration<double, std::milli>(duration).count();
}

double at(std::vector<double>& values, double quantile) {
  if (values.empty()) return 1e9;
  std::sort(values.begin(), values.end());
  const auto index = static_cast<std::size_t>(quantile * static_cast<double>(values.size() - 1));
  return values[index];
}

sim::NetworkOptions lossy(std::uint32_t percent) {
  sim::NetworkOptions network;
  network.loss_percent = percent;
  return network;
}

std::string name(const char* what, std::size_t nodes, std::uint32_t loss) {
  return std::string{what} + "-" + std::to_string(nodes) + "-" + std::to_string(loss);
}

// From the cut of the victims' hosts until the last running node believes all of them dead.
double deaths(Cluster& cluster, const std::vector<std::size_t>& victims, Duration limit) {
  const TimePoint begin = cluster.now();
  TimePoint last = begin;
  cluster.on_member = [&](auto, const MemberChange& change) {
    if (change.after.head.status != MemberStatus::alive) last = cluster.now();
  };
  for (const std::size_t victim : victims) cluster.cut_off(victim);
  const auto unknown = [&] {
    return std::any_of(victims.begin(), victims.end(),
                       [&](std::size_t v) { return cluster.unaware_of_death(v) > 0; });
  };
  bool done = false;
  while (!done && cluster.now() - begin < limit) {
    cluster.run_for(300ms);
    done = !unknown();
  }
  cluster.on_member = nullptr;
  return done ? ms(last - begin) : ms(limit);
}

void death(const Settings& settings, std::size_t nodes, std::uint32_t loss) {
  Cluster cluster{nodes, settings.seed, lossy(loss)};
  cluster.start_warm();
  cluster.run_for(3s);
  std::vector<double> took;
  for (std::size_t run = 0; run < settings.runs; ++run) {
    took.push_back(deaths(cluster, {1 + run}, 5s));
    cluster.run_for(700ms);
  }
  const auto id = name("death", nodes, loss);
  row(id, "one death known to all, median", at(took, 0.5), "ms", 750);
  row(id, "one death known to all, worst of runs", at(took, 1), "ms", 750);
  row(id, "false failures meanwhile", static_cast<double>(cluster.false_deaths()), "", 0);
}

void third(const Settings& settings, std::size_t nodes, std::uint32_t loss) {
  std::vector<double> took;
  double false_failures = 0;
  for (std::uint64_t run = 0; run < std::max<std::size_t>(settings.runs / 5, 1); ++run) {
    Cluster cluster{nodes, settings.seed + run, lossy(loss)};
    cluster.start_warm();
    cluster.run_for(3s);
    std::vector<std::size_t> victims;
    for (std::size_t i = 0; i < nodes; i += 3) victims.push_back(i);
    took.push_back(deaths(cluster, victims, 10s));
    false_failures += static_cast<double>(cluster.false_deaths());
  }
  const auto id = name("third", nodes, loss);
  row(id, "a third dead at once, all known to all, worst", at(took, 1), "ms", 1500);
  row(id, "false failures meanwhile", false_failures, "", 0);
}

void stalls(const Settings& settings) {
  Cluster cluster{60, settings.seed};
  cluster.start_warm();
  cluster.run_for(3s);
  for (std::size_t i = 0; i < 16; ++i) cluster.unhealthy.insert(i * 3);
  cluster.reset_counters();
  for (int round = 0; round < 8; ++round) {
    for (const auto i : cluster.unhealthy) cluster.pause(i, 8s);
    cluster.run_for(8020ms);
  }
  double packets = 0;
  for (std::size_t i = 0; i < cluster.size(); ++i) {
    if (cluster.unhealthy.contains(i)) continue;
    packets = std::max(packets, static_cast<double>(cluster.node(i).packets) / 64);
  }
  row("stalls-60", "16 of 60 stop 8 s, run 20 ms, for 64 s: false",
      static_cast<double>(cluster.false_deaths()), "", 0);
  row("stalls-60", "busiest healthy node", packets, "packets/s", 300);
}

void idle(const Settings& settings, std::size_t nodes) {
  Cluster cluster{nodes, settings.seed};
  cluster.start_warm();
  cluster.run_for(15s);
  cluster.reset_counters();
  cluster.run_for(20s);
  double packets = 0;
  double bytes = 0;
  for (std::size_t i = 0; i < nodes; ++i) {
    packets = std::max(packets, static_cast<double>(cluster.node(i).packets) / 20);
    bytes = std::max(bytes, static_cast<double>(cluster.node(i).bytes) / 20);
  }
  const auto id = name("idle", nodes, 0);
  row(id, "busiest idle node sends", packets, "packets/s", 110);
  row(id, "busiest idle node sends, IPv4 headers counted", bytes, "bytes/s", 8000);
}

// How long one small record takes to the last of all nodes.
double disseminate(Cluster& cluster, std::uint64_t n) {
  std::size_t told = 0;
  TimePoint last{};
  const TimePoint begin = cluster.now();
  cluster.on_record = [&](auto, const RecordWrite&) {
    ++told;
    last = cluster.now();
  };
  cluster.publish(0, {{"agent/x", "task", std::vector<std::byte>(60 + n % 7)}});
  for (int step = 0; step < 50 && told < cluster.running(); ++step) cluster.run_for(100ms);
  cluster.on_record = nullptr;
  cluster.run_for(200ms);
  return told == cluster.running() ? ms(last - begin) : 5000;
}

void change(const Settings& settings, std::size_t nodes, std::uint32_t loss, double bar) {
  Cluster cluster{nodes, settings.seed, lossy(loss)};
  cluster.start_warm();
  cluster.run_for(3s);
  cluster.begin_publishing(0);
  std::vector<double> took;
  const std::size_t changes = nodes >= 5000 ? settings.runs : settings.runs * 5;
  for (std::size_t n = 0; n < changes; ++n) took.push_back(disseminate(cluster, n));
  const auto id = name("change", nodes, loss);
  row(id, "a change at the last node, median", at(took, 0.5), "ms", bar);
  row(id, "a change at the last node, p99", at(took, 0.99), "ms", bar);
}

void restart(const Settings& settings, std::size_t nodes) {
  Cluster cluster{nodes, settings.seed};
  cluster.start_warm();
  cluster.run_for(3s);
  for (std::size_t i = 0; i < nodes; ++i) cluster.kill(i);
  for (std::size_t i = 0; i < nodes; ++i) cluster.restart(i);
  const TimePoint begin = cluster.now();
  while (!cluster.views_equal() && cluster.now() - begin < 30s) cluster.run_for(20ms);
  row(name("restart", nodes, 0), "all restart at once: equal views", ms(cluster.now() - begin),
      "ms", 3000);
}

void hour(const Settings& settings, std::size_t nodes) {
  for (const std::uint32_t loss : {30U, 10U}) {
    Cluster cluster{nodes, settings.seed + loss, lossy(loss)};
    cluster.start_warm();
    cluster.run_for(3s);
    cluster.reset_counters();
    for (std::uint64_t s = 0; s < settings.seconds; ++s) cluster.run_for(1s);
    row(name("hour", nodes, loss), "false failures in " + std::to_string(settings.seconds) + " s",
        static_cast<double>(cluster.false_deaths()), "", 0);
  }
}

void big(const Settings& settings) {
  Cluster cluster{settings.nodes, settings.seed};
  cluster.start_warm();
  cluster.run_for(2s);
  cluster.begin_publishing(0);
  std::vector<double> took;
  for (std::size_t n = 0; n < settings.runs; ++n) took.push_back(disseminate(cluster, n));
  const auto id = name("big", settings.nodes, 0);
  row(id, "a change at the last node, worst of runs", at(took, 1), "ms", 700);
  took.clear();
  for (std::size_t run = 0; run < 3; ++run) took.push_back(deaths(cluster, {1 + run}, 5s));
  row(id, "one death known to all, worst of 3", at(took, 1), "ms", 750);
  row(id, "false failures meanwhile", static_cast<double>(cluster.false_deaths()), "", 0);
}

void run(const Settings& settings, std::string_view what) {
  const auto wants = [&](std::size_t nodes, std::uint32_t loss) {
    return name(std::string{what}.c_str(), nodes, loss).find(settings.only) != std::string::npos;
  };
  for (const std::size_t nodes : {300U, 1000U}) {
    for (const std::uint32_t loss : {0U, 10U, 30U}) {
      if (!wants(nodes, loss)) continue;
      if (what == "death") death(settings, nodes, loss);
      if (what == "third" && loss != 10) third(settings, nodes, loss);
      if (what == "change") change(settings, nodes, loss, 400);
    }
    if (what == "idle" && wants(nodes, 0)) idle(settings, nodes);
    if (what == "restart" && wants(nodes, 0)) restart(settings, nodes);
  }
  if (what == "stalls") stalls(settings);
  if (what == "hour") hour(settings, 200);
  if (what == "big") big(settings);
}

}  // namespace

int main(int argc, char** argv) {
  Settings settings;
  std::vector<std::string_view> what;
  const auto number = [&](int& i) {
    return i + 1 < argc ? std::strtoull(argv[++i], nullptr, 10) : 1;
  };
  for (int i = 1; i < argc; ++i) {
    const std::string_view word{argv[i]};
    if (word == "--check") {
      settings.check = true;
    } else if (word == "--runs") {
      settings.runs = std::max<std::size_t>(number(i), 1);
    } else if (word == "--seconds") {
      settings.seconds = number(i);
    } else if (word == "--nodes") {
      settings.nodes = number(i);
    } else if (word == "--only" && i + 1 < argc) {
      settings.only = argv[++i];
    } else if (word == "--seed") {
      settings.seed = number(i);
    } else {
      what.push_back(word);
    }
  }
  if (what.empty()) what = {"death", "third", "stalls", "idle", "change", "restart"};
  std::printf("%-22s %-46s %10s %-10s %8s\n", "row", "figure", "value", "", "bar");
  for (const std::string_view each : what) run(settings, each);
  std::printf("met %d of %d\n", met, rows);
  return settings.check && met < rows ? 1 : 0;
}
