#include <cstdint>
#include <span>

#include "base/assert.hpp"
#include "cluster/core/cluster.hpp"

using namespace muster;
using namespace muster::cluster;

namespace {

// What can be read can be written, and reads back the same.
template <class T, class Decode>
void round_trip(const Result<T, DecodeError>& value, Decode decode) {
  if (!value) return;
  const auto bytes = encode(*value);
  MUSTER_ASSERT(bytes.has_value());
  const auto again = decode(*bytes);
  MUSTER_ASSERT(again.has_value());
  MUSTER_ASSERT(*again == *value);
}

}  // namespace

// The first octet chooses: a whole saved state (its checksum made right), or one write.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const auto bytes = std::as_bytes(std::span{data, size}).subspan(1);
  if (data[0] == 'S') {
    ByteWriter state;
    state.raw(bytes);
    state.u64(content_hash(bytes));
    Cluster cluster;
    if (cluster.restore(state.bytes(), TimePoint{}, {})) {
      Cluster copy;
      MUSTER_ASSERT(copy.restore(cluster.save(), TimePoint{}, {}).has_value());
      MUSTER_ASSERT(copy.save() == cluster.save());
    }
    return 0;
  }
  ByteReader reader{bytes};
  const auto write = decode_write(reader);
  if (!write) return 0;
  ByteWriter again;
  encode(again, *write);
  ByteReader second{again.bytes()};
  MUSTER_ASSERT(*decode_write(second) == *write);
  ClusterView view;
  view.apply({&*write, 1});
  if (!write->value) return 0;
  const ShardId& shard = write->shard;
  const RecordKey& key = write->key;
  const auto& value = write->value;
  round_trip(decode_task(shard, key, *value),
             [&](const auto& b) { return decode_task(shard, key, b); });
  round_trip(decode_agent(key, *value), [&](const auto& b) { return decode_agent(key, b); });
  round_trip(decode_framework(key, *value),
             [&](const auto& b) { return decode_framework(key, b); });
  round_trip(decode_master(key, *value), [&](const auto& b) { return decode_master(key, b); });
  round_trip(decode_vip(key, *value), [&](const auto& b) { return decode_vip(key, b); });
  return 0;
}
