#pragma once

#include <chrono>
#include <cstddef>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <utility>
#include <vector>

#include "base/cluster_delta.hpp"
#include "base/member.hpp"
#include "base/observation.hpp"
#include "base/result.hpp"
#include "base/time.hpp"
#include "cluster/core/cluster_view.hpp"
#include "cluster/core/hold_down.hpp"
#include "cluster/core/liveness.hpp"
#include "cluster/core/own_agent.hpp"
#include "cluster/core/publisher.hpp"
#include "cluster/core/records.hpp"
#include "cluster/core/unconfirmed.hpp"
#include "cluster/core/vip_allocator.hpp"

namespace muster::cluster {

inline constexpr std::size_t kMaxStateBytes = 512U << 20;  // of a saved state; 250 octets a task

struct ClusterOptions {
  HoldDownOptions hold_down;
  VipOptions vips;
  std::size_t max_tasks = kMaxTasks;
  /// Others hold the same records: the node begins as a follower (see lead()), and what it writes
  /// as a publisher waits in take_writes(). False: it observes for itself alone.
  bool replicated = false;
  /// This node asks the agent beside it: observe_agent(). False: should it have done so in an
  /// earlier life, it resigns.
  bool speaks = false;
};

/// VIP addresses given in vain that are told, and that are heard and not yet settled.
inline constexpr std::size_t kMaxClaims = 10'000;

/// Observations waiting while another is worked off; beyond, the work is finished in one go.
inline constexpr std::size_t kMaxWaitingObservations = 4096;

/// Shards that this node writes by itself, beside who publishes: to be done in this order.
struct OwnShards {
  std::vector<ShardId> take;
  std::vector<RecordWrite> writes;
  std::vector<ShardId> leave;
  bool empty() const noexcept { return take.empty() && writes.empty() && leave.empty(); }
};

class Cluster;

/// Saves a state without stopping who works with it: collect() takes references, in slices;
/// write() does the work, on any thread, whatever has become of the Cluster meanwhile. What
/// changes between slices is in it in one of its states or not at all: as if it had been saved a
/// moment earlier or later, and the next snapshot sets that right.
class SaveJob {
 public:
  /// Goes on for `tasks` tasks; true when there is nothing left to collect. One Cluster only.
  bool collect(const Cluster&, std::size_t tasks);
  std::vector<std::byte> write() const;

