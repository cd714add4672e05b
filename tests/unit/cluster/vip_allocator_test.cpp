#include "cluster/core/vip_allocator.hpp"

#include <doctest/doctest.h>

#include "base/rng.hpp"
#include "tests/support/seeds.hpp"

using namespace muster;
using namespace muster::cluster;
using muster::testing::for_each_seed;

namespace {

constexpr std::int64_t kNow = 1'700'000'000;
constexpr std::int64_t kDay = 24 * 60 * 60;

IpAddress ip(const char* text) {
  return IpAddress::parse(text).value();
}

VipUse v4_of(const char* name) {
  return {VipName{name}, true, false};
}

std::string address_of(const VipAllocator& vips, const char* name) {
  const auto record = vips.records().find(VipName{name});
  if (record == vips.records().end()) return "none";
  const auto& allocation = record->second.allocation;
  std::string text = allocation.v4 ? allocation.v4->to_string() : "-";
  if (allocation.v6) text += " " + allocation.v6->to_string();
  return text;
}

VipOptions small_range(const char* first, const char* last) {
  VipOptions options;
  options.v4 = {ip(first), ip(last)};
  return options;
}

}  // namespace

TEST_SUITE_BEGIN("cluster/core/vip_allocator");

TEST_CASE("a name has one address for each family its backends have had") {
  VipAllocator vips{{}};
  vips.use({VipName{"redis.marathon"}, false, false});
  CHECK(vips.settle(kNow).empty());  // no backend has an address yet
  CHECK(vips.records().size() == 0);

  vips.use(v4_of("redis.marathon"));
  const auto changed = vips.settle(kNow);
  REQUIRE(changed.size() == 1);
  REQUIRE(changed.front().second);
  CHECK(changed.front().second->sequence == 1);
  CHECK(changed.front().second->since_seconds == kNow);
  CHECK(address_of(vips, "redis.marathon") == "11.202.66.36");

  vips.use({VipName{"redis.marathon"}, false, true});
  CHECK(vips.settle(kNow + 5).size() == 1);
  vips.release(v4_of("redis.marathon"));
  CHECK(vips.settle(kNow + 6).empty());
  const auto& record = vips.records().begin()->second;
  CHECK(record.allocation.v4 == ip("11.202.66.36"));
  CHECK(record.allocation.v6);
  CHECK(record.since_seconds == kNow);
}

TEST_CASE("a taken address is probed past, in the names' order, around explicit VIPs") {
  // All names prefer the first: the hash is taken modulo last - first.
  VipAllocator vips{small_range("11.0.0.1", "11.0.0.2")};
  vips.use(v4_of("b.x"));
  vips.use(v4_of("a.x"));
  vips.settle(kNow);
  CHECK(address_of(vips, "a.x") == "11.0.0.1");
  CHECK(address_of(vips, "b.x") == "11.0.0.2");

  VipAllocator with_explicit{small_range("11.0.0.1", "11.0.0.2")};
  with_explicit.use(v4_of("a.x"));
  with_explicit.use({ip("11.0.0.1"), true, false});  // after the name, but in the same breath
  with_explicit.settle(kNow);
  CHECK(address_of(with_explicit, "a.x") == "11.0.0.2");
  CHECK(with_explicit.take_problems().empty());
}

TEST_CASE("an explicit VIP on a named one's address is a problem and moves nobody") {
  VipAllocator vips{{}};
  vips.use(v4_of("redis.marathon"));
  vips.settle(kNow);
  vips.use({ip("11.202.66.36"), true, false});
  CHECK(vips.settle(kNow).empty());
  const auto problems = vips.take_problems();
  REQUIRE(problems.size() == 1);
  CHECK(problems.front().kind == "vip_address");
  CHECK(address_of(vips, "redis.marathon") == "11.202.66.36");
}

TEST_CASE("a name keeps its address for a day after its last backend") {
  VipAllocator vips{{}};
  vips.use(v4_of("web.marathon"));
  vips.settle(kNow);
  const std::string address = address_of(vips, "web.marathon");
  vips.release(v4_of("web.marathon"));
  const auto changed = vips.settle(kNow + 10);
  REQUIRE(changed.size() == 1);
  CHECK(changed.front().second->unused_since_seconds == kNow + 10);
  CHECK(vips.next_expiry() == kNow + 10 + kDay);
  CHECK(vips.expire(kNow + 10 + kDay - 1).empty());

  vips.use(v4_of("web.marathon"));
  CHECK(vips.settle(kNow + 20).size() == 1);
  CHECK_FALSE(vips.next_expiry());
  CHECK(vips.expire(kNow + 10 * kDay).empty());
  CHECK(address_of(vips, "web.marathon") == address);

  vips.release(v4_of("web.marathon"));
  vips.settle(kNow + 30);
  const auto ended = vips.expire(kNow + 30 + kDay);
  REQUIRE(ended.size() == 1);
  CHECK_FALSE(ended.front().second);
  CHECK(vips.records().size() == 0);
}

