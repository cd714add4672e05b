#include "gossip/core/monitor.hpp"

#include <algorithm>

namespace muster::gossip {
namespace {

constexpr int kLongestGap = 5;  // heartbeat periods that are taken for loss
constexpr unsigned kProbes = 3;
constexpr unsigned kRelayedProbes = 2;

}  // namespace

Monitor::Monitor(const MemberTable& table, NodeUid self, const Timing& timing, Rng rng,
                 TimePoint now)
    : table_{table}, self_{self}, timing_{timing}, rng_{rng} {
  // A phase of its own: a cluster started at once does not beat at once.
  next_heartbeat_ =
      now + Duration{rng_.below(static_cast<std::uint64_t>(timing.heartbeat.count()))};
  next_echo_ = now + Duration{1'000};
}

void Monitor::on_subscribe(const NodeUid& from, const Endpoint& at, const Subscribe& subscribe,
                           std::uint32_t root, TimePoint now, Outbox& out) {
  if (subscribe.target != self_) return;
  const auto known = subscribers_.find(from);
  if (known == subscribers_.end() && subscribers_.size() >= kMaxSubscribers) return;
  const bool first = known == subscribers_.end();
  subscribers_.insert_or_assign(from, Subscriber{at, now + timing_.lease});
  if (first) out.send(at, Heartbeat{root});
}

void Monitor::on_probe(const Endpoint& at, const Probe& probe, Outbox& out) const {
  // Asked for somebody else: an address that had another owner. Silence says so.
  if (probe.target == self_) out.send(at, ProbeAck{probe.nonce, self_});
}

void Monitor::on_probe_ack(const NodeUid& from, const ProbeAck& ack, TimePoint now, Outbox& out) {
  if (const auto relay = relays_.find(ack.nonce);
      relay != relays_.end() && relay->second.target == from && ack.target == from) {
    out.send(relay->second.asker, ProbeAck{relay->second.nonce, from});
    relays_.erase(relay);
  }
  if (from == echo_from_ && ack.nonce == echo_nonce_) {
    echo_took_ = now - echo_sent_;
    echo_from_ = {};
  }
  if (ack.target == from) return;  // on_life has seen it
  const auto subject = subjects_.find(ack.target);
  if (subject != subjects_.end() && subject->second.nonce == ack.nonce &&
      subject->second.phase != Phase::listening) {
    alive_again(ack.target, subject->second, now);
  }
}

void Monitor::on_probe_request(const Endpoint& at, const ProbeRequest& request, TimePoint now,
                               Outbox& out) {
  std::erase_if(relays_, [&](const auto& relay) { return relay.second.until <= now; });
  if (relays_.size() >= kMaxRelays) return;
  const auto nonce = static_cast<std::uint32_t>(rng_.next());
  relays_.insert_or_assign(nonce, Relay{at, request.nonce, request.target, now + timing_.verify});
  out.send(request.endpoint, Probe{nonce, request.target});
}

void Monitor::on_host_probe(const NodeUid& uid) {
  const auto subject = subjects_.find(uid);
  if (subject == subjects_.end() || subject->second.phase == Phase::listening) return;
  subject->second.host_answers = true;
}

void Monitor::on_heartbeat(const NodeUid& from, TimePoint now) {
  const auto subject = subjects_.find(from);
  if (subject == subjects_.end()) return;
  // Of a longer gap only what a live sender loses: it may have been away.
  const TimePoint last = std::exchange(subject->second.beat, now);
  const auto periods = (now - last + timing_.heartbeat / 2) / timing_.heartbeat;
  if (now >= quiet_until_ && periods >= 1 && periods <= kLongestGap) {
    ++beats_;
    beats_due_ += static_cast<std::uint64_t>(periods);
    if (beats_due_ >= kBeatsRemembered) {
      beats_ /= 2;
      beats_due_ /= 2;
    }
  }
  if (subject->second.subscribed) return;
  subject->second.subscribed = true;
  subject->second.next_subscribe = now + timing_.renew;
}

void Monitor::on_life(const NodeUid& uid, TimePoint now) {
  const auto subject = subjects_.find(uid);
  if (subject != subjects_.end()) alive_again(uid, subject->second, now);
}

void Monitor::alive_again(const NodeUid& uid, Subject& subject, TimePoint now) {
  subject.heard = now;
  if (subject.phase == Phase::listening) return;
  subject.phase = Phase::listening;
  subject.alerts = 0;
  subject.host_answers = false;
  silent_since_.erase(uid);
  // Alive but not beating: it may have lost the subscription.
  subject.next_subscribe = now;
}

void Monitor::on_changed(const NodeUid& uid, TimePoint now) {
  const auto subject = subjects_.find(uid);
  if (subject == subjects_.end()) return;
  subject->second.subscribed = false;
  subject->second.next_subscribe = now;
}

void Monitor::on_alert(const Alert& alert, TimePoint now) {
  if (alert.monitor == self_) return;
  const auto subject = subjects_.find(alert.subject);
  if (subject == subjects_.end() || subject->second.phase != Phase::silent) return;
  const TimePoint last = subject->second.next_alert;
  subject->second.next_alert = std::min(last, now + timing_.realert);
}

void Monitor::forgive(TimePoint now) {
  for (auto& [uid, subject] : subjects_) {
    subject.phase = Phase::listening;
    subject.heard = std::max(subject.heard, now);
    subject.alerts = 0;
    subject.host_answers = false;
  }
  silent_since_.clear();
  majority_silent_ = false;
  quiet_until_ = now + timing_.quiet;
}

void Monitor::choose_subjects(TimePoint now, Outbox& out) {
  if (ring_version_ == table_.ring_version()) return;
  ring_version_ = table_.ring_version();
  const auto wanted = table_.subjects(self_);
  for (auto it = subjects_.begin(); it != subjects_.end();) {
    if (std::binary_search(wanted.begin(), wanted.end(), it->first)) {
      ++it;
      continue;
    }
    if (const auto* entry = table_.find(it->first); entry != nullptr && entry->alive()) {
      out.send(entry->endpoint(), Unsubscribe{});
    }
    silent_since_.erase(it->first);
    it = subjects_.erase(it);
  }
  for (const NodeUid& uid : wanted) {
    const auto [it, fresh] = subjects_.try_emplace(uid);
    if (!fresh) continue;
    it->second.heard = now;
    it->second.next_subscribe = now;
  }
  neighbours_ = table_.monitors(self_);
  neighbours_.insert(neighbours_.end(), wanted.begin(), wanted.end());
  std::sort(neighbours_.begin(), neighbours_.end());
  neighbours_.erase(std::unique(neighbours_.begin(), neighbours_.end()), neighbours_.end());
}

void Monitor::beat(std::uint32_t root, TimePoint now, Outbox& out) {
  if (now < next_heartbeat_) return;
  const auto payload = encode(Heartbeat{root});
  for (auto it = subscribers_.begin(); it != subscribers_.end();) {
    if (it->second.until <= now) {
      it = subscribers_.erase(it);
      continue;
    }
    out.messages.push_back({it->second.at, payload});
    ++it;
  }
  next_heartbeat_ += timing_.heartbeat;
  if (next_heartbeat_ <= now) next_heartbeat_ = now + timing_.heartbeat;
}

void Monitor::verify(const NodeUid& uid, Subject& subject, TimePoint now, Outbox& out) {
  const auto* entry = table_.find(uid);
  if (entry == nullptr) return;
  if (subject.phase == Phase::listening) {
    subject.phase = Phase::verifying;
    subject.verify_since = now;
    subject.probes = 0;
    subject.nonce = static_cast<std::uint32_t>(rng_.next());
    subject.host_answers = false;
    ++bursts_;
    if (entry->profile->agent_endpoint) {
      out.host_probes.push_back({uid, *entry->profile->agent_endpoint});
    }
  }
  while (subject.probes < kProbes &&
         now >= subject.verify_since + subject.probes * timing_.probe_gap) {
    out.send(entry->endpoint(), Probe{subject.nonce, uid});
    if (subject.probes < kRelayedProbes && !neighbours_.empty()) {
      const NodeUid& relay = neighbours_[rng_.below(neighbours_.size())];
      const auto* through = table_.find(relay);
      if (relay != uid && through != nullptr && !silent(relay)) {
        out.send(through->endpoint(), ProbeRequest{subject.nonce, uid, entry->endpoint()});
      }
    }
    ++subject.probes;
  }
}

void Monitor::raise(const NodeUid& uid, Subject& subject, TimePoint now,
                    std::vector<Alert>& alerts) {
  const auto* entry = table_.find(uid);
  if (entry == nullptr || !entry->alive() || holding_back(now)) return;
  alert_number_ = std::max<std::uint64_t>(
      alert_number_ + 1, static_cast<std::uint64_t>(now.time_since_epoch().count()));
  alerts.push_back({uid, entry->epoch, entry->seq, self_, alert_number_, subject.host_answers});
  // Three at the pace of the votes; then it is one of a few who cannot hear it, and repeats only
  // cost. An alert of somebody else brings the pace back.
  const unsigned back_off = subject.alerts < 3 ? 0 : std::min(subject.alerts - 2, 5U);
  // Where all monitor all, a quorum is everybody and there is hardly anyone to pass an alert on:
  // at 30 % loss every tenth would be missed by both of two others.
  const bool few = table_.alive() <= kFullMesh && subject.alerts < 3;
  subject.next_alert = now + (few ? timing_.realert / 6 : timing_.realert * (1 << back_off));
  ++subject.alerts;
}

void Monitor::step(const NodeUid& uid, Subject& subject, TimePoint now, Outbox& out,
                   std::vector<Alert>& alerts) {
  if (now >= subject.next_subscribe) {
    if (const auto* entry = table_.find(uid)) out.send(entry->endpoint(), Subscribe{uid});
    const Duration jitter{rng_.below(1000)};
    subject.next_subscribe =
        now + (subject.subscribed ? timing_.renew + jitter : timing_.resubscribe);
    // Silent for long: one a second still brings it back.
    if (subject.phase == Phase::silent) subject.next_subscribe = now + Duration{1000};
  }
  switch (subject.phase) {
    case Phase::listening:
      if (now - subject.heard < timing_.silence || now < quiet_until_) break;
      verify(uid, subject, now, out);
      break;
    case Phase::verifying:
      verify(uid, subject, now, out);
      if (now - subject.verify_since < timing_.verify) break;
      subject.phase = Phase::silent;
      subject.next_alert = now;
      silent_since_.emplace(uid, now);
      break;
    case Phase::silent:
      break;
  }
  if (subject.phase == Phase::silent && now >= subject.next_alert) {
    subject.next_alert = now + timing_.realert;
    raise(uid, subject, now, alerts);
  }
}

void Monitor::measure(TimePoint now, Outbox& out) {
  if (now < next_echo_) return;
  const auto period = static_cast<std::uint64_t>(timing_.echo.count());
  next_echo_ = now + timing_.echo + Duration{rng_.below(period / 4 + 1)};
  if (subjects_.empty()) return;
  const auto at = static_cast<std::ptrdiff_t>(rng_.below(subjects_.size()));
  const auto& [uid, subject] = *std::next(subjects_.begin(), at);
  const auto* entry = table_.find(uid);
  if (subject.phase != Phase::listening || entry == nullptr) return;
  // A number of its own: the three probes of a burst share one, and say nothing about time.
  echo_from_ = uid;
  echo_nonce_ = static_cast<std::uint32_t>(rng_.next());
  echo_sent_ = now;
  out.send(entry->endpoint(), Probe{echo_nonce_, uid});
}

bool Monitor::holding_back(TimePoint now) const {
  return now < quiet_until_ || (majority_silent_ && now - majority_silent_since_ < timing_.quiet);
}

bool Monitor::isolated(TimePoint now) const {
  return subjects_.size() > 1 && silent_since_.size() == subjects_.size() &&
         std::all_of(silent_since_.begin(), silent_since_.end(),
                     [&](const auto& s) { return now - s.second >= timing_.quiet; });
}

void Monitor::on_timer(std::uint32_t root, TimePoint now, Outbox& out, std::vector<Alert>& alerts) {
  choose_subjects(now, out);
  beat(root, now, out);
  measure(now, out);
  for (auto& [uid, subject] : subjects_) {
    if (now >= due(subject)) step(uid, subject, now, out, alerts);
  }
  // More than half of several silent at once: rather I am the sick one. Wait once and see. Of
  // fewer than five, one death and one unlucky second would look so.
  const bool majority = subjects_.size() > 4 && silent_since_.size() * 2 > subjects_.size();
  if (majority && !majority_silent_) {
    majority_silent_since_ = now;
    std::erase_if(alerts, [&](const Alert& alert) { return alert.monitor == self_; });
    for (auto& [uid, subject] : subjects_) {
      if (subject.phase == Phase::silent) subject.next_alert = now + timing_.quiet;
    }
  }
  majority_silent_ = majority;
}

TimePoint Monitor::due(const Subject& subject) const {
  TimePoint at = subject.next_subscribe;
  switch (subject.phase) {
    case Phase::listening:
      return std::min(at, std::max(subject.heard + timing_.silence, quiet_until_));
    case Phase::verifying:
      at = std::min(at, subject.verify_since + timing_.verify);
      if (subject.probes < kProbes) {
        at = std::min(at, subject.verify_since + subject.probes * timing_.probe_gap);
      }
      return at;
    case Phase::silent:
      return std::min(at, subject.next_alert);
  }
  return at;
}

TimePoint Monitor::next_deadline() const {
  TimePoint at = std::min(next_heartbeat_, next_echo_);
  for (const auto& [uid, subject] : subjects_) at = std::min(at, due(subject));
  return at;
}

bool Monitor::silent(const NodeUid& uid) const {
  const auto subject = subjects_.find(uid);
  return subject != subjects_.end() && subject->second.phase != Phase::listening;
}

const std::map<NodeUid, Endpoint> Monitor::subscribers_at() const {
  std::map<NodeUid, Endpoint> at;
  for (const auto& [uid, subscriber] : subscribers_) at.emplace(uid, subscriber.at);
  return at;
}

}  // namespace muster::gossip
