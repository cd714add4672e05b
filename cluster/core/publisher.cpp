#include "cluster/core/publisher.hpp"

#include <algorithm>
#include <iterator>
#include <tuple>
#include <type_traits>
#include <utility>

#include "base/assert.hpp"

namespace muster::cluster {
namespace {

constexpr std::size_t kMaxPublisherProblems = 256;
/// How many holds end in one call: the rest follow in the next, which is due at once. Some
/// microseconds each, so that ending 100,000 does not stop the control thread.
constexpr std::size_t kMaxReleases = 1000;
constexpr std::int64_t kLongestWaitSeconds = 86'400;

ShardId shard_of(const Framework&) {
  return {ShardKind::frameworks, {}};
}

ShardId owner_shard(const AgentId& id) {
  return {ShardKind::agent, id};
}

ShardId owner_shard(const FrameworkId&) {
  return {ShardKind::frameworks, {}};
}

std::string name_of(const TaskKey& key) {
  return "task " + key.task.str() + " of framework " + key.framework.str();
}

}  // namespace

Publisher::Publisher(PublisherOptions options)
    : options_{options},
      hold_tasks_{options_.hold_down},
      hold_agents_{options_.hold_down},
      hold_frameworks_{options_.hold_down},
      vips_{options_.vips} {}

void Publisher::begin(const Observation* observation, TimePoint now) {
  MUSTER_ASSERT(!busy());
  observation_ = observation;
  phase_ = Phase::gone;
  cursor_ = 0;
  late_ = false;
  last_now_ = now;
  recovering_ = observation->recovering;
  if (observation->snapshot) ++snapshot_;
}

std::vector<RecordWrite> Publisher::step(std::size_t records, TimePoint now, WallTime wall) {
  Writes out;
  std::size_t budget = std::max<std::size_t>(records, 1);
  while (busy() && budget > 0) run_phase(budget, now, wall, out);
  return out;
}

void Publisher::run_phase(std::size_t& budget, TimePoint now, WallTime wall, Writes& out) {
  const auto go_on = [this](bool done, Phase next) {
    if (!done) return;
    phase_ = next;
    cursor_ = 0;
  };
  switch (phase_) {
    case Phase::idle:
      return;
    case Phase::gone:
      judge_gone(now, out);
      return go_on(true, Phase::remove_gone);
    case Phase::remove_gone:
      remove_tasks(budget, out);
      return go_on(removing_.empty(), Phase::owners);
    case Phase::owners:
      put_owners(out);
      return go_on(true, Phase::tasks);
    case Phase::tasks:
      put_tasks(budget, out);
      sweep_from_.reset();
      return go_on(cursor_ == observation_->tasks.size(),
                   observation_->snapshot ? Phase::sweep : Phase::settle);
    case Phase::sweep:
      sweep_tasks(budget);
      return go_on(!sweep_from_, Phase::judge);
    case Phase::judge:
      judge_absent(now, out);
      return go_on(true, Phase::hold_absent);
    case Phase::hold_absent:
      hold_absent(budget, now);
      return go_on(absent_.empty(), Phase::remove_absent);
    case Phase::remove_absent:
      remove_tasks(budget, out);
      return go_on(removing_.empty(), Phase::settle);
    case Phase::settle:
      if (cursor_++ == 0) release_holds(now, out);
      note_time(now, wall);
      write_vips(vips_.settle(last_wall_seconds_, budget), out);
      budget = 0;  // more than one round is wanted only by a large state
      if (vips_.pending()) return;
      // The sweep may have been past what was adopted meanwhile.
      if (std::exchange(late_, false)) return go_on(true, Phase::sweep);
      observation_ = nullptr;
      return go_on(true, Phase::idle);
  }
}

void Publisher::judge_gone(TimePoint now, Writes& out) {
  std::vector<HoldDown<TaskKey>::Candidate> gone;
  const auto add = [&gone](const auto& task, GoneReason reason) {
    gone.push_back({task.first, task.second.weight, reason});
  };
  for (const TaskGone& one : observation_->tasks_gone) {
    if (const auto task = tasks_.find(one.key); task != tasks_.end()) add(*task, one.reason);
    if (one.reason == GoneReason::lost && told_.contains(one.key)) lost_told_ = true;
  }
  for (const FrameworkId& id : observation_->frameworks_gone) {
    for (auto task = tasks_.lower_bound({id, TaskId{}});
         task != tasks_.end() && task->first.framework == id; ++task) {
      add(*task, GoneReason::framework_removed);
    }
  }
  for (const AgentId& id : observation_->agents_gone) {
    const auto agent = agents_.find(id);
    if (agent == agents_.end() || agent->second.tasks == 0) continue;
    // Rare enough for a walk: Mesos says this of an agent that unregisters, after its tasks'
    // own updates, so that usually none is left here.
    for (const auto& task : tasks_) {
      if (task.second.agent == agent) add(task, GoneReason::lost);
    }
  }
  // A task named twice is one task; its explicit end counts.
  const auto by_key = [](const auto& a, const auto& b) {
    return std::tie(a.key, a.reason) < std::tie(b.key, b.reason);
  };
  std::sort(gone.begin(), gone.end(), by_key);
  gone.erase(std::unique(gone.begin(), gone.end(),
                         [](const auto& a, const auto& b) { return a.key == b.key; }),
             gone.end());
  removing_ = hold_tasks_.judge(std::move(gone), weight_, recovering_, now);
  for (const FrameworkId& id : observation_->frameworks_gone) let_go(frameworks_, id, out);
  for (const AgentId& id : observation_->agents_gone) let_go(agents_, id, out);
}

void Publisher::remove_tasks(std::size_t& budget, Writes& out) {
  for (; !removing_.empty() && budget > 0; --budget) {
    remove_task(removing_.back(), out);
    removing_.pop_back();
  }
}

void Publisher::put_owners(Writes& out) {
  if (options_.own_agent) return;  // of whom others write
  if (observation_->masters) put_masters(*observation_->masters, out);
  for (const Framework& framework : observation_->frameworks) {
    put_owner(frameworks_, hold_frameworks_, framework, out);
  }
  for (const Agent& agent : observation_->agents) put_owner(agents_, hold_agents_, agent, out);
}

void Publisher::put_tasks(std::size_t& budget, Writes& out) {
  for (; cursor_ < observation_->tasks.size() && budget > 0; --budget) {
    put_task(observation_->tasks[cursor_++], out);
  }
}

void Publisher::sweep_tasks(std::size_t& budget) {
  auto task = sweep_from_ ? tasks_.lower_bound(*sweep_from_) : tasks_.begin();
  for (; task != tasks_.end() && budget > 0; ++task, --budget) {
    if (task->second.seen == snapshot_ || hold_tasks_.holds(task->first)) continue;
    absent_.push_back(task->first);
    absent_weight_ += task->second.weight;
  }
  sweep_from_.reset();
  if (task != tasks_.end()) sweep_from_ = task->first;
}

void Publisher::judge_absent(TimePoint now, Writes& out) {
  const std::size_t weight = std::exchange(absent_weight_, 0);
  if (hold_tasks_.believes(GoneReason::absent, weight, weight_, recovering_, now)) {
    hold_tasks_.take(weight, now);
    removing_ = std::exchange(absent_, {});
  }
  sweep_owners(frameworks_, hold_frameworks_, now, out);
  sweep_owners(agents_, hold_agents_, now, out);
}

void Publisher::hold_absent(std::size_t& budget, TimePoint now) {
  for (; !absent_.empty() && budget > 0; --budget) {
    // A timer may have ended it since the sweep went by.
    if (const auto task = tasks_.find(absent_.back()); task != tasks_.end()) {
      hold_tasks_.hold(task->first, task->second.weight, recovering_, now);
    }
    absent_.pop_back();
  }
}

void Publisher::put_task(const Task& task, Writes& out) {
  const TaskKey key = key_of(task);
  auto encoded = encode(task);
  if (!encoded) {
    // It was seen all the same: an earlier state of it stays, as after any problem.
    if (const auto known = tasks_.find(key); known != tasks_.end()) known->second.seen = snapshot_;
    refuse("task", name_of(key), std::string{to_string(encoded.error())});
    return;
  }
  // Its agent's node has it, or will say that it is over; until the handing over both do.
  if (speakers_.contains(task.agent_id) && !tasks_.contains(key)) return;
  Entry* const found = move_or_add(key, task, out);
  if (found == nullptr) return;
  Entry& entry = *found;
  entry.seen = snapshot_;
  hold_tasks_.forget(key);
  const std::uint64_t hash = content_hash(*encoded);
  if (entry.hash == hash) return;
  entry.hash = hash;
  note_uses(entry, task);
  out.push_back({task_shard(task.agent_id), record_key(key), std::move(*encoded)});
}

void Publisher::note_uses(Entry& entry, const Task& task) {
  std::vector<VipUse> uses = vip_uses(task);
  if (uses != entry.uses) {
    if (!options_.own_agent) {
      for (const VipUse& use : uses) vips_.use(use);
      for (const VipUse& use : entry.uses) vips_.release(use);
    }
    uses.shrink_to_fit();
    entry.uses = std::move(uses);
  }
  weight_ -= entry.weight;
  entry.weight = static_cast<std::uint32_t>(std::max<std::size_t>(entry.uses.size(), 1));
  weight_ += entry.weight;
}

/// Makes sure there is an entry, under the right agent. One that is new or moved has hash 0, so
/// that it will be written. Null: there is no room.
Publisher::Entry* Publisher::move_or_add(const TaskKey& key, const Task& task, Writes& out) {
  const auto known = tasks_.lower_bound(key);
  if (known != tasks_.end() && known->first == key) {
    if (known->second.agent->first == task.agent_id) return &known->second;
    const auto old = known->second.agent;
    out.push_back({task_shard(old->first), record_key(key), std::nullopt});
    known->second.agent = agents_.try_emplace(task.agent_id).first;
    known->second.hash = 0;
    ++known->second.agent->second.tasks;
    --old->second.tasks;
    drop_if_done(agents_, old, out);
    return &known->second;
  }
  if (tasks_.size() >= options_.max_tasks) {
    refuse_one_more(key);
    return nullptr;
  }
  Entry entry;
  entry.agent = agents_.try_emplace(task.agent_id).first;
  ++entry.agent->second.tasks;
  ++frameworks_[key.framework].tasks;
  weight_ += entry.weight;
  return &tasks_.emplace_hint(known, key, std::move(entry))->second;
}

void Publisher::remove_task(const TaskKey& key, Writes& out) {
  const auto task = tasks_.find(key);
  if (task == tasks_.end()) return;
  hold_tasks_.forget(key);
  const auto agent = task->second.agent;
  const auto framework = frameworks_.find(key.framework);
  out.push_back({task_shard(agent->first), record_key(key), std::nullopt});
  if (!options_.own_agent) {
    for (const VipUse& use : task->second.uses) vips_.release(use);
  }
  weight_ -= task->second.weight;
  tasks_.erase(task);
  --agent->second.tasks;
  --framework->second.tasks;
  drop_if_done(agents_, agent, out);
  drop_if_done(frameworks_, framework, out);
}

template <class Map, class Value, class Hold>
void Publisher::put_owner(Map& map, Hold& hold, const Value& value, Writes& out) {
  auto encoded = encode(value);
  const auto known = map.find(value.id);
  if (!encoded) {
    if (known != map.end()) known->second.seen = snapshot_;
    refuse("record", "agent or framework " + value.id.str(),
           std::string{to_string(encoded.error())});
    return;
  }
  Owner& owner = known != map.end() ? known->second : map[value.id];
  hold.forget(value.id);
  owner.seen = snapshot_;
  owner.leaving = false;
  const std::uint64_t hash = content_hash(*encoded);
  if (owner.published && owner.hash == hash) return;
  owner.published = true;
  owner.hash = hash;
  out.push_back({shard_of(value), record_key(value.id), std::move(*encoded)});
}

template <class Map, class Hold>
void Publisher::sweep_owners(Map& map, Hold& hold, TimePoint now, Writes& out) {
  std::vector<typename Hold::Candidate> absent;
  for (const auto& [id, owner] : map) {
    if (!owner.published || owner.leaving || owner.seen == snapshot_) continue;
    absent.push_back({id, 1 + owner.told_weight});  // with it goes from sight what it was told of
  }
  std::size_t present = map.size();
  if constexpr (std::is_same_v<Map, Agents>) present += told_weight_;
  for (const auto& id : hold.judge(std::move(absent), present, recovering_, now)) {
    let_go(map, id, out);
  }
}

template <class Map>
void Publisher::let_go(Map& map, const typename Map::key_type& id, Writes& out) {
  const auto owner = map.find(id);
  if (owner == map.end()) return;
  if constexpr (std::is_same_v<Map, Agents>) {
    hold_agents_.forget(id);
  } else {
    hold_frameworks_.forget(id);
  }
  owner->second.leaving = true;
  drop_if_done(map, owner, out);
}

template <class Map>
void Publisher::drop_if_done(Map& map, typename Map::iterator owner, Writes& out) {
  Owner& state = owner->second;
  if (state.tasks > 0 || (state.published && !state.leaving)) return;
  if (state.published) {
    out.push_back({owner_shard(owner->first), record_key(owner->first), std::nullopt});
    state.published = state.leaving = false;
  }
  if (state.told == 0) map.erase(owner);
}

template void Publisher::drop_if_done(Agents&, Agents::iterator, Writes&);
template void Publisher::drop_if_done(Frameworks&, Frameworks::iterator, Writes&);

void Publisher::put_masters(const std::vector<Master>& masters, Writes& out) {
  std::map<Endpoint, const Master*> named;
  for (const Master& master : masters) {
    const auto [it, added] = named.try_emplace(master.endpoint, &master);
    if (!added && master.leading) it->second = &master;
  }
  const ShardId shard{ShardKind::masters, {}};
  std::erase_if(masters_, [&](const auto& known) {
    if (named.contains(known.first)) return false;
    out.push_back({shard, record_key(known.first), std::nullopt});
    return true;
  });
  for (const auto& [endpoint, master] : named) {
    auto encoded = encode(*master);
    if (!encoded) {
      refuse("record", "master " + cluster::record_key(endpoint).id,
             std::string{to_string(encoded.error())});
      continue;
    }
    const std::uint64_t hash = content_hash(*encoded);
    const auto [known, added] = masters_.try_emplace(endpoint, hash);
    if (!added && known->second == hash) continue;
    known->second = hash;
    out.push_back({shard, record_key(endpoint), std::move(*encoded)});
  }
}

std::vector<RecordWrite> Publisher::on_timer(TimePoint now, WallTime wall) {
  Writes out = std::exchange(pending_, {});
  hand_over(now, out);
  release_holds(now, out);
  note_time(now, wall);
  write_vips(vips_.expire(last_wall_seconds_), out);
  write_vips(vips_.settle(last_wall_seconds_), out);
  return out;
}

std::optional<TimePoint> Publisher::next_deadline() const {
  std::optional<TimePoint> first;
  const auto consider = [&first](std::optional<TimePoint> deadline) {
    if (deadline && (!first || *deadline < *first)) first = deadline;
  };
  consider(hold_tasks_.next_deadline());
  consider(hold_agents_.next_deadline());
  consider(hold_frameworks_.next_deadline());
  // While an observation is in work its last step settles the VIPs.
  const bool unsettled = !busy() && vips_.pending();
  if (hand_over_from_ || !pending_.empty() || unsettled) consider(last_now_);
  for (const auto& [id, speaker] : speakers_) {
    if (speaker.stage == Speaker::Stage::waits) consider(speaker.due);
  }
  if (const auto expiry = vips_.next_expiry()) {
    // Never at once again and again, whatever the wall clock does.
    const auto wait =
        std::clamp<std::int64_t>(*expiry - last_wall_seconds_, 1, kLongestWaitSeconds);
    consider(last_now_ + std::chrono::seconds{wait});
  }
  return first;
}

void Publisher::release_holds(TimePoint now, Writes& out) {
  for (const TaskKey& key : hold_tasks_.release(weight_, recovering_, now, kMaxReleases)) {
    remove_task(key, out);
  }
  for (const AgentId& id :
       hold_agents_.release(agents_.size() + told_weight_, recovering_, now, kMaxReleases)) {
    let_go(agents_, id, out);
  }
  for (const FrameworkId& id :
       hold_frameworks_.release(frameworks_.size(), recovering_, now, kMaxReleases)) {
    let_go(frameworks_, id, out);
  }
}

void Publisher::write_vips(const std::vector<VipAllocator::Changed>& changed, Writes& out) {
  const ShardId shard{ShardKind::vips, {}};
  for (const auto& [name, record] : changed) {
    if (!record) {
      out.push_back({shard, record_key(name), std::nullopt});
      continue;
    }
    auto encoded = encode(*record);
    if (!encoded) {
      refuse("record", "VIP " + name.str(), std::string{to_string(encoded.error())});
      continue;
    }
    out.push_back({shard, record_key(name), std::move(*encoded)});
  }
}

void Publisher::refuse(std::string kind, std::string where, std::string what) {
  if (problems_.size() >= kMaxPublisherProblems) return;
  problems_.push_back({std::move(kind), std::move(where), std::move(what)});
}

void Publisher::refuse_one_more(const TaskKey& key) {
  refuse("task_limit", name_of(key),
         "there are " + std::to_string(options_.max_tasks) + " tasks already");
}

void Publisher::note_time(TimePoint now, WallTime wall) {
  last_now_ = now;
  last_wall_seconds_ =
      std::chrono::duration_cast<std::chrono::seconds>(wall.time_since_epoch()).count();
}

std::vector<Problem> Publisher::take_problems() {
  std::vector<Problem> all = std::exchange(problems_, {});
  for (Problem& problem : vips_.take_problems()) all.push_back(std::move(problem));
  return all;
}

}  // namespace muster::cluster
