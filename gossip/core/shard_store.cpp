#include "gossip/core/shard_store.hpp"

#include <algorithm>
#include <utility>

namespace muster::gossip {
namespace {

std::uint64_t head_hash(std::uint64_t id_hash, const ShardHead& head) noexcept {
  std::uint64_t h = mix(id_hash, head.term.counter);
  h = mix(h, head.term.publisher.high ^ head.term.publisher.low);
  return mix(mix(h, head.version), head.content);
}

std::size_t size_of(const ShardDelta& delta) noexcept {
  std::size_t bytes = 128;
  for (const ShardOp& op : delta.ops) {
    bytes += op.key.size() + (op.value ? op.value->size() : 0) + 16;
  }
  return bytes;
}

bool valid(const ShardOp& op) noexcept {
  return !op.key.empty() && op.key.size() <= kMaxKey &&
         (!op.value || op.value->size() <= kMaxValue);
}

}  // namespace

const ShardStore::Shard* ShardStore::find(const std::string& shard) const {
  const auto found = shards_.find(shard);
  return found == shards_.end() ? nullptr : &found->second;
}

ShardStore::Shard* ShardStore::open(const std::string& shard) {
  if (shard.empty() || shard.size() > kMaxShardId) return nullptr;
  const auto found = shards_.find(shard);
  if (found != shards_.end()) return &found->second;
  if (shards_.size() >= kMaxShards) return nullptr;
  Shard& fresh = shards_[shard];
  fresh.id_hash = hash_text(shard);
  return &fresh;
}

void ShardStore::set_head(Shard& shard, const ShardHead& head) {
  shard.head = head;
  highest_version_ = std::max(highest_version_, head.version);
  const std::uint64_t count = shard.records.empty() ? 0 : head_hash(shard.id_hash, head);
  root_ += count - shard.counted;
  buckets_[shard.id_hash % kBuckets] += static_cast<std::uint32_t>(count - shard.counted);
  shard.counted = count;
  if (!shard.records.empty()) shard.empty_since = {};
}

void ShardStore::sweep(TimePoint now, TimePoint until) {
  std::vector<std::pair<TimePoint, std::string>> empty;
  for (auto it = shards_.begin(); it != shards_.end();) {
    Shard& shard = it->second;
    if (!shard.records.empty()) {
      ++it;
      continue;
    }
    if (shard.empty_since == TimePoint{}) shard.empty_since = now;
    if (shard.empty_since < until) {
      it = shards_.erase(it);
      continue;
    }
    empty.emplace_back(shard.empty_since, it->first);
    ++it;
  }
  if (empty.size() <= kMaxEmptyShards) return;
  std::sort(empty.begin(), empty.end());
  empty.resize(empty.size() - kMaxEmptyShards);
  for (const auto& [since, id] : empty) shards_.erase(id);
}

void ShardStore::remember(Shard& shard, const ShardDelta& delta) {
  shard.log_bytes += size_of(delta);
  shard.log.push_back(delta);
  const std::size_t most = std::clamp(shard.bytes / 2, kFreeLogBytes, kMaxLogBytes);
  while (!shard.log.empty() && (shard.log.size() > kMaxLogDeltas || shard.log_bytes > most)) {
    shard.log_bytes -= size_of(shard.log.front());
    shard.log.pop_front();
  }
}

void ShardStore::write(const std::string& id, Shard& shard, const ShardOp& op) {
  const auto found = shard.records.find(op.key);
  if (found != shard.records.end()) {
    shard.bytes -= found->first.size() + found->second.size();
    if (!op.value) {
      shard.records.erase(found);
      --records_;
    } else {
      found->second = *op.value;
    }
  } else if (op.value) {
    shard.records.emplace(op.key, *op.value);
    ++records_;
  }
  if (op.value) shard.bytes += op.key.size() + op.value->size();
  changes_.push_back({id, op.key, op.value});
}

bool ShardStore::covers(const std::string& shard) const {
  return std::any_of(prefixes_.begin(), prefixes_.end(),
                     [&](const std::string& prefix) { return shard.starts_with(prefix); });
}

const Term* ShardStore::term_of(const std::string& shard) const {
  if (!own_.empty()) {
    if (const auto own = own_.find(shard); own != own_.end()) return &own->second;
  }
  return term_ && covers(shard) ? &*term_ : nullptr;
}

Term ShardStore::own(const NodeUid& self, std::uint32_t epoch, const std::string& shard,
                     std::vector<ShardDelta>& out) {
  highest_counter_ = std::max<std::uint64_t>(highest_counter_ + 1, epoch);
  const Term term{highest_counter_, self};
  if (own_.size() >= kMaxOwnShards && !own_.contains(shard)) return term;  // refused when written
  own_.insert_or_assign(shard, term);
  const auto known = shards_.find(shard);
  if (known != shards_.end() && !known->second.records.empty()) {
    restamp(shard, known->second, term, out);
  }
  return term;
}

Term ShardStore::take_over(const NodeUid& self, std::uint32_t epoch,
                           std::vector<std::string> prefixes) {
  highest_counter_ = std::max<std::uint64_t>(highest_counter_ + 1, epoch);
  term_ = Term{highest_counter_, self};
  prefixes_ = std::move(prefixes);
  superseded_ = false;
  restamp_after_.emplace();
  return *term_;
}

bool ShardStore::restamp_some(std::size_t limit, std::vector<ShardDelta>& out) {
  if (!restamp_after_) return false;
  auto it = shards_.upper_bound(*restamp_after_);
  for (; it != shards_.end() && limit > 0; ++it, --limit) {
    auto& [id, shard] = *it;
    restamp_after_ = id;
    if (!shard.records.empty() && shard.head.term < *term_ && term_of(id) == &*term_) {
      restamp(id, shard, *term_, out);
    }
  }
  if (it == shards_.end()) restamp_after_.reset();
  return restamping();
}

bool ShardStore::written_and_forgotten(const std::string& id, const ShardHead& head) const {
  // Under our term only we write: what we do not know, we have emptied and forgotten.
  const Term* const term = term_of(id);
  return term != nullptr && head.term == *term && find(id) == nullptr;
}

void ShardStore::bury(const std::string& id, std::vector<ShardDelta>& out) {
  Shard* shard = open(id);
  if (shard == nullptr) return;
  set_head(*shard, {*term_of(id), ++highest_version_, 0});
  out.push_back({id, shard->head, 0, {}});
}

void ShardStore::restamp(const std::string& id, Shard& shard, const Term& term,
                         std::vector<ShardDelta>& out) {
  ShardHead head = shard.head;
  head.term = term;
  head.version = ++highest_version_;
  const ShardDelta delta{id, head, head.content, {}};
  set_head(shard, head);
  remember(shard, delta);
  out.push_back(delta);
}

void ShardStore::publish(std::vector<RecordWrite> writes, std::vector<ShardDelta>& out) {
  std::map<std::string, std::map<std::string, std::optional<std::vector<std::byte>>>> by_shard;
  for (RecordWrite& write : writes) {
    if (term_of(write.shard) == nullptr) {
      ++refused_;
      continue;
    }
    by_shard[write.shard].insert_or_assign(std::move(write.key), std::move(write.value));
  }
  for (auto& [id, ops] : by_shard) {
    Shard* shard = open(id);
    if (shard == nullptr) {
      refused_ += ops.size();
      continue;
    }
    const Term term = *term_of(id);
    ShardDelta delta{id, shard->head, shard->head.content, {}};
    std::size_t bytes = shard->bytes;
    for (auto& [key, value] : ops) {
      const auto known = shard->records.find(key);
      const bool there = known != shard->records.end();
      if (value ? there && known->second == *value : !there) continue;
      ShardOp op{key, std::move(value)};
      const std::size_t more = op.value ? key.size() + op.value->size() : 0;
      if (!valid(op) || bytes + more > kMaxShardBytes ||
          (op.value && !there && shard->records.size() >= kMaxShardRecords)) {
        ++refused_;
        continue;
      }
      if (there) delta.head.content -= record_hash(key, known->second);
      if (op.value) delta.head.content += record_hash(key, *op.value);
      bytes += more;
      write(id, *shard, op);
      delta.ops.push_back(std::move(op));
    }
    const bool first = shard->head.term != term;
    if (delta.ops.empty() && (!first || shard->records.empty())) continue;
    delta.head.term = term;
    delta.head.version = ++highest_version_;
    set_head(*shard, delta.head);
    remember(*shard, delta);
    out.push_back(std::move(delta));
  }
}

void ShardStore::offer(const NodeUid& self, const std::string& prefix,
                       std::vector<RecordWrite> writes, std::vector<ShardDelta>& out) {
  std::map<std::string, std::vector<std::byte>> records;
  for (RecordWrite& write : writes) {
    if (write.value) records.insert_or_assign(std::move(write.key), std::move(*write.value));
  }
  ShardDelta delta;
  delta.head = {Term{0, self}, ++highest_version_, 0};
  delta.shard = prefix + self.to_string() + '-' + std::to_string(delta.head.version);
  for (auto& [key, value] : records) {
    delta.head.content += record_hash(key, value);
    delta.ops.push_back({key, std::move(value)});
  }
  std::vector<ShardDelta> restamp;
  if (apply(delta, restamp) == Applied::applied) {
    out.push_back(std::move(delta));
    out.insert(out.end(), restamp.begin(), restamp.end());
  } else {
    refused_ += writes.size();
  }
}

void ShardStore::hear(const std::string& shard, const ShardHead& head) {
  highest_counter_ = std::max(highest_counter_, head.term.counter);
  highest_version_ = std::max(highest_version_, head.version);
  if (const auto own = own_.find(shard); own != own_.end()) {
    if (head.term <= own->second) return;
    own_.erase(own);
    lost_.push_back(shard);
    return;
  }
  if (term_ && covers(shard) && head.term > *term_) {
    stop_publishing();
    superseded_ = true;
  }
}

ShardStore::Applied ShardStore::apply(const ShardDelta& delta, std::vector<ShardDelta>& stamps) {
  for (const ShardOp& op : delta.ops) {
    if (!valid(op)) return Applied::invalid;
  }
  const Shard* known = find(delta.shard);
  const ShardHead mine = known == nullptr ? ShardHead{} : known->head;
  hear(delta.shard, delta.head);
  if (delta.head <= mine) return Applied::stale;
  if (written_and_forgotten(delta.shard, delta.head)) {
    bury(delta.shard, stamps);
    return Applied::stale;
  }
  if (delta.base != mine.content) {
    // Empty needs no way there.
    if (delta.head.content == 0) return replace(delta.shard, delta.head, {}, stamps);
    // Another way to the same content: only the name on it is new.
    if (delta.head.content != mine.content) return Applied::needs_more;
    return apply({delta.shard, delta.head, mine.content, {}}, stamps);
  }
  std::uint64_t content = mine.content;
  std::size_t bytes = known == nullptr ? 0 : known->bytes;
  std::size_t count = known == nullptr ? 0 : known->records.size();
  std::map<std::string_view, bool> seen;  // the sum is only right if each key comes once
  for (const ShardOp& op : delta.ops) {
    if (!seen.emplace(op.key, true).second) return Applied::invalid;
    if (known != nullptr) {
      const auto found = known->records.find(op.key);
      if (found != known->records.end()) content -= record_hash(op.key, found->second);
    }
    if (!op.value) continue;
    content += record_hash(op.key, *op.value);
    bytes += op.key.size() + op.value->size();
    ++count;
  }
  if (content != delta.head.content || bytes > kMaxShardBytes || count > kMaxShardRecords) {
    return Applied::invalid;
  }
  Shard* shard = open(delta.shard);
  if (shard == nullptr) return Applied::full;
  for (const ShardOp& op : delta.ops) write(delta.shard, *shard, op);
  set_head(*shard, delta.head);
  remember(*shard, delta);
  const Term* const term = term_of(delta.shard);
  if (term != nullptr && delta.head.term < *term) restamp(delta.shard, *shard, *term, stamps);
  return Applied::applied;
}

// Both are sorted: one walk.
void ShardStore::note_changes(const std::string& id, const Records& from, const Records& to) {
  auto before = from.begin();
  auto after = to.begin();
  while (before != from.end() || after != to.end()) {
    const bool gone = after == to.end() || (before != from.end() && before->first < after->first);
    if (gone) {
      changes_.push_back({id, before->first, std::nullopt});
      ++before;
      continue;
    }
    const bool fresh = before == from.end() || after->first < before->first;
    if (fresh || before->second != after->second) {
      changes_.push_back({id, after->first, after->second});
    }
    if (!fresh) ++before;
    ++after;
  }
}

ShardStore::Applied ShardStore::replace(const std::string& id, const ShardHead& head,
                                        Records records, std::vector<ShardDelta>& stamps) {
  std::uint64_t content = 0;
  std::size_t bytes = 0;
  for (const auto& [key, value] : records) {
    if (key.empty() || key.size() > kMaxKey || value.size() > kMaxValue) return Applied::invalid;
    content += record_hash(key, value);
    bytes += key.size() + value.size();
  }
  if (content != head.content || bytes > kMaxShardBytes || records.size() > kMaxShardRecords) {
    return Applied::invalid;
  }
  hear(id, head);
  const Shard* known = find(id);
  if (known != nullptr && head <= known->head) return Applied::stale;
  if (written_and_forgotten(id, head)) {
    bury(id, stamps);
    return Applied::stale;
  }
  Shard* shard = open(id);
  if (shard == nullptr) return Applied::full;
  note_changes(id, shard->records, records);
  records_ += records.size() - shard->records.size();
  shard->records = std::move(records);
  shard->bytes = bytes;
  shard->log.clear();
  shard->log_bytes = 0;
  set_head(*shard, head);
  const Term* const term = term_of(id);
  if (term != nullptr && head.term < *term) restamp(id, *shard, *term, stamps);
  return Applied::applied;
}

std::vector<const ShardDelta*> ShardStore::since(const std::string& id,
                                                 std::uint64_t content) const {
  const Shard* shard = find(id);
  if (shard == nullptr) return {};
  // The newest that starts there: content may have come back to what it was.
  for (std::size_t i = shard->log.size(); i > 0; --i) {
    if (shard->log[i - 1].base != content) continue;
    std::vector<const ShardDelta*> chain;
    for (std::size_t j = i - 1; j < shard->log.size(); ++j) chain.push_back(&shard->log[j]);
    return chain;
  }
  return {};
}

}  // namespace muster::gossip
