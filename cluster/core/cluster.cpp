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

struct Saved {
  bool complete = false;
  std::vector<std::shared_ptr<const Framework>> frameworks;
  std::vector<std::shared_ptr<const Agent>> agents;
  std::vector<std::shared_ptr<const Master>> masters;
  std::vector<VipRecord> vips;
  std::vector<std::shared_ptr<const Task>> tasks;
};

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

std::vector<std::byte> write_state(const Saved& saved) {
  ByteWriter records;
  std::uint64_t count = 0;
  const ShardId frameworks{ShardKind::frameworks, {}};
  const ShardId masters{ShardKind::masters, {}};
  const ShardId vips{ShardKind::vips, {}};
  for (const auto& one : saved.frameworks) {
    put(records, count, frameworks, record_key(one->id), encode(*one));
  }
  for (const auto& one : saved.agents) {
    put(records, count, shard_of(*one), record_key(one->id), encode(*one));
  }
  for (const auto& one : saved.masters) {
    put(records, count, masters, record_key(one->endpoint), encode(*one));
  }
  for (const VipRecord& one : saved.vips) {
    put(records, count, vips, record_key(one.allocation.name), encode(one));
  }
  for (const auto& one : saved.tasks) {
    put(records, count, shard_of(*one), record_key(key_of(*one)), encode(*one));
  }
  ByteWriter state;
  state.raw(std::as_bytes(std::span{kMagic}));
  state.u8(kStateVersion);
  state.u8(saved.complete ? kFlagComplete : 0);
  state.u64(count);
  state.raw(records.bytes());
  state.u64(content_hash(state.bytes()));
  return std::move(state).release();
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

Cluster::Cluster(ClusterOptions options)
    : publisher_{{.hold_down = options.hold_down,
                  .vips = std::move(options.vips),
                  .max_tasks = options.max_tasks}} {}

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

ClusterDelta Cluster::begin(Observation observation, TimePoint now, WallTime wall) {
  ClusterDelta delta;
  if (busy()) delta = advance(std::numeric_limits<std::size_t>::max(), now, wall);
  queued_ = std::move(observation);
  start(&*queued_, now);
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
    queued_.reset();
    // A snapshot taken while the master recovers lacks what has not come back: not yet complete.
    if (observed_ && !publisher_.recovering()) complete_ = true;
  }
  delta.complete = complete_;
  return delta;
}

std::vector<std::byte> Cluster::save() const {
  return prepare_save()();
}

std::function<std::vector<std::byte>()> Cluster::prepare_save() const {
  auto saved = std::make_shared<Saved>();
  saved->complete = complete_;
  copy_values(view_.frameworks(), saved->frameworks);
  copy_values(view_.agents(), saved->agents);
  copy_values(view_.masters(), saved->masters);
  for (const auto& [name, record] : publisher_.vips().records()) saved->vips.push_back(record);
  copy_values(view_.tasks(), saved->tasks);
  copy_values(view_.waiting(), saved->tasks);
  return [saved] { return write_state(*saved); };
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
