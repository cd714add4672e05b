#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/rng.hpp"
#include "dev/master_model.hpp"

namespace muster::dev {

/// Where a master is in its life. Each answers differently; see master_api.hpp.
enum class MasterPhase : std::uint8_t {
  starting,    // the port is open and the routes are not there yet: 404 everywhere
  recovering,  // /state is 200 and empty, the operator API 503
  leading,
  standby,  // another one leads: redirects
};

/// The emulated master: what it knows, and the operator API events each change makes.
///
/// Deterministic and sans-io: times come in as arguments, ids from the seed. Events are kept
/// until take_events(); the caller sends them to its subscribers in that order.
///
/// A restart forgets what a real master forgets. Agents and tasks are then known again only as
/// their agents come back (`agent_returns`); updates of tasks whose agent has not are taken
/// silently, as the agent would keep them.
class Master {
 public:
  struct Identity {
    std::string address;  // "10.66.0.250"
    std::uint16_t port = 5050;
    std::string cluster;
  };
  struct AgentRecord {
    MesosAgent info;
    WallTime registered = 0;
    bool present = false;  // false: recovered from the registry, not back yet
  };
  struct TaskRecord {
    MesosTask info;
    MesosState state = MesosState::staging;
    std::vector<MesosStatus> statuses{};  // one per run of equal states, the latest of each
    bool announced = false;
  };
  struct FrameworkRecord {
    std::string id;
    bool known = false;
    bool active = false;  // and connected: this scheduler never has one without the other
    bool recovered = false;
    WallTime registered = 0;
    WallTime reregistered = 0;
  };

  /// Completed tasks kept, the oldest forgotten first. A real master keeps 1000 per framework;
  /// a demonstration that crashes all night needs fewer.
  static constexpr std::size_t kMaxCompleted = 200;

  Master(Identity identity, std::uint64_t seed, WallTime now);

  void add_agent(MesosAgent agent, WallTime now);
  /// A graceful unregister: TASK_LOST for each of its tasks, then AGENT_REMOVED.
  void remove_agent(const std::string& agent_id, WallTime now);
  /// Its pings are not answered: TASK_UNREACHABLE for each of its tasks, and no word of the agent.
  void agent_unreachable(const std::string& agent_id, WallTime now);
  /// It is back: TASK_ADDED for each of its tasks, then AGENT_ADDED.
  void agent_reachable(const std::string& agent_id, WallTime now);
  void subscribe_framework(WallTime now);
  /// Its scheduler's connection is gone: no event, and its tasks run on.
  void disconnect_framework() noexcept { framework_.active = false; }
  /// Every task is killed by the master, then FRAMEWORK_REMOVED.
  void remove_framework(WallTime now);
  void add_task(MesosTask task);
  /// Ignored for a task it does not know: a late update of one that is already over.
  void update_task(const std::string& task_id, MesosStatus status);

  /// The process dies and another takes over under a new id, without its memory.
  void restart(WallTime now);
  void set_phase(MasterPhase phase) noexcept { phase_ = phase; }
  /// It answers at another address from now on.
  void move_to(std::string address) { identity_.address = std::move(address); }
  MasterPhase phase() const noexcept { return phase_; }
  /// An agent re-registers after restart(): AGENT_ADDED, FRAMEWORK_ADDED if that was unknown,
  /// TASK_ADDED with statuses for each of its tasks.
  void agent_returns(const std::string& agent_id, WallTime now);

  std::vector<std::string> take_events();

  const Identity& identity() const noexcept { return identity_; }
  const std::string& id() const noexcept { return id_; }
  const std::string& framework_id() const noexcept { return framework_.id; }
  const FrameworkRecord& framework() const noexcept { return framework_; }
  WallTime started() const noexcept { return started_; }
  const std::map<std::string, AgentRecord>& agents() const noexcept { return agents_; }
  const std::map<std::string, TaskRecord>& tasks() const noexcept { return tasks_; }
  const std::deque<TaskRecord>& completed() const noexcept { return completed_; }
  // What the agent itself knows, whatever becomes of the master.
  /// Those that its executor has taken, or (`queued`) has not yet.
  std::vector<const TaskRecord*> tasks_on(const std::string& agent_id, bool queued) const;
  /// Those that are over, the newest last.
  std::vector<const TaskRecord*> ended_on(const std::string& agent_id) const;
  /// Registered agents that have not come back since restart().
  bool has_recovered_agents() const noexcept;
  std::string next_agent_id();

 private:
  bool speaks() const noexcept { return phase_ == MasterPhase::leading; }
  void record(TaskRecord& task, MesosStatus status);
  void finish(std::map<std::string, TaskRecord>::iterator task);
  void announce_task(TaskRecord& task);

  Identity identity_;
  Rng rng_;
  MasterPhase phase_ = MasterPhase::leading;
  std::string id_;
  WallTime started_;
  unsigned agents_named_ = 0;
  FrameworkRecord framework_;
  std::map<std::string, AgentRecord> agents_;
  std::map<std::string, TaskRecord> tasks_;
  std::deque<TaskRecord> completed_;
  std::deque<TaskRecord> ended_;  // the same, as agents remember it
  std::map<std::string, AgentRecord> unreachable_;
  std::map<std::string, TaskRecord> unreachable_tasks_;
  std::vector<std::string> events_;
};

/// A random (version 4) UUID, `b60db76d-2ef6-4f23-be10-ee93d1c97fc1`.
std::string make_uuid(Rng& rng);

}  // namespace muster::dev
