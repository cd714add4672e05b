#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "gossip/core/message.hpp"
#include "gossip/core/shard_types.hpp"

namespace muster::gossip {

inline constexpr std::size_t kMaxLogDeltas = 256;
inline constexpr std::size_t kMaxLogBytes = 256 * 1024;  // of one shard

/// All shards as this node holds them, and the writing of those it publishes.
///
/// Invariant: a shard's head.content is the sum of its records' hashes; root_ and buckets_ are
/// the sums over all heads.
class ShardStore {
 public:
  using Records = std::map<std::string, std::vector<std::byte>>;
  struct Shard {
    ShardHead head;
    Records records;
    std::size_t bytes = 0;
    std::deque<ShardDelta> log;  // each leads to the next; the last one to `head`
    std::size_t log_bytes = 0;
    std::uint64_t id_hash = 0;
  };
  enum class Applied : std::uint8_t { applied, stale, needs_more, invalid, full };

  /// Begins to publish all shards whose ids start with one of `prefixes` ("" is all), under a
  /// term above every one seen, and puts its name on what is there. Contents stay as they are.
  Term take_over(const NodeUid& self, std::vector<std::string> prefixes,
                 std::vector<ShardDelta>& out);
  void stop_publishing() noexcept { term_.reset(); }
  const std::optional<Term>& publishing() const noexcept { return term_; }
  /// True once for each time a higher term ended our own.
  bool take_superseded() noexcept { return std::exchange(superseded_, false); }

  /// Writes as the publisher; one delta per shard touched, none where nothing changes. What may
  /// not be written (no term, not our prefix, above a bound) is counted in refused() and skipped.
  void publish(std::vector<RecordWrite> writes, std::vector<ShardDelta>& out);

  /// What another says. `restamp` gets what we, publishing above it, say back.
  Applied apply(const ShardDelta&, std::vector<ShardDelta>& restamp);
  Applied replace(const std::string& shard, const ShardHead&, Records, std::vector<ShardDelta>&);

  const Shard* find(const std::string& shard) const;
  const std::map<std::string, Shard>& shards() const noexcept { return shards_; }
  /// The deltas that lead from `content` to now; empty if only a snapshot does.
  std::vector<const ShardDelta*> since(const std::string& shard, std::uint64_t content) const;

  std::uint64_t root() const noexcept { return root_; }
  const std::array<std::uint32_t, kBuckets>& buckets() const noexcept { return buckets_; }
  static std::size_t bucket(std::string_view shard) noexcept {
    return static_cast<std::size_t>(hash_text(shard) % kBuckets);
  }

  /// What changed since the last call, in order.
  std::vector<RecordWrite> take_changes() { return std::exchange(changes_, {}); }
  std::uint64_t refused() const noexcept { return refused_; }
  std::size_t records() const noexcept { return records_; }

 private:
  bool covers(const std::string& shard) const;
  Shard* open(const std::string& shard);
  void set_head(Shard&, const ShardHead&);
  void remember(Shard&, const ShardDelta&);
  void write(const std::string& id, Shard&, const ShardOp&);
  void hear(const std::string& shard, const ShardHead&);
  void restamp(const std::string& id, Shard&, std::vector<ShardDelta>& out);

  std::map<std::string, Shard> shards_;
  std::optional<Term> term_;
  std::vector<std::string> prefixes_;
  std::uint64_t highest_counter_ = 0;
  bool superseded_ = false;
  std::uint64_t root_ = 0;
  std::array<std::uint32_t, kBuckets> buckets_{};
  std::vector<RecordWrite> changes_;
  std::uint64_t refused_ = 0;
  std::size_t records_ = 0;
};

}  // namespace muster::gossip
