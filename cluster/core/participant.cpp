#include "cluster/core/participant.hpp"

#include <utility>

namespace muster::cluster {

Participant::Participant(Cluster& cluster, NodeId self, std::string observer, bool alone,
                         std::map<std::string, std::string> metadata, TimePoint now)
    : cluster_{cluster},
      election_{std::move(self), observer != "no", alone, now},
      said_{std::move(metadata)} {
  said_[std::string{kObserverKey}] = std::move(observer);
}

Steps Participant::decide(std::span<const Member> members, bool reach, TimePoint now) {
  Steps steps;
  take_role(election_.decide(members, reach, now), now, steps);
  announce(reach, now, steps);
  return steps;
}

Steps Participant::superseded(std::span<const Member> members, bool reach, TimePoint now) {
  if (role_ != Role::publisher) return {};
  election_.superseded();
  return decide(members, reach, now);
}

void Participant::take_role(Role role, TimePoint now, Steps& steps) {
  if (role == role_) return;
  role_ = role;
  role_since_ = now;
  steps.observe = role != Role::follower;
  // A stream that ran for a standby has told its snapshot to nobody.
  steps.observe_anew = role == Role::publisher;
  if (role == Role::publisher || !cluster_.leading()) return;
  steps.stop_publishing = true;
  steps.former = cluster_.follow();
  steps.read_replica = true;
}

void Participant::announce(bool reach, TimePoint now, Steps& steps) {
  auto say = said_;
  say[std::string{kRoleKey}] = to_string(role_);
  const bool lacking = role_ != Role::follower && !reach && now - role_since_ > kStreamGrace;
  say[std::string{kReachKey}] = lacking ? "no" : "yes";
  if (say == said_) return;
  said_ = say;
  steps.metadata = std::move(say);
}

bool Participant::admit(const Observation& observation, Steps& steps) {
  if (role_ != Role::publisher) return false;
  if (cluster_.leading()) return true;
  if (!observation.snapshot) return false;
  steps.begin_publishing = true;
  cluster_.lead();
  return true;
}

}  // namespace muster::cluster
