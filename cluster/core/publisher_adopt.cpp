#include <utility>

#include "base/assert.hpp"
#include "cluster/core/publisher.hpp"

// What was published before this node did: from its disk, or by another.
namespace muster::cluster {

std::vector<RecordWrite> Publisher::adopt(std::span<const RecordWrite> writes, TimePoint now,
                                          WallTime wall) {
  MUSTER_ASSERT(!busy());
  adopt_some(writes);
  return settle(now, wall);
}

void Publisher::adopt_some(std::span<const RecordWrite> writes) {
  for (const RecordWrite& write : writes) {
    if (write.value) adopt_one(write);
  }
}

std::vector<RecordWrite> Publisher::settle(TimePoint now, WallTime wall) {
  Writes out;
  note_time(now, wall);
  write_vips(vips_.settle(last_wall_seconds_), out);
  return out;
}

std::vector<RecordWrite> Publisher::claim(std::span<const RecordWrite> claims) {
  for (const RecordWrite& write : claims) {
    if (!write.value) continue;
    if (const auto record = decode_vip(write.key, *write.value)) {
      vips_.claim(*record, last_wall_seconds_);
    }
  }
  Writes out;
  write_vips(vips_.settle(last_wall_seconds_), out);
  return out;
}

bool Publisher::adopt_end(const TaskKey& key, const AgentId& agent) {
  const auto task = tasks_.find(key);
  if (task == tasks_.end() || task->second.agent->first != agent) return true;
  if (has_seen(key)) return false;
  remove_task(key, pending_);
  return true;
}

bool Publisher::has_seen(const TaskKey& key) const {
  const auto task = snapshot_ > 0 ? tasks_.find(key) : tasks_.end();
  return task != tasks_.end() && task->second.seen == snapshot_;
}

void Publisher::adopt_one(const RecordWrite& write) {
  const std::vector<std::byte>& value = *write.value;
  late_ = late_ || (busy() && observation_->snapshot);
  const std::uint64_t hash = content_hash(value);
  switch (write.key.kind) {
    case RecordKind::agent:
      if (decode_agent(write.key, value)) {
        Owner& owner = agents_[AgentId{write.key.id}];
        owner.published = true;
        owner.hash = hash;
      }
      return;
    case RecordKind::framework:
      if (decode_framework(write.key, value)) {
        Owner& owner = frameworks_[FrameworkId{write.key.id}];
        owner.published = true;
        owner.hash = hash;
      }
      return;
    case RecordKind::master:
      if (const auto master = decode_master(write.key, value)) masters_[master->endpoint] = hash;
      return;
    case RecordKind::vip:
      if (const auto record = decode_vip(write.key, value)) vips_.adopt(*record);
      return;
    case RecordKind::complete:
    case RecordKind::speaker:
      return;
    case RecordKind::task:
      break;
  }
  const auto task = decode_task(write.shard, write.key, value);
  if (!task || task->from_agent != options_.own_agent) return;
  Writes moved;  // a task under two agents: the last one counts, as in ClusterView
  Entry* const found = move_or_add(key_of(*task), *task, moved);
  if (found == nullptr) return;
  Entry& entry = *found;
  note_uses(entry, *task);
  entry.hash = hash;
}

}  // namespace muster::cluster
