#include <doctest/doctest.h>

#include "gossip/core/message.hpp"
#include "gossip/core/shard_store.hpp"
#include "gossip/core/sync.hpp"

using namespace muster;
using namespace muster::gossip;

namespace {

MemberRecord record() {
  Profile profile;
  profile.instance = 9;
  profile.endpoints = {*Endpoint::parse("10.0.0.1:61420"), *Endpoint::parse("[fd01::1]:61420")};
  profile.agent = "agent-1";
  profile.agent_endpoint = Endpoint::parse("10.0.0.1:5051");
  profile.metadata = {{"observer", "auto"}};
  profile.extra = {std::byte{1}, std::byte{2}};
  return {{{1, 2}, 3, 4, MemberStatus::alive}, std::make_shared<const Profile>(profile)};
}

}  // namespace

TEST_CASE("what is cut short, of a later release or out of bounds is told apart") {
  const auto good = encode(Join{record()});
  for (std::size_t size = 0; size < good.size(); ++size) {
    CAPTURE(size);
    CHECK(decode(std::span{good}.first(size)).has_error());
  }
  CHECK(decode(good).has_value());
  const std::array<std::byte, 3> later{std::byte{200}, std::byte{1}, std::byte{2}};
  CHECK((decode(later).error() == DecodeError::unknown_kind));
  MemberHead absurd{{1, 2}, 0xFFFFFFFF, 0, MemberStatus::alive};
  CHECK(decode(encode(Items{{Item{absurd}}})).has_error());
  CHECK(decode(encode(Subscribe{NodeUid{}})).has_error());
}

TEST_CASE("fields of a later release are carried on, and its items stepped over") {
  const auto joined = decode(encode(Join{record()}));
  REQUIRE(joined.has_value());
  const auto& profile = *std::get<Join>(*joined).self.profile;
  CHECK(profile == *record().profile);
  ByteWriter items;
  items.u8(7);
  items.varint(2);
  items.u8(99);
  items.text("unknown");
  items.raw(encode_item(Item{record().head}));
  const auto decoded = decode(items.bytes());
  REQUIRE(decoded.has_value());
  CHECK(std::get<Items>(*decoded).items.size() == 1);
}

TEST_CASE("of two words about a member the later one counts, and an answering host outweighs") {
  const NodeUid uid{1, 1};
  const auto head = [&](std::uint32_t epoch, std::uint32_t seq, MemberStatus status) {
    return MemberHead{uid, epoch, seq, status};
  };
  CHECK(newer(head(2, 0, MemberStatus::alive), head(1, 9, MemberStatus::host_down)));
  CHECK(newer(head(1, 1, MemberStatus::host_down), head(1, 1, MemberStatus::alive)));
  CHECK(newer(head(1, 2, MemberStatus::alive), head(1, 1, MemberStatus::left)));
  CHECK(newer(head(1, 1, MemberStatus::daemon_down), head(1, 1, MemberStatus::host_down)));
  CHECK_FALSE(newer(head(1, 1, MemberStatus::alive), head(1, 1, MemberStatus::alive)));
}

TEST_CASE("a delta that lies about its content changes nothing") {
  ShardStore writer;
  std::vector<ShardDelta> deltas;
  writer.take_over({1, 1}, 1, {""});
  writer.publish({{"s", "k", std::vector<std::byte>(3)}}, deltas);
  REQUIRE(deltas.size() == 1);
  ShardStore reader;
  auto lie = deltas[0];
  lie.ops[0].key = "other";
  CHECK(reader.apply(lie, deltas) == ShardStore::Applied::invalid);
  lie = deltas[0];
  lie.ops.push_back(lie.ops[0]);
  CHECK(reader.apply(lie, deltas) == ShardStore::Applied::invalid);
  CHECK(reader.records() == 0);
  CHECK(reader.root() == 0);
  CHECK(reader.apply(deltas[0], deltas) == ShardStore::Applied::applied);
  CHECK(reader.apply(deltas[0], deltas) == ShardStore::Applied::stale);
  CHECK(reader.root() == writer.root());
}

TEST_CASE("only the publisher writes, and only what is its own") {
  ShardStore store;
  std::vector<ShardDelta> deltas;
  store.publish({{"s", "k", std::vector<std::byte>(3)}}, deltas);
  CHECK(deltas.empty());
  store.take_over({1, 1}, 1, {"agent/7"});
  store.publish({{"masters", "k", std::vector<std::byte>(3)},
                 {"agent/7", "k", std::vector<std::byte>(3)},
                 {"agent/7", "", std::vector<std::byte>(3)}},
                deltas);
  CHECK(deltas.size() == 1);
  CHECK(store.refused() == 3);
  ShardDelta higher{
      "agent/7", {{99, {2, 2}}, 1, deltas[0].head.content}, deltas[0].head.content, {}};
  CHECK(store.apply(higher, deltas) == ShardStore::Applied::applied);
  CHECK(store.take_superseded());
  CHECK_FALSE(store.publishing());
}

TEST_CASE("a snapshot in parts is taken whole or not at all") {
  ShardStore writer;
  std::vector<ShardDelta> deltas;
  writer.take_over({1, 1}, 1, {""});
  std::vector<RecordWrite> writes;
  for (int i = 0; i < 400; ++i) {
    writes.push_back({"s", "key" + std::to_string(i), std::vector<std::byte>(900)});
  }
  writer.publish(writes, deltas);
  SyncServer server;
  ShardStore reader;
  for (const auto& chunk : SyncClient::request(reader, {})) {
    auto request = decode_sync(chunk);
    REQUIRE(request.has_value());
    REQUIRE(server.on_request(std::get<SyncRequest>(*request)));
  }
  SyncClient client;
  std::vector<ShardAnnounce> taken;
  int chunks = 0;
  while (!server.done()) {
    CHECK((reader.records() == 0 || server.done() || reader.records() == 400));
    const auto chunk = server.next_chunk(writer);
    CHECK(chunk.size() <= kMaxChunk);
    CHECK(client.on_chunk(chunk, reader, deltas, taken) != SyncClient::Step::bad);
    ++chunks;
  }
  CHECK(chunks > 3);
  CHECK(reader.records() == 400);
  CHECK(reader.root() == writer.root());
}
