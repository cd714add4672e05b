#pragma once

#include <compare>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/byte_reader.hpp"
#include "base/byte_writer.hpp"
#include "gossip/core/types.hpp"

/// Replicated records. A shard has one writer at a time and is the unit that is versioned,
/// compared and replaced; what a key or value means is nobody's business here.
namespace muster::gossip {

inline constexpr std::size_t kMaxShardId = 512;
inline constexpr std::size_t kMaxKey = 1024;
inline constexpr std::size_t kMaxValue = std::size_t{256} * 1024;
inline constexpr std::size_t kMaxShards = 20'000;
inline constexpr std::size_t kMaxShardBytes =
    std::size_t{64} * 1024 * 1024;                       // keys and values of one shard
inline constexpr std::size_t kMaxShardRecords = 32'768;  // replaced in one step of some 10 ms
inline constexpr std::size_t kMaxDeltaOps = 4096;

/// One change of one record. Without a value: the record goes.
struct RecordWrite {
  std::string shard;
  std::string key;
  std::optional<std::vector<std::byte>> value;
  friend bool operator==(const RecordWrite&, const RecordWrite&) = default;
};

/// Who may write: an order, not a lock. The larger term wins wherever two meet.
struct Term {
  std::uint64_t counter = 0;
  NodeUid publisher;
  friend constexpr auto operator<=>(const Term&, const Term&) noexcept = default;
};

/// `content` is the sum of hash(key, value) over all records, so that it is kept up in O(change)
/// and two nodes with equal content know it, whatever way they came to it.
struct ShardHead {
  Term term;
  std::uint64_t version = 0;
  std::uint64_t content = 0;
  friend constexpr auto operator<=>(const ShardHead&, const ShardHead&) noexcept = default;
};

struct ShardOp {
  std::string key;
  std::optional<std::vector<std::byte>> value;
  friend bool operator==(const ShardOp&, const ShardOp&) = default;
};

/// Leads from content `base` to `head`. Without ops: the same content under a new head.
struct ShardDelta {
  std::string shard;
  ShardHead head;
  std::uint64_t base = 0;
  std::vector<ShardOp> ops;
  friend bool operator==(const ShardDelta&, const ShardDelta&) = default;
};

std::uint64_t record_hash(const std::string& key, const std::vector<std::byte>& value) noexcept;

void write_head(ByteWriter&, const ShardHead&);
ShardHead read_head(ByteReader&);
void write_op(ByteWriter&, const ShardOp&);
/// Fails the reader on a key or value above its bound.
ShardOp read_op(ByteReader&);

}  // namespace muster::gossip
