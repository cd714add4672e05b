#include "metrics/exposition.hpp"

#include <map>
#include <sstream>

#include <doctest/doctest.h>
#include <prometheus/counter.h>
#include <prometheus/gauge.h>
#include <prometheus/metric_family.h>

using namespace muster::metrics;

namespace {

class PacketCounts : public prometheus::Collectable {
 public:
  explicit PacketCounts(std::string name) : name_{std::move(name)} {}
  std::vector<prometheus::MetricFamily> Collect() const override {
    prometheus::ClientMetric metric;
    metric.label = {{"thread", "0"}};
    metric.counter.value = 7;
    return {{name_, "Queries.", prometheus::MetricType::Counter, {metric}}};
  }

 private:
  std::string name_;
};

std::map<std::string, double> samples(const std::string& text) {
  std::map<std::string, double> all;
  std::istringstream in{text};
  for (std::string line; std::getline(in, line);) {
    if (line.empty() || line.front() == '#') continue;
    const std::size_t space = line.rfind(' ');
    all[line.substr(0, space)] = std::stod(line.substr(space + 1));
  }
  return all;
}

std::size_t count(const std::string& text, const std::string& what) {
  std::size_t found = 0;
  for (std::size_t at = 0; (at = text.find(what, at)) != std::string::npos; ++at) ++found;
  return found;
}

}  // namespace

TEST_SUITE_BEGIN("metrics/exposition");

TEST_CASE("the exposition holds the registry, the build and the process") {
  prometheus::Registry registry;
  prometheus::BuildCounter()
      .Name("muster_x_total")
      .Help("X.")
      .Register(registry)
      .Add({{"kind", "a\"b"}});
  const Exposition exposition{registry, {"0.1.0", "abc"}};
  const auto response = exposition.render();
  CHECK(response.status == 200);
  CHECK(response.content_type == "text/plain; version=0.0.4");
  const auto all = samples(response.body);
  CHECK(all.contains("muster_x_total{kind=\"a\\\"b\"}"));
  CHECK(response.body.find("version=\"0.1.0\"") != std::string::npos);
  CHECK(all.at("process_resident_memory_bytes") > 1e6);
  CHECK(all.at("process_virtual_memory_bytes") >= all.at("process_resident_memory_bytes"));
  CHECK(all.at("process_cpu_seconds_total") >= 0);
  CHECK(all.at("process_open_fds") >= 3);
  CHECK(all.at("process_max_fds") >= all.at("process_open_fds"));
  CHECK(all.at("process_start_time_seconds") > 1.6e9);
  CHECK(all.at("process_threads") >= 1);
}

TEST_CASE("further sources are asked while they live, and no family is written twice") {
  prometheus::Registry registry;
  prometheus::BuildCounter()
      .Name("muster_dns_queries_total")
      .Help("Queries.")
      .Register(registry)
      .Add({{"thread", "1"}});
  prometheus::BuildGauge().Name("muster_clash").Help("A gauge.").Register(registry).Add({}).Set(1);
  Exposition exposition{registry, {"0.1.0", ""}};
  auto counts = std::make_shared<PacketCounts>("muster_dns_queries_total");
  const auto clash = std::make_shared<PacketCounts>("muster_clash");
  exposition.add(counts);
  exposition.add(clash);
  std::string text = exposition.render().body;
  CHECK(samples(text).at("muster_dns_queries_total{thread=\"0\"}") == 7);
  CHECK(samples(text).contains("muster_dns_queries_total{thread=\"1\"}"));
  CHECK(count(text, "# TYPE muster_dns_queries_total ") == 1);
  CHECK(count(text, "# TYPE muster_clash ") == 1);
  counts.reset();
  text = exposition.render().body;
  CHECK_FALSE(samples(text).contains("muster_dns_queries_total{thread=\"0\"}"));
}

TEST_SUITE_END();
