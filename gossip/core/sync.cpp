#include "gossip/core/sync.hpp"

#include <utility>

namespace muster::gossip {
namespace {

enum class Kind : std::uint8_t { request = 1, deltas, snapshots, end };
constexpr std::size_t kOverhead = 64;  // of a shard's or record's framing, generously

std::size_t size_of(const ShardDelta& delta) {
  std::size_t bytes = kOverhead + delta.shard.size();
  for (const ShardOp& op : delta.ops) {
    bytes += 16 + op.key.size() + (op.value ? op.value->size() : 0);
  }
  return bytes;
}

std::string read_id(ByteReader& in) {
  const auto id = in.text();
  if (id.empty() || id.size() > kMaxShardId) in.fail();
  return std::string{id};
}

std::uint64_t read_count(ByteReader& in, std::size_t least, std::size_t most) {
  const std::uint64_t count = in.varint();
  if (count > in.remaining() / least || count > most) in.fail();
  return in.ok() ? count : 0;
}

void write(ByteWriter& out, const SyncRequest& m) {
  out.u8(static_cast<std::uint8_t>((m.all ? 1 : 0) | (m.last ? 2 : 0)));
  out.varint(m.have.size());
  for (const auto& shard : m.have) {
    out.text(shard.shard);
    write_head(out, shard.head);
  }
}
void write(ByteWriter& out, const SyncDeltas& m) {
  out.varint(m.deltas.size());
  for (const ShardDelta& delta : m.deltas) {
    out.text(delta.shard);
    write_head(out, delta.head);
    out.u64(delta.base);
    out.varint(delta.ops.size());
    for (const ShardOp& op : delta.ops) write_op(out, op);
  }
}
void write(ByteWriter& out, const SyncSnapshots& m) {
  out.varint(m.parts.size());
  for (const SnapshotPart& part : m.parts) {
    out.text(part.shard);
    write_head(out, part.head);
    out.u8(static_cast<std::uint8_t>((part.first ? 1 : 0) | (part.last ? 2 : 0)));
    out.varint(part.records.size());
    for (const ShardOp& record : part.records) write_op(out, record);
  }
}
void write(ByteWriter&, const SyncEnd&) {}

// A request names shards the client has none of with an empty head: no publisher.
ShardHead read_known_head(ByteReader& in) {
  ShardHead head;
  head.term.counter = in.varint();
  head.term.publisher.high = in.u64();
  head.term.publisher.low = in.u64();
  head.version = in.varint();
  head.content = in.u64();
  return head;
}

SyncRequest read_request(ByteReader& in) {
  SyncRequest request;
  const std::uint8_t flags = in.u8();
  request.all = (flags & 1) != 0;
  request.last = (flags & 2) != 0;
  for (auto n = read_count(in, 27, kMaxSyncShards); n > 0 && in.ok(); --n) {
    ShardAnnounce shard;
    shard.shard = read_id(in);
    shard.head = read_known_head(in);
    request.have.push_back(std::move(shard));
  }
  return request;
}

SyncDeltas read_deltas(ByteReader& in) {
  SyncDeltas deltas;
  for (auto n = read_count(in, 36, kMaxSyncShards); n > 0 && in.ok(); --n) {
    ShardDelta delta;
    delta.shard = read_id(in);
    delta.head = read_head(in);
    delta.base = in.u64();
    for (auto ops = read_count(in, 3, kMaxShardRecords); ops > 0 && in.ok(); --ops) {
      delta.ops.push_back(read_op(in));
    }
    deltas.deltas.push_back(std::move(delta));
  }
  return deltas;
}

SyncSnapshots read_snapshots(ByteReader& in) {
  SyncSnapshots snapshots;
  for (auto n = read_count(in, 29, kMaxSyncShards); n > 0 && in.ok(); --n) {
    SnapshotPart part;
    part.shard = read_id(in);
    part.head = read_head(in);
    const std::uint8_t flags = in.u8();
    part.first = (flags & 1) != 0;
    part.last = (flags & 2) != 0;
    for (auto records = read_count(in, 3, kMaxShardRecords); records > 0 && in.ok(); --records) {
      part.records.push_back(read_op(in));
    }
    snapshots.parts.push_back(std::move(part));
  }
  return snapshots;
}

}  // namespace

std::vector<std::byte> encode_sync(const SyncMessage& message) {
  ByteWriter out;
  out.u8(static_cast<std::uint8_t>(message.index() + 1));
  std::visit([&](const auto& value) { write(out, value); }, message);
  return std::move(out).release();
}

Result<SyncMessage, DecodeError> decode_sync(std::span<const std::byte> bytes) {
  if (bytes.empty()) return DecodeError::truncated;
  if (bytes.size() > kMaxChunk) return DecodeError::too_long;
  ByteReader in{bytes};
  std::optional<SyncMessage> read;
  switch (static_cast<Kind>(in.u8())) {
    case Kind::request:
      read = read_request(in);
      break;
    case Kind::deltas:
      read = read_deltas(in);
      break;
    case Kind::snapshots:
      read = read_snapshots(in);
      break;
    case Kind::end:
      read = SyncEnd{};
      break;
  }
  if (!read) return DecodeError::unknown_kind;
  if (!in.ok()) return DecodeError::bad_value;
  if (in.remaining() > 0) return DecodeError::trailing_bytes;
  return std::move(*read);
}

bool SyncServer::on_request(const SyncRequest& request) {
  if (asked_all_ || have_.size() + request.have.size() > kMaxSyncShards) return false;
  all_ = all_ || request.all;
  for (const auto& shard : request.have) have_.insert_or_assign(shard.shard, shard.head);
  asked_all_ = request.last;
  return true;
}

void SyncServer::add_deltas(const ShardStore& store, const std::string& id,
                            std::vector<ShardDelta>& deltas, std::size_t& bytes) {
  const auto have = have_.find(id);
  if (have == have_.end()) return;
  for (const ShardDelta* delta : store.since(id, have->second.content)) {
    bytes += size_of(*delta);
    deltas.push_back(*delta);
  }
}

bool SyncServer::add_part(const ShardStore::Shard& shard, const std::string& id,
                          SyncSnapshots& snapshots, std::size_t& bytes) {
  // A shard that changed meanwhile starts again: its parts must be of one version.
  if (part_from_ && part_head_ != shard.head) part_from_.reset();
  SnapshotPart part{id, shard.head, !part_from_, false, {}};
  part_head_ = shard.head;
  auto it = part_from_ ? shard.records.upper_bound(*part_from_) : shard.records.begin();
  bytes += kOverhead + id.size();
  for (; it != shard.records.end() && bytes < kChunkBytes; ++it) {
    bytes += 16 + it->first.size() + it->second.size();
    part.records.push_back({it->first, it->second});
  }
  part.last = it == shard.records.end();
  if (part.last) {
    part_from_.reset();
  } else if (!part.records.empty()) {
    part_from_ = part.records.back().key;
  }
  const bool last = part.last;
  snapshots.parts.push_back(std::move(part));
  return last;
}

std::vector<std::byte> SyncServer::next_chunk(const ShardStore& store) {
  SyncDeltas deltas;
  SyncSnapshots snapshots;
  std::size_t bytes = 0;
  const auto& shards = store.shards();
  auto it = !cursor_ ? shards.begin() : shards.upper_bound(*cursor_);
  for (; it != shards.end() && bytes < kChunkBytes; ++it) {
    const auto& [id, shard] = *it;
    const auto have = have_.find(id);
    // Nobody is taught to remember what is empty.
    const bool wanted =
        have == have_.end() ? all_ && !shard.records.empty() : have->second < shard.head;
    if (wanted) {
      std::vector<ShardDelta> chain;
      std::size_t chain_bytes = 0;
      if (!part_from_) add_deltas(store, id, chain, chain_bytes);
      const bool use =
          !chain.empty() && chain_bytes < shard.bytes + kOverhead && chain_bytes < kChunkBytes;
      // One kind of message to a chunk.
      if (use ? !snapshots.parts.empty() : !deltas.deltas.empty()) break;
      if (use) {
        for (ShardDelta& delta : chain) deltas.deltas.push_back(std::move(delta));
        bytes += chain_bytes;
      } else if (!add_part(shard, id, snapshots, bytes)) {
        break;  // the cursor stays before it
      }
    }
    cursor_ = id;
  }
  if (!deltas.deltas.empty()) return encode_sync(deltas);
  if (!snapshots.parts.empty()) return encode_sync(snapshots);
  done_ = true;
  return encode_sync(SyncEnd{});
}

std::vector<std::vector<std::byte>> SyncClient::request(const ShardStore& store,
                                                        const std::set<std::string>& only) {
  std::vector<std::vector<std::byte>> chunks;
  SyncRequest request;
  request.all = only.empty();
  std::size_t bytes = 0;
  const auto add = [&](const std::string& id, const ShardHead& head) {
    request.have.push_back({id, head});
    bytes += id.size() + kOverhead;
    if (bytes < kChunkBytes) return;
    chunks.push_back(encode_sync(request));
    request.have.clear();
    bytes = 0;
  };
  if (only.empty()) {
    for (const auto& [id, shard] : store.shards()) add(id, shard.head);
  } else {
    for (const std::string& id : only) {
      const auto* shard = store.find(id);
      add(id, shard == nullptr ? ShardHead{} : shard->head);
    }
  }
  request.last = true;
  chunks.push_back(encode_sync(request));
  return chunks;
}

bool SyncClient::on_part(SnapshotPart&& part, ShardStore& store, std::vector<ShardDelta>& restamp,
                         std::vector<ShardAnnounce>& taken) {
  if (part.first) {
    staging_.clear();
    staging_bytes_ = 0;
    staging_id_ = part.shard;
    staging_head_ = part.head;
  }
  if (staging_id_ != part.shard || staging_head_ != part.head) return false;
  for (ShardOp& record : part.records) {
    if (!record.value) return false;
    staging_bytes_ += record.key.size() + record.value->size();
    if (staging_bytes_ > kMaxShardBytes || staging_.size() >= kMaxShardRecords) return false;
    if (!staging_.emplace(std::move(record.key), std::move(*record.value)).second) return false;
  }
  if (!part.last) return true;
  const auto applied = store.replace(part.shard, part.head, std::move(staging_), restamp);
  staging_.clear();
  staging_id_.clear();
  if (applied == ShardStore::Applied::applied) taken.push_back({part.shard, part.head});
  return applied != ShardStore::Applied::invalid;
}

SyncClient::Step SyncClient::on_chunk(std::span<const std::byte> bytes, ShardStore& store,
                                      std::vector<ShardDelta>& restamp,
                                      std::vector<ShardAnnounce>& taken) {
  received_ += bytes.size();
  if (received_ > kMaxSyncBytes) return Step::bad;
  auto message = decode_sync(bytes);
  if (!message) return Step::bad;
  if (std::holds_alternative<SyncEnd>(*message)) return Step::end;
  if (auto* deltas = std::get_if<SyncDeltas>(&*message)) {
    for (const ShardDelta& delta : deltas->deltas) {
      const auto applied = store.apply(delta, restamp);
      if (applied == ShardStore::Applied::invalid) return Step::bad;
      if (applied == ShardStore::Applied::applied) taken.push_back({delta.shard, delta.head});
    }
    return Step::more;
  }
  if (auto* snapshots = std::get_if<SyncSnapshots>(&*message)) {
    for (SnapshotPart& part : snapshots->parts) {
      if (!on_part(std::move(part), store, restamp, taken)) return Step::bad;
    }
    return Step::more;
  }
  return Step::bad;
}

}  // namespace muster::gossip
