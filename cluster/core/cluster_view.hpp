#pragma once

#include <cstddef>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "base/cluster_delta.hpp"
#include "base/observation.hpp"
#include "base/task.hpp"
#include "cluster/core/liveness.hpp"
#include "cluster/core/records.hpp"

namespace muster::cluster {

inline constexpr std::size_t kMaxProblems = 256;  // kept until somebody takes them

/// The state of the cluster as records tell it, whoever wrote them and in whichever order.
///
/// A task is visible while its own record, its agent's and its framework's are there; until then
/// it waits, unseen. So the view depends on the records alone, not on the order they came in
/// (but for one task id in two agents' shards at once: the last one written is seen). What the node
/// beside an agent says of a task goes before what who observes the master says of it.
class ClusterView {
 public:
  using Tasks = std::map<TaskKey, std::shared_ptr<const Task>>;
  using Agents = std::map<AgentId, std::shared_ptr<const Agent>>;
  using Frameworks = std::map<FrameworkId, std::shared_ptr<const Framework>>;
  using Masters = std::map<Endpoint, std::shared_ptr<const Master>>;
  using FormerVips = std::map<VipName, std::shared_ptr<const FormerVip>>;
  using Vips = std::map<VipName, std::shared_ptr<const VipAllocation>>;

  /// Applies all, then says what differs from before; `complete` is left to the caller. A record
  /// that cannot be read is a Problem and changes nothing; an unknown kind is ignored.
  ClusterDelta apply(std::span<const RecordWrite> writes);

  /// Marks the tasks on these hosts, and no others, as Task::host_down.
  ClusterDelta set_down(const DownHosts&);

  const Tasks& tasks() const noexcept { return tasks_; }
  const Agents& agents() const noexcept { return agents_; }
  const Frameworks& frameworks() const noexcept { return frameworks_; }
  const Masters& masters() const noexcept { return masters_; }
  const Vips& vips() const noexcept { return vips_; }

  /// The allocations with what vips() leaves out: since when, and unused since when.
  const std::map<VipName, VipRecord>& vip_records() const noexcept { return vip_records_; }
  /// Set once a publisher had a complete state; see CompleteRecord.
  const std::optional<CompleteRecord>& complete_record() const noexcept { return complete_record_; }

  /// Agents that somebody speaks for, and who.
  using Speakers = std::map<AgentId, SpeakerRecord>;
  const Speakers& speakers() const noexcept { return speakers_; }
  /// What who observes the master says of tasks that are seen as the node beside their agent says.
  const Tasks& shadowed() const noexcept { return shadowed_; }
  /// Of the tasks of this agent, seen or not: keys of those that the node beside it tells of.
  std::vector<TaskKey> told_by(const AgentId&) const;

  /// What a write with this shard and key would say now; no value: it is not there.
  RecordWrite read(const ShardId&, const RecordKey&) const;

  /// Null: not there (or waiting).
  std::shared_ptr<const Task> task(const TaskKey&) const;
  std::shared_ptr<const Agent> agent(const AgentId&) const;
  std::shared_ptr<const Framework> framework(const FrameworkId&) const;

  /// Tasks whose agent or framework is not known; framework_name and agent_addresses are not
  /// to be relied on.
  const Tasks& waiting() const noexcept { return waiting_; }

  std::vector<Problem> take_problems();

 private:
  struct Batch;
  struct ByKey {
    bool operator()(const TaskKey* a, const TaskKey* b) const noexcept { return *a < *b; }
  };

  void apply_one(const RecordWrite&, Batch&);
  void apply_task(const RecordWrite&, Batch&);
  void apply_agent(const RecordWrite&, Batch&);
  void apply_framework(const RecordWrite&, Batch&);
  void apply_master(const RecordWrite&, Batch&);
  void apply_vip(const RecordWrite&, Batch&);
  void apply_complete(const RecordWrite&);
  void apply_speaker(const RecordWrite&);
  void put_task(TaskKey, Task, const std::shared_ptr<const Task>& known, Batch&);
  void remove_task(const TaskKey&, Batch&);
  void join_tasks_of(const AgentId&, Batch&);
  void join_again(const TaskKey&, Batch&);
  std::shared_ptr<const Task> any_task(const TaskKey&) const;
  void refuse(const RecordWrite&, DecodeError);
  void note_problem(Problem);

  // Invariant: tasks_ and waiting_ share no key; of_agent_ points at the keys of both.
  Tasks tasks_;
  Tasks waiting_;
  Tasks shadowed_;  // their keys are in tasks_ or waiting_, there from_agent, on the same agent
  std::map<AgentId, std::set<const TaskKey*, ByKey>> of_agent_;
  Agents agents_;
  Frameworks frameworks_;
  Masters masters_;
  Vips vips_;
  FormerVips former_vips_;  // of those that have any
  std::map<VipName, VipRecord> vip_records_;
  std::optional<CompleteRecord> complete_record_;
  Speakers speakers_;
  DownHosts down_;
  std::vector<Problem> problems_;
};

}  // namespace muster::cluster
