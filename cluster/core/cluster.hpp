#pragma once

#include <chrono>
#include <cstddef>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "base/cluster_delta.hpp"
#include "base/observation.hpp"
#include "base/result.hpp"
#include "base/time.hpp"
#include "cluster/core/cluster_view.hpp"
#include "cluster/core/hold_down.hpp"
#include "cluster/core/publisher.hpp"
#include "cluster/core/records.hpp"
#include "cluster/core/vip_allocator.hpp"

namespace muster::cluster {

inline constexpr std::size_t kMaxStateBytes = 512U << 20;  // of a saved state; 250 octets a task

struct ClusterOptions {
  HoldDownOptions hold_down;
  VipOptions vips;
  std::size_t max_tasks = kMaxTasks;
};

/// The cluster as a node sees it that observes Mesos for itself: what was observed becomes
/// records (Publisher), records become the view (ClusterView), and what changed in the view goes
/// to whoever serves it. Gossip will carry the records between the two; here they loop back.
///
/// Sans-io: time is passed in, `now` never goes backwards. Not thread-safe, but bound to no
/// thread: one at a time. The deltas' values are shared and immutable.
class Cluster {
 public:
  using WallTime = std::chrono::system_clock::time_point;

  explicit Cluster(ClusterOptions options = {});

  /// Takes an observation whole and returns what changed. A snapshot of 100,000 tasks takes some
  /// 100 ms: where that is too long in one piece, begin() and advance().
  ClusterDelta observe(const Observation&, TimePoint now, WallTime wall);

  /// The same in slices. begin() queues (finishing first what is still queued, if there is any;
  /// that delta is returned); advance() works off about `records` records and returns what they
  /// changed; to be called until !busy(). on_timer() and status() may come in between.
  ClusterDelta begin(Observation, TimePoint now, WallTime wall);
  ClusterDelta advance(std::size_t records, TimePoint now, WallTime wall);
  bool busy() const noexcept;

  /// To be called at next_deadline(): ends holds and retentions. Early calls do nothing.
  ClusterDelta on_timer(TimePoint now, WallTime wall);
  std::optional<TimePoint> next_deadline() const;

  /// The whole state: versioned, checksummed.
  std::vector<std::byte> save() const;
  /// The same in two steps: the first takes references (some ms at 100,000 tasks), the function
  /// it returns does the work and may run on any thread, whatever becomes of this object.
  std::function<std::vector<std::byte>()> prepare_save() const;
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
    std::size_t unused_vips = 0;          // allocations kept without a backend
    std::optional<TimePoint> last_observation;
  };
  Status status(TimePoint now) const;

  /// What was skipped since the last call; bounded, so after a flood not all of it.
  std::vector<Problem> take_problems();

 private:
  void start(const Observation*, TimePoint now);
  ClusterDelta loop_back(const std::vector<RecordWrite>& writes);

  Publisher publisher_;
  ClusterView view_;
  std::optional<Observation> queued_;  // what begin() was given
  bool snapshot_in_work_ = false;
  bool complete_ = false;
  bool observed_ = false;
  std::optional<TimePoint> last_observation_;
  std::vector<Problem> problems_;
};

}  // namespace muster::cluster
