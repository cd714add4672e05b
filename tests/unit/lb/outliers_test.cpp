#include "lb/core/outliers.hpp"

#include <doctest/doctest.h>

#include "lb/core/vip_table.hpp"
#include "tests/support/lb_samples.hpp"
#include "tests/support/seeds.hpp"

namespace muster::lb {
namespace {

using namespace testing;
using std::chrono::milliseconds;
using std::chrono::seconds;

const Vip kVip = tcp("11.0.0.1:80");
const TimePoint kStart{std::chrono::hours{1}};

std::vector<Endpoint> endpoints(int count) {
  std::vector<Endpoint> all;
  for (int i = 1; i <= count; ++i) all.push_back(at("10.0.0." + std::to_string(i) + ":80"));
  return all;
}

TEST_CASE("one failure is chance, two soon after one another are not") {
  const auto two = endpoints(2);
  Outliers outliers;
  CHECK_FALSE(outliers.failed(kVip, two[0], two, kStart));
  CHECK_FALSE(outliers.failed(kVip, two[0], two, kStart + seconds{30}));
  CHECK(outliers.failed(kVip, two[0], two, kStart + seconds{32}));
  CHECK(outliers.resting() == 1);
  CHECK(outliers.resting(kVip) == std::map{std::pair{two[0], kStart + seconds{32}}});
  CHECK(outliers.next() == kStart + seconds{42});
}

TEST_CASE("where everybody fails alike, nobody rests") {
  const auto three = endpoints(3);
  Outliers outliers;
  for (int i = 0; i < 300; ++i) {
    CHECK_FALSE(outliers.failed(kVip, three[static_cast<std::size_t>(i % 3)], three,
                                kStart + milliseconds{i * 10}));
  }
  // The only one there is has nobody to take its place.
  for (int i = 0; i < 10; ++i) {
    CHECK_FALSE(outliers.failed(tcp("11.0.0.2:80"), three[0], std::span{three}.first(1), kStart));
  }
}

TEST_CASE("two dead ones of three are found, though there are more of them") {
  const auto three = endpoints(3);
  Outliers outliers;
  bool first = false;
  bool second = false;
  for (int i = 0; i < 6; ++i) {
    const TimePoint now = kStart + milliseconds{i * 100};
    first = outliers.failed(kVip, three[0], three, now) || first;
    second = outliers.failed(kVip, three[1], three, now) || second;
  }
  CHECK(first);
  CHECK(second);
}

TEST_CASE("a rest ends, and is twice as long when what it was for goes on") {
  const auto two = endpoints(2);
  Outliers outliers;
  TimePoint now = kStart;
  Duration expected = Outliers::kFirstRest;
  for (int i = 0; i < 8; ++i) {
    CAPTURE(i);
    outliers.failed(kVip, two[0], two, now);
    REQUIRE(outliers.failed(kVip, two[0], two, now));
    REQUIRE(outliers.next() == now + expected);
    CHECK_FALSE(outliers.failed(kVip, two[0], two, now));  // it rests already
    CHECK(outliers.advance(now + expected - milliseconds{1}).empty());
    CHECK(outliers.advance(now + expected) == std::vector{kVip});
    CHECK(outliers.resting() == 0);
    CHECK_FALSE(outliers.next());
    now += expected;
    expected = std::min(expected * 2, Outliers::kMaxRest);
  }
  // It held for longer than it had rested: forgiven.
  now += Outliers::kMaxRest;
  CHECK(outliers.advance(now).empty());
  outliers.failed(kVip, two[0], two, now);
  REQUIRE(outliers.failed(kVip, two[0], two, now));
  CHECK(outliers.next() == now + Outliers::kFirstRest);
}

TEST_CASE("pasts are bounded, and forgotten in time") {
  const auto two = endpoints(2);
  Outliers outliers;
  std::size_t rested = 0;
  for (std::uint32_t i = 0; i < Outliers::kMaxTracked + 10; ++i) {
    const Vip vip{
        Protocol::tcp,
        {IpAddress{IpAddress::V4{11, static_cast<std::uint8_t>(i >> 16),
                                 static_cast<std::uint8_t>(i >> 8), static_cast<std::uint8_t>(i)}},
         port(80)}};
    outliers.failed(vip, two[0], two, kStart);
    if (outliers.failed(vip, two[0], two, kStart)) ++rested;
  }
  CHECK(rested == Outliers::kMaxTracked);
  CHECK(outliers.advance(kStart + Outliers::kFirstRest).size() == Outliers::kMaxTracked);
  outliers.advance(kStart + std::chrono::hours{1});
  outliers.failed(kVip, two[0], two, kStart + std::chrono::hours{1});
  CHECK(outliers.failed(kVip, two[0], two, kStart + std::chrono::hours{1}));
}

TEST_CASE("whom a VIP prefers and whom it leaves out") {
  using Locality = VipPolicy::Locality;
  const auto all = endpoints(4);
  Candidates candidates{{all[0], {1, Distance::node, false}},
                        {all[1], {2, Distance::zone, false}},
                        {all[2], {3, Distance::far, false}},
                        {all[3], {0, Distance::node, false}}};
  const auto weights = [&](Locality locality, const std::vector<Endpoint>& resting = {}) {
    std::map<Endpoint, TimePoint> since;
    for (const Endpoint& endpoint : resting) since.emplace(endpoint, kStart);
    std::vector<std::uint16_t> found;
    for (const Backend& backend : select(candidates, locality, since)) {
      found.push_back(backend.weight);
    }
    return found;
  };
  using Found = std::vector<std::uint16_t>;
  CHECK(weights(Locality::none) == Found{1, 2, 3, 0});
  CHECK(weights(Locality::zone) == Found{1, 2, 0, 0});
  CHECK(weights(Locality::node) == Found{1, 0, 0, 0});
  CHECK(weights(Locality::node, {all[0]}) == Found{0, 2, 0, 0});
  // No more than half of the three that are usable, so one.
  CHECK(weights(Locality::none, {all[0], all[1], all[2]}) == Found{0, 2, 3, 0});
  candidates[all[0]].host_down = true;
  candidates[all[1]].host_down = true;
  CHECK(weights(Locality::node) == Found{3, 0});
  candidates[all[2]].host_down = true;
  CHECK(weights(Locality::none) == Found{1, 2, 3, 0});
}

TEST_CASE("with several resting, those that have rested longest may") {
  const auto four = endpoints(4);
  Candidates candidates;
  std::map<Endpoint, TimePoint> since;
  for (std::size_t i = 0; i < 4; ++i) {
    candidates[four[i]] = {1, Distance::far, false};
    since[four[i]] = kStart - seconds{i};
  }
  const auto chosen = select(candidates, VipPolicy::Locality::none, since);
  CHECK(chosen == std::vector<Backend>{{four[0], 1}, {four[1], 1}, {four[2], 0}, {four[3], 0}});
}

VipLabel with(VipLabel label, VipPolicy policy) {
  label.policy = policy;
  return label;
}
ClusterDelta tasks(std::vector<Change<Task>> changes) {
  ClusterDelta delta;
  delta.complete = true;
  delta.tasks = std::move(changes);
  return delta;
}

TEST_CASE("a VIP is balanced as most of its tasks say, whatever the order they come in") {
  const VipPolicy hash{.spread = VipPolicy::Spread::source_hash};
  const VipPolicy sticky{.spread = VipPolicy::Spread::round_robin, .affinity_seconds = 400};
  VipTable table{Policy::round_robin};
  table.apply(tasks({added(task("1", {literal("11.0.0.1", 80)}, {"10.0.0.1:80"}))}));
  CHECK(table.desired(kVip)->policy == Policy::round_robin);
  const Task two = task("2", {with(literal("11.0.0.1", 80), hash)}, {"10.0.0.2:80"});
  const Task three = task("3", {with(literal("11.0.0.1", 80), hash)}, {"10.0.0.3:80"});
  table.apply(tasks({added(two), added(three)}));
  CHECK(table.desired(kVip)->policy == Policy::source_hash);
  CHECK(table.desired(kVip)->backends.size() == 3);
  Task two_now = two;
  Task three_now = three;
  two_now.ports[0].vips[0].policy = three_now.ports[0].vips[0].policy = sticky;
  CHECK(table.apply(tasks({changed(two, two_now), changed(three, three_now)})) ==
        std::vector{kVip});
  CHECK(table.desired(kVip)->policy == Policy::round_robin);
  CHECK(table.desired(kVip)->affinity_seconds == 600);  // the next step
  // IPv6 clients are hashed where they are not remembered.
  const Task six = task("6", {with(literal("fd01:c::1", 80), sticky)}, {"[fd00::1]:80"});
  table.apply(tasks({added(six)}));
  CHECK(table.desired(tcp("[fd01:c::1]:80"))->policy == Policy::source_hash);
}

TEST_CASE("affinity is rounded up to a step") {
  CHECK(affinity_step(0) == 0);
  CHECK(affinity_step(1) == 10);
  CHECK(affinity_step(10) == 10);
  CHECK(affinity_step(11) == 30);
  CHECK(affinity_step(1'000'000) == 24 * 3600);
}

TEST_CASE("near backends are preferred once it is known where this node is") {
  VipTable table;
  table.set_node({ip("192.168.0.1")});
  const VipPolicy zone{.locality = VipPolicy::Locality::zone};
  Task near = task("1", {with(literal("11.0.0.1", 80), zone)}, {"192.168.0.2:80"});
  near.agent_zone = "r/a";
  Task far = task("2", {with(literal("11.0.0.1", 80), zone)}, {"192.168.0.3:80"});
  far.agent_zone = "r/b";
  table.apply(tasks({added(near), added(far)}));
  const std::vector<Backend> both{{at("192.168.0.2:80"), 1}, {at("192.168.0.3:80"), 1}};
  CHECK(table.desired(kVip)->backends == both);
  ClusterDelta delta;
  delta.complete = true;
  Agent here{.id = AgentId{"a1"}, .hostname = "h", .addresses = {ip("192.168.0.1")}, .port = {}};
  here.zone = "r/a";
  delta.agents.push_back(added(here));
  CHECK(table.apply(delta) == std::vector{kVip});
  CHECK(table.desired(kVip)->backends ==
        std::vector<Backend>{{at("192.168.0.2:80"), 1}, {at("192.168.0.3:80"), 0}});
  delta.agents = {removed(here)};
  CHECK(table.apply(delta) == std::vector{kVip});
  CHECK(table.desired(kVip)->backends == both);
}

TEST_CASE("a backend that leaves connections unanswered rests, unless its VIP forbids it") {
  for (const bool eject : {true, false}) {
    CAPTURE(eject);
    VipTable table;
    const VipPolicy policy{.eject = eject};
    table.apply(
        tasks({added(task("1", {with(literal("11.0.0.1", 80), policy)}, {"10.0.0.1:80"})),
               added(task("2", {with(literal("11.0.0.1", 80), policy)}, {"10.0.0.2:80"}))}));
    CHECK_FALSE(table.failed(kVip, at("10.0.0.1:80"), kStart));
    CHECK(table.failed(kVip, at("10.0.0.1:80"), kStart) == eject);
    CHECK_FALSE(table.failed(kVip, at("10.0.0.9:80"), kStart));                // not its backend
    CHECK_FALSE(table.failed(tcp("11.0.0.9:80"), at("10.0.0.1:80"), kStart));  // not a Vip
    CHECK(table.desired(kVip)->backends ==
          std::vector<Backend>{{at("10.0.0.1:80"), static_cast<std::uint16_t>(eject ? 0 : 1)},
                               {at("10.0.0.2:80"), 1}});
    if (eject) CHECK(table.advance(kStart + Outliers::kFirstRest) == std::vector{kVip});
    CHECK(table.desired(kVip)->backends ==
          std::vector<Backend>{{at("10.0.0.1:80"), 1}, {at("10.0.0.2:80"), 1}});
  }
}

}  // namespace
}  // namespace muster::lb
