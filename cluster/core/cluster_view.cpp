#include "cluster/core/cluster_view.hpp"

#include <algorithm>
#include <utility>

namespace muster::cluster {
namespace {

template <class Map>
typename Map::mapped_type find_or_null(const Map& map, const typename Map::key_type& key) {
  // Much comes in order.
  if (map.empty() || map.rbegin()->first < key) return nullptr;
  const auto found = map.find(key);
  return found != map.end() ? found->second : nullptr;
}

/// What each touched thing was before the batch.
template <class Map>
class Touched {
 public:
  explicit Touched(const Map& map) : map_{map}, was_empty_{map.empty()} {}
  void note(const typename Map::key_type& key) {
    if (was_empty_) return;
    const auto size = before_.size();
    const auto it = before_.try_emplace(before_.end(), key);  // much comes in order
    if (before_.size() > size) it->second = find_or_null(map_, key);
  }
  /// For who has looked already.
  void note(const typename Map::key_type& key, const typename Map::mapped_type& before) {
    if (was_empty_) return;
    before_.try_emplace(before_.end(), key, before);
  }
  template <class Changes>
  void finish(Changes& changes) const {
    if (was_empty_) {  // all that is there is new
      changes.reserve(map_.size());
      for (const auto& [key, after] : map_) changes.push_back({nullptr, after});
      return;
    }
    auto now = map_.begin();
    const bool most = before_.size() > map_.size() / 8;  // then side by side
    for (const auto& [key, before] : before_) {
      if (most) {
        while (now != map_.end() && now->first < key) ++now;
      } else {
        now = map_.find(key);
      }
      const bool there = now != map_.end() && !(key < now->first);
      const auto after = there ? now->second : nullptr;
      if (before == after || (before && after && *before == *after)) continue;
      changes.push_back({before, after});
    }
  }

