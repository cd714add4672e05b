// What one answer and one change cost, at 60,000 names: 12,640 tasks in apps of four.
// Prints a table; gates nothing. MUSTER_ROUNDS sets the rounds (5); medians are printed.

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <time.h>
#include <vector>

#include "base/rng.hpp"
#include "bench/dns_tasks.hpp"
#include "dns/core/answer.hpp"
#include "dns/core/catalog.hpp"

namespace {

using namespace muster;
using namespace muster::dns;
using bench::task_of;

constexpr int kApps = 3160;
constexpr int kInstances = 4;

double cpu_ns() {
  timespec now{};
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) * 1e9 + static_cast<double>(now.tv_nsec);
}

std::vector<std::byte> query_of(const std::string& text, std::uint16_t qtype) {
  return make_query(*Name::parse(text), qtype, {.id = 1});
}

struct Load {
  const char* what;
  std::vector<std::vector<std::byte>> queries;
};

std::vector<Load> make_loads() {
  std::vector<Load> out{{"A, 4 addresses", {}}, {"SRV, 4 + 4", {}}, {"NXDOMAIN", {}}};
  Rng rng{1};
  for (int i = 0; i < 20'000; ++i) {
    const std::string app = "app" + std::to_string(rng.below(kApps));
    out[0].queries.push_back(query_of(app + ".marathon.mesos", type::kA));
    out[1].queries.push_back(query_of("_" + app + "._tcp.marathon.mesos", type::kSrv));
    out[2].queries.push_back(query_of(app + "x.marathon.mesos", type::kA));
  }
  return out;
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

double answer_round(const Load& load, const ZoneSnapshot& zones) {
  std::vector<std::byte> out(kMaxMessageSize);
  Query query;
  std::uint32_t rotation = 0;
  std::size_t octets = 0;
  const double start = cpu_ns();
  for (int repeat = 0; repeat < 20; ++repeat) {
    for (const auto& message : load.queries) {
      octets += answer(message, zones, {.rotation = rotation++}, out, query).size;
    }
  }
  const double took = cpu_ns() - start;
  if (octets == 0) std::abort();
  return took / (20.0 * static_cast<double>(load.queries.size()));
}

}  // namespace

int main() {
  const char* const wanted = std::getenv("MUSTER_ROUNDS");
  const int rounds = wanted != nullptr ? std::max(1, std::atoi(wanted)) : 5;
  Catalog catalog{{.hash_seed = 42}};
  ClusterDelta first;
  first.complete = true;
  for (int app = 0; app < kApps; ++app) {
    for (int instance = 0; instance < kInstances; ++instance) {
      first.tasks.push_back({nullptr, std::make_shared<const Task>(task_of(app, instance, 0))});
    }
  }
  const double start = cpu_ns();
  const auto zones = catalog.apply(first);
  std::printf("%zu names, %zu records, built in %.1f ms\n", catalog.names(), catalog.records(),
              (cpu_ns() - start) / 1e6);

  for (const Load& load : make_loads()) {
    std::vector<double> results;
    for (int i = 0; i < rounds; ++i) results.push_back(answer_round(load, *zones));
    std::printf("%-16s %7.0f ns a query\n", load.what, median(results));
  }

  constexpr int kChanges = 200;
  std::vector<double> changes;
  std::vector<int> revisions(kApps);
  Rng rng{2};
  std::shared_ptr<const ZoneSnapshot> kept;
  for (int i = 0; i < kChanges * rounds; ++i) {
    const int app = static_cast<int>(rng.below(kApps));
    int& revision = revisions[static_cast<std::size_t>(app)];
    ClusterDelta delta;
    delta.complete = true;
    delta.tasks.push_back({std::make_shared<const Task>(task_of(app, 1, revision)),
                           std::make_shared<const Task>(task_of(app, 1, (revision + 1) % 40))});
    revision = (revision + 1) % 40;
    const double before = cpu_ns();
    kept = catalog.apply(delta);
    changes.push_back((cpu_ns() - before) / 1e3);
  }
  std::sort(changes.begin(), changes.end());
  std::FILE* const statm = std::fopen("/proc/self/statm", "r");
  long pages = 0;
  long resident = 0;
  if (statm != nullptr && std::fscanf(statm, "%ld %ld", &pages, &resident) == 2) {
    std::printf("resident         %7.1f MB, the tasks themselves and the queries included\n",
                static_cast<double>(resident) * 4096 / 1e6);
  }
  if (statm != nullptr) std::fclose(statm);
  std::printf("one task changed %7.0f us median, %.0f us p99\n", median(changes),
              changes[changes.size() * 99 / 100]);
  return 0;
}
