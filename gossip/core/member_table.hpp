#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "base/rng.hpp"
#include "gossip/core/message.hpp"
#include "gossip/core/types.hpp"

namespace muster::gossip {

inline constexpr std::size_t kRings = 10;
/// Up to here everyone monitors everyone: rings of so few would name the same node twice.
inline constexpr std::size_t kFullMesh = kRings + 1;

/// Every member this node knows, itself included, and the rings they stand on.
///
/// Invariant: entries_ ascends by uid; alive_ and buckets_ count exactly the alive ones, so that
/// who remembers the dead longer differs in no hash.
class MemberTable {
 public:
  struct Entry {
    NodeUid uid;
    std::uint64_t position = 0;  // hashed once; each ring mixes it with its own seed
    std::uint32_t epoch = 0;
    std::uint32_t seq = 0;
    MemberStatus status = MemberStatus::alive;
    ProfilePtr profile;
    TimePoint since{};  // of the last change of status

    MemberHead head() const noexcept { return {uid, epoch, seq, status}; }
    bool alive() const noexcept { return status == MemberStatus::alive; }
    const Endpoint& endpoint() const noexcept { return profile->endpoints.front(); }
  };
  enum class Applied : std::uint8_t { unchanged, changed, unknown, full };

  /// Takes what is newer. Without a profile only a known member changes; an unknown one that is
  /// not alive is never taken, so that nobody is taught to remember the dead.
  Applied apply(const MemberHead&, const ProfilePtr&, TimePoint now);
  /// Forgets those not alive since before `until`, and says who they were.
  std::vector<NodeUid> forget(TimePoint until);
  void reserve(std::size_t count) { entries_.reserve(count); }

  const Entry* find(const NodeUid&) const noexcept;
  bool is_alive(const NodeUid&) const noexcept;
  const std::vector<Entry>& entries() const noexcept { return entries_; }
  std::size_t alive() const noexcept { return alive_; }

  /// The monitors of `uid`: its alive successor on each ring. Sorted, without duplicates.
  std::vector<NodeUid> monitors(const NodeUid& uid) const { return neighbours(uid, true); }
  /// Those whom `uid` monitors: its alive predecessor on each ring.
  std::vector<NodeUid> subjects(const NodeUid& uid) const { return neighbours(uid, false); }

  /// Grows when the set of alive members changes.
  std::uint64_t ring_version() const noexcept { return ring_version_; }
  std::uint64_t root() const noexcept { return root_; }
  const std::array<std::uint32_t, kBuckets>& buckets() const noexcept { return buckets_; }
  static std::size_t bucket(const NodeUid&) noexcept;

 private:
  std::vector<NodeUid> neighbours(const NodeUid&, bool forward) const;
  std::vector<Entry>::iterator lower(const NodeUid&) noexcept;
  void count(const Entry&, bool in) noexcept;

  std::vector<Entry> entries_;
  std::size_t alive_ = 0;
  std::uint64_t ring_version_ = 1;
  std::uint64_t root_ = 0;
  std::array<std::uint32_t, kBuckets> buckets_{};
};

}  // namespace muster::gossip