TEST_CASE("a full range first takes from who left longest ago, then from nobody") {
  VipAllocator vips{small_range("11.0.0.1", "11.0.0.2")};
  vips.use(v4_of("a.x"));
  vips.use(v4_of("b.x"));
  vips.settle(kNow);
  vips.release(v4_of("b.x"));
  vips.settle(kNow + 1);
  vips.release(v4_of("a.x"));
  vips.settle(kNow + 2);

  vips.use(v4_of("c.x"));
  vips.settle(kNow + 3);
  CHECK(address_of(vips, "b.x") == "none");
  CHECK(address_of(vips, "c.x") == "11.0.0.2");
  // `a` returns in the same breath as `d` comes: what is there is served before what is new.
  vips.use(v4_of("d.x"));
  vips.use(v4_of("a.x"));
  vips.settle(kNow + 4);
  CHECK(address_of(vips, "a.x") == "11.0.0.1");
  CHECK(address_of(vips, "d.x") == "none");
  CHECK(vips.take_problems().size() == 1);
  // As soon as there is room, `d` gets its address without having to ask again.
  vips.release(v4_of("c.x"));
  vips.settle(kNow + 5);
  CHECK(address_of(vips, "d.x") == "none");  // c's address is kept for it ...
  vips.expire(kNow + 5 + kDay);
  vips.settle(kNow + 5 + kDay);
  CHECK(address_of(vips, "d.x") == "11.0.0.2");
}

TEST_CASE("the number of allocations is bounded") {
  VipOptions options;
  options.max_allocations = 2;
  VipAllocator vips{options};
  for (const char* name : {"a.x", "b.x", "c.x"}) vips.use(v4_of(name));
  vips.settle(kNow);
  CHECK(vips.records().size() == 2);
  CHECK(vips.take_problems().size() == 1);
}

TEST_CASE("of two adopted allocations of one address the older keeps it") {
  for (const bool older_first : {true, false}) {
    CAPTURE(older_first);
    VipRecord older{{VipName{"old.x"}, ip("11.0.0.9"), {}}, 1, 7, kNow, {}, {}};
    VipRecord younger{{VipName{"a.x"}, ip("11.0.0.9"), {}}, 2, 3, kNow, {}, {}};
    VipAllocator vips{{}};
    vips.adopt(older_first ? older : younger);
    vips.adopt(older_first ? younger : older);
    vips.use(v4_of("a.x"));
    vips.use(v4_of("old.x"));
    vips.settle(kNow + 1);
    CHECK(address_of(vips, "old.x") == "11.0.0.9");
    CHECK(address_of(vips, "a.x") == preferred_address("a.x", default_vip_range_v4()).to_string());
    CHECK(vips.records().at(VipName{"a.x"}).sequence > 7);
  }
}

TEST_CASE("an adopted address outside the range, as after a new configuration, is given up") {
  VipAllocator vips{small_range("12.0.0.0", "12.0.0.255")};
  CHECK_FALSE(vips.adopt({{VipName{"a.x"}, ip("11.0.0.9"), {}}, 0, 1, kNow, {}, {}}));
  vips.use(v4_of("a.x"));
  const auto changed = vips.settle(kNow);
  REQUIRE(changed.size() == 2);
  CHECK_FALSE(changed[0].second);
  CHECK(changed[1].second->allocation.v4->to_string().starts_with("12.0.0."));
}

TEST_CASE("no two names share an address, and none in use ever moves") {
  for_each_seed(10, [](std::uint64_t seed) {
    MUSTER_SHOW_SEED(seed);
    Rng rng{seed};
    VipAllocator vips{small_range("11.0.0.0", "11.0.0.31")};
    std::map<std::string, std::size_t> used;
    std::map<std::string, std::string> before;
    std::int64_t now = kNow;
    for (int step = 0; step < 400; ++step) {
      const std::string name = "n" + std::to_string(rng.below(40)) + ".x";
      if (rng.chance(50)) {
        vips.use(v4_of(name.c_str()));
        ++used[name];
      } else if (used[name] > 0) {
        vips.release(v4_of(name.c_str()));
        --used[name];
      }
      now += static_cast<std::int64_t>(rng.below(7200));
      vips.expire(now);
      vips.settle(now);
      std::set<IpAddress> taken;
      for (const auto& [id, record] : vips.records()) {
        const bool alone = taken.insert(*record.allocation.v4).second;
        const bool right = (used[id.str()] > 0) != record.unused_since_seconds.has_value();
        if (!alone || !right) FAIL(id.str());  // a CHECK for each would be most of the time
      }
      for (const auto& [id, address] : before) {
        if (used[id] > 0 && address_of(vips, id.c_str()) != address) FAIL(id);
      }
      before.clear();
      for (const auto& [id, record] : vips.records()) {
        if (used[id.str()] > 0) before[id.str()] = address_of(vips, id.str().c_str());
      }
    }
  });
}

