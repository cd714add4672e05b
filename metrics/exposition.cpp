#include "metrics/exposition.hpp"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <limits>
#include <map>
#include <optional>
#include <sstream>
#include <sys/resource.h>
#include <unistd.h>
#include <utility>

#include <prometheus/metric_family.h>
#include <prometheus/text_serializer.h>

namespace muster::metrics {
namespace {

// Numbers of fields in /proc/self/stat, by proc(5).
constexpr std::size_t kFirstField = 3;
constexpr std::size_t kRssField = 24;

using prometheus::ClientMetric;
using prometheus::MetricFamily;
using prometheus::MetricType;

MetricFamily single(std::string name, std::string help, MetricType type, double value) {
  ClientMetric metric;
  if (type == MetricType::Counter) {
    metric.counter.value = value;
  } else {
    metric.gauge.value = value;
  }
  return {std::move(name), std::move(help), type, {std::move(metric)}};
}

MetricFamily build_info(const BuildInfo& build) {
  MetricFamily family =
      single("muster_build_info", "What is running. Always 1.", MetricType::Gauge, 1);
  family.metric.front().label = {
      {"version", build.version}, {"revision", build.revision}, {"compiler", __VERSION__}};
  return family;
}

std::optional<double> boot_time_seconds() {
  std::ifstream in{"/proc/stat"};
  for (std::string line; std::getline(in, line);) {
    if (line.starts_with("btime ")) return std::stod(line.substr(6));
  }
  return std::nullopt;
}

// Fields of /proc/self/stat from the third on; proc(5) counts from 1 and the state is number 3.
// The second, the command, may hold spaces and parentheses.
std::vector<double> stat_fields() {
  std::ifstream in{"/proc/self/stat"};
  std::string text{std::istreambuf_iterator<char>{in}, {}};
  const std::size_t end = text.rfind(')');
  if (end == std::string::npos) return {};
  std::istringstream rest{text.substr(end + 1)};
  std::string state;
  rest >> state;
  std::vector<double> fields{0};
  for (double value = 0; rest >> value;) fields.push_back(value);
  return fields;
}

std::optional<double> open_fds() {
  std::error_code error;
  std::filesystem::directory_iterator it{"/proc/self/fd", error};
  if (error) return std::nullopt;
  double count = -1;  // the one this listing has open
  for (; it != std::filesystem::directory_iterator{}; it.increment(error)) {
    if (error) return std::nullopt;
    ++count;
  }
  return count;
}

void merge(std::map<std::string, MetricFamily>& all, std::vector<MetricFamily> families) {
  for (MetricFamily& family : families) {
    if (family.metric.empty()) continue;
    const auto [it, added] = all.try_emplace(family.name, MetricFamily{});
    if (added) {
      it->second = std::move(family);
    } else if (it->second.type == family.type) {
      std::move(family.metric.begin(), family.metric.end(), std::back_inserter(it->second.metric));
    }
  }
}

}  // namespace

std::vector<MetricFamily> process_metrics() {
  std::vector<MetricFamily> all;
  const auto gauge = [&all](const char* name, const char* help, double value) {
    all.push_back(single(name, help, MetricType::Gauge, value));
  };
  const std::vector<double> fields = stat_fields();
  if (fields.size() > kRssField - kFirstField) {
    const auto field = [&fields](std::size_t number) { return fields[number - kFirstField]; };
    const auto ticks = static_cast<double>(sysconf(_SC_CLK_TCK));
    all.push_back(single("process_cpu_seconds_total", "User and system CPU time spent.",
                         MetricType::Counter, (field(14) + field(15)) / ticks));
    gauge("process_threads", "Threads of the process.", field(20));
    if (const auto boot = boot_time_seconds()) {
      gauge("process_start_time_seconds", "When the process started, Unix time.",
            *boot + field(22) / ticks);
    }
    gauge("process_virtual_memory_bytes", "Virtual memory size.", field(23));
    gauge("process_resident_memory_bytes", "Resident memory size.",
          field(kRssField) * static_cast<double>(sysconf(_SC_PAGESIZE)));
  }
  if (const auto open = open_fds()) gauge("process_open_fds", "Open file descriptors.", *open);
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
    gauge("process_max_fds", "Most file descriptors the process may have open.",
          limit.rlim_cur == RLIM_INFINITY ? std::numeric_limits<double>::infinity()
                                          : static_cast<double>(limit.rlim_cur));
  }
  return all;
}

Exposition::Exposition(const prometheus::Registry& registry, BuildInfo build)
    : registry_{registry}, build_{std::move(build)} {}

void Exposition::add(std::weak_ptr<const prometheus::Collectable> source) {
  const std::scoped_lock lock{mutex_};
  std::erase_if(sources_, [](const auto& known) { return known.expired(); });
  sources_.push_back(std::move(source));
}

HttpResponse Exposition::render() const {
  std::vector<std::weak_ptr<const prometheus::Collectable>> sources;
  {
    const std::scoped_lock lock{mutex_};
    sources = sources_;
  }
  std::map<std::string, MetricFamily> families;
  merge(families, registry_.Collect());
  merge(families, {build_info(build_)});
  merge(families, process_metrics());
  for (const auto& weak : sources) {
    if (const auto source = weak.lock()) merge(families, source->Collect());
  }
  std::vector<MetricFamily> sorted;
  sorted.reserve(families.size());
  for (auto& [name, family] : families) sorted.push_back(std::move(family));
  HttpResponse response;
  response.content_type = std::string{kExpositionContentType};
  response.body = prometheus::TextSerializer{}.Serialize(sorted);
  return response;
}

}  // namespace muster::metrics
