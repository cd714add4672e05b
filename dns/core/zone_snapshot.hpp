#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "dns/core/query.hpp"

namespace muster::dns {

/// One RRset as it goes on the wire. Every record's owner is the pointer C00C (to the question),
/// and nothing else in it is compressed, so records may be sent in any order.
struct RenderedSet {
  std::uint16_t type;
  std::uint16_t count;
  std::uint16_t additional_count;
  std::uint16_t stride;  // octets of each record; 0: they differ, see `offsets`
  std::uint32_t offsets_at;
  std::uint32_t answers_at;
  std::uint32_t answers_size;
  std::uint32_t additional_at;  // whole records; owners compressed against the question
  std::uint32_t additional_size;
};

/// A name and its RRsets in one immutable block: a lookup touches one run of memory.
using NodePtr = std::shared_ptr<const std::byte[]>;

/// Reads a block made by render_node().
class NodeView {
 public:
  struct Header {
    std::uint8_t zone;
    std::uint8_t name_size;
    std::uint8_t set_count;
    std::uint8_t reserved;
    std::uint32_t size;
  };

  explicit NodeView(const std::byte* block) noexcept : block_{block} {}

  const std::byte* data() const noexcept { return block_; }
  std::uint8_t zone() const noexcept { return header().zone; }
  std::size_t set_count() const noexcept { return header().set_count; }
  RenderedSet set(std::size_t index) const noexcept {
    RenderedSet out;
    std::memcpy(&out, block_ + sizeof(Header) + index * sizeof(RenderedSet), sizeof out);
    return out;
  }
  std::string_view name() const noexcept {
    const Header head = header();
    return {reinterpret_cast<const char*>(block_) + sizeof(Header) +
                head.set_count * sizeof(RenderedSet),
            head.name_size};
  }
  /// Where record `index` of the set starts, from the set's first octet; index may be count.
  std::size_t offset(const RenderedSet& set, std::size_t index) const noexcept {
    if (set.stride != 0) return index * set.stride;
    if (index == set.count) return set.answers_size;
    std::uint16_t out;
    std::memcpy(&out, block_ + set.offsets_at + index * sizeof out, sizeof out);
    return out;
  }
  const std::byte* answers(const RenderedSet& set) const noexcept {
    return block_ + set.answers_at;
  }
  const std::byte* additional(const RenderedSet& set) const noexcept {
    return block_ + set.additional_at;
  }

 private:
  Header header() const noexcept {
    Header out;
    std::memcpy(&out, block_, sizeof out);
    return out;
  }
  const std::byte* block_;
};

struct Zone {
  std::string apex;   // wire form
  std::string label;  // for metrics: "mesos"
  /// Answers do not depend on the cluster's state: misses are NXDOMAIN from the start.
  bool fixed = false;
  /// Only what is here is ours (reverse zones): everything else in it is forwarded.
  bool partial = false;
  /// The SOA record from its TYPE field on, with the serial left zero; it starts 20 octets
  /// before the end. `negative` differs in the TTL only (RFC 2308 §3).
  std::string soa;
  std::string negative_soa;
};

/// A suffix under which names are looked up; an alias stands for another zone's apex.
struct Apex {
  static constexpr std::uint8_t kForward = 255;  // no zone: whatever is below is forwarded
  std::string wire;
  std::uint8_t zone;
  bool alias;
};

/// What does not change while the process runs.
struct ZoneTable {
  static constexpr std::size_t kMaxZones = 64;
  std::vector<Zone> zones;
  std::vector<Apex> apexes;  // longest first, so that the first match is the best
};

/// All that is served, immutable: handed to the workers whole. Shares every shard and node that
/// did not change with its predecessor. Any thread may read it.
class ZoneSnapshot {
 public:
  struct Update {
    std::string_view name;  // wire form
    NodePtr node;           // null: the name goes
  };

  ZoneSnapshot(std::shared_ptr<const ZoneTable> table, std::uint64_t hash_seed,
               std::uint32_t serial);

  /// Whether with() would put every name into a larger table, should so many names come.
  bool grows_by(std::size_t names) const noexcept;

  /// The successor with `updates` made: costs what they touch, plus one pointer per shard.
  std::shared_ptr<const ZoneSnapshot> with(std::span<const Update> updates, std::uint32_t serial,
                                           bool complete) const;

  /// Null if there is no such name. `name` is lower-cased wire form followed by kPadding zeros.
  const std::byte* find(const char* padded_name, std::size_t size) const noexcept;

  /// For who has several names to find: what find() waits for longest, memory that no cache
  /// holds, is fetched side by side. key() of each, expect() of all, then find() each.
  std::uint64_t key(const char* padded_name, std::size_t size) const noexcept;
  void expect(std::span<const std::uint64_t> keys) const noexcept;

  const ZoneTable& table() const noexcept { return *table_; }
  std::uint32_t serial() const noexcept { return serial_; }
  bool complete() const noexcept { return complete_; }
  std::size_t size() const noexcept { return size_; }

  /// The nodes in parts, so that a long walk can be done in steps; see for_each().
  std::size_t parts() const noexcept { return shards_.size(); }
  template <class Visit>
  void for_each_in(std::size_t part, Visit visit) const {
    for (const NodePtr& node : shards_[part]->nodes) {
      if (node) visit(NodeView{node.get()});
    }
  }

  /// Every node, in no particular order.
  template <class Visit>
  void for_each(Visit visit) const {
    for (const auto& shard : shards_) {
      for (const NodePtr& node : shard->nodes) {
        if (node) visit(NodeView{node.get()});
      }
    }
  }

 private:
  static constexpr std::size_t kSlots = 128;
  static constexpr std::size_t kMeanPerShard = 64;  // doubles the shards when passed
  static constexpr std::size_t kMaxPerShard = 112;
  static constexpr std::size_t kMaxShards = 1U << 16;

  /// Open addressing, linear probing; tag 0 is an empty slot.
  struct Shard {
    std::array<std::uint32_t, kSlots> tags{};
    std::array<NodePtr, kSlots> nodes{};
    std::size_t used = 0;
    void put(std::uint32_t tag, std::string_view name, NodePtr node);
    void erase(std::uint32_t tag, std::string_view name);
    std::size_t probe(std::uint32_t tag, std::string_view name) const noexcept;
  };

  static constexpr std::size_t home_of(std::uint32_t tag) noexcept { return (tag >> 1) % kSlots; }
  static std::size_t shards_for(std::size_t names) noexcept;
  void grow(std::size_t shards);
  const Shard& shard_of(std::uint64_t key) const noexcept {
    return *shards_[key & (shards_.size() - 1)];
  }

  std::shared_ptr<const ZoneTable> table_;
  std::vector<std::shared_ptr<const Shard>> shards_;  // a power of two
  std::uint64_t seed_;
  std::size_t size_ = 0;
  std::uint32_t serial_;
  bool complete_ = false;
};

}  // namespace muster::dns
