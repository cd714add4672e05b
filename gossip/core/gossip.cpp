#include "gossip/core/gossip.hpp"

#include <algorithm>
#include <utility>

namespace muster::gossip {
namespace {

constexpr Duration kSweep{1'000};

}  // namespace

Gossip::Gossip(GossipOptions options, Sealer& sealer, Rng rng, TimePoint now)
    : options_{std::move(options)},
      rng_{rng.next()},
      jury_{table_, options_.self, options_.timing},
      monitor_{table_, options_.self, options_.timing, Rng{rng.next()}, now},
      news_{Rng{rng.next()}},
      link_{{options_.self, options_.cluster}, sealer},
      born_{now} {
  options_.profile.instance = link_.session();
  table_.apply({options_.self, options_.epoch, 0, MemberStatus::alive},
               std::make_shared<const Profile>(options_.profile), now);
  shuffle_seeds();
  next_knock_ = now;
  agreed_at_ = now;
  digest_gap_ = options_.timing.first_repair;
  next_sweep_ = now + kSweep;
  // The seeds are asked again from time to time, or two islands that share them never meet.
  next_seed_knock_ = now + Duration{5'000 + rng_.below(5'000)};
}

MemberHead Gossip::self() const {
  return table_.find(options_.self)->head();
}

std::uint32_t Gossip::root() const noexcept {
  return static_cast<std::uint32_t>(mix(table_.root(), shards_.root()));
}

void Gossip::enter(TimePoint now) {
  if (left_ || now - monitor_.next_heartbeat() <= options_.timing.late) return;
  // The timer that should have run long ago: this process was away, and what lies in its sockets
  // is old. Nobody is judged by it.
  if (now < quiet_until_) return;
  ++stats_.late;
  quiet_until_ = now + options_.timing.quiet;
  monitor_.forgive(now);
  jury_.forget_votes();
  inquiries_.clear();
  if (refute_at_) refute_at_ = now + Duration{500} * (1U << std::min(flaps_, 7U));
}

void Gossip::on_datagram(const Endpoint& from, std::span<const std::byte> bytes, TimePoint now,
                         Effects& fx) {
  enter(now);
  auto received = link_.receive(from, bytes, now, fx.datagrams);
  if (!received || received->from == options_.self || left_) return;
  monitor_.on_life(received->from, now);
  inquiries_.erase(received->from);
  if (!received->payload.empty()) {
    auto message = decode(received->payload);
    if (message) {
      dispatch(received->from, from, std::move(*message), now, fx);
    } else if (message.error() == DecodeError::unknown_kind) {
      ++stats_.unknown_kind;
    } else {
      ++stats_.malformed;
    }
    if (const auto echo = monitor_.take_echo()) fx.echoes.push_back(*echo);
  }
  answer_outsider(received->from, from, now);
  finish(now, fx);
}

void Gossip::dispatch(const NodeUid& from, const Endpoint& at, Message&& message, TimePoint now,
                      Effects& fx) {
  struct Visitor {
    Gossip& g;
    const NodeUid& from;
    const Endpoint& at;
    TimePoint now;
    Effects& fx;
    void operator()(const Heartbeat& m) const { g.on_heartbeat(from, at, m, now, fx); }
    void operator()(const Subscribe& m) const {
      g.monitor_.on_subscribe(from, at, m, g.root(), now, g.out_);
    }
    void operator()(const Unsubscribe&) const { g.monitor_.on_unsubscribe(from); }
    void operator()(const Probe& m) const { g.monitor_.on_probe(at, m, g.out_); }
    void operator()(const ProbeAck& m) const { g.monitor_.on_probe_ack(from, m, now, g.out_); }
    void operator()(const ProbeRequest& m) const {
      g.monitor_.on_probe_request(at, m, now, g.out_);
    }
    void operator()(Items& m) const { g.on_items(from, at, std::move(m), now, fx); }
    void operator()(const Digest& m) const { g.on_digest(at, m, now); }
    void operator()(const Entries& m) const { g.on_entries(from, at, m, now, fx); }
    void operator()(const Want& m) const { g.on_want(at, m); }
    void operator()(const Join& m) const { g.on_join(from, at, m, now, fx); }
  };
  std::visit(Visitor{*this, from, at, now, fx}, message);
}

void Gossip::on_items(const NodeUid& from, const Endpoint& at, Items&& items, TimePoint now,
                      Effects& fx) {
  for (Item& item : items.items) on_item(from, at, std::move(item), now, fx);
}

void Gossip::on_item(const NodeUid& from, const Endpoint& at, Item&& item, TimePoint now,
                     Effects& fx) {
  if (const auto* record = std::get_if<MemberRecord>(&item)) {
    learn(record->head, record->profile, from, now, fx);
  } else if (const auto* head = std::get_if<MemberHead>(&item)) {
    learn(*head, nullptr, from, now, fx);
  } else if (const auto* alert = std::get_if<Alert>(&item)) {
    on_alert(*alert, from, now, fx);
  } else if (auto* delta = std::get_if<ShardDelta>(&item)) {
    on_delta(from, at, std::move(*delta), now);
  } else if (const auto* announce = std::get_if<ShardAnnounce>(&item)) {
    on_announce(at, *announce, now);
  }
}

void Gossip::on_timer(TimePoint now, Effects& fx) {
  enter(now);
  if (left_) {
    next_sweep_ = now + kSweep;
    return finish(now, fx);
  }
  std::vector<Alert> alerts;
  monitor_.on_timer(root(), now, out_, alerts);
  raise_alerts(alerts, now, fx);
  if (judge_all_ && now >= next_judgement_) judge(nullptr, now, fx);
  settle_inquiries(now, fx);
  if (refute_at_ && now >= *refute_at_) {
    refute_at_.reset();
    announce_self(self().epoch, refute_seq_, MemberStatus::alive, now, fx);
  }
  if (now >= next_knock_) knock(now);
  if (now >= next_sweep_) {
    next_sweep_ = now + kSweep;
    jury_.long_silent = monitor_.silent_since();
    jury_.expire(now);
    judge_all_ = jury_.accused() > 0;
    const auto forgotten = table_.forget(now - options_.timing.forget);
    fx.forgotten.insert(fx.forgotten.end(), forgotten.begin(), forgotten.end());
    shards_.sweep(now, now - options_.timing.forget_empty);
    std::erase_if(told_, [&](const auto& t) { return now - t.second > Duration{2'000}; });
    expire_streams(now, fx);
  }
  if (shards_.restamping() && now >= next_restamp_) restamp(now);
  start_sync(now, fx);
  finish(now, fx);
}

void Gossip::beat(TimePoint now, Effects& fx) {
  enter(now);
  if (left_) return;
  monitor_.beat(root(), now, out_);
  finish(now, fx);
}

void Gossip::finish(TimePoint now, Effects& fx) {
  news_.flush(table_, monitor_, options_.timing.spread_gap, now, out_);
  for (const Outgoing& outgoing : out_.messages) {
    link_.send(outgoing.to, outgoing.payload, now, fx.datagrams);
  }
  out_.messages.clear();
  fx.host_probes.insert(fx.host_probes.end(), out_.host_probes.begin(), out_.host_probes.end());
  out_.host_probes.clear();
  link_.on_timer(now, fx.datagrams);
  auto changes = shards_.take_changes();
  fx.records.insert(fx.records.end(), std::make_move_iterator(changes.begin()),
                    std::make_move_iterator(changes.end()));
  if (shards_.take_superseded()) fx.superseded = true;
  for (std::string& lost : shards_.take_lost()) fx.lost_shards.push_back(std::move(lost));
}

TimePoint Gossip::next_deadline() const {
  if (left_) return next_sweep_;  // nothing else is done any more, nor ever due
  TimePoint at = std::min({monitor_.next_deadline(), next_knock_, next_sweep_});
  if (judge_all_) at = std::min(at, std::max(next_judgement_, quiet_until_));  // see judge()
  if (refute_at_) at = std::min(at, *refute_at_);
  if (shards_.restamping()) at = std::min(at, next_restamp_);
  for (const auto& [uid, inquiry] : inquiries_) at = std::min(at, inquiry.until);
  if (!client_ && (want_all_ || !wanted_.empty())) at = std::min(at, next_pull_);
  at = std::min(at, news_.next_deadline(options_.timing.spread_gap).value_or(at));
  return std::min(at, link_.next_deadline().value_or(at));
}

void Gossip::on_host_probe(const NodeUid& uid, TimePoint now) {
  enter(now);
  monitor_.on_host_probe(uid);
}

void Gossip::leave(TimePoint now, Effects& fx) {
  const MemberHead me = self();
  announce_self(me.epoch, me.seq + 1, MemberStatus::left, now, fx);
  // To all who would otherwise find it silent, and a few more.
  for (const auto& [uid, at] : monitor_.subscribers_at()) {
    out_.send(at, Items{{Item{self()}}});
  }
  finish(now, fx);
  left_ = true;
}

void Gossip::set_profile(Profile profile, TimePoint now, Effects& fx) {
  profile.instance = link_.session();
  options_.profile = std::move(profile);
  const MemberHead me = self();
  announce_self(me.epoch, me.seq + 1, MemberStatus::alive, now, fx);
  finish(now, fx);
}

void Gossip::preload(std::span<const MemberRecord> records, TimePoint now) {
  table_.reserve(records.size() + 1);
  for (const MemberRecord& record : records) {
    if (record.head.uid != options_.self) table_.apply(record.head, record.profile, now);
  }
}

}  // namespace muster::gossip
