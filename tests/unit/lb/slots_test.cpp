#include "lb/core/slots.hpp"

#include <algorithm>
#include <cmath>
#include <map>
#include <string>

#include <doctest/doctest.h>

#include "tests/support/lb_samples.hpp"
#include "tests/support/seeds.hpp"

namespace muster::lb {
namespace {

using namespace testing;

std::vector<Backend> equal_backends(std::size_t count, std::uint16_t weight = 1) {
  std::vector<Backend> backends;
  for (std::size_t i = 0; i < count; ++i) {
    const IpAddress::V4 octets{10, static_cast<std::uint8_t>(i >> 16),
                               static_cast<std::uint8_t>(i >> 8), static_cast<std::uint8_t>(i)};
    backends.push_back({{IpAddress{octets}, port(80)}, weight});
  }
  return backends;
}

FoundSlots found(const Slots& slots) {
  return {slots.begin(), slots.end()};
}

std::map<Endpoint, std::size_t> count(const Slots& slots) {
  std::map<Endpoint, std::size_t> counts;
  for (const Endpoint& slot : slots) ++counts[slot];
  return counts;
}

std::size_t differing(const Slots& a, const Slots& b) {
  std::size_t different = std::max(a.size(), b.size()) - std::min(a.size(), b.size());
  for (std::size_t i = 0; i < std::min(a.size(), b.size()); ++i)
    different += a[i] != b[i] ? 1U : 0U;
  return different;
}

TEST_CASE("the size class fits the backends") {
  struct Row {
    std::string what;
    std::vector<Backend> backends;
    std::uint32_t size;
  };
  auto three_to_one = equal_backends(2);
  three_to_one[0].weight = 3;
  auto hundred = equal_backends(2, 100);
  hundred[0].weight = 99;
  auto steep = equal_backends(2);
  steep[0].weight = 65535;
  const Row rows[] = {
      {"none", {}, 0},
      {"none with a weight", equal_backends(3, 0), 0},
      {"one", equal_backends(1), 1},
      {"a common factor", equal_backends(3, 500), 3},
      {"exact weights", three_to_one, 4},
      {"the last exact one", equal_backends(64), 64},
      {"65: eight slots each", equal_backends(65), 1024},
      {"weights too fine to be exact", hundred, 512},
      {"1024: eight each in the largest", equal_backends(1024), 8192},
      {"more", equal_backends(5000), 8192},
      {"more than there are slots", equal_backends(9000), 8192},
      {"steeper than the table", steep, 8192},
  };
  for (const Row& row : rows) {
    CAPTURE(row.what);
    CHECK(slot_count(row.backends) == row.size);
    CHECK(fit_slots({}, row.backends).size() == row.size);
    CHECK((row.size == 0 || is_size_class(row.size)));
  }
}

TEST_CASE("backends of weight 0 get no slot") {
  auto backends = equal_backends(3);
  backends[1].weight = 0;
  CHECK(fit_slots({}, backends) == Slots{backends[0].endpoint, backends[2].endpoint});
}

TEST_CASE("one backend more or less changes one slot of an exact table") {
  for (std::size_t n = 1; n < kMaxExactSlots; ++n) {
    CAPTURE(n);
    const auto more = equal_backends(n + 1);
    const Slots small = fit_slots({}, equal_backends(n));
    const Slots large = fit_slots(found(small), more);
    CHECK(differing(small, large) == 1);
    auto without_first = more;
    without_first.erase(without_first.begin());
    CHECK(differing(large, fit_slots(found(large), without_first)) <= 2);
  }
}

TEST_CASE("a weighted backend's turns are spread") {
  auto backends = equal_backends(2);
  backends[0].weight = 2;
  const Endpoint a = backends[0].endpoint;
  const Endpoint b = backends[1].endpoint;
  CHECK(fit_slots({}, backends) == Slots{a, b, a});
}

TEST_CASE("shares are exact to 64 slots and within one slot above") {
  for_each_seed(80, [](std::uint64_t seed) {
    MUSTER_SHOW_SEED(seed);
    Rng rng{seed};
    const std::uint64_t pool = 1 + rng.below(rng.chance(5) ? 1500 : 40);
    const auto backends = some_backends(rng, pool, 1 + rng.below(12));
    std::uint64_t total = 0;
    for (const Backend& backend : backends) total += backend.weight;
    const Slots slots = fit_slots({}, backends);
    const auto counts = count(slots);
    for (const Backend& backend : backends) {
      const auto got = counts.find(backend.endpoint);
      REQUIRE((got != counts.end()) == (backend.weight > 0));
      if (backend.weight == 0) continue;
      const double share =
          static_cast<double>(slots.size()) * backend.weight / static_cast<double>(total);
      const auto held = static_cast<double>(got->second);
      if (slots.size() <= kMaxExactSlots) CHECK(held == doctest::Approx(share));
      CHECK(std::abs(held - share) <= 1.0);
      CHECK(held < 2 * share + 1e-9);
    }
  });
}

TEST_CASE("a table that fits is kept as it is, and few slots change with one backend") {
  for_each_seed(60, [](std::uint64_t seed) {
    MUSTER_SHOW_SEED(seed);
    Rng rng{seed};
    auto backends = some_backends(rng, 1 + rng.below(rng.chance(5) ? 1000 : 60), 1);
    Slots slots = fit_slots({}, backends);
    for (int i = 0; i < 20; ++i) {
      CHECK(fit_slots(found(slots), backends) == slots);
      if (backends.empty()) break;
      backends[rng.below(backends.size())].weight ^= 1;
      const Slots next = fit_slots(found(slots), backends);
      const auto serving = static_cast<std::size_t>(std::count_if(
          backends.begin(), backends.end(), [](const Backend& b) { return b.weight > 0; }));
      // One backend's slots, and one to make up for rounding on either side of it.
      if (next.size() == slots.size())
        CHECK(differing(slots, next) <= 2 * (next.size() / std::max<std::size_t>(serving, 1) + 2));
      if (next.size() <= kMaxExactSlots && slots.size() <= kMaxExactSlots) {
        CHECK(differing(slots, next) <= 2);
      }
      slots = next;
    }
  });
}

TEST_CASE("a stable table has exact shares, and keeps most of its slots as backends come and go") {
  for (const std::size_t n : {2U, 3U, 5U, 10U, 40U, 200U, 1000U}) {
    CAPTURE(n);
    const auto backends = equal_backends(n);
    const Slots slots = stable_slots(backends);
    CHECK(slots.size() == std::max(slot_count(backends), kLeastStableSlots));
    CHECK(is_size_class(static_cast<std::uint32_t>(slots.size())));
    const std::size_t share = slots.size() / n;
    for (const auto& [endpoint, held] : count(slots)) {
      CHECK((held == share || held == share + 1));
    }
    auto fewer = backends;
    const Endpoint gone = fewer[n / 2].endpoint;
    fewer[n / 2].weight = 0;
    const Slots next = stable_slots(fewer);
    if (next.size() != slots.size()) continue;
    std::size_t moved = 0;  // that need not have
    for (std::size_t i = 0; i < slots.size(); ++i) {
      moved += slots[i] != gone && slots[i] != next[i] ? 1U : 0U;
    }
    CHECK(moved * 100 <= slots.size() * 8);
    MESSAGE(n << " backends, " << slots.size() << " slots: " << moved << " moved needlessly");
  }
}

TEST_CASE("a stable table follows from the backends alone") {
  CHECK(stable_slots({}).empty());
  CHECK(stable_slots(equal_backends(3, 0)).empty());
  CHECK(stable_slots(equal_backends(1, 7)) == Slots{equal_backends(1)[0].endpoint});
  CHECK(stable_slots(equal_backends(5, 3)) == stable_slots(equal_backends(5)));
  auto weighted = equal_backends(2);
  weighted[0].weight = 3;
  const auto counts = count(stable_slots(weighted));
  CHECK(counts.at(weighted[0].endpoint) == 384);
  CHECK(counts.at(weighted[1].endpoint) == 128);
}

}  // namespace
}  // namespace muster::lb
