#include "cluster/core/saved_state.hpp"

#include <algorithm>
#include <string_view>
#include <utility>

#include "base/byte_reader.hpp"
#include "base/byte_writer.hpp"
#include "cluster/core/cluster.hpp"

namespace muster::cluster {
namespace {

// A saved state: the magic, a version, flags, how many records, each record behind its length,
// and a checksum of all that.
constexpr std::string_view kMagic = "MUSTERST";
constexpr std::uint8_t kStateVersion = 1;
constexpr std::uint8_t kFlagComplete = 1;
constexpr std::size_t kChecksumBytes = 8;

template <class Map>
void copy_values(const Map& map, std::vector<typename Map::mapped_type>& values) {
  values.reserve(values.size() + map.size());
  for (const auto& [key, value] : map) values.push_back(value);
}

void put(ByteWriter& out, std::uint64_t& count, ShardId shard, RecordKey key,
         Result<std::vector<std::byte>, DecodeError> value) {
  if (!value) return;  // it came out of a record, so it fits one
  ByteWriter record;
  encode(record, {std::move(shard), std::move(key), std::move(*value)});
  out.varint(record.size());
  out.raw(record.bytes());
  ++count;
}

}  // namespace

Result<SavedState, DecodeError> read_state(std::span<const std::byte> bytes) {
  if (bytes.size() > kMaxStateBytes) return DecodeError::too_long;
  if (bytes.size() < kMagic.size() + kChecksumBytes) return DecodeError::truncated;
  const auto content = bytes.first(bytes.size() - kChecksumBytes);
  ByteReader reader{content};
  const auto magic = reader.take(kMagic.size());
  if (std::string_view{reinterpret_cast<const char*>(magic.data()), magic.size()} != kMagic) {
    return DecodeError::bad_kind;
  }
  if (ByteReader{bytes.last(kChecksumBytes)}.u64() != content_hash(content)) {
    return DecodeError::bad_checksum;
  }
  if (reader.u8() != kStateVersion) return DecodeError::unsupported_version;
  SavedState loaded;
  loaded.complete = (reader.u8() & kFlagComplete) != 0;
  const std::uint64_t count = reader.u64();
  // A record takes this much and more, whatever the count says.
  constexpr std::size_t kLeastBytes = 8;
  loaded.writes.reserve(std::min<std::uint64_t>(count, reader.remaining() / kLeastBytes));
  for (std::uint64_t i = 0; i < count; ++i) {
    const std::string_view record = reader.text();
    if (!reader.ok()) return DecodeError::truncated;
    ByteReader inner{std::as_bytes(std::span{record})};
    auto write = decode_write(inner);
    if (write && inner.remaining() == 0) {
      loaded.writes.push_back(std::move(*write));
    } else {
      ++loaded.unreadable;
    }
  }
  if (!reader.ok()) return DecodeError::truncated;
  if (reader.remaining() > 0) return DecodeError::trailing_bytes;
  return loaded;
}

bool SaveJob::collect(const Cluster& cluster, std::size_t tasks) {
  const ClusterView& view = cluster.view();
  if (!from_) tasks_.reserve(view.tasks().size() + view.waiting().size());
  auto task = from_ ? view.tasks().lower_bound(*from_) : view.tasks().begin();
  for (; task != view.tasks().end() && tasks > 0; ++task, --tasks) tasks_.push_back(task->second);
  from_.reset();
  if (task != view.tasks().end()) {
    from_ = task->first;
    return false;
  }
  // All the rest at once, after the tasks: so that none of these lacks its agent for long.
  copy_values(view.waiting(), tasks_);
  copy_values(view.agents(), agents_);
  copy_values(view.frameworks(), frameworks_);
  copy_values(view.masters(), masters_);
  for (const auto& [name, record] : cluster.view().vip_records()) vips_.push_back(record);
  complete_ = cluster.status({}).complete;
  return true;
}

std::vector<std::byte> SaveJob::write() const {
  ByteWriter records;
  std::uint64_t count = 0;
  const ShardId frameworks{ShardKind::frameworks, {}};
  const ShardId masters{ShardKind::masters, {}};
  const ShardId vips{ShardKind::vips, {}};
  for (const auto& one : frameworks_) {
    put(records, count, frameworks, record_key(one->id), encode(*one));
  }
  for (const auto& one : agents_) {
    put(records, count, shard_of(*one), record_key(one->id), encode(*one));
  }
  for (const auto& one : masters_) {
    put(records, count, masters, record_key(one->endpoint), encode(*one));
  }
  for (const VipRecord& one : vips_) {
    put(records, count, vips, record_key(one.allocation.name), encode(one));
  }
  for (const auto& one : tasks_) {
    put(records, count, shard_of(*one), record_key(key_of(*one)), encode(*one));
  }
  ByteWriter state;
  state.raw(std::as_bytes(std::span{kMagic}));
  state.u8(kStateVersion);
  state.u8(complete_ ? kFlagComplete : 0);
  state.u64(count);
  state.raw(records.bytes());
  state.u64(content_hash(state.bytes()));
  return std::move(state).release();
}

}  // namespace muster::cluster
