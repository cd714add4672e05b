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
