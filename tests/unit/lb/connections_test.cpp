#include "lb/io/connections.hpp"

#include <map>
#include <vector>

#include <doctest/doctest.h>

#include "tests/support/lb_samples.hpp"

/// What is counted in namespaces beside the node's own.
namespace muster::lb {
namespace {

using namespace testing;

const Vip kWeb = tcp("10.1.0.1:80");
const Vip kShop = tcp("10.1.0.2:80");
const Endpoint kA = at("10.0.0.1:1");
const Endpoint kB = at("10.0.0.2:1");

using Counts = std::vector<SlotCount>;

TEST_CASE("what slots of another namespace have counted since the last reading is told once") {
  struct Row {
    const char* what;
    std::vector<Counts> readings;
    std::vector<ConnectionTotals> growth;
  };
  const std::vector<Row> rows{
      {"nothing", {{}, {}}, {{}, {}}},
      {"a count that stays is told no more",
       {{{kWeb, 0, kA, 5}}, {{kWeb, 0, kA, 5}}},
       {{{kWeb, {{kA, 5}}}}, {}}},
      {"slots of one backend are added up",
       {{{kWeb, 0, kA, 5}, {kWeb, 1, kB, 1}, {kWeb, 2, kA, 2}},
        {{kWeb, 2, kA, 4}, {kWeb, 0, kA, 6}}},
       {{{kWeb, {{kA, 7}, {kB, 1}}}}, {{kWeb, {{kA, 3}}}}}},
      {"a slot that went to another backend began at 0",
       {{{kWeb, 0, kA, 5}}, {{kWeb, 0, kB, 6}}},
       {{{kWeb, {{kA, 5}}}}, {{kWeb, {{kB, 6}}}}}},
      {"a table built anew",
       {{{kWeb, 0, kA, 5}}, {{kWeb, 0, kA, 2}}},
       {{{kWeb, {{kA, 5}}}}, {{kWeb, {{kA, 2}}}}}},
      {"one that a reading has missed is not counted twice",
       {{{kShop, 0, kB, 4}, {kWeb, 0, kA, 5}},
        {{kShop, 0, kB, 4}},
        {{kShop, 0, kB, 4}, {kWeb, 0, kA, 6}}},
       {{{kWeb, {{kA, 5}}}, {kShop, {{kB, 4}}}}, {}, {{kWeb, {{kA, 1}}}}}},
      {"one that two have missed was gone",
       {{{kWeb, 0, kA, 5}}, {}, {}, {{kWeb, 0, kA, 6}}},
       {{{kWeb, {{kA, 5}}}}, {}, {}, {{kWeb, {{kA, 6}}}}}},
      {"one that comes twice counts once, as the later did",
       {{{kWeb, 0, kA, 5}, {kWeb, 0, kA, 6}}, {{kWeb, 0, kA, 7}}},
       {{{kWeb, {{kA, 6}}}}, {{kWeb, {{kA, 1}}}}}},
  };
  for (const Row& row : rows) {
    CAPTURE(row.what);
    ConnectionGrowth growth;
    for (std::size_t i = 0; i < row.readings.size(); ++i) {
      CAPTURE(i);
      CHECK(growth.update(row.readings[i]) == row.growth[i]);
    }
  }
}

TEST_CASE("what was counted elsewhere stays in the totals, whoever goes") {
  for (const bool by_backend : {false, true}) {
    CAPTURE(by_backend);
    ConnectionCounter counter;
    KernelState state;
    state.vips[kWeb] = {.selector = Selector{Policy::random, 1}, .slots = {kA}};
    const auto update = [&](std::uint64_t own) {
      if (by_backend) {
        state.backend_connections[kWeb] = {{kA, own}};
      } else {
        state.connections[kWeb] = {own};
      }
      return counter.update(state)->at(kWeb).at(kA);
    };
    // Told before the node's own kernel was first read with it.
    counter.add({{kWeb, {{kA, 4}}}});
    CHECK(update(10) == 14);
    counter.add({{kWeb, {{kA, 3}}}});
    CHECK(update(10) == 17);
    CHECK(update(11) == 18);
    // Of what the node does not have nothing is kept.
    counter.add({{kWeb, {{kB, 1}}}, {kShop, {{kA, 1}}}});
    const auto totals = counter.update(state);
    CHECK(totals->size() == 1);
    CHECK(totals->at(kWeb) == std::map<Endpoint, std::uint64_t>{{kA, 18}});
  }
}

}  // namespace
}  // namespace muster::lb
