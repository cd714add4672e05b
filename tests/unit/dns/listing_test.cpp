#include "dns/core/listing.hpp"

#include "dns/core/catalog.hpp"
#include "dns_support.hpp"

using namespace muster;
using namespace muster::dns;
using namespace muster::dns::testing;

TEST_SUITE_BEGIN("dns/listing");

namespace {

std::shared_ptr<const ZoneSnapshot> zones_with(int tasks) {
  Catalog catalog{CatalogOptions{}};
  ClusterDelta delta;
  delta.complete = true;
  for (int i = 0; i < tasks; ++i) {
    Task task = make_task("web." + std::to_string(i), "web");
    task.agent_addresses = {ip("10.0.0." + std::to_string(i + 1))};
    task.addresses = task.agent_addresses;
    delta.tasks.push_back({nullptr, std::make_shared<const Task>(std::move(task))});
  }
  return catalog.apply(delta);
}

}  // namespace

TEST_CASE("a listing has what is served, in order, and nothing else") {
  const auto zones = zones_with(3);
  const Listing all = list_records(*zones, "", 1'000'000);
  CHECK_FALSE(all.more);
  CHECK(std::is_sorted(all.records.begin(), all.records.end(),
                       [](const auto& a, const auto& b) { return a.name < b.name; }));
  std::vector<std::string> data;
  for (const RecordView& record : list_records(*zones, "WEB.marathon.mesos.", 100).records) {
    if (record.name == "web.marathon.mesos.") data.push_back(record.type + ' ' + record.data);
  }
  CHECK(data == std::vector<std::string>{"A 10.0.0.1", "A 10.0.0.2", "A 10.0.0.3"});
  for (const RecordView& record : all.records) CHECK(record.type != "SOA");
  CHECK(list_records(*zones, "no-such-name", 100).records.empty());
}

TEST_CASE("a listing stops at its limit and says so") {
  const auto zones = zones_with(3);
  const std::size_t all = list_records(*zones, "", 1'000'000).records.size();
  CHECK(list_records(*zones, "", all).more == false);
  const Listing cut = list_records(*zones, "", all - 1);
  CHECK(cut.records.size() == all - 1);
  CHECK(cut.more);
  CHECK(list_records(*zones, "", 0).more);
}

TEST_SUITE_END();
