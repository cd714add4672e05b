#include "cluster/core/election.hpp"

#include <algorithm>
#include <tuple>
#include <utility>

#include "base/rng.hpp"
#include "cluster/core/records.hpp"

namespace muster::cluster {
namespace {

/// Rendezvous: each node's own draw; the smallest wins. Drawn from the hash, not the hash itself:
/// ids that differ in one digit are to be far apart.
std::uint64_t draw(const NodeId& id) noexcept {
  return Rng{content_hash(std::as_bytes(std::span{id.str()}))}.next();
}

bool says(const Member& member, std::string_view key, std::string_view value) {
  const auto found = member.metadata.find(std::string{key});
  return found != member.metadata.end() && found->second == value;
}

}  // namespace

std::string_view to_string(Role role) noexcept {
  switch (role) {
    case Role::follower:
      return "follower";
    case Role::standby:
      return "standby";
    case Role::publisher:
      return "publisher";
  }
  return "follower";
}

/// The others that take part.
struct Election::Field {
  struct Other {
    const Member* member;
    bool reach;
    bool standby;
  };
  std::vector<Other> others;  // eligible, and no publishers
  std::vector<Other> publishers;
};

Election::Election(NodeId self, bool eligible, bool alone, TimePoint now)
    : self_{std::move(self)}, eligible_{eligible}, listen_until_{alone ? now : now + kListen} {}

void Election::superseded() noexcept {
  role_ = Role::follower;
  superseded_ = true;
}

Role Election::decide(std::span<const Member> members, bool reach, TimePoint now) {
  again_.reset();
  if (std::exchange(superseded_, false)) {
    // The news of who did it may be behind the news that it was done.
    listen_until_ = std::max(listen_until_, now + kPatience);
  }
  Field field;
  for (const Member& member : members) {
    const bool takes_part = member.status == MemberStatus::alive && member.id != self_ &&
                            !says(member, kObserverKey, "no");
    if (!takes_part) continue;
    const Field::Other other{&member, !says(member, kReachKey, "no"),
                             says(member, kRoleKey, to_string(Role::standby))};
    const bool publishes = says(member, kRoleKey, to_string(Role::publisher));
    (publishes ? field.publishers : field.others).push_back(other);
  }
  if (!field.publishers.empty() && field.publishers.front().member->id != publisher_ &&
      role_ != Role::publisher) {
    publisher_ = field.publishers.front().member->id;
    elections_.push_back(now);
  }
  std::erase_if(elections_, [now](TimePoint when) { return now - when >= kPause; });
  if (elections_.size() > kBurst) elections_.erase(elections_.begin(), elections_.end() - kBurst);
  std::erase_if(unreaching_, [&](const auto& known) {
    return std::none_of(field.publishers.begin(), field.publishers.end(),
                        [&](const auto& p) { return p.member->id == known.first && !p.reach; });
  });
  role_ = eligible_ ? want(field, reach, now) : Role::follower;
  return role_;
}

Role Election::want(const Field& field, bool reach, TimePoint now) {
  if (role_ == Role::publisher) {
    // Without a stream it has perhaps not published yet, and then no higher term ends that.
    const bool replaced = !reach && std::any_of(field.publishers.begin(), field.publishers.end(),
                                                [](const auto& p) { return p.reach; });
    return replaced ? Role::follower : role_;
  }
  if (now < listen_until_) {
    at(listen_until_);
    return Role::follower;
  }
  // Who would go first: whoever stands by already, can reach a master, and has the smaller draw.
  const auto order = [](bool standby, bool reaches, const NodeId& id) {
    return std::tuple{!reaches, !standby, draw(id), id};
  };
  const auto me = order(role_ == Role::standby, role_ != Role::standby || reach, self_);
  const bool first = std::none_of(field.others.begin(), field.others.end(), [&](const auto& o) {
    return order(o.standby, o.reach, o.member->id) < me;
  });
  const auto win = [&] {
    elections_.push_back(now);
    publisher_ = self_;
    return Role::publisher;
  };
  if (field.publishers.empty()) {
    if (first && may_elect(now)) return win();
    return first ? Role::standby : role_;
  }
  const bool healthy = std::any_of(field.publishers.begin(), field.publishers.end(),
                                   [](const auto& p) { return p.reach; });
  if (!healthy) {
    TimePoint since = now;
    for (const auto& p : field.publishers) {
      since = std::min(since, unreaching_.try_emplace(p.member->id, now).first->second);
    }
    if (role_ == Role::standby && reach && first) {
      if (now - since >= kPatience && may_elect(now)) return win();
      if (now - since < kPatience) at(since + kPatience);
    }
  }
  // One stands by: of several the one with the smallest draw, and where nobody does, of all. Its
  // stream does not matter here, or the seat would go round for as long as no master answers.
  const bool somebody = std::any_of(field.others.begin(), field.others.end(),
                                    [](const auto& o) { return o.standby; });
  const bool contest = role_ == Role::standby || !somebody;
  const bool smallest = std::none_of(field.others.begin(), field.others.end(), [&](const auto& o) {
    const bool rival = o.standby || role_ != Role::standby;
    return rival && std::tuple{draw(o.member->id), o.member->id} < std::tuple{draw(self_), self_};
  });
  return contest && smallest ? Role::standby : Role::follower;
}

bool Election::may_elect(TimePoint now) {
  if (elections_.size() < kBurst) return true;
  at(elections_.front() + kPause);
  return now >= elections_.front() + kPause;
}

void Election::at(TimePoint when) {
  if (!again_ || when < *again_) again_ = when;
}

}  // namespace muster::cluster
