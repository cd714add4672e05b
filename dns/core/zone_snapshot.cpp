#include "dns/core/zone_snapshot.hpp"

#include <algorithm>
#include <utility>

#include "base/assert.hpp"
#include "dns/core/name_hash.hpp"

namespace muster::dns {
namespace {

constexpr std::size_t kCacheLine = 64;
constexpr std::size_t kBlockAhead = 256;  // of a block: an A answer whole, an SRV answer half

constexpr std::uint32_t tag_of(std::uint64_t hash) noexcept {
  return static_cast<std::uint32_t>(hash >> 32) | 1U;
}

constexpr std::size_t round_up_to_power(std::size_t value) noexcept {
  std::size_t power = 1;
  while (power < value) power *= 2;
  return power;
}

}  // namespace

ZoneSnapshot::ZoneSnapshot(std::shared_ptr<const ZoneTable> table, std::uint64_t hash_seed,
                           std::uint32_t serial)
    : table_{std::move(table)}, seed_{hash_seed}, serial_{serial} {
  shards_.push_back(std::make_shared<const Shard>());
}

std::size_t ZoneSnapshot::Shard::probe(std::uint32_t tag, std::string_view name) const noexcept {
  std::size_t slot = home_of(tag);
  // Ends at an empty slot; kMaxPerShard leaves some.
  for (; tags[slot] != 0; slot = (slot + 1) % kSlots) {
    if (tags[slot] == tag && NodeView{nodes[slot].get()}.name() == name) return slot;
  }
  return slot;
}

void ZoneSnapshot::Shard::put(std::uint32_t tag, std::string_view name, NodePtr node) {
  const std::size_t slot = probe(tag, name);
  if (tags[slot] == 0) {
    ++used;
    MUSTER_ASSERT(used < kSlots);
  }
  tags[slot] = tag;
  nodes[slot] = std::move(node);
}

void ZoneSnapshot::Shard::erase(std::uint32_t tag, std::string_view name) {
  std::size_t hole = probe(tag, name);
  if (tags[hole] == 0) return;
  --used;
  // Close the gap: whoever probed past it has to be found from its own slot again.
  for (std::size_t next = (hole + 1) % kSlots; tags[next] != 0; next = (next + 1) % kSlots) {
    const std::size_t home = home_of(tags[next]);
    if ((next - home) % kSlots >= (next - hole) % kSlots) {
      tags[hole] = tags[next];
      nodes[hole] = std::move(nodes[next]);
      hole = next;
    }
  }
  tags[hole] = 0;
  nodes[hole] = nullptr;
}

std::uint64_t ZoneSnapshot::key(const char* padded_name, std::size_t size) const noexcept {
  const std::uint64_t key = name_hash(seed_, padded_name, size);
  __builtin_prefetch(&shards_[key & (shards_.size() - 1)]);
  return key;
}

void ZoneSnapshot::expect(std::span<const std::uint64_t> keys) const noexcept {
  for (const std::uint64_t key : keys) {
    const Shard& shard = shard_of(key);
    const std::size_t home = home_of(tag_of(key));
    __builtin_prefetch(&shard.tags[home]);
    __builtin_prefetch(&shard.nodes[home]);
  }
  for (const std::uint64_t key : keys) {
    const Shard& shard = shard_of(key);
    const std::uint32_t tag = tag_of(key);
    std::size_t slot = home_of(tag);
    while (shard.tags[slot] != 0 && shard.tags[slot] != tag) slot = (slot + 1) % kSlots;
    const std::byte* const block = shard.nodes[slot].get();
    if (block == nullptr) continue;
    for (std::size_t at = 0; at < kBlockAhead; at += kCacheLine) __builtin_prefetch(block + at);
  }
}

const std::byte* ZoneSnapshot::find(const char* padded_name, std::size_t size) const noexcept {
  const std::uint64_t key = name_hash(seed_, padded_name, size);
  const Shard& shard = shard_of(key);
  const std::size_t slot = shard.probe(tag_of(key), {padded_name, size});
  return shard.nodes[slot].get();
}

void ZoneSnapshot::grow(std::size_t shards) {
  std::vector<std::shared_ptr<Shard>> next(shards);
  for (auto& shard : next) shard = std::make_shared<Shard>();
  for (const auto& shard : shards_) {
    for (const NodePtr& node : shard->nodes) {
      if (!node) continue;
      const std::string_view name = NodeView{node.get()}.name();
      const std::uint64_t key = name_hash(seed_, name);
      next[key & (shards - 1)]->put(tag_of(key), name, node);
    }
  }
  shards_.assign(next.begin(), next.end());
}

std::size_t ZoneSnapshot::shards_for(std::size_t names) noexcept {
  return std::min(kMaxShards, round_up_to_power(names / kMeanPerShard + 1));
}

bool ZoneSnapshot::grows_by(std::size_t names) const noexcept {
  return shards_for(size_ + names) > shards_.size();
}

std::shared_ptr<const ZoneSnapshot> ZoneSnapshot::with(std::span<const Update> updates,
                                                       std::uint32_t serial, bool complete) const {
  auto next = std::make_shared<ZoneSnapshot>(*this);
  next->serial_ = serial;
  next->complete_ = complete;
  const std::size_t wanted = shards_for(size_ + updates.size());
  if (wanted > shards_.size()) next->grow(wanted);

  // Each touched shard is copied once, at its first update.
  std::vector<std::shared_ptr<Shard>> own(next->shards_.size());
  for (const Update& update : updates) {
    const std::uint64_t key = name_hash(seed_, update.name);
    std::size_t index = key & (own.size() - 1);
    if (own[index] == nullptr) own[index] = std::make_shared<Shard>(*next->shards_[index]);
    if (own[index]->used >= kMaxPerShard && update.node != nullptr) {
      for (std::size_t i = 0; i < own.size(); ++i) {
        if (own[i] != nullptr) next->shards_[i] = std::move(own[i]);
      }
      next->grow(next->shards_.size() * 2);
      own.assign(next->shards_.size(), nullptr);
      index = key & (own.size() - 1);
      own[index] = std::make_shared<Shard>(*next->shards_[index]);
    }
    Shard& shard = *own[index];
    const std::size_t before = shard.used;
    if (update.node != nullptr) {
      shard.put(tag_of(key), update.name, update.node);
    } else {
      shard.erase(tag_of(key), update.name);
    }
    next->size_ = next->size_ + shard.used - before;
  }
  for (std::size_t i = 0; i < own.size(); ++i) {
    if (own[i] != nullptr) next->shards_[i] = std::move(own[i]);
  }
  return next;
}

}  // namespace muster::dns
