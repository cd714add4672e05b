#include <utility>

#include "cluster/core/cluster.hpp"
#include "cluster/core/join_deltas.hpp"

// What replication brings: to a follower, who becomes what is published, and to who leads.
namespace muster::cluster {

std::vector<Unconfirmed::Name> Cluster::all_names() const {
  std::vector<Unconfirmed::Name> names;
  const auto add = [&names](ShardId shard, RecordKey key) {
    names.emplace_back(std::move(shard), std::move(key));
  };
  for (const auto* tasks : {&view_.tasks(), &view_.waiting()}) {
    for (const auto& [key, task] : *tasks) {
      if (!task->from_agent) add(shard_of(*task), record_key(key));
    }
  }
  for (const auto& [key, task] : view_.shadowed()) add(shard_of(*task), record_key(key));
  for (const auto& [id, agent] : view_.agents()) add(shard_of(*agent), record_key(id));
  for (const auto& [id, one] : view_.frameworks()) add({ShardKind::frameworks, {}}, record_key(id));
  for (const auto& [at, master] : view_.masters()) add({ShardKind::masters, {}}, record_key(at));
  for (const auto& [name, vip] : view_.vips()) add({ShardKind::vips, {}}, record_key(name));
  return names;
}

ClusterDelta Cluster::replicate(std::span<const RecordWrite> writes, TimePoint now) {
  last_now_ = now;
  hear_claims(writes);
  set_own_right(writes);
  std::vector<RecordWrite> of_agents;
  std::vector<RecordWrite> others;
  for (const RecordWrite& write : writes) {
    if (is_own(write.shard)) continue;
    (write.shard.kind == ShardKind::agent_tasks ? of_agents : others).push_back(write);
  }
  ClusterDelta delta = hear_agents(of_agents);
  if (!leading()) {
    make_claims(others);
    // Of one that goes as well: it is settled, and must not be waited for.
    for (const RecordWrite& write : others) unconfirmed_.confirm(write.shard, write.key);
    join(delta, apply(others));
    watch_completeness(now);
    return finish(std::move(delta));
  }
  std::vector<RecordWrite> news;
  for (const RecordWrite& write : others) {
    if (write.shard.kind == ShardKind::claims) continue;
    RecordWrite own = view_.read(write.shard, write.key);
    if (own.value == write.value) continue;
    if (write.key.kind > RecordKind::speaker) continue;
    if (!observed_ && believes(write)) {
      unconfirmed_.confirm(write.shard, write.key);
      news.push_back(write);  // written just before we took over
    } else {
      writes_.push_back(std::move(own));
    }
  }
  publisher_->adopt_some(news);
  join(delta, apply(news));
  if (!heard_claims_.empty() || !of_agents.empty()) join(delta, loop_back({}));
  return finish(std::move(delta));
}

/// Leading, and not yet through with a snapshot: what the former publisher wrote last.
bool Cluster::believes(const RecordWrite& write) {
  const auto key = parse_task_key(write.key);
  if (write.value) return !key || !publisher_->has_seen(*key);
  return key && publisher_->adopt_end(*key, write.shard.agent);
}

// ---- VIP addresses given in vain -------------------------------------------------------------

/// This node published, and somebody else did above it. What `writes` take from the view is what
/// that one does not know of.
void Cluster::make_claims(std::span<const RecordWrite> writes) {
  if (!claiming_) return;
  for (const RecordWrite& write : writes) {
    if (write.shard.kind != ShardKind::vips || claims_.size() >= kMaxClaims) continue;
    const auto own = view_.vip_records().find(VipName{write.key.id});
    if (own == view_.vip_records().end()) continue;
    const auto theirs = write.value ? decode_vip(write.key, *write.value) : VipRecord{};
    if (!theirs || theirs->allocation == own->second.allocation) continue;
    auto value = encode(own->second);
    if (value) claims_.push_back({{ShardKind::claims, {}}, write.key, std::move(*value)});
  }
}

std::vector<RecordWrite> Cluster::take_claims() {
  return std::exchange(claims_, {});
}

/// All nodes keep them: who publishes next may be any.
void Cluster::hear_claims(std::span<const RecordWrite> writes) {
  for (const RecordWrite& write : writes) {
    if (write.shard.kind != ShardKind::claims) continue;
    if (!write.value) {
      heard_claims_.erase({write.shard, write.key});
    } else if (heard_claims_.size() < kMaxClaims) {
      heard_claims_.insert_or_assign({write.shard, write.key}, *write.value);
    }
  }
}

std::vector<RecordWrite> Cluster::settle_claims() {
  std::vector<RecordWrite> heard;
  for (auto& [name, value] : std::exchange(heard_claims_, {})) {
    heard.push_back({name.first, name.second, std::move(value)});
  }
  auto writes = publisher_->claim(heard);
  for (RecordWrite& claim : heard) {
    claim.value.reset();
    writes_.push_back(std::move(claim));
  }
  return writes;
}

void Cluster::watch_completeness(TimePoint now) {
  const auto& wanted = view_.complete_record();
  if (!wanted || view_.agents().size() < unconfirmed_.agents() + wanted->agents) return;
  if (view_.speakers().size() < wanted->speakers) return;
  if (!complete_ && !settled_at_) settled_at_ = now + kSettle;
  const bool any = !unconfirmed_.empty() || !unconfirmed_tasks_.empty();
  if (any && !drop_at_) drop_at_ = now + kDropUnconfirmed;
}

}  // namespace muster::cluster
