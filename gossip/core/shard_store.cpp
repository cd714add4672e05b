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
  const std::uint64_t hash = head_hash(fresh.id_hash, fresh.head);
  root_ += hash;
  buckets_[fresh.id_hash % kBuckets] += static_cast<std::uint32_t>(hash);
  return &fresh;
}

void ShardStore::set_head(Shard& shard, const ShardHead& head) {
  const std::uint64_t before = head_hash(shard.id_hash, shard.head);
  const std::uint64_t after = head_hash(shard.id_hash, head);
  root_ += after - before;
  buckets_[shard.id_hash % kBuckets] += static_cast<std::uint32_t>(after - before);
  shard.head = head;
}

void ShardStore::remember(Shard& shard, const ShardDelta& delta) {
  shard.log_bytes += size_of(delta);
  shard.log.push_back(delta);
  while (!shard.log.empty() &&
         (shard.log.size() > kMaxLogDeltas || shard.log_bytes > kMaxLogBytes)) {
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

Term ShardStore::take_over(const NodeUid& self, std::vector<std::string> prefixes,
                           std::vector<ShardDelta>& out) {
  term_ = Term{++highest_counter_, self};
  prefixes_ = std::move(prefixes);
  superseded_ = false;
  for (auto& [id, shard] : shards_) {
    if (covers(id)) restamp(id, shard, out);
  }
  return *term_;
}

void ShardStore::restamp(const std::string& id, Shard& shard, std::vector<ShardDelta>& out) {
  ShardHead head = shard.head;
  head.term = *term_;
  ++head.version;
  const ShardDelta delta{id, head, head.content, {}};
  set_head(shard, head);
  remember(shard, delta);
  out.push_back(delta);
}

void ShardStore::publish(std::vector<RecordWrite> writes, std::vector<ShardDelta>& out) {
  std::map<std::string, std::map<std::string, std::optional<std::vector<std::byte>>>> by_shard;
  for (RecordWrite& write : writes) {
    if (!term_ || !covers(write.shard)) {
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
    const bool first = shard->head.term != *term_;
    if (delta.ops.empty() && !first) continue;
    delta.head.term = *term_;
    delta.head.version = shard->head.version + 1;
    set_head(*shard, delta.head);
    remember(*shard, delta);
    out.push_back(std::move(delta));
  }
}

void ShardStore::hear(const std::string& shard, const ShardHead& head) {
  highest_counter_ = std::max(highest_counter_, head.term.counter);
  if (term_ && covers(shard) && head.term > *term_) {
    term_.reset();
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
  if (delta.base != mine.content) {
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
  if (term_ && covers(delta.shard) && delta.head.term < *term_) {
    restamp(delta.shard, *shard, stamps);
  }
  return Applied::applied;
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
  Shard* shard = open(id);
  if (shard == nullptr) return Applied::full;
  for (const auto& [key, value] : shard->records) {
    if (!records.contains(key)) changes_.push_back({id, key, std::nullopt});
  }
  for (const auto& [key, value] : records) {
    const auto before = shard->records.find(key);
    if (before == shard->records.end() || before->second != value) {
      changes_.push_back({id, key, value});
    }
  }
  records_ += records.size() - shard->records.size();
  shard->records = std::move(records);
  shard->bytes = bytes;
  shard->log.clear();
  shard->log_bytes = 0;
  set_head(*shard, head);
  if (term_ && covers(id) && head.term < *term_) restamp(id, *shard, stamps);
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
