#include "gossip/core/jury.hpp"

#include <algorithm>

namespace muster::gossip {
namespace {

// A vote's number is remembered longer than the vote counts: a late copy must not count again.
constexpr Duration kRememberVote{5'000};

constexpr std::size_t percent_of(std::size_t percent, std::size_t count) noexcept {
  return (count * percent + 99) / 100;
}

}  // namespace

bool Jury::accept(const Alert& alert, TimePoint now) {
  const auto* entry = table_.find(alert.subject);
  if (entry == nullptr || !entry->alive()) return false;
  if (entry->epoch != alert.epoch || entry->seq != alert.seq) return false;
  if (alert.subject == alert.monitor || !table_.is_alive(alert.monitor)) return false;
  auto found = accused_.find(alert.subject);
  if (found == accused_.end()) {
    if (accused_.size() >= kMaxAccused) return false;
    found = accused_.emplace(alert.subject, Case{}).first;
  }
  Case& accusation = found->second;
  if (accusation.epoch != alert.epoch || accusation.seq != alert.seq) {
    accusation.votes.clear();
    accusation.epoch = alert.epoch;
    accusation.seq = alert.seq;
  }
  if (!accusation.votes.contains(alert.monitor) && accusation.votes.size() >= kMaxVotes) {
    return false;
  }
  Vote& vote = accusation.votes[alert.monitor];
  if (alert.number <= vote.number) return false;
  vote = {alert.number, now, alert.host_answers};
  return true;
}

void Jury::acquit(const NodeUid& subject) {
  accused_.erase(subject);
}

const std::vector<NodeUid>& Jury::monitors_of(const NodeUid& subject, Case& accusation) {
  if (accusation.ring_version != table_.ring_version()) {
    // A walk of the whole table, so only where it can matter: one of them is gone, or somebody
    // came. While many die at once neither is so for most cases.
    const bool same = !accusation.monitors.empty() && table_.alive() > kFullMesh &&
                      table_.alive() <= accusation.alive &&
                      std::all_of(accusation.monitors.begin(), accusation.monitors.end(),
                                  [&](const NodeUid& m) { return table_.is_alive(m); });
    if (!same) accusation.monitors = table_.monitors(subject);
    accusation.ring_version = table_.ring_version();
    accusation.alive = table_.alive();
  }
  return accusation.monitors;
}

std::size_t Jury::fresh_votes(const Case& accusation, TimePoint now) const {
  return static_cast<std::size_t>(
      std::count_if(accusation.votes.begin(), accusation.votes.end(),
                    [&](const auto& vote) { return fresh(vote.second, now); }));
}

std::size_t Jury::votes(const NodeUid& subject, TimePoint now) const {
  const auto found = accused_.find(subject);
  return found == accused_.end() ? 0 : fresh_votes(found->second, now);
}

bool Jury::doubted(const NodeUid& monitor, TimePoint now) {
  if (monitor == self_) return false;
  if (const auto silent = long_silent.find(monitor);
      silent != long_silent.end() && now - silent->second >= timing_.old_silence) {
    return true;
  }
  const auto found = accused_.find(monitor);
  if (found == accused_.end()) return false;
  const std::size_t accusers = fresh_votes(found->second, now);
  if (accusers == 0) return false;
  return accusers >= percent_of(40, monitors_of(monitor, found->second).size());
}

std::size_t Jury::believable(const NodeUid& subject, Case& accusation, TimePoint now,
                             std::size_t* votes, bool* host_answers) {
  std::size_t believed = 0;
  for (const NodeUid& monitor : monitors_of(subject, accusation)) {
    if (doubted(monitor, now)) continue;
    ++believed;
    const auto vote = accusation.votes.find(monitor);
    if (vote == accusation.votes.end() || !fresh(vote->second, now)) continue;
    ++*votes;
    *host_answers = *host_answers || vote->second.host_answers;
  }
  return believed;
}

std::size_t Jury::required(const NodeUid& subject, TimePoint now) {
  Case unknown;
  const auto found = accused_.find(subject);
  std::size_t votes = 0;
  bool host_answers = false;
  Case& accusation = found == accused_.end() ? unknown : found->second;
  const std::size_t believed = believable(subject, accusation, now, &votes, &host_answers);
  return percent_of(70, believed);
}

bool Jury::convicted(const NodeUid& subject, TimePoint now, MemberHead& verdict) {
  const auto found = accused_.find(subject);
  if (found == accused_.end()) return false;
  std::size_t votes = 0;
  bool host_answers = false;
  const std::size_t believed = believable(subject, found->second, now, &votes, &host_answers);
  if (believed == 0 || votes < percent_of(70, believed)) return false;
  verdict = {subject, found->second.epoch, found->second.seq,
             host_answers ? MemberStatus::daemon_down : MemberStatus::host_down};
  return true;
}

std::vector<MemberHead> Jury::verdicts(TimePoint now) {
  std::vector<MemberHead> out;
  for (const auto& [subject, accusation] : accused_) {
    MemberHead verdict;
    if (subject != self_ && convicted(subject, now, verdict)) out.push_back(verdict);
  }
  return out;
}

void Jury::expire(TimePoint now) {
  for (auto it = accused_.begin(); it != accused_.end();) {
    std::erase_if(it->second.votes,
                  [&](const auto& vote) { return now - vote.second.given >= kRememberVote; });
    it = it->second.votes.empty() ? accused_.erase(it) : std::next(it);
  }
}

}  // namespace muster::gossip
