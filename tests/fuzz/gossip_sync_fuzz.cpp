#include <cstdint>
#include <cstdlib>

#include "gossip/core/sync.hpp"

using namespace muster::gossip;

// The codec makes the round trip, and a client fed with anything keeps its sums right.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto bytes = std::as_bytes(std::span{data, size});
  const auto first = decode_sync(bytes);
  if (first) {
    const auto once = encode_sync(*first);
    const auto second = decode_sync(once);
    if (!second || encode_sync(*second) != once) std::abort();
  }
  ShardStore store;
  SyncClient client;
  std::vector<ShardDelta> restamp;
  std::vector<ShardAnnounce> taken;
  client.on_chunk(bytes, store, restamp, taken);
  for (const auto& [id, shard] : store.shards()) {
    std::uint64_t content = 0;
    for (const auto& [key, value] : shard.records) content += record_hash(key, value);
    if (content != shard.head.content) std::abort();
  }
  return 0;
}
