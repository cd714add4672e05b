#include "gossip/core/shard_store.hpp"

#include <doctest/doctest.h>

using namespace muster;
using namespace muster::gossip;
using namespace std::chrono_literals;

namespace {

constexpr NodeUid kWriter{1, 1};
const TimePoint kStart{1h};

RecordWrite put(std::string shard, unsigned char value = 1) {
  return {std::move(shard), "k", std::vector<std::byte>(3, std::byte{value})};
}
RecordWrite gone(std::string shard) {
  return {std::move(shard), "k", std::nullopt};
}

struct Writer {
  ShardStore store;
  std::vector<ShardDelta> said;
  Writer() { store.take_over(kWriter, 1, {""}); }
  ShardDelta write(RecordWrite write) {
    said.clear();
    store.publish({std::move(write)}, said);
    REQUIRE(said.size() == 1);
    return said[0];
  }
};

void forget_all_empty(ShardStore& store) {
  store.sweep(kStart, kStart - 1h);
  store.sweep(kStart + 2s, kStart + 1s);
}

}  // namespace

TEST_CASE("an empty shard is in no hash, whoever remembers it") {
  Writer writer;
  ShardStore reader;
  const auto filled = writer.write(put("s"));
  const auto emptied = writer.write(gone("s"));
  std::vector<ShardDelta> none;
  CHECK(reader.apply(filled, none) == ShardStore::Applied::applied);
  CHECK(reader.root() != 0);
  CHECK(reader.apply(emptied, none) == ShardStore::Applied::applied);
  CHECK(reader.root() == 0);
  forget_all_empty(reader);
  CHECK(reader.find("s") == nullptr);
  CHECK(reader.root() == writer.store.root());
  CHECK(reader.buckets() == writer.store.buckets());
}

TEST_CASE("what was emptied is stale for as long as it is remembered") {
  Writer writer;
  ShardStore reader;
  std::vector<ShardDelta> none;
  const auto filled = writer.write(put("s"));
  reader.apply(filled, none);
  reader.apply(writer.write(gone("s")), none);
  reader.sweep(kStart, kStart - 1h);
  CHECK(reader.apply(filled, none) == ShardStore::Applied::stale);
  CHECK(reader.records() == 0);
}

TEST_CASE("the publisher buries what it has emptied and forgotten when it comes back") {
  Writer writer;
  ShardStore sleeper;
  std::vector<ShardDelta> said;
  const auto filled = writer.write(put("s"));
  sleeper.apply(filled, said);
  writer.write(gone("s"));
  forget_all_empty(writer.store);
  said.clear();
  CHECK(writer.store.apply(filled, said) == ShardStore::Applied::stale);
  CHECK(writer.store.records() == 0);
  REQUIRE(said.size() == 1);
  // An empty shard needs no transfer: its head says all.
  std::vector<ShardDelta> none;
  CHECK(sleeper.apply(said[0], none) == ShardStore::Applied::applied);
  CHECK(sleeper.records() == 0);
  CHECK(sleeper.take_changes().back() == gone("s"));
}

TEST_CASE("a shard written anew after it was forgotten outranks its earlier content") {
  Writer writer;
  ShardStore sleeper;
  std::vector<ShardDelta> none;
  for (unsigned char n = 0; n < 9; ++n) sleeper.apply(writer.write(put("s", n)), none);
  const auto old = sleeper.find("s")->head;
  writer.write(gone("s"));
  forget_all_empty(writer.store);
  const auto anew = writer.write(put("s", 77));
  CHECK(anew.head > old);
  CHECK(writer.store.apply({"s", old, 0, {}}, none) == ShardStore::Applied::stale);
}

TEST_CASE("a publisher started anew, knowing nothing, outranks its own earlier life") {
  Writer before;
  std::vector<ShardDelta> said;
  const auto old = before.write(put("s", 1));
  ShardStore after;
  after.take_over(kWriter, 2, {""});  // a later epoch
  after.publish({put("s", 2)}, said);
  REQUIRE(said.size() == 1);
  CHECK(said[0].head > old.head);
}

