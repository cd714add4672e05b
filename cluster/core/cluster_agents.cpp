#include <limits>
#include <utility>

#include "base/assert.hpp"
#include "cluster/core/cluster.hpp"
#include "cluster/core/join_deltas.hpp"

// Agents that speak for themselves: what this node says of its own, and what it hears of others.

namespace muster::cluster {

ClusterDelta Cluster::apply(std::span<const RecordWrite> writes) {
  ClusterDelta delta = view_.apply(writes);
  if (leading()) {
    note_speakers(writes);
    tell_publisher(delta);
  }
  return delta;
}

/// What is seen of told tasks uses VIPs and weighs; who publishes has to know.
void Cluster::tell_publisher(const ClusterDelta& delta) {
  for (const Change<Task>& change : delta.tasks) {
    const bool was = change.before && change.before->from_agent;
    const bool is = change.after && change.after->from_agent;
    if (!was && !is) continue;
    publisher_->told(key_of(is ? *change.after : *change.before),
                     is ? change.after.get() : nullptr);
  }
}

void Cluster::note_speakers(std::span<const RecordWrite> writes) {
  for (const RecordWrite& write : writes) {
    if (write.key.kind != RecordKind::speaker) continue;
    const AgentId& id = write.shard.agent;
    const auto speaker = view_.speakers().find(id);
    const bool there = speaker != view_.speakers().end();
    publisher_->set_speaker(id, there && !speaker->second.resigned, last_now_);
    if (!there || !speaker->second.resigned) {
      // Its tasks are to be had from the master again, and only a snapshot names them.
      if (resigned_.erase(id) == 0 && !there) wants_snapshot_ = true;
    } else if (resigned_.try_emplace(id).second) {
      wants_snapshot_ = true;
    }
  }
}

bool Cluster::take_wants_snapshot(TimePoint now) {
  if (!wants_snapshot_ || (asked_anew_ && now - *asked_anew_ < kAskAnew)) return false;
  wants_snapshot_ = false;
  asked_anew_ = now;
  return true;
}

// ---- the agent beside this node --------------------------------------------------------------

ClusterDelta Cluster::observe_agent(const Observation& observation, TimePoint now, WallTime wall) {
  MUSTER_ASSERT(observation.snapshot && observation.agents.size() == 1);
  last_now_ = now;
  ClusterDelta delta;
  const AgentId& id = observation.agents.front().id;
  if (own_ && own_->agent() != id) {
    // Mesos gives an agent another id when it has lost all: none of its tasks is left.
    const AgentId former = own_->agent();
    own_.reset();
    take_back_at_.reset();
    own_foreign_.clear();
    join(delta, empty_shard(former));
  }
  std::vector<RecordWrite> writes;
  if (!own_) {
    const ShardId shard{ShardKind::agent_tasks, id};
    for (const TaskKey& key : view_.told_by(id)) {
      writes.push_back(view_.read(shard, record_key(key)));
    }
    own_ = std::make_unique<OwnAgent>(options_.hold_down, id, self_.str(), writes, now, wall);
    unconfirmed_tasks_.erase(id);
    if (options_.replicated) own_out_.take.push_back(shard);
  }
  for (RecordWrite& write : own_->observe(observation, now, wall)) {
    writes.push_back(std::move(write));
  }
  join(delta, write_own(std::move(writes)));
  if (leading()) join(delta, loop_back({}));
  return finish(std::move(delta));
}

ClusterDelta Cluster::write_own(std::vector<RecordWrite> writes) {
  if (writes.empty()) return {};
  ClusterDelta delta = apply(writes);
  if (options_.replicated && !take_back_at_) {
    for (RecordWrite& write : writes) own_out_.writes.push_back(std::move(write));
  }
  return delta;
}

/// Our own words as they come back, which may be older than our last, or another's in our place.
void Cluster::set_own_right(std::span<const RecordWrite> writes) {
  for (const RecordWrite& write : writes) {
    if (!is_own(write.shard)) continue;
    RecordWrite own = view_.read(write.shard, write.key);
    if (own.value == write.value) continue;
    if (take_back_at_) {
      own_foreign_.insert(write.key);
    } else {
      own_out_.writes.push_back(std::move(own));
    }
  }
}

void Cluster::own_lost(const ShardId& shard, TimePoint now) {
  if (!is_own(shard)) return;
  const bool again = taken_back_ && now - *taken_back_ < kTakeBack;
  take_back_at_ = again ? *taken_back_ + kTakeBack : now;
}

void Cluster::take_back(TimePoint now) {
  if (!take_back_at_ || now < *take_back_at_) return;
  take_back_at_.reset();
  taken_back_ = now;
  const ShardId shard = own_->shard();
  own_out_.take.push_back(shard);
  for (const TaskKey& key : view_.told_by(own_->agent())) own_foreign_.insert(record_key(key));
  own_foreign_.insert(speaker_key());
  for (const RecordKey& key : std::exchange(own_foreign_, {})) {
    own_out_.writes.push_back(view_.read(shard, key));
  }
}

/// Everything that is told of an agent goes, whoever told it.
ClusterDelta Cluster::empty_shard(const AgentId& id) {
  const ShardId shard{ShardKind::agent_tasks, id};
  std::vector<RecordWrite> writes;
  for (const TaskKey& key : view_.told_by(id)) {
    writes.push_back({shard, record_key(key), std::nullopt});
  }
  writes.push_back({shard, speaker_key(), std::nullopt});
  ClusterDelta delta = apply(writes);
  if (options_.replicated) {
    own_out_.take.push_back(shard);
    for (RecordWrite& write : writes) own_out_.writes.push_back(std::move(write));
    own_out_.leave.push_back(shard);
  }
  return delta;
}

ClusterDelta Cluster::resign_if_spoke() {
  ClusterDelta delta;
  if (options_.speaks || self_.empty()) return delta;
  std::vector<RecordWrite> writes;
  for (const auto& [id, speaker] : view_.speakers()) {
    if (speaker.node != self_.str() || speaker.resigned) continue;
    const ShardId shard{ShardKind::agent_tasks, id};
    auto encoded = encode(SpeakerRecord{speaker.node, true});
    if (!encoded) continue;
    writes.push_back({shard, speaker_key(), std::move(*encoded)});
    own_out_.take.push_back(shard);
    own_out_.leave.push_back(shard);
  }
  delta = apply(writes);
  for (RecordWrite& write : writes) own_out_.writes.push_back(std::move(write));
  return delta;
}

// ---- other agents ----------------------------------------------------------------------------

ClusterDelta Cluster::hear_agents(std::span<const RecordWrite> writes) {
  if (writes.empty()) return {};
  bool spoken = false;
  for (const RecordWrite& write : writes) {
    spoken = spoken || write.key.kind == RecordKind::speaker;
    const auto waiting = unconfirmed_tasks_.find(write.shard.agent);
    if (waiting == unconfirmed_tasks_.end()) continue;
    auto& [names, drop_at] = waiting->second;
    names.confirm(write.shard, write.key);
    if (names.empty()) {
      unconfirmed_tasks_.erase(waiting);
    } else if (write.key.kind == RecordKind::speaker && write.value && !drop_at) {
      drop_at = last_now_ + kDropUnconfirmed;
    }
  }
  ClusterDelta delta = apply(writes);
  if (spoken) join(delta, resign_if_spoke());
  return delta;
}

std::vector<RecordWrite> Cluster::drop_unconfirmed_tasks() {
  std::vector<RecordWrite> writes;
  for (auto& [agent, waiting] : std::exchange(unconfirmed_tasks_, {})) {
    for (RecordWrite& gone : waiting.names.drop()) writes.push_back(std::move(gone));
  }
  return writes;
}

/// What those who were heard have not named.
std::vector<RecordWrite> Cluster::drop_heard_tasks(TimePoint now) {
  std::vector<RecordWrite> writes;
  for (auto waiting = unconfirmed_tasks_.begin(); waiting != unconfirmed_tasks_.end();) {
    if (!waiting->second.drop_at || now < *waiting->second.drop_at) {
      ++waiting;
      continue;
    }
    for (RecordWrite& gone : waiting->second.names.drop()) writes.push_back(std::move(gone));
    waiting = unconfirmed_tasks_.erase(waiting);
  }
  return writes;
}

/// Who publishes has said by now, as far as the master knows, what runs on agents that are silent.
bool Cluster::may_drop_tasks() const {
  return leading() && observed_ && complete_ && !busy() && !unconfirmed_tasks_.empty();
}

/// Leading: shards that nobody writes any more are emptied, once what they say stands elsewhere or
/// is nobody's.
ClusterDelta Cluster::bury_abandoned(TimePoint now) {
  next_burial_ = now + Publisher::kHandOver;
  std::vector<AgentId> over;
  for (const auto& [id, speaker] : view_.speakers()) {
    if (own_ && id == own_->agent()) continue;
    if (view_.agents().contains(id)) {
      abandoned_.erase(id);
    } else if (observed_ && now - abandoned_.try_emplace(id, now).first->second >= kAbandoned) {
      over.push_back(id);
      continue;
    }
    const auto resigned = resigned_.find(id);
    if (resigned == resigned_.end() || !resigned->second) continue;
    if (now - *resigned->second >= Publisher::kHandOver) over.push_back(id);
  }
  ClusterDelta delta;
  for (const AgentId& id : over) {
    abandoned_.erase(id);
    join(delta, empty_shard(id));
  }
  std::erase_if(abandoned_, [&](const auto& one) { return !view_.speakers().contains(one.first); });
  return delta;
}

}  // namespace muster::cluster
