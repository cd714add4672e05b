#include <algorithm>
#include <utility>

#include "cluster/core/publisher.hpp"

// Agents that speak for themselves: what they are told to run, and the handing over of it.
namespace muster::cluster {
namespace {

/// How much of the table one call of hand_over() walks through: some milliseconds.
constexpr std::size_t kMaxVisits = 20'000;
constexpr std::size_t kMaxHandedOver = 1000;  // tasks, in one call

}  // namespace

void Publisher::told(const TaskKey& key, const Task* task) {
  const auto known = told_.find(key);
  if (task == nullptr) {
    if (known != told_.end()) drop_told(known, pending_);
    return;
  }
  std::vector<VipUse> uses = vip_uses(*task);
  if (known != told_.end()) {
    if (known->second.agent->first == task->agent_id && known->second.uses == uses) return;
  } else if (told_.size() >= options_.max_tasks) {
    return refuse_one_more(key);
  }
  // The new one first: what both use is used throughout.
  Told told;
  told.agent = agents_.try_emplace(task->agent_id).first;
  told.framework = frameworks_.try_emplace(key.framework).first;
  told.weight = static_cast<std::uint32_t>(std::max<std::size_t>(uses.size(), 1));
  told.uses = std::move(uses);
  for (const VipUse& use : told.uses) vips_.use(use);
  ++told.agent->second.told;
  told.agent->second.told_weight += told.weight;
  told_weight_ += told.weight;
  ++told.framework->second.tasks;
  if (known != told_.end()) drop_told(known, pending_);
  told_.emplace(key, std::move(told));
}

void Publisher::drop_told(std::map<TaskKey, Told>::iterator known, Writes& out) {
  const Told told = std::move(known->second);
  told_.erase(known);
  for (const VipUse& use : told.uses) vips_.release(use);
  --told.agent->second.told;
  told.agent->second.told_weight -= told.weight;
  told_weight_ -= told.weight;
  --told.framework->second.tasks;
  drop_if_done(agents_, told.agent, out);
  drop_if_done(frameworks_, told.framework, out);
}

void Publisher::set_speaker(const AgentId& id, bool speaks, TimePoint now) {
  if (speaks) {
    speakers_.try_emplace(id, Speaker{now + kHandOver});
  } else {
    speakers_.erase(id);
  }
}

/// Withdraws what was written of tasks whose agents have spoken for themselves long enough: one
/// walk for all that are due, in parts.
void Publisher::hand_over(TimePoint now, Writes& out) {
  using Stage = Speaker::Stage;
  if (!hand_over_from_) {
    bool any = false;
    for (auto& [id, speaker] : speakers_) {
      if (speaker.stage != Stage::waits || speaker.due > now) continue;
      speaker.stage = Stage::walks;
      any = true;
    }
    if (!any) return;
    hand_over_from_.emplace();
  }
  std::vector<TaskKey> over;
  std::size_t visits = kMaxVisits;
  auto task = tasks_.lower_bound(*hand_over_from_);
  for (; task != tasks_.end() && visits > 0 && over.size() < kMaxHandedOver; ++task, --visits) {
    const auto speaker = speakers_.find(task->second.agent->first);
    if (speaker != speakers_.end() && speaker->second.stage == Stage::walks) {
      over.push_back(task->first);
    }
  }
  hand_over_from_.reset();
  if (task != tasks_.end()) hand_over_from_ = task->first;
  for (const TaskKey& key : over) remove_task(key, out);
  if (hand_over_from_) return;
  for (auto& [id, speaker] : speakers_) {
    if (speaker.stage == Stage::walks) speaker.stage = Stage::done;
  }
}

}  // namespace muster::cluster
