#include "base/slab.hpp"

#include <map>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include "base/rng.hpp"

namespace {

using muster::Slab;

TEST_CASE("Slab: an old number finds nothing, whoever has its place now") {
  Slab<std::string> slab{4};
  const auto [first, value] = slab.add();
  value = "first";
  CHECK(*slab.find(first) == "first");
  slab.drop(first);
  CHECK(slab.find(first) == nullptr);
  const auto second = slab.add();
  second.value = "second";
  CHECK(second.id != first);
  CHECK(slab.find(first) == nullptr);
  slab.drop(first);  // late, and harmless
  REQUIRE(slab.find(second.id) != nullptr);
  CHECK(*slab.find(second.id) == "second");
  CHECK(slab.find(0) == nullptr);
  CHECK(slab.find(~0ULL) == nullptr);
}

TEST_CASE("Slab: a value that is added gets the room of one that went") {
  Slab<std::vector<int>> slab{4};
  const auto before = slab.add();
  before.value.assign(1000, 7);
  const int* const room = before.value.data();
  before.value.clear();
  slab.drop(before.id);
  const auto after = slab.add();
  CHECK(after.value.empty());
  CHECK(after.value.capacity() >= 1000);
  CHECK(after.value.data() == room);
}

TEST_CASE("Slab: what many needed at once is given back when the last one goes") {
  Slab<std::vector<int>> slab{4};
  std::vector<Slab<std::vector<int>>::Id> ids;
  for (int i = 0; i < 100; ++i) {
    const auto added = slab.add();
    added.value.reserve(1000);
    ids.push_back(added.id);
  }
  CHECK(slab.size() == 100);
  for (const auto id : ids) slab.drop(id);
  CHECK(slab.empty());
  CHECK(slab.add().value.capacity() == 0);
  for (const auto id : ids) CHECK(slab.find(id) == nullptr);
}

TEST_CASE("Slab: behaves like a map, and its values stay where they are") {
  const std::uint64_t seed = 20;
  INFO("seed ", seed);
  muster::Rng rng{seed};
  Slab<int> slab{8};
  std::map<Slab<int>::Id, std::pair<int, const int*>> model;
  for (int step = 0; step < 20'000; ++step) {
    if (model.empty() || rng.below(100) < 52) {
      const auto added = slab.add();
      added.value = step;
      REQUIRE(model.emplace(added.id, std::pair{step, &added.value}).second);
    } else {
      auto at = model.begin();
      std::advance(at,
                   static_cast<std::ptrdiff_t>(rng.below(std::min<std::size_t>(model.size(), 50))));
      slab.drop(at->first);
      model.erase(at);
    }
    REQUIRE(slab.size() == model.size());
  }
  for (const auto& [id, expected] : model) {
    REQUIRE(slab.find(id) == expected.second);
    CHECK(*slab.find(id) == expected.first);
  }
}

}  // namespace