TEST_CASE("a claim: of one name the older allocation is kept, and the other serves for a while") {
  VipAllocator vips{{}};
  vips.use(v4_of("redis.marathon"));
  vips.settle(kNow);
  VipRecord theirs = vips.records().at(VipName{"redis.marathon"});
  theirs.allocation.v4 = ip("11.9.9.9");
  theirs.since_seconds = kNow + 5;
  vips.claim(theirs, kNow + 60);
  auto changed = vips.settle(kNow + 60);
  REQUIRE(changed.size() == 1);
  CHECK(address_of(vips, "redis.marathon") == "11.202.66.36");
  CHECK(changed.front().second->former == std::vector<IpAddress>{ip("11.9.9.9")});
  REQUIRE(vips.next_expiry());
  CHECK(*vips.next_expiry() == kNow + 660);

  theirs.allocation.v4 = ip("11.8.8.8");
  theirs.since_seconds = kNow - 5;
  vips.claim(theirs, kNow + 90);
  changed = vips.settle(kNow + 90);
  REQUIRE(changed.size() == 1);
  CHECK(address_of(vips, "redis.marathon") == "11.8.8.8");
  CHECK(changed.front().second->former ==
        std::vector<IpAddress>{ip("11.9.9.9"), ip("11.202.66.36")});
  CHECK(vips.expire(kNow + 689).empty());
  changed = vips.expire(kNow + 690);
  REQUIRE(changed.size() == 1);
  CHECK(changed.front().second->former.empty());
  CHECK_FALSE(vips.next_expiry());
}

TEST_CASE("a claim: the older name takes the address, and nobody else is given a former one") {
  VipAllocator vips{small_range("11.0.0.1", "11.0.0.4")};
  vips.use(v4_of("a"));
  vips.settle(kNow);
  const IpAddress disputed = *vips.records().at(VipName{"a"}).allocation.v4;
  VipRecord theirs;
  theirs.allocation = {VipName{"b"}, disputed, {}};
  theirs.since_seconds = kNow - 1;
  theirs.sequence = 1;
  vips.claim(theirs, kNow + 60);
  CHECK(vips.settle(kNow + 60).size() >= 2);
  CHECK(vips.records().at(VipName{"b"}).allocation.v4 == disputed);
  CHECK(vips.records().at(VipName{"b"}).unused_since_seconds == kNow + 60);  // until its tasks come
  CHECK(vips.records().at(VipName{"a"}).allocation.v4 != disputed);
  CHECK(vips.records().at(VipName{"a"}).former == std::vector<IpAddress>{disputed});

  theirs.allocation = {VipName{"c"}, ip("11.0.0.4"), {}};
  VipRecord younger = theirs;
  younger.allocation = {VipName{"c"}, disputed, {}};
  younger.since_seconds = kNow + 30;
  vips.claim(younger, kNow + 60);
  vips.use(v4_of("c"));
  vips.settle(kNow + 60);
  CHECK(vips.records().at(VipName{"c"}).allocation.v4.has_value());
  CHECK(vips.records().at(VipName{"c"}).allocation.v4 != disputed);
  CHECK(vips.records().at(VipName{"c"}).former == std::vector<IpAddress>{disputed});
}

TEST_CASE("settled piece by piece the addresses are those of settling at once") {
  for_each_seed(20, [](std::uint64_t seed) {
    MUSTER_SHOW_SEED(seed);
    Rng rng{seed};
    VipAllocator whole{small_range("11.0.0.0", "11.0.0.31")};
    VipAllocator pieces{small_range("11.0.0.0", "11.0.0.31")};
    std::map<std::string, int> used;
    for (int round = 0; round < 30; ++round) {
      for (int i = 0; i < 20; ++i) {
        const std::string name = "n" + std::to_string(rng.below(60)) + ".x";
        const bool more = used[name] == 0 || rng.chance(30);
        used[name] += more ? 1 : -1;
        for (VipAllocator* vips : {&whole, &pieces}) {
          more ? vips->use(v4_of(name.c_str())) : vips->release(v4_of(name.c_str()));
        }
      }
      const std::size_t at_once = whole.settle(kNow + round).size();
      std::size_t one_by_one = 0;
      do {
        one_by_one += pieces.settle(kNow + round, 3).size();
      } while (pieces.pending());
      CHECK(one_by_one == at_once);
      CHECK(pieces.records() == whole.records());
    }
  });
}

TEST_SUITE_END();
