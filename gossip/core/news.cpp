#include "gossip/core/news.hpp"

#include <algorithm>
#include <span>
#include <utility>

namespace muster::gossip {
namespace {

constexpr Duration kRecent{1'000};
constexpr std::size_t kMaxRecent = 32;  // items; about what a datagram holds

// Squared: the loss that a node sees is that of the way to it, and the tail is the unlucky ones.
std::size_t copies_at(unsigned loss_percent) noexcept {
  if (loss_percent < 5) return kFanout;
  const std::size_t arrives = 100 - std::min(loss_percent, 60U);
  return std::min(kMaxFanout, (kFanout * 10'000 + arrives * arrives - 1) / (arrives * arrives));
}

}  // namespace

void News::add(const Item& item, const NodeUid& from) {
  auto bytes = encode_item(item);
  if (bytes.size() + 4 > kMaxPayload) return;  // whoever makes items announces what is larger
  if (waiting_.size() >= kMaxNews) {
    waiting_.pop_front();
    ++dropped_;
  }
  waiting_.push_back({std::move(bytes), from});
}

std::optional<TimePoint> News::next_deadline(Duration gap) const {
  if (waiting_.empty()) return std::nullopt;
  return last_ + gap;
}

void News::flush(const MemberTable& table, const Monitor& monitor, Duration gap, TimePoint now,
                 Outbox& out) {
  if (waiting_.empty() || now - last_ < gap) return;
  std::vector<NodeUid> targets;
  for (const NodeUid& uid : monitor.neighbours()) {
    if (!monitor.silent(uid) && table.is_alive(uid)) targets.push_back(uid);
  }
  if (targets.empty()) {
    waiting_.clear();
    return;
  }
  last_ = now;
  const std::size_t copies = copies_at(monitor.loss_percent());
  for (std::size_t i = 0; i < copies && i < targets.size(); ++i) {
    std::swap(targets[i], targets[i + rng_.below(targets.size() - i)]);
    const auto* target = table.find(targets[i]);
    std::vector<std::span<const std::byte>> batch;
    std::size_t size = 0;
    const auto ship = [&] {
      if (!batch.empty()) out.messages.push_back({target->endpoint(), join_items(batch)});
      batch.clear();
      size = 0;
    };
    for (const Waiting& waiting : waiting_) {
      if (waiting.from == target->uid) continue;
      if (size + waiting.item.size() + 4 > kMaxPayload || batch.size() >= kMaxItems) ship();
      batch.emplace_back(waiting.item);
      size += waiting.item.size();
    }
    ship();
  }
  for (Waiting& waiting : waiting_) sent_.emplace_front(now, std::move(waiting.item));
  if (sent_.size() > kMaxRecent) sent_.resize(kMaxRecent);
  waiting_.clear();
}

std::vector<std::span<const std::byte>> News::recent(TimePoint now) const {
  std::vector<std::span<const std::byte>> items;
  std::size_t bytes = 0;
  for (const auto& [when, item] : sent_) {
    bytes += item.size() + 4;
    if (now - when > kRecent || bytes > kMaxPayload) break;
    items.emplace_back(item);
  }
  return items;
}

}  // namespace muster::gossip
