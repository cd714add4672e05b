#include <algorithm>
#include <utility>

#include "gossip/core/gossip.hpp"

// What is believed of others, and of oneself.
namespace muster::gossip {
namespace {

constexpr Duration kJudgementGap{20};
constexpr Duration kFlapMemory{60'000};
constexpr Duration kTellGap{250};
constexpr Duration kCloneMemory{60'000};
constexpr Duration kYoung{60'000};
// How often a process meets its own id in another's mouth before it yields.
constexpr unsigned kTwin = 2;  // once may be an old record of an earlier life
constexpr unsigned kYoungSmallerYields = 3;
constexpr unsigned kYoungYields = 6;
constexpr unsigned kSmallerYields = 9;

}  // namespace

void Gossip::learn(const MemberHead& head, const ProfilePtr& profile, const NodeUid& from,
                   TimePoint now, Effects& fx) {
  if (head.uid == options_.self) return about_self(head, profile, now, fx);
  const auto* known = table_.find(head.uid);
  if (known != nullptr && !newer(head, known->head())) return;
  const bool death =
      head.status == MemberStatus::host_down || head.status == MemberStatus::daemon_down;
  const bool alive_here = known != nullptr && known->alive();
  if (death && alive_here) {
    // Another's verdict stands if we have heard a third of the accusers it took; else we ask the
    // accused. At the heal of a partition each side brings old verdicts about all of the other.
    const std::size_t votes = jury_.votes(head.uid, now);
    const bool supported =
        now >= quiet_until_ && votes > 0 && votes * 3 >= jury_.required(head.uid, now);
    if (!supported || (monitor_.is_subject(head.uid) && !monitor_.silent(head.uid))) {
      return inquire(head, now);
    }
  }
  take(head, profile, from, now, fx);
}

void Gossip::take(const MemberHead& head, const ProfilePtr& profile, const NodeUid& from,
                  TimePoint now, Effects& fx) {
  const auto* known = table_.find(head.uid);
  std::optional<MemberHead> before;
  if (known != nullptr) before = known->head();
  if (table_.apply(head, profile, now) != MemberTable::Applied::changed) return;
  jury_.acquit(head.uid);
  inquiries_.erase(head.uid);
  if (!before || before->epoch != head.epoch || before->status != head.status) {
    monitor_.on_changed(head.uid, now);
  }
  const auto* entry = table_.find(head.uid);
  fx.members.push_back({before, {entry->head(), entry->profile}});
  if (profile) {
    news_.add(MemberRecord{head, profile}, from);
  } else {
    news_.add(head, from);
  }
  judge_all_ = judge_all_ || jury_.accused() > 0;
}

void Gossip::about_self(const MemberHead& head, const ProfilePtr& profile, TimePoint now,
                        Effects& fx) {
  const MemberHead me = self();
  const bool foreign = profile && profile->instance != link_.session();
  if (foreign && head.status == MemberStatus::alive && head.epoch >= me.epoch &&
      is_clone(*profile, now)) {
    return;
  }
  // An earlier life with a better clock, or its disk lost; or a clone, which will do the same.
  const bool twin = foreign && head.epoch == me.epoch && head.status == MemberStatus::alive;
  if (twin || head.epoch > me.epoch) {
    return announce_self(head.epoch + 1, 0, MemberStatus::alive, now, fx);
  }
  if (newer(head, me)) refute(head.seq + 1, now, fx);
}

bool Gossip::is_clone(const Profile& other, TimePoint now) {
  if (now - last_clone_ > kCloneMemory) clones_seen_ = 0;
  last_clone_ = now;
  // An old record of ourselves is answered once. If that goes on, both are alive and one has to
  // yield: the newcomer, which nobody relies on yet. Neither knows how old the other is, so they
  // count, both about equally fast; of two equally old ones the smaller instance yields.
  ++clones_seen_;
  if (clones_seen_ < kTwin) return false;
  ++stats_.duplicate_ids;
  twin_ = other.endpoints.front();
  const bool young = now - born_ < kYoung;
  const bool smaller = link_.session() < other.instance;
  bool yields = false;
  if (clones_seen_ >= kSmallerYields) {
    yields = smaller;
  } else if (clones_seen_ >= kYoungYields) {
    yields = young;
  } else if (clones_seen_ >= kYoungSmallerYields) {
    yields = young && smaller;
  }
  if (!yields) return false;
  conflicted_ = true;
  left_ = true;
  return true;
}

void Gossip::refute(std::uint32_t seq, TimePoint now, Effects& fx) {
  refute_seq_ = std::max({refute_seq_, seq, self().seq + 1});
  if (refute_at_) return;
  if (now - last_flap_ > kFlapMemory) flaps_ = 0;
  ++stats_.refutations;
  last_flap_ = now;
  if (++flaps_ == 1) return announce_self(self().epoch, refute_seq_, MemberStatus::alive, now, fx);
  // Found dead again and again: this node stalls. Each return costs the cluster a broadcast and a
  // new hearing, so it returns only after running a while without a pause; enter() starts anew.
  refute_at_ = now + Duration{500} * (1U << std::min(flaps_, 7U));
}

void Gossip::announce_self(std::uint32_t epoch, std::uint32_t seq, MemberStatus status,
                           TimePoint now, Effects& fx) {
  if (epoch != self().epoch) fx.epoch = epoch;
  refute_seq_ = 0;
  const auto profile = std::make_shared<const Profile>(options_.profile);
  table_.apply({options_.self, epoch, seq, status}, profile, now);
  news_.add(MemberRecord{self(), profile}, options_.self);
}

void Gossip::inquire(const MemberHead& verdict, TimePoint now) {
  if (now < quiet_until_ || inquiries_.contains(verdict.uid)) return;
  if (inquiries_.size() >= kMaxInquiries) return;  // the next digest asks again
  const auto* entry = table_.find(verdict.uid);
  ++stats_.hearsay;
  const auto nonce = static_cast<std::uint32_t>(rng_.next());
  inquiries_.emplace(verdict.uid, Inquiry{verdict, nonce, now + options_.timing.inquiry, false});
  // The probe, and what it is accused of: if it lives, it will refute.
  out_.send(entry->endpoint(), Probe{nonce, verdict.uid});
  out_.send(entry->endpoint(), Items{{Item{verdict}}});
}

void Gossip::settle_inquiries(TimePoint now, Effects& fx) {
  std::vector<MemberHead> condemned;
  for (auto& [uid, inquiry] : inquiries_) {
    if (now < inquiry.until) continue;
    const auto* entry = table_.find(uid);
    if (entry == nullptr || !newer(inquiry.verdict, entry->head())) {
      inquiry.verdict.uid = options_.self;  // outdated
    } else if (!inquiry.probed_twice) {
      inquiry.probed_twice = true;
      inquiry.until = now + options_.timing.inquiry;
      out_.send(entry->endpoint(), Probe{inquiry.nonce, uid});
      continue;
    } else {
      condemned.push_back(inquiry.verdict);
    }
  }
  std::erase_if(inquiries_, [&](const auto& i) { return now >= i.second.until; });
  for (const MemberHead& verdict : condemned) take(verdict, nullptr, options_.self, now, fx);
}

void Gossip::on_alert(const Alert& alert, const NodeUid& from, TimePoint now, Effects& fx) {
  if (now < quiet_until_) return;
  const auto* entry = table_.find(alert.subject);
  if (entry == nullptr) return;
  // Spoken of as it was before: the speaker has missed something. Anti-entropy tells it.
  if (!jury_.accept(alert, now)) return;
  ++stats_.alerts_heard;
  news_.add(alert, from);
  monitor_.on_alert(alert, now);
  if (alert.subject == options_.self) {
    // Two are more than bad luck: answer before it is a verdict, which voids all of them.
    if (jury_.votes(options_.self, now) >= 2 && jury_.required(options_.self, now) > 2 &&
        now - last_flap_ > options_.timing.alert_valid) {
      ++stats_.refutations;
      last_flap_ = now;
      jury_.acquit(options_.self);
      announce_self(self().epoch, self().seq + 1, MemberStatus::alive, now, fx);
    }
    return;
  }
  judge(&alert.subject, now, fx);
  if (!judge_all_) {
    judge_all_ = true;  // it may be a monitor of others whose vote no longer counts
    next_judgement_ = now + kJudgementGap;
  }
}

void Gossip::raise_alerts(const std::vector<Alert>& alerts, TimePoint now, Effects& fx) {
  if (now < quiet_until_) return;
  for (const Alert& alert : alerts) {
    ++stats_.alerts_raised;
    if (!jury_.accept(alert, now)) continue;
    news_.add(alert, options_.self);
    judge(&alert.subject, now, fx);
  }
}

void Gossip::judge(const NodeUid* subject, TimePoint now, Effects& fx) {
  if (now < quiet_until_) return;
  std::vector<MemberHead> verdicts;
  if (subject != nullptr) {
    MemberHead verdict;
    if (*subject != options_.self && jury_.convicted(*subject, now, verdict)) {
      verdicts.push_back(verdict);
    }
  } else {
    judge_all_ = false;
    next_judgement_ = now + kJudgementGap;
    verdicts = jury_.verdicts(now);
  }
  for (const MemberHead& verdict : verdicts) {
    // Whom we hear ourselves is not dead, whatever the count.
    if (monitor_.is_subject(verdict.uid) && !monitor_.silent(verdict.uid)) continue;
    ++stats_.verdicts;
    take(verdict, nullptr, options_.self, now, fx);
  }
}

void Gossip::answer_outsider(const NodeUid& uid, const Endpoint& at, TimePoint now) {
  const auto* entry = table_.find(uid);
  if (entry != nullptr && entry->alive()) return;
  if (entry == nullptr && table_.entries().size() >= kMaxMembers) return;
  auto& told = told_[uid];
  if (told != TimePoint{} && now - told < kTellGap) return;
  told = now;
  if (entry != nullptr) {
    // It is believed dead and does not know, or its answer got lost: nobody else will tell it.
    out_.send(at, Items{{Item{entry->head()}}});
  } else {
    // It knows us, and what it said of itself got lost: it says that again to who joins.
    out_.send(at, Join{{self(), table_.find(options_.self)->profile}});
  }
}

}  // namespace muster::gossip
