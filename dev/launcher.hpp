#pragma once

#include <chrono>
#include <functional>
#include <list>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/steady_timer.hpp>

#include "base/io/task_group.hpp"
#include "base/rng.hpp"
#include "base/time.hpp"
#include "dev/app.hpp"
#include "dev/health.hpp"
#include "dev/master_state.hpp"
#include "dev/node.hpp"
#include "dev/reaper.hpp"
#include "dev/task_plan.hpp"

namespace muster::dev {

/// Plays Marathon and the agents' executors: keeps as many processes of each app running as it
/// asks for, and tells the master about each as Mesos would.
/// On the executor's thread only. stop(), then join(), then destroy.
class Launcher {
 public:
  struct Context {
    boost::asio::any_io_executor executor;
    Master& master;
    std::vector<Node>& nodes;
    Reaper& reaper;
    std::function<void()> publish;            // the master has new events
    std::function<void(std::string)> report;  // a line for the person at the terminal
    std::string path;                         // PATH of tasks
    std::uint64_t seed;
  };

  /// One line of `muster-dev ps`.
  struct Row {
    std::string app;
    unsigned instance = 0;
    std::string state;    // "RUNNING", "waiting"
    std::string health;   // "healthy", "unhealthy", "unknown", "-" without a check
    unsigned node = 0;    // 0: on none
    std::string address;  // where clients reach it, "10.66.0.1:31000 31001"
    std::string task_id;
    std::string note;
    int pid = 0;
  };

  explicit Launcher(Context context);
  void start(std::vector<App> apps);
  std::vector<Row> rows() const;
  /// Every instance runs, and is healthy where somebody checks. `why` says what is missing.
  bool all_running(std::string& why) const;

  /// Without `signal`: ends the task as Marathon does (TASK_KILLING, SIGTERM, grace, SIGKILL) and
  /// starts another at once. With: sends it, and what happens is the task's own failure.
  /// Returns what was done, or nothing if no such task runs.
  std::optional<std::string> kill(const std::string& task_id, std::optional<int> signal);
  std::optional<std::string> kill(const std::string& app_id, unsigned instance,
                                  std::optional<int> signal);
  /// False if there is no such app.
  bool scale(const std::string& app_id, unsigned instances);
  /// Path of what an instance's tasks print: by task id, app (its first instance) or "/app#2".
  std::optional<std::string> log_of(const std::string& task_or_app) const;

  void stop();
  boost::asio::awaitable<void> join();

 private:
  struct Task {
    std::string id;
    Placement at;
    std::string sandbox;
    std::string container_id;
    std::vector<std::string> environment;
    Fd container;  // its own network namespace, if any
    int pid = 0;
    MesosState state = MesosState::staging;
    std::optional<bool> healthy;
    TimePoint started;
  };
  struct Slot {
    Slot(const App& of, unsigned number, const boost::asio::any_io_executor& executor)
        : app{&of}, index{number}, wake{executor}, backoff{of} {}
    const App* app;
    unsigned index;
    std::string uuid;
    unsigned incarnation = 0;
    bool wanted = true;
    bool live = false;  // its coroutine runs
    bool kill = false;
    bool unhealthy_kill = false;
    std::optional<int> exit_status;
    std::optional<Task> task;
    std::string log;  // path of what its tasks print
    std::string note;
    boost::asio::steady_timer wake;
    Backoff backoff;
  };
  struct Running {
    App app;
    unsigned wanted = 0;
    std::list<Slot> slots;  // kept when scaled away: coroutines refer to them
  };

  void ensure_slots(Running& running);
  boost::asio::awaitable<void> live(Slot& slot);
  boost::asio::awaitable<bool> launch(Slot& slot);
  boost::asio::awaitable<void> until_over(Slot& slot);
  boost::asio::awaitable<void> check_health(Slot& slot, std::string task_id);
  boost::asio::awaitable<bool> probe(Slot& slot);
  boost::asio::awaitable<bool> probe_command(Slot& slot);
  boost::asio::awaitable<bool> pause(Slot& slot, double seconds, std::string task_id);
  boost::asio::awaitable<void> rest(Slot& slot, double seconds);
  std::optional<Placement> place(const Slot& slot);
  void prepare(Slot& slot, Placement at);
  void release(Task& task);
  /// Ends in the master's terms; true if it counts as a failure.
  bool finish(Slot& slot);
  void update(Slot& slot, MesosState state, MesosStatus status = {});
  void end_task(Slot& slot);
  std::optional<std::string> kill(Slot& slot, std::optional<int> signal);
  Node& node_of(const Task& task) { return context_.nodes[task.at.node - 1]; }
  std::string outside(const Task& task) const;  // its sandbox, as this process sees it
  int net_of(const Task& task);
  Entry entry_of(const Task& task);
  std::string label(const Slot& slot) const;

  Context context_;
  Rng rng_;
  std::list<Running> apps_;
  TaskGroup tasks_;
};

/// Nanoseconds since 1970, now.
WallTime wall_now();

inline Clock::duration in_clock(double seconds) {
  return std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>{seconds});
}

}  // namespace muster::dev
