#include "gossip/core/member_table.hpp"

#include <algorithm>

namespace muster::gossip {
namespace {

std::uint64_t position_of(const NodeUid& uid) noexcept {
  return mix(uid.high, uid.low);
}

std::uint64_t head_hash(const MemberTable::Entry& entry) noexcept {
  return mix(entry.position, (std::uint64_t{entry.epoch} << 32) | entry.seq);
}

// The ring's number as seed: every node of every release must draw the same rings.
constexpr std::uint64_t on_ring(std::size_t ring, std::uint64_t position) noexcept {
  return mix(ring + 1, position);
}

}  // namespace

std::size_t MemberTable::bucket(const NodeUid& uid) noexcept {
  return static_cast<std::size_t>(position_of(uid) % kBuckets);
}

std::vector<MemberTable::Entry>::iterator MemberTable::lower(const NodeUid& uid) noexcept {
  return std::lower_bound(entries_.begin(), entries_.end(), uid,
                          [](const Entry& entry, const NodeUid& key) { return entry.uid < key; });
}

const MemberTable::Entry* MemberTable::find(const NodeUid& uid) const noexcept {
  const auto found =
      std::lower_bound(entries_.begin(), entries_.end(), uid,
                       [](const Entry& entry, const NodeUid& key) { return entry.uid < key; });
  return found != entries_.end() && found->uid == uid ? &*found : nullptr;
}

bool MemberTable::is_alive(const NodeUid& uid) const noexcept {
  const Entry* entry = find(uid);
  return entry != nullptr && entry->alive();
}

void MemberTable::count(const Entry& entry, bool in) noexcept {
  const std::uint64_t hash = head_hash(entry);
  auto& bucket_sum = buckets_[static_cast<std::size_t>(entry.position % kBuckets)];
  const auto low = static_cast<std::uint32_t>(hash);
  alive_ = in ? alive_ + 1 : alive_ - 1;
  root_ = in ? root_ + hash : root_ - hash;
  bucket_sum = in ? bucket_sum + low : bucket_sum - low;
}

MemberTable::Applied MemberTable::apply(const MemberHead& head, const ProfilePtr& profile,
                                        TimePoint now) {
  const auto at = lower(head.uid);
  if (at == entries_.end() || at->uid != head.uid) {
    if (!profile || head.status != MemberStatus::alive) return Applied::unknown;
    if (entries_.size() >= kMaxMembers) return Applied::full;
    const Entry entry{head.uid, position_of(head.uid), head.epoch, head.seq, head.status, profile,
                      now};
    count(*entries_.insert(at, entry), true);
    ++ring_version_;
    return Applied::changed;
  }
  if (!newer(head, at->head())) return Applied::unchanged;
  const bool was_alive = at->alive();
  if (was_alive) count(*at, false);
  at->epoch = head.epoch;
  at->seq = head.seq;
  if (at->status != head.status) at->since = now;
  at->status = head.status;
  if (profile) at->profile = profile;
  if (at->alive()) count(*at, true);
  if (was_alive != at->alive()) ++ring_version_;
  return Applied::changed;
}

std::vector<NodeUid> MemberTable::forget(TimePoint until) {
  std::vector<NodeUid> forgotten;
  std::erase_if(entries_, [&](const Entry& entry) {
    const bool due = !entry.alive() && entry.since < until;
    if (due) forgotten.push_back(entry.uid);
    return due;
  });
  return forgotten;
}

std::vector<NodeUid> MemberTable::neighbours(const NodeUid& uid, bool forward) const {
  std::vector<NodeUid> found;
  if (alive_ <= kFullMesh) {
    for (const Entry& entry : entries_) {
      if (entry.alive() && entry.uid != uid) found.push_back(entry.uid);
    }
    return found;
  }
  std::array<std::uint64_t, kRings> mine{};
  std::array<std::uint64_t, kRings> best{};
  std::array<const Entry*, kRings> nearest{};
  best.fill(~std::uint64_t{0});
  const std::uint64_t position = position_of(uid);
  for (std::size_t ring = 0; ring < kRings; ++ring) mine[ring] = on_ring(ring, position);
  for (const Entry& entry : entries_) {
    if (!entry.alive() || entry.uid == uid) continue;
    for (std::size_t ring = 0; ring < kRings; ++ring) {
      const std::uint64_t there = on_ring(ring, entry.position);
      const std::uint64_t distance = forward ? there - mine[ring] : mine[ring] - there;
      if (distance < best[ring]) {
        best[ring] = distance;
        nearest[ring] = &entry;
      }
    }
  }
  for (const Entry* entry : nearest) {
    if (entry != nullptr) found.push_back(entry->uid);
  }
  std::sort(found.begin(), found.end());
  found.erase(std::unique(found.begin(), found.end()), found.end());
  return found;
}

}  // namespace muster::gossip
