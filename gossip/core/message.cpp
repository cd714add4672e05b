#include "gossip/core/message.hpp"

#include <algorithm>
#include <type_traits>

#include "base/assert.hpp"

namespace muster::gossip {
namespace {

enum class Kind : std::uint8_t {
  heartbeat = 1,
  subscribe,
  unsubscribe,
  probe,
  probe_ack,
  probe_request,
  items,
  digest,
  entries,
  want,
  join,
};
enum class ItemKind : std::uint8_t { record = 1, verdict, alert, delta, announce };

// Epochs are Unix seconds, raised by one at a time otherwise; a number near the end would leave
// its owner nothing to answer with.
constexpr std::uint32_t kMaxNumber = 0xFFFF0000;

void write_head(ByteWriter& out, const MemberHead& head) {
  write_uid(out, head.uid);
  out.u32(head.epoch);
  out.u32(head.seq);
  out.u8(static_cast<std::uint8_t>(head.status));
}

MemberHead read_member_head(ByteReader& in) {
  MemberHead head;
  head.uid = read_uid(in);
  head.epoch = in.u32();
  head.seq = in.u32();
  const std::uint8_t status = in.u8();
  if (status > static_cast<std::uint8_t>(MemberStatus::host_down)) in.fail();
  head.status = static_cast<MemberStatus>(status & 3);
  if (head.epoch > kMaxNumber || head.seq > kMaxNumber) in.fail();
  return head;
}

void write_item(ByteWriter& out, const MemberRecord& record) {
  write_head(out, record.head);
  write_profile(out, *record.profile);
}
void write_item(ByteWriter& out, const MemberHead& head) {
  write_head(out, head);
}
void write_item(ByteWriter& out, const Alert& alert) {
  write_uid(out, alert.subject);
  out.u32(alert.epoch);
  out.u32(alert.seq);
  write_uid(out, alert.monitor);
  out.varint(alert.number);
  out.u8(alert.host_answers ? 1 : 0);
}
void write_item(ByteWriter& out, const ShardDelta& delta) {
  out.text(delta.shard);
  write_head(out, delta.head);
  out.u64(delta.base);
  out.varint(delta.ops.size());
  for (const ShardOp& op : delta.ops) write_op(out, op);
}
void write_item(ByteWriter& out, const ShardAnnounce& announce) {
  out.text(announce.shard);
  write_head(out, announce.head);
}

constexpr ItemKind item_kind(const Item& item) noexcept {
  return static_cast<ItemKind>(item.index() + 1);
}

std::string read_shard_id(ByteReader& in) {
  const auto text = in.text();
  if (text.empty() || text.size() > kMaxShardId) in.fail();
  return std::string{text};
}

MemberRecord read_record(ByteReader& in) {
  MemberRecord record;
  record.head = read_member_head(in);
  record.profile = read_profile(in);
  return record;
}

Alert read_alert(ByteReader& in) {
  Alert alert;
  alert.subject = read_uid(in);
  alert.epoch = in.u32();
  alert.seq = in.u32();
  alert.monitor = read_uid(in);
  alert.number = in.varint();
  alert.host_answers = (in.u8() & 1) != 0;
  return alert;
}

ShardDelta read_delta(ByteReader& in) {
  ShardDelta delta;
  delta.shard = read_shard_id(in);
  delta.head = read_head(in);
  delta.base = in.u64();
  const std::uint64_t count = in.varint();
  if (count > kMaxDeltaOps || count > in.remaining()) in.fail();
  for (std::uint64_t i = 0; i < count && in.ok(); ++i) delta.ops.push_back(read_op(in));
  return delta;
}

ShardAnnounce read_announce(ByteReader& in) {
  ShardAnnounce announce;
  announce.shard = read_shard_id(in);
  announce.head = read_head(in);
  return announce;
}

// Trailing bytes inside an item are fields of a later release.
std::optional<Item> read_item(ByteReader& in) {
  const auto kind = static_cast<ItemKind>(in.u8());
  const std::string_view body = in.text();
  ByteReader item{std::as_bytes(std::span{body})};
  std::optional<Item> read;
  switch (kind) {
    case ItemKind::record:
      read = read_record(item);
      break;
    case ItemKind::verdict:
      read = read_member_head(item);
      break;
    case ItemKind::alert:
      read = read_alert(item);
      break;
    case ItemKind::delta:
      read = read_delta(item);
      break;
    case ItemKind::announce:
      read = read_announce(item);
      break;
    default:
      return std::nullopt;
  }
  if (!item.ok()) in.fail();
  return read;
}

void write(ByteWriter& out, const Heartbeat& m) {
  out.u32(m.root);
}
void write(ByteWriter& out, const Subscribe& m) {
  write_uid(out, m.target);
}
void write(ByteWriter&, const Unsubscribe&) {}
void write(ByteWriter& out, const Probe& m) {
  out.u32(m.nonce);
  write_uid(out, m.target);
}
void write(ByteWriter& out, const ProbeAck& m) {
  out.u32(m.nonce);
  write_uid(out, m.target);
}
void write(ByteWriter& out, const ProbeRequest& m) {
  out.u32(m.nonce);
  write_uid(out, m.target);
  write_endpoint(out, m.endpoint);
}
void write(ByteWriter& out, const Items& m) {
  out.varint(m.items.size());
  for (const Item& item : m.items) out.raw(encode_item(item));
}
void write(ByteWriter& out, const Digest& m) {
  for (const auto hash : m.members) out.u32(hash);
  for (const auto hash : m.shards) out.u32(hash);
}
void write(ByteWriter& out, const Entries& m) {
  out.varint(m.members.size());
  for (const MemberHead& head : m.members) write_head(out, head);
  out.varint(m.shards.size());
  for (const ShardAnnounce& shard : m.shards) write_item(out, shard);
  out.u8(m.more_shards ? 1 : 0);
}
void write(ByteWriter& out, const Want& m) {
  out.varint(m.members.size());
  for (const NodeUid& uid : m.members) write_uid(out, uid);
  out.varint(m.shards.size());
  for (const auto& shard : m.shards) {
    out.text(shard.shard);
    out.u64(shard.content);
  }
}
void write(ByteWriter& out, const Join& m) {
  write_item(out, m.self);
}

std::uint64_t read_count(ByteReader& in, std::size_t least_bytes) {
  const std::uint64_t count = in.varint();
  if (count > in.remaining() / least_bytes) in.fail();
  return in.ok() ? count : 0;
}

Items read_items(ByteReader& in) {
  Items items;
  const std::uint64_t count = read_count(in, 2);
  if (count > kMaxItems) in.fail();
  for (std::uint64_t i = 0; i < count && in.ok(); ++i) {
    if (auto item = read_item(in)) items.items.push_back(std::move(*item));
  }
  return items;
}

Entries read_entries(ByteReader& in) {
  Entries entries;
  for (std::uint64_t n = read_count(in, 25); n > 0; --n) {
    entries.members.push_back(read_member_head(in));
  }
  for (std::uint64_t n = read_count(in, 20); n > 0 && in.ok(); --n) {
    entries.shards.push_back(read_announce(in));
  }
  entries.more_shards = (in.u8() & 1) != 0;
  return entries;
}

Want read_want(ByteReader& in) {
  Want want;
  for (std::uint64_t n = read_count(in, 16); n > 0; --n) want.members.push_back(read_uid(in));
  for (std::uint64_t n = read_count(in, 9); n > 0 && in.ok(); --n) {
    Want::Shard shard;
    shard.shard = read_shard_id(in);
    shard.content = in.u64();
    want.shards.push_back(std::move(shard));
  }
  return want;
}

std::optional<Message> read_message(Kind kind, ByteReader& in) {
  switch (kind) {
    case Kind::heartbeat:
      return Heartbeat{in.u32()};
    case Kind::subscribe:
      return Subscribe{read_uid(in)};
    case Kind::unsubscribe:
      return Unsubscribe{};
    case Kind::probe: {
      const std::uint32_t nonce = in.u32();
      return Probe{nonce, read_uid(in)};
    }
    case Kind::probe_ack: {
      const std::uint32_t nonce = in.u32();
      return ProbeAck{nonce, read_uid(in)};
    }
    case Kind::probe_request: {
      const std::uint32_t nonce = in.u32();
      const NodeUid target = read_uid(in);
      const auto endpoint = read_endpoint(in);
      if (!endpoint) return Heartbeat{};  // the reader has failed
      return ProbeRequest{nonce, target, *endpoint};
    }
    case Kind::items:
      return read_items(in);
    case Kind::digest: {
      Digest digest;
      for (auto& hash : digest.members) hash = in.u32();
      for (auto& hash : digest.shards) hash = in.u32();
      return digest;
    }
    case Kind::entries:
      return read_entries(in);
    case Kind::want:
      return read_want(in);
    case Kind::join:
      return Join{read_record(in)};
  }
  return std::nullopt;
}

constexpr int rank(MemberStatus status) noexcept {
  switch (status) {
    case MemberStatus::alive:
      return 0;
    case MemberStatus::host_down:
      return 1;
    // Above host_down: somebody had an answer from that host, which nobody has from a dead one.
    case MemberStatus::daemon_down:
      return 2;
    case MemberStatus::left:
      return 3;
  }
  return 0;
}

}  // namespace

std::string_view to_string(DecodeError error) noexcept {
  switch (error) {
    case DecodeError::truncated:
      return "truncated";
    case DecodeError::trailing_bytes:
      return "trailing_bytes";
    case DecodeError::unknown_kind:
      return "unknown_kind";
    case DecodeError::bad_value:
      return "bad_value";
    case DecodeError::too_long:
      return "too_long";
  }
  return "unknown";
}

bool newer(const MemberHead& a, const MemberHead& b) noexcept {
  if (a.epoch != b.epoch) return a.epoch > b.epoch;
  if (a.seq != b.seq) return a.seq > b.seq;
  return rank(a.status) > rank(b.status);
}

std::vector<std::byte> encode_item(const Item& item) {
  ByteWriter body;
  std::visit([&](const auto& value) { write_item(body, value); }, item);
  ByteWriter out;
  out.u8(static_cast<std::uint8_t>(item_kind(item)));
  out.varint(body.size());
  out.raw(body.bytes());
  return std::move(out).release();
}

std::vector<std::byte> join_items(std::span<const std::span<const std::byte>> items) {
  ByteWriter out;
  out.u8(static_cast<std::uint8_t>(Kind::items));
  out.varint(items.size());
  for (const auto item : items) out.raw(item);
  return std::move(out).release();
}

std::vector<std::byte> encode(const Message& message) {
  ByteWriter out;
  out.u8(static_cast<std::uint8_t>(message.index() + 1));
  std::visit([&](const auto& value) { write(out, value); }, message);
  return std::move(out).release();
}

Result<Message, DecodeError> decode(std::span<const std::byte> bytes) {
  if (bytes.size() > 4 * kMaxPayload) return DecodeError::too_long;
  ByteReader in{bytes};
  auto message = read_message(static_cast<Kind>(in.u8()), in);
  if (bytes.empty()) return DecodeError::truncated;
  if (!message) return DecodeError::unknown_kind;
  if (!in.ok()) return DecodeError::bad_value;
  // An older release's messages are all there is to compare with: what is behind them is new.
  return std::move(*message);
}

void write_endpoint(ByteWriter& out, const Endpoint& endpoint) {
  const auto octets = endpoint.address.octets();
  out.u8(static_cast<std::uint8_t>(octets.size()));
  out.raw(std::as_bytes(octets));
  out.u16(endpoint.port.number());
}

std::optional<Endpoint> read_endpoint(ByteReader& in) {
  const std::uint8_t size = in.u8();
  const auto octets = in.take(size == 4 || size == 16 ? size : 0);
  const auto port = Port::from(in.u16());
  if ((size != 4 && size != 16) || !in.ok() || !port) {
    in.fail();
    return std::nullopt;
  }
  IpAddress::V6 v6{};
  std::transform(octets.begin(), octets.end(), v6.begin(),
                 [](std::byte octet) { return std::to_integer<std::uint8_t>(octet); });
  if (size == 16) return Endpoint{IpAddress{v6}, *port};
  return Endpoint{IpAddress{IpAddress::V4{v6[0], v6[1], v6[2], v6[3]}}, *port};
}

void write_uid(ByteWriter& out, const NodeUid& uid) {
  out.u64(uid.high);
  out.u64(uid.low);
}

NodeUid read_uid(ByteReader& in) {
  NodeUid uid;
  uid.high = in.u64();
  uid.low = in.u64();
  if (uid.is_nil()) in.fail();
  return uid;
}

void write_profile(ByteWriter& out, const Profile& profile) {
  ByteWriter body;
  body.u64(profile.instance);
  body.u8(static_cast<std::uint8_t>(profile.endpoints.size()));
  for (const Endpoint& endpoint : profile.endpoints) write_endpoint(body, endpoint);
  body.text(profile.agent);
  body.u8(profile.agent_endpoint ? 1 : 0);
  if (profile.agent_endpoint) write_endpoint(body, *profile.agent_endpoint);
  body.u8(static_cast<std::uint8_t>(profile.metadata.size()));
  for (const auto& [key, value] : profile.metadata) {
    body.text(key);
    body.text(value);
  }
  body.raw(profile.extra);
  out.varint(body.size());
  out.raw(body.bytes());
}

ProfilePtr read_profile(ByteReader& in) {
  const std::string_view body = in.text();
  ByteReader fields{std::as_bytes(std::span{body})};
  auto profile = std::make_shared<Profile>();
  profile->instance = fields.u64();
  const std::uint8_t endpoints = fields.u8();
  if (endpoints == 0 || endpoints > kMaxEndpoints || body.size() > kMaxProfileBytes) fields.fail();
  for (std::uint8_t i = 0; i < endpoints && fields.ok(); ++i) {
    if (auto endpoint = read_endpoint(fields)) profile->endpoints.push_back(*endpoint);
  }
  profile->agent = fields.text();
  const std::uint8_t has_agent_endpoint = fields.u8();
  if (has_agent_endpoint > 1 || profile->agent.size() > kMaxProfileBytes) fields.fail();
  if (has_agent_endpoint == 1) profile->agent_endpoint = read_endpoint(fields);
  const std::uint8_t pairs = fields.u8();
  if (pairs > kMaxMetadata) fields.fail();
  for (std::uint8_t i = 0; i < pairs && fields.ok(); ++i) {
    std::string key{fields.text()};
    std::string value{fields.text()};
    if (key.empty() || key.size() > kMaxMetadataText || value.size() > kMaxMetadataText) {
      fields.fail();
    }
    profile->metadata.emplace_back(std::move(key), std::move(value));
  }
  const auto extra = fields.take(fields.remaining());
  profile->extra.assign(extra.begin(), extra.end());
  if (!fields.ok()) {
    in.fail();
    return nullptr;
  }
  return profile;
}

}  // namespace muster::gossip
