#include "cluster/core/liveness.hpp"

#include <algorithm>

namespace muster::cluster {

bool DownHosts::covers(const Agent& agent) const {
  return agents.contains(agent.id) ||
         std::any_of(agent.addresses.begin(), agent.addresses.end(),
                     [this](const IpAddress& at) { return addresses.contains(at); });
}

void Liveness::update(std::span<const Member> members, TimePoint now) {
  for (const Member& member : members) {
    auto known = members_.find(member.id);
    if (known == members_.end()) {
      if (members_.size() >= kMaxMembers) continue;
      known = members_.try_emplace(member.id).first;
    }
    Known& entry = known->second;
    entry.member = member;
    entry.told = now;
    if (member.status != MemberStatus::host_down) {
      entry.died.reset();
      entry.held = false;
    } else if (!entry.died) {
      entry.died = now;
    }
  }
  judge(now);
}

void Liveness::judge(TimePoint now) {
  judged_ = now;
  forget(now);
  std::size_t recent = 0;
  held_ = 0;
  std::size_t here = 0;  // before the window began
  for (const auto& [id, entry] : members_) {
    if (entry.member.status == MemberStatus::left) continue;
    if (!entry.died) {
      ++here;
      continue;
    }
    const bool in_window = now - *entry.died < kWindow;
    recent += in_window ? 1U : 0U;
    held_ += entry.held ? 1U : 0U;
  }
  const auto too_many = [](std::size_t dead, std::size_t of) {
    return dead >= kMinDeaths && dead * 3 > of;
  };
  here += recent;
  if (too_many(recent, here)) {
    for (auto& [id, entry] : members_) {
      if (entry.died && now - *entry.died < kWindow) entry.held = true;
    }
  } else if (recent == 0 && held_ > 0 && !too_many(held_, here + held_)) {
    for (auto& [id, entry] : members_) entry.held = false;
  }
  held_ = static_cast<std::size_t>(std::count_if(
      members_.begin(), members_.end(), [](const auto& known) { return known.second.held; }));
  unsettled_ = recent > 0 && held_ > 0;
  collect();
}

void Liveness::forget(TimePoint now) {
  next_forget_.reset();
  for (auto it = members_.begin(); it != members_.end();) {
    const Known& entry = it->second;
    const TimePoint due = entry.told + kForget;
    if (entry.member.status != MemberStatus::alive && due <= now) {
      it = members_.erase(it);
      continue;
    }
    if (entry.member.status != MemberStatus::alive && (!next_forget_ || due < *next_forget_)) {
      next_forget_ = due;
    }
    ++it;
  }
}

const Member* Liveness::find(const NodeId& id) const {
  const auto known = members_.find(id);
  return known == members_.end() ? nullptr : &known->second.member;
}

void Liveness::collect() {
  down_ = {};
  for (const auto& [id, entry] : members_) {
    if (!entry.died || entry.held) continue;
    if (!entry.member.agent.empty()) down_.agents.insert(entry.member.agent);
    for (const Endpoint& at : entry.member.endpoints) down_.addresses.insert(at.address);
  }
  if (down_.empty()) return;
  // A host that came back with a new identity is one that lives.
  for (const auto& [id, entry] : members_) {
    if (entry.died) continue;
    down_.agents.erase(entry.member.agent);
    for (const Endpoint& at : entry.member.endpoints) down_.addresses.erase(at.address);
  }
}

std::optional<TimePoint> Liveness::next_deadline() const {
  if (!unsettled_) return next_forget_;
  std::optional<TimePoint> last;
  for (const auto& [id, entry] : members_) {
    if (!entry.died || judged_ - *entry.died >= kWindow) continue;
    const TimePoint over = *entry.died + kWindow;
    if (!last || over > *last) last = over;
  }
  return last && next_forget_ ? std::min(last, next_forget_) : last;
}

}  // namespace muster::cluster
