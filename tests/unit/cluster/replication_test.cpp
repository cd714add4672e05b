#include <algorithm>
#include <chrono>
#include <memory>

#include <doctest/doctest.h>

#include "cluster/core/cluster.hpp"
#include "cluster/core/join_deltas.hpp"
#include "samples.hpp"

using namespace muster;
using namespace muster::cluster;
using namespace muster::testing;
using namespace std::chrono_literals;

namespace {

constexpr TimePoint kStart{1000s};
constexpr Cluster::WallTime kWall{1'700'000'000s};

/// A node, and what it hears and says.
struct Node : Cluster {
  Node() : Cluster{options()} {}
  static ClusterOptions options() {
    ClusterOptions options;
    options.replicated = true;
    return options;
  }
  ClusterDelta lead_with(const Observation& observation, TimePoint now = kStart) {
    lead();
    begin(std::make_shared<const Observation>(observation), now, kWall);
    return work(now);
  }
  ClusterDelta work(TimePoint now = kStart) {
    ClusterDelta last;
    while (busy()) last = advance(7, now, kWall);
    return last;
  }
  ClusterDelta timer(TimePoint now) { return on_timer(now, kWall + (now - kStart)); }
};

/// Through octets, as gossip carries them.
std::vector<RecordWrite> carried(const std::vector<RecordWrite>& writes) {
  std::vector<RecordWrite> out;
  for (const RecordWrite& write : writes) {
    auto parsed = parse_write(to_octets(write.shard), to_octets(write.key), write.value);
    REQUIRE(parsed.has_value());
    out.push_back(std::move(*parsed));
  }
  return out;
}

void same_view(const Cluster& a, const Cluster& b) {
  const auto equal = [](const auto& x, const auto& y) {
    return std::equal(x.begin(), x.end(), y.begin(), y.end(), [](const auto& l, const auto& r) {
      return l.first == r.first && *l.second == *r.second;
    });
  };
  CHECK(equal(a.view().tasks(), b.view().tasks()));
  CHECK(equal(a.view().agents(), b.view().agents()));
  CHECK(equal(a.view().frameworks(), b.view().frameworks()));
  CHECK(equal(a.view().vips(), b.view().vips()));
  CHECK(a.view().vip_records() == b.view().vip_records());
}

}  // namespace

TEST_SUITE_BEGIN("cluster/core/replication");

TEST_CASE("octets that are no shard or key of ours are refused") {
  CHECK(parse_write("", "\2a", std::nullopt).error() == DecodeError::bad_kind);
  CHECK(parse_write("\7", "\2a", std::nullopt).error() == DecodeError::bad_kind);
  CHECK(parse_write("\6", "\2a", std::nullopt).error() == DecodeError::bad_key);
  CHECK(parse_write("\x80", "\2a", std::nullopt).error() == DecodeError::bad_kind);
  CHECK(parse_write("\4", "\2a", std::nullopt).error() == DecodeError::bad_key);
  CHECK(parse_write("\1x", "\3a", std::nullopt).error() == DecodeError::bad_key);
  CHECK(parse_write("\1", "", std::nullopt).error() == DecodeError::bad_key);
  CHECK(parse_write("\1", "\3", std::nullopt).error() == DecodeError::bad_key);
  CHECK(parse_write("\1", "\3a", std::vector<std::byte>(kMaxRecordBytes + 1)).error() ==
        DecodeError::too_long);
}

TEST_CASE("a follower takes no observation, and becomes what the publisher is") {
  Node publisher;
  Node follower;
  follower.begin(std::make_shared<const Observation>(make_snapshot(3)), kStart, kWall);
  CHECK_FALSE(follower.busy());
  CHECK(follower.view().tasks().empty());

  CHECK(publisher.lead_with(make_snapshot(30)).complete);
  CHECK_FALSE(follower.replicate(carried(publisher.take_writes()), kStart).complete);
  same_view(publisher, follower);
  REQUIRE(follower.next_deadline());
  CHECK(*follower.next_deadline() == kStart + Cluster::kSettle);
  CHECK(follower.timer(kStart + Cluster::kSettle).complete);
  CHECK(publisher.take_writes().empty());

  publisher.observe(gone("t3", GoneReason::terminal), kStart, kWall);
  const auto delta = follower.replicate(carried(publisher.take_writes()), kStart + 1s);
  CHECK(delta.tasks.size() == 1);
  CHECK(delta.complete);
  same_view(publisher, follower);
}

TEST_CASE("a follower that lacks an agent's shard is not complete") {
  Observation two = make_snapshot(4);
  two.agents.push_back(make_agent("a2"));
  Node publisher;
  publisher.lead_with(two);
  std::vector<RecordWrite> some;
  std::vector<RecordWrite> rest;
  for (RecordWrite& write : publisher.take_writes()) {
    (write.shard.agent == AgentId{"a2"} ? rest : some).push_back(std::move(write));
  }
  Node follower;
  follower.replicate(some, kStart);
  CHECK_FALSE(follower.timer(kStart + 10s).complete);
  follower.replicate(rest, kStart + 11s);
  CHECK(follower.timer(kStart + 12s).complete);
}

TEST_CASE("what was on disk serves at once, and goes once a complete state lacks it") {
  Cluster before;
  before.observe(make_snapshot(20), kStart, kWall);
  Node publisher;
  publisher.lead_with(make_snapshot(15));
  const auto writes = publisher.take_writes();

  Node follower;
  const auto restored = follower.restore(before.save(), kStart, kWall);
  REQUIRE(restored.has_value());
  CHECK(restored->tasks.size() == 20);
  CHECK(restored->complete);
  CHECK(follower.replicate(writes, kStart + 1s).tasks.empty());
  CHECK(follower.view().tasks().size() == 20);
  const auto dropped = follower.timer(kStart + 1s + Cluster::kDropUnconfirmed);
  CHECK(dropped.tasks.size() == 5);
  same_view(publisher, follower);
}

TEST_CASE("what was on disk stays while nobody publishes") {
  Cluster before;
  before.observe(make_snapshot(20), kStart, kWall);
  Node follower;
  REQUIRE(follower.restore(before.save(), kStart, kWall).has_value());
  follower.timer(kStart + 3600s);
  CHECK(follower.view().tasks().size() == 20);
  CHECK_FALSE(follower.next_deadline());
}

TEST_CASE("who takes over changes nothing but what the master says, VIP addresses included") {
  Node first;
  Node second;
  first.lead_with(make_snapshot(40));
  second.replicate(first.take_writes(), kStart);
  second.timer(kStart + 1s);

  second.lead();
  CHECK(second.busy());
  second.begin(std::make_shared<const Observation>(make_snapshot(39)), kStart + 2s, kWall);
  std::size_t changes = 0;
  while (second.busy()) changes += second.advance(7, kStart + 2s, kWall).tasks.size();
  CHECK(changes == 1);
  CHECK(second.view().vip_records() == first.view().vip_records());

  // What it writes brings a node that holds nothing to the same.
  Node joiner;
  joiner.replicate(second.take_writes(), kStart + 3s);
  same_view(second, joiner);
}

TEST_CASE("a takeover doubts a suddenly empty master as the former publisher would have") {
  Node first;
  Node second;
  first.lead_with(make_snapshot(40));
  second.replicate(first.take_writes(), kStart);
  second.lead_with(make_snapshot(4), kStart + 1s);
  CHECK(second.view().tasks().size() == 40);
  CHECK(second.status(kStart + 1s).held_tasks == 36);
}

TEST_CASE("a takeover also removes what waits for an agent that nobody ever told of") {
  Node first;
  Node second;
  first.lead_with(make_snapshot(40));
  auto writes = first.take_writes();
  second.replicate(writes, kStart);
  const Task orphan = make_task("orphan", "a9");
  const RecordWrite stray{shard_of(orphan), record_key(key_of(orphan)), *encode(orphan)};
  second.replicate({&stray, 1}, kStart);
  REQUIRE(second.view().waiting().size() == 1);
  second.lead_with(make_snapshot(40), kStart + 1s);
  CHECK(second.view().waiting().empty());
  const auto said = second.take_writes();
  CHECK(std::any_of(said.begin(), said.end(), [&](const RecordWrite& write) {
    return write.shard == stray.shard && write.key == stray.key && !write.value;
  }));
}

TEST_CASE("an agent on disk that the publisher takes away is not waited for") {
  Observation two = make_snapshot(4);
  two.agents.push_back(make_agent("a2"));
  two.agents.push_back(make_agent("a3"));
  Cluster before;
  before.observe(two, kStart, kWall);
  Node publisher;
  publisher.lead_with(make_snapshot(3));
  Node follower;
  REQUIRE(follower.restore(before.save(), kStart, kWall).has_value());
  const Agent a2 = make_agent("a2");
  const RecordWrite goes{shard_of(a2), record_key(a2.id), std::nullopt};
  follower.replicate({&goes, 1}, kStart);
  follower.replicate(publisher.take_writes(), kStart);
  const Agent a3 = make_agent("a3");
  const RecordWrite goes_too{shard_of(a3), record_key(a3.id), std::nullopt};
  follower.replicate({&goes_too, 1}, kStart);
  follower.timer(kStart + Cluster::kDropUnconfirmed);
  same_view(publisher, follower);
}

TEST_CASE("events that come while what is known is still adopted are not lost") {
  Node first;
  Node second;
  first.lead_with(make_snapshot(40));
  second.replicate(first.take_writes(), kStart);
  second.lead();
  second.begin(std::make_shared<const Observation>(make_snapshot(40)), kStart, kWall);
  second.advance(3, kStart, kWall);
  second.observe(gone("t1", GoneReason::terminal), kStart, kWall);
  second.work();
  CHECK(second.view().tasks().size() == 39);
}

TEST_CASE(
    "a publisher sets right what others wrote, and keeps what came just before it took over") {
  Node former;
  former.lead_with(make_snapshot(10));
  auto early = former.take_writes();
  Node publisher;
  publisher.replicate(early, kStart);

  former.begin(std::make_shared<const Observation>(make_snapshot(12)), kStart, kWall);
  former.work();
  const auto late = former.take_writes();
  publisher.lead();
  CHECK(publisher.replicate(late, kStart).tasks.size() == 2);

  publisher.begin(std::make_shared<const Observation>(make_snapshot(12)), kStart, kWall);
  publisher.work();
  CHECK(publisher.view().tasks().size() == 12);
  publisher.take_writes();

  // Now it has seen the master itself.
  Node stale;
  stale.lead_with(make_snapshot(13));
  publisher.replicate(stale.take_writes(), kStart);
  CHECK(publisher.view().tasks().size() == 12);
  const auto corrections = publisher.take_writes();
  REQUIRE(corrections.size() == 1);
  CHECK(corrections.front().key == record_key(key("t12")));
  CHECK_FALSE(corrections.front().value.has_value());
  // Its own words, coming back, are no news.
  publisher.replicate(early, kStart);
  CHECK(publisher.take_writes().empty());
}

TEST_CASE("who takes over just after its start does not bring back what ended meanwhile") {
  Cluster before;
  before.observe(make_snapshot(20), kStart, kWall);
  Node former;
  former.lead_with(make_snapshot(18));
  Node restarted;
  REQUIRE(restarted.restore(before.save(), kStart, kWall).has_value());
  const auto told = former.take_writes();
  restarted.replicate(told, kStart);
  restarted.timer(kStart + Cluster::kSettle);
  REQUIRE(restarted.view().tasks().size() == 20);

  // A master that recovers lacks much: nothing is taken from its silence.
  Observation few = make_snapshot(5);
  few.recovering = true;
  restarted.lead_with(few, kStart + Cluster::kSettle);
  CHECK(restarted.view().tasks().size() == 18);
  for (const RecordWrite& write : restarted.take_writes()) {
    const bool ended = write.key == record_key(key("t18")) || write.key == record_key(key("t19"));
    CHECK_FALSE((ended && write.value));
  }

  // Unless the master names it.
  Node other;
  REQUIRE(other.restore(before.save(), kStart, kWall).has_value());
  other.replicate(told, kStart);
  other.timer(kStart + Cluster::kSettle);
  other.lead_with(make_snapshot(19), kStart + Cluster::kSettle);
  CHECK(other.view().tasks().size() == 19);
}

TEST_CASE("an end that the former publisher told last is believed until a snapshot has spoken") {
  Node former;
  former.lead_with(make_snapshot(10));
  Node publisher;
  publisher.replicate(former.take_writes(), kStart);
  former.observe(gone("t3", GoneReason::terminal), kStart, kWall);
  former.observe(gone("t9", GoneReason::terminal), kStart, kWall);
  const auto ends = former.take_writes();

  publisher.lead();
  Observation snapshot = make_snapshot(9);
  snapshot.recovering = true;
  publisher.begin(std::make_shared<const Observation>(snapshot), kStart, kWall);
  SUBCASE("before what is known is adopted") {}
  SUBCASE("after it") {
    publisher.advance(1000, kStart, kWall);
  }
  CHECK(publisher.replicate(ends, kStart).tasks.size() == 2);
  publisher.work();
  // t3 is named, and was over for somebody who knew an earlier state.
  CHECK(publisher.view().task(key("t3")) != nullptr);
  CHECK(publisher.view().task(key("t9")) == nullptr);
  const auto said = publisher.take_writes();
  CHECK(std::none_of(said.begin(), said.end(), [](const RecordWrite& write) {
    return write.key == record_key(key("t9")) && write.value;
  }));
}

TEST_CASE("what the former publisher tells late is older than the snapshot, whenever it comes") {
  const auto with_t3 = [](int tasks, Health health) {
    Observation all = make_snapshot(tasks);
    for (Task& task : all.tasks) {
      if (key_of(task) == key("t3")) task.health = health;
    }
    return all;
  };
  Node former;
  former.lead_with(make_snapshot(10));
  const auto early = former.take_writes();
  former.begin(std::make_shared<const Observation>(with_t3(12, Health::pending)), kStart, kWall);
  former.work();
  const auto late = former.take_writes();
  Observation snapshot = with_t3(10, Health::unhealthy);
  SUBCASE("a master that knows all") {}
  SUBCASE("one that recovers: what it does not name is held") {
    snapshot.recovering = true;
  }
  bool done = false;
  for (int at = 0; !done; ++at) {
    INFO("it comes before step ", at);
    Node publisher;
    publisher.replicate(early, kStart);
    publisher.lead();
    publisher.begin(std::make_shared<const Observation>(snapshot), kStart, kWall);
    for (int step = 0; step < at && publisher.busy(); ++step) {
      publisher.advance(1, kStart, kWall);
    }
    done = !publisher.busy();
    publisher.replicate(late, kStart);
    publisher.work();
    const std::size_t held = snapshot.recovering && !done ? 2 : 0;
    CHECK(publisher.view().tasks().size() == 10 + held);
    CHECK(publisher.status(kStart).held_tasks == held);
    CHECK(publisher.view().task(key("t3"))->health == Health::unhealthy);
    Node follower;
    follower.replicate(early, kStart);
    follower.replicate(late, kStart);
    follower.replicate(publisher.take_writes(), kStart);
    same_view(follower, publisher);
  }
}

TEST_CASE("what comes and goes in one call is no change") {
  const auto task = std::make_shared<const Task>(make_task("t1"));
  ClusterDelta delta;
  delta.tasks = {{nullptr, task}};
  ClusterDelta then;
  then.tasks = {{task, nullptr}};
  join(delta, then);
  CHECK(delta.tasks.empty());
  // The same again is not the same object.
  delta.tasks = {{task, nullptr}};
  then.tasks = {{nullptr, std::make_shared<const Task>(make_task("t1"))}};
  join(delta, then);
  CHECK(delta.tasks.empty());
  delta.tasks = {{nullptr, task}};
  join(delta, {});
  CHECK(delta.tasks.size() == 1);
}

TEST_CASE("who is superseded takes on the other's state, also where its own was never sent") {
  Node winner;
  winner.lead_with(make_snapshot(10));
  Node loser;
  loser.lead_with(make_snapshot(14));
  loser.take_writes();
  loser.follow();
  CHECK_FALSE(loser.leading());
  CHECK(loser.view().tasks().size() == 14);
  loser.replicate(winner.take_writes(), kStart + 1s);
  loser.timer(kStart + 1s + Cluster::kDropUnconfirmed);
  same_view(winner, loser);
  CHECK(loser.take_writes().empty());
}

TEST_CASE("tasks of a dead host are marked, in one change with whatever else changed") {
  Node node;
  node.lead_with(make_snapshot(3));
  Member dead;
  dead.id = NodeId{"n"};
  dead.status = MemberStatus::host_down;
  dead.endpoints = {{ip("10.0.0.1"), port(61420)}};
  auto delta = node.set_members({&dead, 1}, kStart);
  REQUIRE(delta.tasks.size() == 3);
  CHECK(delta.tasks[0].after->host_down);
  CHECK(delta.complete);
  // One that starts there meanwhile is no better off.
  Observation more;
  more.tasks = {make_task("t9")};
  delta = node.observe(more, kStart, kWall);
  REQUIRE(delta.tasks.size() == 1);
  CHECK(delta.tasks[0].after->host_down);
  // It is this node's belief: nobody else is told.
  for (const RecordWrite& write : node.take_writes()) {
    if (write.key != record_key(key("t9"))) continue;
    const auto task = decode_task(write.shard, write.key, *write.value);
    REQUIRE(task.has_value());
    CHECK_FALSE(task->host_down);
  }
  dead.status = MemberStatus::alive;
  CHECK(node.set_members({&dead, 1}, kStart + 1s).tasks.size() == 4);
}

TEST_SUITE_END();
