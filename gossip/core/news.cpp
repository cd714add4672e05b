#include "gossip/core/news.hpp"

#include <span>
#include <utility>

namespace muster::gossip {

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
  for (std::size_t i = 0; i < kFanout && i < targets.size(); ++i) {
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
  waiting_.clear();
}

}  // namespace muster::gossip
