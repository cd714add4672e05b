#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <variant>
#include <vector>

#include "gossip/core/message.hpp"
#include "gossip/core/shard_store.hpp"

/// Bulk transfer of shards over a stream: the client names what it holds, the server sends what
/// is newer, in chunks, each asked for by the transport when the one before is on its way.
namespace muster::gossip {

inline constexpr std::size_t kChunkBytes =
    std::size_t{64} * 1024;  // aimed at; one value may exceed it
inline constexpr std::size_t kMaxChunk = kChunkBytes + kMaxValue + 4096;
inline constexpr std::size_t kMaxSyncBytes =
    std::size_t{256} * 1024 * 1024;  // one client takes, then hangs up
inline constexpr std::size_t kMaxSyncShards = kMaxShards;

struct SyncRequest {
  bool all = false;   // also shards that are not in `have`
  bool last = false;  // of the requests of this stream
  std::vector<ShardAnnounce> have;
};
/// A whole shard, in parts if it is large. `first` discards what came before.
struct SnapshotPart {
  std::string shard;
  ShardHead head;
  bool first = false;
  bool last = false;
  std::vector<ShardOp> records;
};
struct SyncDeltas {
  std::vector<ShardDelta> deltas;
};
struct SyncSnapshots {
  std::vector<SnapshotPart> parts;
};
struct SyncEnd {};
using SyncMessage = std::variant<SyncRequest, SyncDeltas, SyncSnapshots, SyncEnd>;

std::vector<std::byte> encode_sync(const SyncMessage&);
Result<SyncMessage, DecodeError> decode_sync(std::span<const std::byte>);

/// The answering side of one stream.
class SyncServer {
 public:
  /// False: nonsense, hang up.
  bool on_request(const SyncRequest&);
  bool ready() const noexcept { return asked_all_; }
  /// The next chunk; the one with SyncEnd is the last. Only when ready().
  std::vector<std::byte> next_chunk(const ShardStore&);
  bool done() const noexcept { return done_; }

 private:
  void add_deltas(const ShardStore&, const std::string& id, std::vector<ShardDelta>&,
                  std::size_t& bytes);
  bool add_part(const ShardStore::Shard&, const std::string& id, SyncSnapshots&,
                std::size_t& bytes);

  bool all_ = false;
  bool asked_all_ = false;
  bool done_ = false;
  std::map<std::string, ShardHead> have_;
  std::optional<std::string> cursor_;     // the shard sent last
  std::optional<std::string> part_from_;  // inside it: the key sent last
  ShardHead part_head_;
};

/// The asking side.
class SyncClient {
 public:
  /// `only` empty: all shards.
  static std::vector<std::vector<std::byte>> request(const ShardStore&,
                                                     const std::set<std::string>& only);
  enum class Step : std::uint8_t { more, end, bad };
  Step on_chunk(std::span<const std::byte>, ShardStore&, std::vector<ShardDelta>& restamp,
                std::vector<ShardAnnounce>& taken);

 private:
  bool on_part(SnapshotPart&&, ShardStore&, std::vector<ShardDelta>&, std::vector<ShardAnnounce>&);

  std::size_t received_ = 0;
  std::string staging_id_;
  ShardHead staging_head_;
  ShardStore::Records staging_;
  std::size_t staging_bytes_ = 0;
};

}  // namespace muster::gossip