 private:
  bool complete_ = false;
  std::optional<TaskKey> from_;
  std::vector<std::shared_ptr<const Task>> tasks_;
  std::vector<std::shared_ptr<const Agent>> agents_;
  std::vector<std::shared_ptr<const Framework>> frameworks_;
  std::vector<std::shared_ptr<const Master>> masters_;
  std::vector<VipRecord> vips_;
};

/// The cluster as this node sees it: what a publisher observed becomes records (Publisher),
/// records become the view (ClusterView), and what changed in the view goes to whoever serves it.
/// Where others hold the same records, one node leads, which is to say publishes, and the rest
/// follow: replicate() brings what it wrote.
///
/// What runs on an agent may be told by the node beside it instead (observe_agent()), leading or
/// not: such an agent speaks for itself, and who leads leaves its tasks alone (Publisher).
///
/// Sans-io: time is passed in, `now` never goes backwards. Not thread-safe, but bound to no
/// thread: one at a time. The deltas' values are shared and immutable.
class Cluster {
 public:
  using WallTime = std::chrono::system_clock::time_point;
  /// After a complete state is there, the last pieces of it may still be on their way.
  static constexpr Duration kSettle{200};
  static constexpr Duration kDropUnconfirmed{2'000};
  /// A shard that another took is taken back, but no more often: two nodes that ask one agent.
  static constexpr Duration kTakeBack{30'000};
  static constexpr Duration kAskAnew{30'000};
  /// What a node said of an agent is kept so long after Mesos last knew that agent.
  static constexpr Duration kAbandoned = std::chrono::hours{1};

  explicit Cluster(ClusterOptions options = {});

  /// This node publishes from now on: what it knows is adopted, in slices by advance(), before
  /// the first observation; all of it comes out of take_writes() too, because the others may
  /// lack some. To be called when an observation, a snapshot, is at hand. Must be following.
  void lead();
  /// Another publishes: whatever is in work is dropped, and what this node wrote last has to be
  /// confirmed: give replicate() everything that is replicated. Returns what is no longer needed;
  /// at 100,000 tasks its destruction takes tens of milliseconds.
  std::shared_ptr<void> follow();
  bool leading() const noexcept { return publisher_ != nullptr; }

  /// What replication brought. While leading, what differs from this node's own is set right
  /// (take_writes()), but for what it did not know when it took over.
  ClusterDelta replicate(std::span<const RecordWrite>, TimePoint now);
  /// What this node has published since the last call. Only with ClusterOptions::replicated.
  std::vector<RecordWrite> take_writes();
  /// What this node, having published in vain, wants the one who publishes to know: VIP addresses
  /// that it gave. To be offered (not published: this node may not) in a shard of kind `claims`.
  std::vector<RecordWrite> take_claims();

  /// Who this node is to the others; before anything is observed or replicated.
  void set_self(NodeId self) { self_ = std::move(self); }
  /// A complete snapshot of the agent beside this node, and of nothing else; works it off at once
  /// (10 to 20 us a changed task). What was said of an agent with another id before goes.
  ClusterDelta observe_agent(const Observation&, TimePoint now, WallTime wall);
  /// What is to be written for it. Only with ClusterOptions::replicated.
  OwnShards take_own() { return std::exchange(own_out_, {}); }
  /// Another node writes this shard of take_own() under a higher term.
  void own_lost(const ShardId&, TimePoint now);
  /// True when the master should be asked anew, so that the next thing observed is a snapshot: for
  /// what no event tells. Once each time it is wanted, and in kAskAnew.
  bool take_wants_snapshot(TimePoint now);

  /// The members whose status or profile changed. Their hosts' tasks change with them.
  ClusterDelta set_members(std::span<const Member>, TimePoint now);
  const Liveness& liveness() const noexcept { return liveness_; }

  /// Takes an observation whole and returns what changed. For events, and for snapshots where it
  /// may take its time (about a second of CPU for the first one of 100,000 tasks). While busy()
  /// it has to wait, and nothing is returned. A follower takes none: nothing happens.
  ClusterDelta observe(const Observation&, TimePoint now, WallTime wall);

  /// The same in slices. begin() takes it on; advance() works off about `records` records (10 to
  /// 20 us each) and returns what they changed; to be called until !busy(). Anything else may come
  /// in between; each delta holds true by itself, and a complete first snapshot is `complete` with
  /// its last one. A further snapshot takes the place of all that waits. Whoever keeps a reference
  /// of its own decides where the observation is destroyed: some 60 ms at 100,000 tasks.
  ClusterDelta begin(std::shared_ptr<const Observation>, TimePoint now, WallTime wall);
  ClusterDelta advance(std::size_t records, TimePoint now, WallTime wall);
  bool busy() const noexcept;

  /// To be called at next_deadline(): ends holds and retentions. Early calls do nothing.
  ClusterDelta on_timer(TimePoint now, WallTime wall);
  std::optional<TimePoint> next_deadline() const;

  /// The whole state: versioned, checksummed. See SaveJob for doing it piece by piece.
  std::vector<std::byte> save() const;
  /// Brings a saved state back, at start, before anything was observed. delta.complete is true
  /// if the state was complete when it was saved. What the first snapshots then leave out is held
  /// or believed by the usual rules. Errors: the bytes as a whole are wrong, nothing was taken. A
  /// single bad record is a Problem, and so is a record of a later version.
  Result<ClusterDelta, DecodeError> restore(std::span<const std::byte>, TimePoint now,
                                            WallTime wall);

  const ClusterView& view() const noexcept;
  struct Status {
    bool complete = false;    // a complete snapshot was seen, or a state restored
    bool observed = false;    // a complete snapshot was seen since the start
    bool recovering = false;  // the master still waits for agents, by the last observation
    std::size_t held_tasks = 0;
    std::size_t held_agents = 0;
    std::size_t held_frameworks = 0;
    std::optional<TimePoint> held_since;  // the oldest hold
    std::size_t waiting_tasks = 0;        // records whose agent or framework is not known yet
    std::size_t speakers = 0;             // agents that speak for themselves
    AgentId own_agent;                    // of them the one beside this node; empty: none
    std::size_t own_tasks = 0;            // of it
    std::size_t own_held = 0;             // of these, those that it left out
  };
  Status status(TimePoint now) const;

  /// What was skipped since the last call; bounded, so after a flood not all of it.
  std::vector<Problem> take_problems();

 private:
  void start(std::shared_ptr<const Observation>, TimePoint now);
  void start_next(TimePoint now);
  std::vector<RecordWrite> adopt_slice(std::size_t records, TimePoint now, WallTime wall);
  ClusterDelta apply(std::span<const RecordWrite> writes);
  void tell_publisher(const ClusterDelta&);
  ClusterDelta write_own(std::vector<RecordWrite> writes);
  bool is_own(const ShardId& shard) const { return own_ && shard == own_->shard(); }
  void set_own_right(std::span<const RecordWrite> writes);
  void take_back(TimePoint now);
  ClusterDelta empty_shard(const AgentId&);
  ClusterDelta resign_if_spoke();
  ClusterDelta bury_abandoned(TimePoint now);
  ClusterDelta hear_agents(std::span<const RecordWrite> writes);
  void note_speakers(std::span<const RecordWrite> writes);
  std::vector<RecordWrite> drop_unconfirmed_tasks();
  std::vector<RecordWrite> drop_heard_tasks(TimePoint now);
  bool may_drop_tasks() const;
  ClusterDelta loop_back(std::vector<RecordWrite> writes);
  ClusterDelta finish(ClusterDelta);
  void make_claims(std::span<const RecordWrite> writes);
  void hear_claims(std::span<const RecordWrite> writes);
  std::vector<RecordWrite> settle_claims();
  bool believes(const RecordWrite&);
  std::vector<RecordWrite> drop_unnamed(std::span<const RecordWrite> named);
  void mark_complete(std::vector<RecordWrite>& writes);
  void watch_completeness(TimePoint now);
  std::vector<Unconfirmed::Name> all_names() const;

  /// Where the adoption of what is known has got to.
  struct Adoption {
    bool owners = false;
    bool waiting = true;  // walks the tasks that wait for their agent or framework, then the rest
    std::optional<TaskKey> from;
  };

  ClusterOptions options_;
  std::unique_ptr<Publisher> publisher_;  // null: following
  std::optional<Adoption> adoption_;
  ClusterView view_;
  Liveness liveness_;
  Unconfirmed unconfirmed_;
  /// The same of one shard of kind agent_tasks. Who speaks for it may be heard before all of its
  /// tasks are: gossip gives a young shard by its changes, in the order they were made.
  struct UnconfirmedTasks {
    Unconfirmed names;
    std::optional<TimePoint> drop_at;
  };
  std::map<AgentId, UnconfirmedTasks> unconfirmed_tasks_;
  NodeId self_;
  std::unique_ptr<OwnAgent> own_;  // null: nothing was heard of the agent beside this node
  OwnShards own_out_;
  std::optional<TimePoint> take_back_at_;  // set: another writes our shard
  std::optional<TimePoint> taken_back_;
  bool wants_snapshot_ = false;
  std::optional<TimePoint> asked_anew_;
  // Leading: speakers whose shards are to be emptied, and since when that is known.
  std::map<AgentId, TimePoint> abandoned_;                // Mesos knows them no more
  std::map<AgentId, std::optional<TimePoint>> resigned_;  // set: a snapshot was worked off then
  std::optional<TimePoint> next_burial_;
  std::set<RecordKey> own_foreign_;  // what another wrote to our shard, until it is taken back
  TimePoint last_now_{};
  std::optional<TimePoint> settled_at_;  // following: when the state seen to be complete counts
  std::optional<TimePoint> drop_at_;
  std::vector<RecordWrite> writes_;
  bool claiming_ = false;  // following since a higher term, and not yet of one mind with it
  std::vector<RecordWrite> claims_;
  std::map<std::pair<ShardId, RecordKey>, std::vector<std::byte>> heard_claims_;
  std::shared_ptr<const Observation> in_work_;
  std::deque<std::shared_ptr<const Observation>> waiting_;
  bool snapshot_in_work_ = false;
  bool complete_ = false;
  bool observed_ = false;
  std::vector<Problem> problems_;
};

}  // namespace muster::cluster