TEST_CASE("more empty shards than are remembered lose the oldest first") {
  Writer writer;
  TimePoint now = kStart;
  for (int i = 0; i < 6000; ++i) {
    writer.write(put("s" + std::to_string(i)));
    writer.write(gone("s" + std::to_string(i)));
    if (i % 100 == 99) writer.store.sweep(now += 1s, kStart - 1h);
  }
  writer.write(put("kept"));
  writer.store.sweep(now += 1s, kStart - 1h);
  CHECK(writer.store.shards().size() == kMaxEmptyShards + 1);
  CHECK(writer.store.find("s0") == nullptr);
  CHECK(writer.store.find("s5999") != nullptr);
  CHECK(writer.store.find("kept") != nullptr);
}

TEST_CASE("a takeover in steps names every shard that has content, once") {
  Writer writer;
  ShardStore heir;
  std::vector<ShardDelta> said;
  for (int i = 0; i < 50; ++i) heir.apply(writer.write(put("s" + std::to_string(i))), said);
  heir.apply(writer.write(gone("s7")), said);
  said.clear();
  heir.take_over({2, 2}, 1, {""});
  int steps = 1;
  while (heir.restamp_some(8, said)) ++steps;
  CHECK(steps == 7);
  CHECK(said.size() == 49);
  for (const auto& delta : said) {
    CAPTURE(delta.shard);
    CHECK(delta.head.term.publisher == NodeUid{2, 2});
    CHECK(delta.ops.empty());
  }
}

TEST_CASE("a shard of one's own is written beside whoever publishes, each under its term") {
  constexpr NodeUid kNode{2, 2};
  Writer writer;  // publishes all
  ShardStore node;
  std::vector<ShardDelta> said;
  std::vector<ShardDelta> none;
  node.own(kNode, 1, "own1", said);
  node.publish({put("own1"), put("own10"), put("other")}, said);
  CHECK(node.refused() == 2);  // whole ids, not prefixes
  REQUIRE(said.size() == 1);
  CHECK(said[0].head.term.publisher == kNode);
  // What another publishes does not touch it, and the other way round.
  ShardStore both;
  both.take_over(kWriter, 1, {"p"});
  both.own(kNode, 1, "own1", none);
  const ShardDelta foreign{"p1", {Term{99, kNode}, 1, 0}, 0, {}};
  CHECK(both.apply(foreign, none) == ShardStore::Applied::applied);
  CHECK(both.take_superseded());
  CHECK(both.take_lost().empty());
  both.take_over(kWriter, 1, {"p"});
  CHECK(both.apply({"own1", {Term{1000, kNode}, 1, 0}, 0, {}}, none) ==
        ShardStore::Applied::applied);
  CHECK_FALSE(both.take_superseded());
  CHECK(both.take_lost() == std::vector<std::string>{"own1"});
  CHECK(both.take_lost().empty());
  both.publish({put("own1")}, none);
  CHECK(both.refused() == 1);
}

TEST_CASE("a shard that is taken again goes above what another wrote, and one that is left stays") {
  constexpr NodeUid kNode{2, 2};
  constexpr NodeUid kOther{3, 3};
  ShardStore one;
  ShardStore other;
  std::vector<ShardDelta> said;
  one.own(kNode, 5, "s", said);
  one.publish({put("s", 1)}, said);
  REQUIRE(said.size() == 1);
  std::vector<ShardDelta> answer;
  CHECK(other.apply(said[0], answer) == ShardStore::Applied::applied);
  other.own(kOther, 5, "s", answer);  // the same content under its name
  REQUIRE(answer.size() == 1);
  CHECK(answer[0].head.term > said[0].head.term);
  other.publish({gone("s")}, answer);
  REQUIRE(answer.size() == 2);
  std::vector<ShardDelta> none;
  CHECK(one.apply(answer[0], none) == ShardStore::Applied::applied);
  CHECK(one.apply(answer[1], none) == ShardStore::Applied::applied);
  CHECK(one.take_lost().size() == 1);
  said.clear();
  one.own(kNode, 5, "s", said);
  one.publish({put("s", 2)}, said);
  REQUIRE_FALSE(said.empty());
  CHECK(other.apply(said.back(), none) == ShardStore::Applied::applied);
  CHECK(other.take_lost().size() == 1);
  one.disown("s");
  one.publish({gone("s")}, said);
  CHECK(one.find("s")->records.size() == 1);
}
