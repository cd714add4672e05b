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

#include "base/time.hpp"
#include "gossip/core/message.hpp"
#include "gossip/core/shard_types.hpp"

namespace muster::gossip {

inline constexpr std::size_t kMaxLogDeltas = 256;
/// Of one shard, and half of what is in it at most: the whole is then less to send than the way
/// there. But for so much, which a few changes of a small shard take.
inline constexpr std::size_t kMaxLogBytes = std::size_t{256} * 1024;
inline constexpr std::size_t kFreeLogBytes = std::size_t{4} * 1024;
inline constexpr std::size_t kMaxOwnShards = 1024;    // see ShardStore::own()
inline constexpr std::size_t kMaxEmptyShards = 4096;  // remembered after their last record went

/// All shards as this node holds them, and the writing of those it publishes.
///
/// Invariant: a shard's head.content is the sum of its records' hashes; root_ and buckets_ are
/// the sums over the heads of those that are not empty, so that who remembers an empty one longer
/// differs in no hash, and forgetting needs no agreement.
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
    std::uint64_t counted = 0;  // what root_ holds of it
    TimePoint empty_since{};    // as sweep() found it
  };
  enum class Applied : std::uint8_t { applied, stale, needs_more, invalid, full };

  /// Begins to publish all shards whose ids start with one of `prefixes` ("" is all), under a
  /// term above every one seen and of no earlier boot: `epoch` is this one's. restamp_some() then
  /// puts its name on what is there. Contents stay as they are.
  Term take_over(const NodeUid& self, std::uint32_t epoch, std::vector<std::string> prefixes);
  /// Begins to write this one shard, whole id and no prefix, under a term of its own: beside what
  /// take_over() is about, and whoever publishes that. What stands in it is stamped at once.
  Term own(const NodeUid& self, std::uint32_t epoch, const std::string& shard,
           std::vector<ShardDelta>& out);
  /// Its content stays as it is, and no more is written to it.
  void disown(const std::string& shard) { own_.erase(shard); }
  /// Shards of own() that another writes under a higher term: each told once, and ours no more.
  std::vector<std::string> take_lost() { return std::exchange(lost_, {}); }

  /// Looks at up to `limit` shards. True: there are more.
  bool restamp_some(std::size_t limit, std::vector<ShardDelta>& out);
  bool restamping() const noexcept { return restamp_after_.has_value(); }
  void stop_publishing() noexcept {
    term_.reset();
    restamp_after_.reset();
  }
  const std::optional<Term>& publishing() const noexcept { return term_; }
  /// True once for each time a higher term ended our own.
  bool take_superseded() noexcept { return std::exchange(superseded_, false); }

  /// Writes as the publisher; one delta per shard touched, none where nothing changes. What may
  /// not be written (no term, not our prefix, above a bound) is counted in refused() and skipped.
  void publish(std::vector<RecordWrite> writes, std::vector<ShardDelta>& out);

  /// Tells of records though another publishes, in a shard of their own: `prefix` and a name that
  /// nobody used before. Under the lowest term there is, so whoever publishes takes it over.
  void offer(const NodeUid& self, const std::string& prefix, std::vector<RecordWrite> writes,
             std::vector<ShardDelta>& out);

  /// What another says. `restamp` gets what we, publishing above it, say back.
  Applied apply(const ShardDelta&, std::vector<ShardDelta>& restamp);
  Applied replace(const std::string& shard, const ShardHead&, Records, std::vector<ShardDelta>&);

  /// Forgets shards that have been empty since before `until`, and the oldest of too many.
  void sweep(TimePoint now, TimePoint until);

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
  /// Under which we write the shard; null: we do not.
  const Term* term_of(const std::string& shard) const;
  Shard* open(const std::string& shard);
  void set_head(Shard&, const ShardHead&);
  bool written_and_forgotten(const std::string& shard, const ShardHead&) const;
  void bury(const std::string& shard, std::vector<ShardDelta>& out);
  void remember(Shard&, const ShardDelta&);
  void write(const std::string& id, Shard&, const ShardOp&);
  void hear(const std::string& shard, const ShardHead&);
  void note_changes(const std::string& shard, const Records& from, const Records& to);
  void restamp(const std::string& id, Shard&, const Term&, std::vector<ShardDelta>& out);

  std::map<std::string, Shard> shards_;
  std::optional<Term> term_;
  std::vector<std::string> prefixes_;
  std::map<std::string, Term> own_;
  std::vector<std::string> lost_;
  std::optional<std::string> restamp_after_;
  std::uint64_t highest_counter_ = 0;
  // Of any shard: one that was forgotten and comes back must not count from 1 again.
  std::uint64_t highest_version_ = 0;
  bool superseded_ = false;
  std::uint64_t root_ = 0;
  std::array<std::uint32_t, kBuckets> buckets_{};
  std::vector<RecordWrite> changes_;
  std::uint64_t refused_ = 0;
  std::size_t records_ = 0;
};

}  // namespace muster::gossip
