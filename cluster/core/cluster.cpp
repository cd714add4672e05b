#include "cluster/core/cluster.hpp"

#include <iterator>
#include <limits>
#include <string>
#include <string_view>
#include <utility>

#include "base/assert.hpp"
#include "base/byte_reader.hpp"
#include "base/byte_writer.hpp"

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

struct Loaded {
  bool complete = false;
  std::vector<RecordWrite> writes;
  std::size_t unreadable = 0;
};

Result<Loaded, DecodeError> read_state(std::span<const std::byte> bytes) {
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
  Loaded loaded;
  loaded.complete = (reader.u8() & kFlagComplete) != 0;
  const std::uint64_t count = reader.u64();
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

}  // namespace

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
  for (const auto& [name, record] : cluster.vip_records()) vips_.push_back(record);
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

Cluster::Cluster(ClusterOptions options)
    : publisher_{
          {.hold_down = options.hold_down, .vips = options.vips, .max_tasks = options.max_tasks}} {}

ClusterDelta Cluster::observe(const Observation& observation, TimePoint now, WallTime wall) {
  std::vector<RecordWrite> writes;
  if (busy()) writes = publisher_.step(std::numeric_limits<std::size_t>::max(), now, wall);
  start(&observation, now);
  auto more = publisher_.step(std::numeric_limits<std::size_t>::max(), now, wall);
  if (writes.empty()) {
    writes = std::move(more);
  } else {
    std::move(more.begin(), more.end(), std::back_inserter(writes));
  }
  return loop_back(writes);
}

ClusterDelta Cluster::begin(std::shared_ptr<const Observation> observation, TimePoint now,
                            WallTime wall) {
  ClusterDelta delta;
  if (busy()) delta = advance(std::numeric_limits<std::size_t>::max(), now, wall);
  in_work_ = std::move(observation);
  start(in_work_.get(), now);
  delta.complete = complete_;
  return delta;
}

ClusterDelta Cluster::advance(std::size_t records, TimePoint now, WallTime wall) {
  return loop_back(publisher_.step(records, now, wall));
}

bool Cluster::busy() const noexcept {
  return publisher_.busy();
}

void Cluster::start(const Observation* observation, TimePoint now) {
  snapshot_in_work_ = snapshot_in_work_ || observation->snapshot;
  last_observation_ = now;
  publisher_.begin(observation, now);
}

ClusterDelta Cluster::on_timer(TimePoint now, WallTime wall) {
  return loop_back(publisher_.on_timer(now, wall));
}

std::optional<TimePoint> Cluster::next_deadline() const {
  return publisher_.next_deadline();
}

/// The seam: where gossip carries the writes to every node, and what it hears to the view.
ClusterDelta Cluster::loop_back(const std::vector<RecordWrite>& writes) {
  ClusterDelta delta = view_.apply(writes);
  if (!busy()) {
    observed_ = observed_ || snapshot_in_work_;
    snapshot_in_work_ = false;
    in_work_.reset();
    // A snapshot taken while the master recovers lacks what has not come back: not yet complete.
    if (observed_ && !publisher_.recovering()) complete_ = true;
  }
  delta.complete = complete_;
  return delta;
}

std::vector<std::byte> Cluster::save() const {
  SaveJob job;
  job.collect(*this, std::numeric_limits<std::size_t>::max());
  return job.write();
}

Result<ClusterDelta, DecodeError> Cluster::restore(std::span<const std::byte> bytes, TimePoint now,
                                                   WallTime wall) {
  MUSTER_ASSERT(!observed_ && !busy());
  auto loaded = read_state(bytes);
  if (!loaded) return loaded.error();
  if (loaded->unreadable > 0) {
    problems_.push_back({"record", "the saved state",
                         std::to_string(loaded->unreadable) + " records could not be read"});
  }
  auto corrections = publisher_.adopt(loaded->writes, now, wall);
  std::move(corrections.begin(), corrections.end(), std::back_inserter(loaded->writes));
  complete_ = complete_ || loaded->complete;
  return loop_back(loaded->writes);
}

const ClusterView& Cluster::view() const noexcept {
  return view_;
}

const std::map<VipName, VipRecord>& Cluster::vip_records() const noexcept {
  return publisher_.vips().records();
}

Cluster::Status Cluster::status(TimePoint) const {
  Status status;
  status.complete = complete_;
  status.observed = observed_;
  status.recovering = publisher_.recovering();
  status.held_tasks = publisher_.held_tasks().size();
  status.held_agents = publisher_.held_agents().size();
  status.held_frameworks = publisher_.held_frameworks().size();
  for (const auto since : {publisher_.held_tasks().since(), publisher_.held_agents().since(),
                           publisher_.held_frameworks().since()}) {
    if (since && (!status.held_since || *since < *status.held_since)) status.held_since = since;
  }
  status.waiting_tasks = view_.waiting().size();
  status.unused_vips = publisher_.vips().unused();
  status.last_observation = last_observation_;
  return status;
}

std::vector<Problem> Cluster::take_problems() {
  std::vector<Problem> all = std::exchange(problems_, {});
  for (auto& list : {publisher_.take_problems(), view_.take_problems()}) {
    all.insert(all.end(), list.begin(), list.end());
  }
  return all;
}

}  // namespace muster::cluster
