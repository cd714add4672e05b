#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "base/observation.hpp"
#include "base/time.hpp"
#include "cluster/core/hold_down.hpp"
#include "cluster/core/records.hpp"
#include "cluster/core/vip_allocator.hpp"

namespace muster::cluster {

struct PublisherOptions {
  HoldDownOptions hold_down;
  VipOptions vips;
  std::size_t max_tasks = kMaxTasks;
  /// Of what one agent says to the node beside it: tasks alone are written, to that agent's own
  /// shard.
  bool own_agent = false;
};

/// Turns observations into record writes: only what changed, and only the disappearances that
/// are believed (HoldDown). Knows of each record it has published a content hash, not the content.
///
/// An agent's or framework's record outlives its last task's, so that a reader can always
/// complete a task.
///
/// An agent that speaks for itself (set_speaker()) has its tasks told, not observed: they are not
/// written here, but use VIPs, keep their framework's record and weigh when their agent's
/// disappearance is judged. What was written of them goes kHandOver after their agent began to
/// speak, when every reader has heard it.
class Publisher {
 public:
  using WallTime = std::chrono::system_clock::time_point;
  static constexpr Duration kHandOver{10'000};

  explicit Publisher(PublisherOptions options);

  /// Records that are published already: a restored state, or what an earlier publisher wrote.
  /// Returns what has to be corrected in it. Records it cannot read are ignored.
  std::vector<RecordWrite> adopt(std::span<const RecordWrite>, TimePoint now, WallTime wall);
  /// The same piece by piece; what has to be corrected is in what settle() returns.
  void adopt_some(std::span<const RecordWrite>);
  std::vector<RecordWrite> settle(TimePoint now, WallTime wall);
  /// Of what an earlier publisher wrote: this task is over. False: a snapshot has named it since.
  bool adopt_end(const TaskKey&, const AgentId&);
  /// The snapshot last begun has named it: whatever was written before is older.
  bool has_seen(const TaskKey&) const;

  /// Allocations of VIP addresses that another made in vain. Returns what has to be corrected.
  std::vector<RecordWrite> claim(std::span<const RecordWrite>);

  /// What the node beside an agent says of a task; null: no more. What follows from it comes out
  /// of on_timer(), which is due at once.
  void told(const TaskKey&, const Task*);
  void set_speaker(const AgentId&, bool speaks, TimePoint now);
  /// True once after the master lost sight of told tasks: it names no agent that it loses, only
  /// the next snapshot does.
  bool take_lost_told() { return std::exchange(lost_told_, false); }

  /// Starts on an observation, which must stay until !busy(). Must not be busy.
  void begin(const Observation*, TimePoint now);
  /// Goes on for about `records` records.
  std::vector<RecordWrite> step(std::size_t records, TimePoint now, WallTime wall);
  bool busy() const noexcept { return phase_ != Phase::idle; }

  std::vector<RecordWrite> on_timer(TimePoint now, WallTime wall);
  std::optional<TimePoint> next_deadline() const;

  bool recovering() const noexcept { return recovering_; }
  const HoldDown<TaskKey>& held_tasks() const noexcept { return hold_tasks_; }
  const HoldDown<AgentId>& held_agents() const noexcept { return hold_agents_; }
  const HoldDown<FrameworkId>& held_frameworks() const noexcept { return hold_frameworks_; }
  const VipAllocator& vips() const noexcept { return vips_; }
  std::size_t tasks() const noexcept { return tasks_.size(); }

  std::vector<Problem> take_problems();

 private:
  // An agent or framework, published or only referred to by tasks.
  struct Owner {
    std::uint64_t hash = 0;
    std::uint32_t seen = 0;  // the snapshot that named it last
    bool published = false;
    bool leaving = false;   // goes with its last task
    std::size_t tasks = 0;  // of a framework: told ones as well
    std::size_t told = 0;   // of an agent
    std::size_t told_weight = 0;
  };
  using Agents = std::map<AgentId, Owner>;
  using Frameworks = std::map<FrameworkId, Owner>;
  struct Entry {
    Agents::iterator agent;
    std::uint64_t hash = 0;
    std::uint32_t seen = 0;
    std::uint32_t weight = 1;
    std::vector<VipUse> uses;
  };
  struct Told {
    Agents::iterator agent;
    Frameworks::iterator framework;
    std::uint32_t weight = 1;
    std::vector<VipUse> uses;
  };
  /// An agent that speaks for itself, and how far the handing over of its tasks is.
  struct Speaker {
    TimePoint due;
    enum class Stage : std::uint8_t { waits, walks, done } stage = Stage::waits;
  };
  using Writes = std::vector<RecordWrite>;
  /// In the order they are run. What went is taken away first, so that a thing both gone and
  /// there ends up there.
  enum class Phase : std::uint8_t {
    idle,
    gone,
    remove_gone,
    owners,
    tasks,
    sweep,  // snapshots only: which tasks were not named
    judge,
    hold_absent,  // one of these two does something
    remove_absent,
    settle,
  };

  void run_phase(std::size_t& budget, TimePoint now, WallTime wall, Writes& out);
  void judge_gone(TimePoint now, Writes& out);
  void remove_tasks(std::size_t& budget, Writes& out);
  void put_owners(Writes& out);
  void put_tasks(std::size_t& budget, Writes& out);
  void sweep_tasks(std::size_t& budget);
  void judge_absent(TimePoint now, Writes& out);
  void hold_absent(std::size_t& budget, TimePoint now);

  ShardId task_shard(const AgentId& agent) const {
    return {options_.own_agent ? ShardKind::agent_tasks : ShardKind::agent, agent};
  }
  void note_uses(Entry&, const Task&);
  void drop_told(std::map<TaskKey, Told>::iterator, Writes& out);
  void hand_over(TimePoint now, Writes& out);
  void put_task(const Task&, Writes& out);
  Entry* move_or_add(const TaskKey&, const Task&, Writes& out);
  void remove_task(const TaskKey&, Writes& out);
  void put_masters(const std::vector<Master>&, Writes& out);
  void release_holds(TimePoint now, Writes& out);
  void write_vips(const std::vector<VipAllocator::Changed>&, Writes& out);
  void adopt_one(const RecordWrite&);
  template <class Map, class Value, class Hold>
  void put_owner(Map&, Hold&, const Value&, Writes& out);
  template <class Map, class Hold>
  void sweep_owners(Map&, Hold&, TimePoint now, Writes& out);
  template <class Map>
  void let_go(Map&, const typename Map::key_type&, Writes& out);
  template <class Map>
  void drop_if_done(Map&, typename Map::iterator, Writes& out);
  void refuse(std::string kind, std::string where, std::string what);
  void refuse_one_more(const TaskKey&);
  void note_time(TimePoint now, WallTime wall);

  PublisherOptions options_;
  Agents agents_;
  Frameworks frameworks_;
  std::map<TaskKey, Entry> tasks_;
  std::map<Endpoint, std::uint64_t> masters_;  // content hashes
  std::map<TaskKey, Told> told_;
  std::map<AgentId, Speaker> speakers_;
  std::optional<TaskKey> hand_over_from_;  // where the walk through tasks_ is
  bool lost_told_ = false;
  Writes pending_;               // for the next on_timer()
  std::size_t told_weight_ = 0;  // of all in told_
  std::size_t weight_ = 0;       // of all in tasks_
  std::uint32_t snapshot_ = 0;   // counts snapshots; Entry::seen compares
  bool recovering_ = false;

  HoldDown<TaskKey> hold_tasks_;
  HoldDown<AgentId> hold_agents_;
  HoldDown<FrameworkId> hold_frameworks_;
  VipAllocator vips_;

  // Where begin() and step() are.
  const Observation* observation_ = nullptr;
  Phase phase_ = Phase::idle;
  std::size_t cursor_ = 0;
  std::optional<TaskKey> sweep_from_;
  bool late_ = false;  // something was adopted while a snapshot is in work
  std::vector<TaskKey> absent_;
  std::size_t absent_weight_ = 0;
  std::vector<TaskKey> removing_;

  TimePoint last_now_{};
  std::int64_t last_wall_seconds_ = 0;
  std::vector<Problem> problems_;
};

}  // namespace muster::cluster
