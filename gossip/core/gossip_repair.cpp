#include <algorithm>
#include <utility>

#include "gossip/core/gossip.hpp"

// First contact, and the repair of whatever eager news has missed.
namespace muster::gossip {
namespace {

constexpr Duration kFirstKnock{200};
constexpr Duration kLastKnock{5'000};
constexpr Duration kSeedKnock{5'000};
constexpr std::size_t kLeastKnocks = 3;
constexpr std::size_t kMostKnocks = 32;
// Long enough for news on their way to have come: two peers that agree against us by then are
// not just earlier.
constexpr Duration kSettled{30};
constexpr std::size_t kEntriesPerDatagram = 44;  // of 25 octets
constexpr std::size_t kMaxEntryDatagrams = 8;
constexpr std::size_t kMaxShardEntries = 64;

}  // namespace

void Gossip::set_seeds(std::vector<Endpoint> seeds, TimePoint now) {
  if (seeds == options_.seeds) return;
  options_.seeds = std::move(seeds);
  shuffle_seeds();
  next_knock_ = now;
  knock_gap_ = kFirstKnock;
}

/// An order of this node's own, begun anew.
void Gossip::shuffle_seeds() {
  seed_order_ = options_.seeds;
  for (std::size_t left = seed_order_.size(); left > 1; --left) {
    std::swap(seed_order_[left - 1], seed_order_[rng_.below(left)]);
  }
  seed_turn_ = 0;
  seeds_untried_ = seed_order_.size();
}

void Gossip::knock_at_seeds(std::size_t count) {
  const Join me{{self(), table_.find(options_.self)->profile}};
  for (std::size_t i = 0; i < std::min(count, seed_order_.size()); ++i) {
    const Endpoint& seed = seed_order_[seed_turn_];
    seed_turn_ = (seed_turn_ + 1) % seed_order_.size();
    if (seeds_untried_ > 0) --seeds_untried_;
    const bool known =
        std::any_of(table_.entries().begin(), table_.entries().end(),
                    [&](const auto& entry) { return entry.alive() && entry.endpoint() == seed; });
    if (!known) out_.send(seed, me);
  }
}

void Gossip::knock(TimePoint now) {
  // Of many, as a master lists its agents, most may not be of us: then more.
  const std::size_t share = std::min(options_.seeds.size() / 32, kMostKnocks);
  // Every seed once, soon, also when one has answered: it may know as few as we do. Those that are
  // alone go on for ever, slower and slower.
  const bool hurry = seeds_untried_ > 0;
  const bool alone = !joined();
  if (alone || hurry) {
    knock_at_seeds(std::max(share, kLeastKnocks));
  } else if (now >= next_seed_knock_) {
    // Others may have found each other, and not us.
    knock_at_seeds(std::max<std::size_t>(share, 1));
    next_seed_knock_ = now + kSeedKnock + Duration{rng_.below(2'500)};
  }
  if (alone || hurry) {
    next_knock_ = now + knock_gap_ + Duration{rng_.below(100)};
    if (!hurry) knock_gap_ = std::min(knock_gap_ * 2, kLastKnock);
  } else {
    knock_gap_ = kFirstKnock;
    next_knock_ = now + options_.timing.heal + Duration{rng_.below(200)};
  }
  if (now < next_heal_) return;
  next_heal_ = now + options_.timing.heal;
  std::vector<const MemberTable::Entry*> dead;
  for (const auto& entry : table_.entries()) {
    if (!entry.alive() && entry.status != MemberStatus::left) dead.push_back(&entry);
  }
  // One of the dead: how the two sides of a partition find each other again.
  if (!dead.empty()) {
    const MemberRecord me{self(), table_.find(options_.self)->profile};
    out_.send(dead[rng_.below(dead.size())]->endpoint(), Join{me});
  }
}

void Gossip::on_join(const NodeUid& from, const Endpoint& at, const Join& join, TimePoint now,
                     Effects& fx) {
  if (join.self.head.uid != from || join.self.head.status != MemberStatus::alive) return;
  const auto* known = table_.find(from);
  if (known != nullptr && known->head() == join.self.head &&
      known->profile->instance != join.self.profile->instance) {
    // Two processes of one id and epoch: no hash tells them apart, so the newcomer is told.
    out_.send(at, Items{{Item{MemberRecord{known->head(), known->profile}}}});
  }
  learn(join.self.head, join.self.profile, from, now, fx);
  if (table_.find(from) == nullptr) return link_.refuse(at, Drop::full, now, fx.datagrams);
  out_.send(at, Items{{Item{MemberRecord{self(), table_.find(options_.self)->profile}}}});
  // A root to compare with, before anybody has subscribed to anybody.
  out_.send(at, Heartbeat{root()});
}

void Gossip::on_heartbeat(const NodeUid& from, const Endpoint& at, const Heartbeat& heartbeat,
                          TimePoint now, Effects& fx) {
  monitor_.on_heartbeat(from, now);
  if (heartbeat.root == root()) {
    if (disagreed_) fx.repaired.push_back(now - agreed_at_);
    disagreed_ = false;
    agreed_at_ = now;
    digest_gap_ = options_.timing.first_repair;
    return;
  }
  disagreed_ = true;
  const bool newcomer = table_.alive() <= 2;
  if (heartbeat.root != foreign_root_) {
    // Changing all the time is what a busy cluster's roots do; but not for ever.
    if (now - foreign_root_since_ > Duration{1'000}) foreign_root_since_ = now;
    foreign_root_ = heartbeat.root;
    if (!newcomer && now - foreign_root_since_ < Duration{300}) return;
  } else if (!newcomer && now - foreign_root_since_ < kSettled) {
    return;
  }
  if (now < next_digest_) return;
  foreign_root_since_ = now;
  ask_digest(at, now);
}

void Gossip::ask_digest(const Endpoint& at, TimePoint now) {
  // The answer may be lost, and so may be what it leads to: soon again, of somebody else.
  next_digest_ = now + digest_gap_;
  digest_gap_ = std::min(digest_gap_ * 2, options_.timing.repair_gap);
  ++stats_.digests;
  out_.send(at, Digest{table_.buckets(), shards_.buckets()});
}

void Gossip::on_digest(const Endpoint& at, const Digest& digest, TimePoint now) {
  std::vector<MemberHead> heads;
  for (const auto& entry : table_.entries()) {
    const std::size_t bucket = MemberTable::bucket(entry.uid);
    if (digest.members[bucket] != table_.buckets()[bucket]) heads.push_back(entry.head());
  }
  // More than fit: a different part each time.
  if (heads.size() > kEntriesPerDatagram * kMaxEntryDatagrams) {
    const auto turn = static_cast<std::ptrdiff_t>(rng_.below(heads.size()));
    std::rotate(heads.begin(), heads.begin() + turn, heads.end());
    heads.resize(kEntriesPerDatagram * kMaxEntryDatagrams);
  }
  send_entries(at, heads);
  send_shard_entries(at, digest);
  // Most likely it is the latest that was missed: sent along, it need not be asked for.
  const auto news = news_.recent(now);
  if (!news.empty()) out_.messages.push_back({at, join_items(news)});
}

void Gossip::send_entries(const Endpoint& at, const std::vector<MemberHead>& heads) {
  for (std::size_t from = 0; from < heads.size(); from += kEntriesPerDatagram) {
    const std::size_t to = std::min(heads.size(), from + kEntriesPerDatagram);
    Entries entries;
    entries.members.assign(heads.begin() + static_cast<std::ptrdiff_t>(from),
                           heads.begin() + static_cast<std::ptrdiff_t>(to));
    out_.send(at, entries);
  }
}

void Gossip::send_shard_entries(const Endpoint& at, const Digest& digest) {
  Entries entries;
  std::size_t bytes = 0;
  std::size_t sent = 0;
  bool all_empty = true;
  for (std::size_t i = 0; i < kBuckets; ++i) all_empty = all_empty && digest.shards[i] == 0;
  for (const auto& [id, shard] : shards_.shards()) {
    const std::size_t bucket = ShardStore::bucket(id);
    if (digest.shards[bucket] == shards_.buckets()[bucket]) continue;
    // Who still holds what we know to be empty names it when we ask, and is told then.
    if (shard.records.empty()) continue;
    // A newcomer, or one long away: it is better served by a stream, at once.
    if (sent >= kMaxShardEntries || all_empty) {
      entries.more_shards = true;
      break;
    }
    if (bytes + id.size() + 64 > kMaxPayload) {
      out_.send(at, std::exchange(entries, {}));
      bytes = 0;
    }
    entries.shards.push_back({id, shard.head});
    bytes += id.size() + 64;
    ++sent;
  }
  // One that holds shards we have never heard of must learn that from us too: an empty answer.
  out_.send(at, entries);
}

void Gossip::on_entries(const NodeUid& from, const Endpoint& at, const Entries& entries,
                        TimePoint now, Effects& fx) {
  Want want;
  std::vector<NodeUid> outdated;
  for (const MemberHead& head : entries.members) {
    const auto* known = table_.find(head.uid);
    if (known == nullptr) {
      if (head.status == MemberStatus::alive) want.members.push_back(head.uid);
    } else if (newer(known->head(), head)) {
      outdated.push_back(head.uid);
    } else if (newer(head, known->head())) {
      if (head.status == MemberStatus::alive || head.epoch != known->epoch) {
        want.members.push_back(head.uid);
      } else {
        learn(head, nullptr, from, now, fx);
      }
    }
  }
  send_records(at, outdated);
  for (const ShardAnnounce& theirs : entries.shards) {
    const auto* mine = shards_.find(theirs.shard);
    const ShardHead head = mine == nullptr ? ShardHead{} : mine->head;
    if (head < theirs.head) want.shards.push_back({theirs.shard, head.content});
    if (head > theirs.head) give_shard(at, theirs.shard, theirs.head.content);
  }
  if (entries.more_shards) {
    want_all_ = true;
    pull_from_ = at;
  }
  while (want.shards.size() + want.members.size() > 0) {
    Want part;
    std::size_t bytes = 0;
    while (!want.members.empty() && bytes + 16 < kMaxPayload) {
      part.members.push_back(want.members.back());
      want.members.pop_back();
      bytes += 16;
    }
    while (!want.shards.empty() && bytes + want.shards.back().shard.size() + 12 < kMaxPayload) {
      bytes += want.shards.back().shard.size() + 12;
      part.shards.push_back(std::move(want.shards.back()));
      want.shards.pop_back();
    }
    out_.send(at, part);
  }
}

void Gossip::on_want(const Endpoint& at, const Want& want) {
  send_records(at, want.members);
  for (const auto& shard : want.shards) give_shard(at, shard.shard, shard.content);
}

void Gossip::send_records(const Endpoint& at, const std::vector<NodeUid>& uids) {
  std::vector<std::vector<std::byte>> items;
  std::vector<std::span<const std::byte>> batch;
  std::size_t bytes = 0;
  items.reserve(uids.size());
  const auto ship = [&] {
    if (!batch.empty()) out_.messages.push_back({at, join_items(batch)});
    batch.clear();
    bytes = 0;
  };
  for (const NodeUid& uid : uids) {
    const auto* entry = table_.find(uid);
    if (entry == nullptr) continue;
    items.push_back(encode_item(MemberRecord{entry->head(), entry->profile}));
    if (bytes + items.back().size() + 4 > kMaxPayload || batch.size() >= kMaxItems) ship();
    batch.emplace_back(items.back());
    bytes += items.back().size();
  }
  ship();
}

}  // namespace muster::gossip
