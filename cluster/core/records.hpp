#pragma once

#include <compare>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/byte_reader.hpp"
#include "base/byte_writer.hpp"
#include "base/id.hpp"
#include "base/result.hpp"
#include "base/task.hpp"

/// What one node writes for all to read. A record is one Task, Agent, Framework, Master or VIP
/// allocation; records live in shards, one writer at a time each, and a shard is the unit that
/// is versioned and compared.
namespace muster::cluster {

/// The closed set of what can be wrong with a record. All mean the same to a caller: the record
/// is skipped, counted and named once; whatever stood under its key before stays.
enum class DecodeError : std::uint8_t {
  truncated,
  trailing_bytes,
  unsupported_version,  // written by a muster whose records this one cannot read
  bad_kind,             // a kind that does not belong into that shard, or is not known
  bad_key,
  bad_order,  // fields must ascend; only list fields repeat
  missing_field,
  bad_value,  // a port 0, an unknown enumerator, an address of a wrong length
  too_long,   // text, list or record above its bound
  bad_checksum,
};
std::string_view to_string(DecodeError) noexcept;

inline constexpr std::size_t kMaxTasks = 1'000'000;
inline constexpr std::size_t kMaxOtherRecords = 200'000;  // of each other kind

inline constexpr std::uint8_t kRecordVersion = 1;
inline constexpr std::size_t kMaxRecordBytes = std::size_t{256} * 1024;
inline constexpr std::size_t kMaxKeyBytes = 1024;      // Mesos ids are at most 255 octets each
inline constexpr std::size_t kMaxIdBytes = 500;        // two of them and a separator fit a key
inline constexpr std::size_t kMaxTextBytes = 4096;     // names: free text in Mesos
inline constexpr std::size_t kMaxAddresses = 64;       // of one task or agent
inline constexpr std::size_t kMaxPorts = 1024;         // of one task, declared
inline constexpr std::size_t kMaxHostPorts = 4096;     // of one task, from its resources
inline constexpr std::size_t kMaxFormerAddresses = 4;  // of one VIP
inline constexpr std::size_t kMaxPerPort = 64;         // endpoints, and VIP labels, of one port

/// `claims`: what one who published in vain says about VIP addresses it gave; each its own shard.
/// `agent_tasks`: what runs on an agent, written by the node beside it, which asked that agent.
enum class ShardKind : std::uint8_t {
  frameworks = 1,
  masters = 2,
  vips = 3,
  agent = 4,
  claims = 5,
  agent_tasks = 6,
};

struct ShardId {
  ShardKind kind = ShardKind::frameworks;
  /// Of kinds agent and agent_tasks; of kind claims, whatever tells them apart; else empty.
  AgentId agent;
  friend auto operator<=>(const ShardId&, const ShardId&) = default;
};

/// Values above the last are kinds of a later version: carried, not understood.
enum class RecordKind : std::uint8_t {
  agent = 1,
  task = 2,
  framework = 3,
  master = 4,
  vip = 5,
  complete = 6,
  speaker = 7,
};

struct RecordKey {
  RecordKind kind = RecordKind::task;
  /// Framework id, NUL, task id of a task; the id of an agent or framework; the canonical name of
  /// a VIP; `address:port` of a master; "complete"; "speaker".
  std::string id;
  friend auto operator<=>(const RecordKey&, const RecordKey&) = default;
};

/// One change of one record. Without a value: the record goes.
struct RecordWrite {
  ShardId shard;
  RecordKey key;
  std::optional<std::vector<std::byte>> value;
  friend bool operator==(const RecordWrite&, const RecordWrite&) = default;
};

/// An allocation and what is needed to settle who was first and when it ends.
struct VipRecord {
  VipAllocation allocation;
  std::uint64_t term = 0;          // of the publisher that allocated it
  std::uint64_t sequence = 0;      // counts allocations within a term; the older one wins
  std::int64_t since_seconds = 0;  // Unix time of the allocation
  std::optional<std::int64_t> unused_since_seconds;  // set: no backend since then
  /// What it was reached at before it lost a dispute; served until then, Unix time, and not a
  /// moment longer than somebody publishes.
  std::vector<IpAddress> former;
  std::int64_t former_until_seconds = 0;
  friend auto operator<=>(const VipRecord&, const VipRecord&) = default;
};

/// That a complete state of the cluster has been written, and how many agents a reader must know
/// before its own is complete too (an agent's shard comes whole). One, in shard `masters`.
struct CompleteRecord {
  std::uint64_t agents = 0;
  std::uint64_t speakers = 0;  // agents that speak for themselves, which a reader must have heard
  friend auto operator<=>(const CompleteRecord&, const CompleteRecord&) = default;
};

/// That a node speaks for an agent: what runs there stands in this record's shard, and is nobody
/// else's to say. One in each shard of kind agent_tasks, written after the tasks.
struct SpeakerRecord {
  std::string node;       // its id; empty: of a node without gossip
  bool resigned = false;  // it does no more: the tasks stand until who publishes has them
  friend auto operator<=>(const SpeakerRecord&, const SpeakerRecord&) = default;
};

ShardId shard_of(const Task&);
ShardId shard_of(const Agent&);
RecordKey record_key(const TaskKey&);
RecordKey record_key(const AgentId&);
RecordKey record_key(const FrameworkId&);
RecordKey record_key(const Endpoint& master);
RecordKey record_key(const VipName&);
RecordKey complete_key();
RecordKey speaker_key();
std::optional<TaskKey> parse_task_key(const RecordKey&);

/// For who carries records without understanding them: octets, different for what differs. What
/// parse_write() is given comes from another node, perhaps of a later version; errors: bad_kind
/// (a shard this version does not know), bad_key, too_long.
std::string to_octets(const ShardId&);
std::string to_octets(const RecordKey&);
/// What to_octets() of the shards begins with that who observes the master publishes: all, but for
/// those that nodes write of their agents.
std::vector<std::string> published_prefixes();
/// Errors: as parse_write().
Result<ShardId, DecodeError> parse_shard(std::string_view);
Result<RecordWrite, DecodeError> parse_write(std::string_view shard, std::string_view key,
                                             std::optional<std::vector<std::byte>> value);

/// Value bytes. What stands in the key is not repeated; what stands in another record
/// (framework_name, agent_addresses of a task) is not in this one. Field numbers never change
/// their meaning, new ones are larger than all before: an older reader skips them.
/// Errors: too_long, bad_key (an id with a NUL, empty or too long).
Result<std::vector<std::byte>, DecodeError> encode(const Task&);
Result<std::vector<std::byte>, DecodeError> encode(const Agent&);
Result<std::vector<std::byte>, DecodeError> encode(const Framework&);
Result<std::vector<std::byte>, DecodeError> encode(const Master&);
Result<std::vector<std::byte>, DecodeError> encode(const VipRecord&);
Result<std::vector<std::byte>, DecodeError> encode(const CompleteRecord&);
Result<std::vector<std::byte>, DecodeError> encode(const SpeakerRecord&);

/// The task comes without framework_name and agent_addresses.
Result<Task, DecodeError> decode_task(const ShardId&, const RecordKey&, std::span<const std::byte>);
Result<Agent, DecodeError> decode_agent(const RecordKey&, std::span<const std::byte>);
Result<Framework, DecodeError> decode_framework(const RecordKey&, std::span<const std::byte>);
Result<Master, DecodeError> decode_master(const RecordKey&, std::span<const std::byte>);
Result<VipRecord, DecodeError> decode_vip(const RecordKey&, std::span<const std::byte>);
Result<CompleteRecord, DecodeError> decode_complete(const RecordKey&, std::span<const std::byte>);
Result<SpeakerRecord, DecodeError> decode_speaker(const RecordKey&, std::span<const std::byte>);

/// A whole write as it travels and lies on disk: shard, key, value.
void encode(ByteWriter&, const RecordWrite&);
Result<RecordWrite, DecodeError> decode_write(ByteReader&);

/// FNV-1a, 64 bit: tells whether content changed. Not for anybody who wishes to deceive.
std::uint64_t content_hash(std::span<const std::byte>) noexcept;

}  // namespace muster::cluster
