#pragma once

#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/observation.hpp"
#include "base/time.hpp"
#include "cluster/core/hold_down.hpp"
#include "cluster/core/publisher.hpp"
#include "cluster/core/records.hpp"

namespace muster::cluster {

/// What this node says of the Mesos agent beside it, in the shard of that agent's tasks: what is
/// new in each of its answers, and of what it left out only what is believed (HoldDown). The end
/// of a task is believed at once: an agent names the tasks that ended. So what is merely missing is
/// doubted from the first task on, where it is more than the bar's share.
///
/// Sans-io, single-threaded.
class OwnAgent {
 public:
  using WallTime = Publisher::WallTime;

  /// `known`: what stands in that shard, of an earlier life of this node or of another node.
  OwnAgent(HoldDownOptions hold_down, AgentId agent, std::string node,
           std::span<const RecordWrite> known, TimePoint now, WallTime wall);

  const AgentId& agent() const noexcept { return agent_; }
  ShardId shard() const { return {ShardKind::agent_tasks, agent_}; }

  /// A complete snapshot of that agent.
  std::vector<RecordWrite> observe(const Observation&, TimePoint now, WallTime wall);
  std::vector<RecordWrite> on_timer(TimePoint now, WallTime wall);
  std::optional<TimePoint> next_deadline() const { return publisher_.next_deadline(); }

  std::size_t tasks() const noexcept { return publisher_.tasks(); }
  std::size_t held() const noexcept { return publisher_.held_tasks().size(); }
  std::optional<TimePoint> held_since() const { return publisher_.held_tasks().since(); }
  std::vector<Problem> take_problems() { return publisher_.take_problems(); }

 private:
  AgentId agent_;
  std::string node_;
  Publisher publisher_;
  bool spoken_ = false;
};

}  // namespace muster::cluster
