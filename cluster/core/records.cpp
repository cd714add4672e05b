#include "cluster/core/records.hpp"

#include <utility>

#include "cluster/core/record_fields.hpp"

namespace muster::cluster {
namespace {

constexpr ShardKind kLastShardKind = ShardKind::agent_tasks;

/// Kinds of which there are many shards, told apart by a name.
bool is_named(ShardKind kind) {
  return kind == ShardKind::agent || kind == ShardKind::agent_tasks || kind == ShardKind::claims;
}

}  // namespace

std::string_view to_string(DecodeError error) noexcept {
  switch (error) {
    case DecodeError::truncated:
      return "it ends too early";
    case DecodeError::trailing_bytes:
      return "there is more than expected";
    case DecodeError::unsupported_version:
      return "it is of a version this muster cannot read";
    case DecodeError::bad_kind:
      return "its kind does not belong there";
    case DecodeError::bad_key:
      return "its key is not valid";
    case DecodeError::bad_order:
      return "its fields are out of order";
    case DecodeError::missing_field:
      return "a field is missing";
    case DecodeError::bad_value:
      return "a field has an impossible value";
    case DecodeError::too_long:
      return "it is longer than allowed";
    case DecodeError::bad_checksum:
      return "its checksum is wrong";
  }
  return "it is wrong";
}

ShardId shard_of(const Task& task) {
  return {task.from_agent ? ShardKind::agent_tasks : ShardKind::agent, task.agent_id};
}

ShardId shard_of(const Agent& agent) {
  return {ShardKind::agent, agent.id};
}

RecordKey record_key(const TaskKey& key) {
  std::string id;
  id.reserve(key.framework.str().size() + 1 + key.task.str().size());
  id.append(key.framework.str()).append(1, '\0').append(key.task.str());
  return {RecordKind::task, std::move(id)};
}

RecordKey record_key(const AgentId& id) {
  return {RecordKind::agent, id.str()};
}

RecordKey record_key(const FrameworkId& id) {
  return {RecordKind::framework, id.str()};
}

RecordKey record_key(const Endpoint& master) {
  return {RecordKind::master, to_string(master)};
}

RecordKey record_key(const VipName& name) {
  return {RecordKind::vip, name.str()};
}

RecordKey complete_key() {
  return {RecordKind::complete, "complete"};
}

RecordKey speaker_key() {
  return {RecordKind::speaker, "speaker"};
}

std::optional<TaskKey> parse_task_key(const RecordKey& key) {
  const std::size_t nul = key.id.find('\0');
  if (key.kind != RecordKind::task || nul == std::string::npos) return std::nullopt;
  TaskKey parsed{FrameworkId{key.id.substr(0, nul)}, TaskId{key.id.substr(nul + 1)}};
  if (!valid_id(parsed.framework.str()) || !valid_id(parsed.task.str())) return std::nullopt;
  return parsed;
}

void encode(ByteWriter& out, const RecordWrite& write) {
  out.u8(static_cast<std::uint8_t>(write.shard.kind));
  if (is_named(write.shard.kind)) out.text(write.shard.agent.str());
  out.u8(static_cast<std::uint8_t>(write.key.kind));
  out.text(write.key.id);
  out.u8(write.value ? 1 : 0);
  if (!write.value) return;
  out.varint(write.value->size());
  out.raw(*write.value);
}

Result<RecordWrite, DecodeError> decode_write(ByteReader& in) {
  RecordWrite write;
  const std::uint8_t shard = in.u8();
  if (in.ok() && (shard < 1 || shard > static_cast<std::uint8_t>(kLastShardKind))) {
    return DecodeError::bad_kind;
  }
  write.shard.kind = static_cast<ShardKind>(shard);
  if (is_named(write.shard.kind)) {
    const std::string_view agent = in.text();
    if (in.ok() && !valid_id(agent)) return DecodeError::bad_key;
    write.shard.agent = AgentId{std::string{agent}};
  }
  write.key.kind = static_cast<RecordKind>(in.u8());
  const std::string_view id = in.text();
  if (id.size() > kMaxKeyBytes) return DecodeError::bad_key;
  write.key.id = std::string{id};
  const std::uint8_t has_value = in.u8();
  if (has_value > 1) return DecodeError::bad_value;
  if (has_value == 1) {
    const std::uint64_t size = in.varint();
    if (in.ok() && size > kMaxRecordBytes) return DecodeError::too_long;
    const auto value = in.take(static_cast<std::size_t>(size));
    write.value.emplace(value.begin(), value.end());
  }
  if (!in.ok()) return DecodeError::truncated;
  return write;
}

std::string to_octets(const ShardId& shard) {
  return static_cast<char>(shard.kind) + shard.agent.str();
}

std::string to_octets(const RecordKey& key) {
  return static_cast<char>(key.kind) + key.id;
}

std::vector<std::string> published_prefixes() {
  std::vector<std::string> prefixes;
  for (const auto kind : {ShardKind::frameworks, ShardKind::masters, ShardKind::vips,
                          ShardKind::agent, ShardKind::claims}) {
    prefixes.push_back(to_octets(ShardId{kind, {}}));
  }
  return prefixes;
}

Result<ShardId, DecodeError> parse_shard(std::string_view octets) {
  if (octets.empty() || octets[0] < 1 || octets[0] > static_cast<char>(kLastShardKind)) {
    return DecodeError::bad_kind;
  }
  ShardId shard{static_cast<ShardKind>(octets[0]), {}};
  octets.remove_prefix(1);
  if (is_named(shard.kind) ? !valid_id(octets) : !octets.empty()) return DecodeError::bad_key;
  shard.agent = AgentId{std::string{octets}};
  return shard;
}

Result<RecordWrite, DecodeError> parse_write(std::string_view shard, std::string_view key,
                                             std::optional<std::vector<std::byte>> value) {
  auto parsed = parse_shard(shard);
  if (!parsed) return parsed.error();
  RecordWrite write;
  write.shard = std::move(*parsed);
  if (key.size() < 2 || key.size() > kMaxKeyBytes + 1) return DecodeError::bad_key;
  write.key = {static_cast<RecordKind>(key[0]), std::string{key.substr(1)}};
  if (value && value->size() > kMaxRecordBytes) return DecodeError::too_long;
  write.value = std::move(value);
  return write;
}

std::uint64_t content_hash(std::span<const std::byte> bytes) noexcept {
  std::uint64_t hash = 0xCBF29CE484222325ULL;
  for (const std::byte octet : bytes) {
    hash ^= std::to_integer<std::uint64_t>(octet);
    hash *= 0x100000001B3ULL;
  }
  return hash;
}

}  // namespace muster::cluster
