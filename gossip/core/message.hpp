#pragma once

#include <array>
#include <compare>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "base/byte_reader.hpp"
#include "base/byte_writer.hpp"
#include "base/endpoint.hpp"
#include "base/member.hpp"
#include "base/result.hpp"
#include "gossip/core/shard_types.hpp"
#include "gossip/core/types.hpp"

/// What travels between nodes, inside what Link seals. One datagram is one Message; unknown
/// message and item kinds are of a later release and are stepped over, not refused.
namespace muster::gossip {

enum class DecodeError : std::uint8_t {
  truncated,
  trailing_bytes,
  unknown_kind,  // of a later release: count it, nothing is wrong with the sender
  bad_value,     // an enumerator, address or number that cannot be
  too_long,      // text, list or value above its bound
};
std::string_view to_string(DecodeError) noexcept;

/// What a member says of itself, once per epoch or change. Shared: never changed in place.
struct Profile {
  std::uint64_t instance = 0;  // random per boot: tells a clone from an echo of oneself
  std::vector<Endpoint> endpoints;
  std::string agent;
  std::optional<Endpoint> agent_endpoint;
  std::vector<std::pair<std::string, std::string>> metadata;
  std::vector<std::byte> extra;  // fields of a later release, carried on unread
  friend bool operator==(const Profile&, const Profile&) = default;
};
using ProfilePtr = std::shared_ptr<const Profile>;

/// Ordered by (epoch, seq, rank of status): the larger replaces the smaller. Only the member
/// itself raises epoch (with each boot) and seq (to refute).
struct MemberHead {
  NodeUid uid;
  std::uint32_t epoch = 0;
  std::uint32_t seq = 0;
  MemberStatus status = MemberStatus::alive;
  friend bool operator==(const MemberHead&, const MemberHead&) = default;
};
/// Both must be of one uid.
bool newer(const MemberHead& a, const MemberHead& b) noexcept;

struct MemberRecord {
  MemberHead head;
  ProfilePtr profile;
};

/// "I, `monitor`, hear nothing from `subject`."
struct Alert {
  NodeUid subject;
  std::uint32_t epoch = 0;  // of the subject, as the monitor knows it: a refutation voids it
  std::uint32_t seq = 0;
  NodeUid monitor;
  std::uint64_t number = 0;  // grows with each alert of this monitor
  bool host_answers = false;
  friend bool operator==(const Alert&, const Alert&) = default;
};

/// "I hold this version": for content that does not fit a datagram.
struct ShardAnnounce {
  std::string shard;
  ShardHead head;
  friend bool operator==(const ShardAnnounce&, const ShardAnnounce&) = default;
};

using Item = std::variant<MemberRecord, MemberHead, Alert, ShardDelta, ShardAnnounce>;

struct Heartbeat {
  std::uint32_t root = 0;  // of all the sender holds
};
/// "Send me heartbeats for a while, if you are `target`."
struct Subscribe {
  NodeUid target;
};
struct Unsubscribe {};
struct Probe {
  std::uint32_t nonce = 0;
  NodeUid target;
};
struct ProbeAck {
  std::uint32_t nonce = 0;
  NodeUid target;  // who is alive
};
struct ProbeRequest {
  std::uint32_t nonce = 0;
  NodeUid target;
  Endpoint endpoint;
};
struct Items {
  std::vector<Item> items;
};
inline constexpr std::size_t kBuckets = 32;
struct Digest {
  std::array<std::uint32_t, kBuckets> members{};
  std::array<std::uint32_t, kBuckets> shards{};
};
struct Entries {
  std::vector<MemberHead> members;
  std::vector<ShardAnnounce> shards;
  bool more_shards = false;  // than fit: better asked for over a stream
};
struct Want {
  struct Shard {
    std::string shard;
    std::uint64_t content = 0;  // what the asker has
  };
  std::vector<NodeUid> members;
  std::vector<Shard> shards;
};
struct Join {
  MemberRecord self;
};

using Message = std::variant<Heartbeat, Subscribe, Unsubscribe, Probe, ProbeAck, ProbeRequest,
                             Items, Digest, Entries, Want, Join>;

std::vector<std::byte> encode(const Message&);
Result<Message, DecodeError> decode(std::span<const std::byte>);

/// One item with its kind and length, as Items holds them; at most kMaxPayload - 8.
std::vector<std::byte> encode_item(const Item&);
/// An Items message of items encoded before.
std::vector<std::byte> join_items(std::span<const std::span<const std::byte>> items);

void write_endpoint(ByteWriter&, const Endpoint&);
std::optional<Endpoint> read_endpoint(ByteReader&);
void write_uid(ByteWriter&, const NodeUid&);
NodeUid read_uid(ByteReader&);
void write_profile(ByteWriter&, const Profile&);
/// Without a value the reader has failed.
ProfilePtr read_profile(ByteReader&);

}  // namespace muster::gossip