 private:
  const Map& map_;
  const bool was_empty_;
  Map before_;
};

constexpr std::size_t kMaxShownKey = 200;  // a key may be long, and hold anything

std::string describe(const RecordWrite& write) {
  std::string text = "record kind " + std::to_string(static_cast<unsigned>(write.key.kind)) + ' ';
  for (const char c : write.key.id.substr(0, kMaxShownKey)) {
    text += c >= 0x20 && c < 0x7F ? c : '/';
  }
  if (write.shard.kind == ShardKind::agent || write.shard.kind == ShardKind::agent_tasks)
    text += " of agent " + write.shard.agent.str();
  return text;
}

}  // namespace

struct ClusterView::Batch {
  explicit Batch(const ClusterView& view)
      : tasks{view.tasks_},
        agents{view.agents_},
        frameworks{view.frameworks_},
        masters{view.masters_},
        vips{view.vips_},
        former_vips{view.former_vips_} {}
  Touched<Tasks> tasks;
  Touched<Agents> agents;
  Touched<Frameworks> frameworks;
  Touched<Masters> masters;
  Touched<Vips> vips;
  Touched<FormerVips> former_vips;
};

ClusterDelta ClusterView::apply(std::span<const RecordWrite> writes) {
  Batch batch{*this};
  for (const RecordWrite& write : writes) apply_one(write, batch);
  ClusterDelta delta;
  batch.tasks.finish(delta.tasks);
  batch.agents.finish(delta.agents);
  batch.frameworks.finish(delta.frameworks);
  batch.masters.finish(delta.masters);
  batch.vips.finish(delta.vips);
  batch.former_vips.finish(delta.former_vips);
  return delta;
}

void ClusterView::apply_one(const RecordWrite& write, Batch& batch) {
  if (write.shard.kind == ShardKind::claims) return;  // for who publishes
  switch (write.key.kind) {
    case RecordKind::task:
      return apply_task(write, batch);
    case RecordKind::agent:
      return apply_agent(write, batch);
    case RecordKind::framework:
      return apply_framework(write, batch);
    case RecordKind::master:
      return apply_master(write, batch);
    case RecordKind::vip:
      return apply_vip(write, batch);
    case RecordKind::complete:
      return apply_complete(write);
    case RecordKind::speaker:
      return apply_speaker(write);
  }
  // A kind of a later version: not ours to judge.
}

void ClusterView::apply_task(const RecordWrite& write, Batch& batch) {
  if (write.value) {
    auto task = decode_task(write.shard, write.key, *write.value);
    if (!task) return refuse(write, task.error());
    TaskKey key = key_of(*task);
    const auto known = any_task(key);
    const bool same_agent = known && known->agent_id == task->agent_id;
    if (!same_agent) {
      shadowed_.erase(key);
    } else if (known->from_agent && !task->from_agent) {
      if (shadowed_.size() >= kMaxTasks && !shadowed_.contains(key)) return;
      shadowed_[key] = std::make_shared<const Task>(std::move(*task));
      return;
    } else if (task->from_agent && !known->from_agent && shadowed_.size() < kMaxTasks) {
      shadowed_[key] = known;
    }
    return put_task(std::move(key), std::move(*task), known, batch);
  }
  const auto key = parse_task_key(write.key);
  if (!key) return refuse(write, DecodeError::bad_key);
  // It may be another agent's by now; then this shard has no say in it.
  const auto known = any_task(*key);
  if (!known || known->agent_id != write.shard.agent) return;
  auto shadow = shadowed_.extract(*key);
  if (write.shard.kind == ShardKind::agent_tasks) {
    if (!known->from_agent) return;
    if (shadow) {
      put_task(*key, Task{*shadow.mapped()}, known, batch);
    } else {
      remove_task(*key, batch);
    }
  } else if (!known->from_agent) {
    remove_task(*key, batch);
  }
}

void ClusterView::apply_speaker(const RecordWrite& write) {
  if (write.shard.kind != ShardKind::agent_tasks) return refuse(write, DecodeError::bad_kind);
  if (!write.value) {
    speakers_.erase(write.shard.agent);
    return;
  }
  auto record = decode_speaker(write.key, *write.value);
  if (!record) return refuse(write, record.error());
  if (speakers_.size() >= kMaxOtherRecords && !speakers_.contains(write.shard.agent)) {
    return refuse(write, DecodeError::too_long);
  }
  speakers_.insert_or_assign(write.shard.agent, std::move(*record));
}

std::vector<TaskKey> ClusterView::told_by(const AgentId& agent) const {
  std::vector<TaskKey> told;
  const auto tasks = of_agent_.find(agent);
  if (tasks == of_agent_.end()) return told;
  for (const TaskKey* key : tasks->second) {
    const auto task = any_task(*key);
    if (task && task->from_agent) told.push_back(*key);
  }
  return told;
}

void ClusterView::apply_agent(const RecordWrite& write, Batch& batch) {
  if (write.shard != ShardId{ShardKind::agent, AgentId{write.key.id}}) {
    return refuse(write, DecodeError::bad_kind);
  }
  const AgentId id{write.key.id};
  std::shared_ptr<const Agent> next;
  if (write.value) {
    auto agent = decode_agent(write.key, *write.value);
    if (!agent) return refuse(write, agent.error());
    if (agents_.size() >= kMaxOtherRecords && !agents_.contains(id)) {
      return refuse(write, DecodeError::too_long);
    }
    next = std::make_shared<const Agent>(std::move(*agent));
  }
  batch.agents.note(id);
  const auto before = find_or_null(agents_, id);
  if (next) {
    agents_[id] = next;
  } else {
    agents_.erase(id);
  }
  if (before && next && before->addresses == next->addresses && before->zone == next->zone) {
    return;
  }
  join_tasks_of(id, batch);
}

void ClusterView::apply_framework(const RecordWrite& write, Batch& batch) {
  if (write.shard.kind != ShardKind::frameworks) return refuse(write, DecodeError::bad_kind);
  const FrameworkId id{write.key.id};
  std::shared_ptr<const Framework> next;
  if (write.value) {
    auto framework = decode_framework(write.key, *write.value);
    if (!framework) return refuse(write, framework.error());
    if (frameworks_.size() >= kMaxOtherRecords && !frameworks_.contains(id)) {
      return refuse(write, DecodeError::too_long);
    }
    next = std::make_shared<const Framework>(std::move(*framework));
  }
  batch.frameworks.note(id);
  const auto before = find_or_null(frameworks_, id);
  if (next) {
    frameworks_[id] = next;
  } else {
    frameworks_.erase(id);
  }
  if (before && next && before->name == next->name) return;
  std::vector<const TaskKey*> keys;
  for (const Tasks* tasks : {&tasks_, &waiting_}) {
    for (auto task = tasks->lower_bound({id, TaskId{}});
         task != tasks->end() && task->first.framework == id; ++task) {
      keys.push_back(&task->first);
    }
  }
  for (const TaskKey* key : keys) join_again(*key, batch);
}

void ClusterView::apply_master(const RecordWrite& write, Batch& batch) {
  if (write.shard.kind != ShardKind::masters) return refuse(write, DecodeError::bad_kind);
  const auto endpoint = Endpoint::parse(write.key.id);
  if (!endpoint) return refuse(write, DecodeError::bad_key);
  if (!write.value) {
    batch.masters.note(*endpoint);
    masters_.erase(*endpoint);
    return;
  }
  auto master = decode_master(write.key, *write.value);
  if (!master) return refuse(write, master.error());
  if (masters_.size() >= kMaxOtherRecords && !masters_.contains(*endpoint)) {
    return refuse(write, DecodeError::too_long);
  }
  batch.masters.note(*endpoint);
  masters_[*endpoint] = std::make_shared<const Master>(std::move(*master));
}

void ClusterView::apply_vip(const RecordWrite& write, Batch& batch) {
  if (write.shard.kind != ShardKind::vips) return refuse(write, DecodeError::bad_kind);
  const VipName name{write.key.id};
  if (!write.value) {
    batch.vips.note(name);
    batch.former_vips.note(name);
    vips_.erase(name);
    former_vips_.erase(name);
    vip_records_.erase(name);
    return;
  }
  auto record = decode_vip(write.key, *write.value);
  if (!record) return refuse(write, record.error());
  if (vips_.size() >= kMaxOtherRecords && !vips_.contains(name)) {
    return refuse(write, DecodeError::too_long);
  }
  batch.vips.note(name);
  vips_[name] = std::make_shared<const VipAllocation>(record->allocation);
  batch.former_vips.note(name);
  if (record->former.empty()) {
    former_vips_.erase(name);
  } else {
    former_vips_[name] = std::make_shared<const FormerVip>(FormerVip{name, record->former});
  }
  vip_records_.insert_or_assign(name, std::move(*record));
}

void ClusterView::apply_complete(const RecordWrite& write) {
  if (write.shard.kind != ShardKind::masters) return refuse(write, DecodeError::bad_kind);
  if (!write.value) {
    complete_record_.reset();
    return;
  }
  const auto record = decode_complete(write.key, *write.value);
  if (!record) return refuse(write, record.error());
  complete_record_ = *record;
}

ClusterDelta ClusterView::set_down(const DownHosts& down) {
  ClusterDelta delta;
  if (down == down_) return delta;
  const DownHosts before = std::exchange(down_, down);
  Batch batch{*this};
  for (const auto& [id, agent] : agents_) {
    if (before.covers(*agent) != down_.covers(*agent)) join_tasks_of(id, batch);
  }
  batch.tasks.finish(delta.tasks);
  return delta;
}

RecordWrite ClusterView::read(const ShardId& shard, const RecordKey& key) const {
  RecordWrite write{shard, key, std::nullopt};
  const auto put = [&write](auto encoded) {
    if (encoded) write.value = std::move(*encoded);
  };
  const bool from_agent = shard.kind == ShardKind::agent_tasks;
  if (key.kind == RecordKind::task && (shard.kind == ShardKind::agent || from_agent)) {
    const auto parsed = parse_task_key(key);
    auto found = parsed ? any_task(*parsed) : nullptr;
    if (found && found->from_agent && !from_agent) found = find_or_null(shadowed_, *parsed);
    if (found && found->from_agent == from_agent && found->agent_id == shard.agent) {
      put(encode(*found));
    }
  } else if (key == speaker_key() && from_agent) {
    const auto found = speakers_.find(shard.agent);
    if (found != speakers_.end()) put(encode(found->second));
  } else if (key.kind == RecordKind::agent && shard == ShardId{ShardKind::agent, AgentId{key.id}}) {
    if (const auto found = agent(AgentId{key.id})) put(encode(*found));
  } else if (key.kind == RecordKind::framework && shard.kind == ShardKind::frameworks) {
    if (const auto found = framework(FrameworkId{key.id})) put(encode(*found));
  } else if (key.kind == RecordKind::vip && shard.kind == ShardKind::vips) {
    const auto found = vip_records_.find(VipName{key.id});
    if (found != vip_records_.end()) put(encode(found->second));
  } else if (key.kind == RecordKind::master && shard.kind == ShardKind::masters) {
    const auto endpoint = Endpoint::parse(key.id);
    const auto found = endpoint ? find_or_null(masters_, *endpoint) : nullptr;
    if (found) put(encode(*found));
  } else if (key == complete_key() && shard.kind == ShardKind::masters) {
    if (complete_record_) put(encode(*complete_record_));
  }
  return write;
}

/// `key`: its own; `known`: any_task() of it.
void ClusterView::put_task(TaskKey key, Task task, const std::shared_ptr<const Task>& known,
                           Batch& batch) {
  const auto agent = agents_.find(task.agent_id);
  const auto framework = frameworks_.find(task.framework_id);
  const bool whole = agent != agents_.end() && framework != frameworks_.end();
  if (whole) {
    task.agent_addresses = agent->second->addresses;
    task.agent_zone = agent->second->zone;
    task.host_down = down_.covers(*agent->second);
    task.framework_name = framework->second->name;
  }
  Tasks& to = whole ? tasks_ : waiting_;
  Tasks& from = whole ? waiting_ : tasks_;
  if (known) {
    if (known->agent_id != task.agent_id) remove_task(key, batch);
  } else if (tasks_.size() + waiting_.size() >= kMaxTasks) {
    return note_problem({"task_limit", "task " + key.task.str(),
                         "there are " + std::to_string(kMaxTasks) + " tasks already"});
  }
  // The node moves with its key, at which of_agent_ points.
  if (auto node = known ? from.extract(key) : Tasks::node_type{}) {
    batch.tasks.note(key, whole ? nullptr : node.mapped());
    to.insert(std::move(node));
  }
  const auto size = to.size();
  const auto place = to.try_emplace(to.end(), std::move(key));  // much comes in order
  batch.tasks.note(place->first, whole ? place->second : nullptr);
  if (to.size() > size) of_agent_[task.agent_id].insert(&place->first);
  place->second = std::make_shared<const Task>(std::move(task));
}

void ClusterView::remove_task(const TaskKey& key, Batch& batch) {
  batch.tasks.note(key);
  for (Tasks* tasks : {&tasks_, &waiting_}) {
    const auto task = tasks->find(key);
    if (task == tasks->end()) continue;
    const auto index = of_agent_.find(task->second->agent_id);
    index->second.erase(&task->first);
    if (index->second.empty()) of_agent_.erase(index);
    tasks->erase(task);
  }
}

void ClusterView::join_tasks_of(const AgentId& agent, Batch& batch) {
  const auto tasks = of_agent_.find(agent);
  if (tasks == of_agent_.end()) return;
  const std::vector<const TaskKey*> keys{tasks->second.begin(), tasks->second.end()};
  for (const TaskKey* key : keys) join_again(*key, batch);
}

void ClusterView::join_again(const TaskKey& key, Batch& batch) {
  const auto task = any_task(key);
  if (task) put_task(key, Task{*task}, task, batch);
}

std::shared_ptr<const Task> ClusterView::any_task(const TaskKey& key) const {
  auto task = find_or_null(tasks_, key);
  return task ? task : find_or_null(waiting_, key);
}

std::shared_ptr<const Task> ClusterView::task(const TaskKey& key) const {
  return find_or_null(tasks_, key);
}

std::shared_ptr<const Agent> ClusterView::agent(const AgentId& id) const {
  return find_or_null(agents_, id);
}

std::shared_ptr<const Framework> ClusterView::framework(const FrameworkId& id) const {
  return find_or_null(frameworks_, id);
}

void ClusterView::refuse(const RecordWrite& write, DecodeError error) {
  note_problem({"record", describe(write), std::string{to_string(error)}});
}

void ClusterView::note_problem(Problem problem) {
  if (problems_.size() < kMaxProblems) problems_.push_back(std::move(problem));
}

std::vector<Problem> ClusterView::take_problems() {
  return std::exchange(problems_, {});
}

}  // namespace muster::cluster
