#pragma once

#include <cstddef>
#include <map>
#include <optional>
#include <string>
#include <string_view>

#include "mesos/core/elements.hpp"
#include "mesos/core/json_scan.hpp"
#include "mesos/core/snapshot.hpp"

namespace muster::mesos {

inline constexpr std::size_t kMaxTasks = 2'000'000;
inline constexpr std::size_t kMaxAgents = 200'000;
inline constexpr std::size_t kMaxFrameworks = 100'000;
inline constexpr std::size_t kMaxFrameworkMember = 8 * kMaxText;  // of its JSON text

/// Gathers what a document says, in whatever order it says it, and joins it at the end.
class SnapshotBuilder {
 public:
  void add_task(std::string_view json);
  /// One that is over, whatever state it was left in.
  void add_ended_task(std::string_view json);
  void add_agent(std::string_view json);
  void add_recovering(std::string_view json);
  void add_framework(std::string_view json);
  void set_leader(std::string_view json);
  void set_leader_hostname(std::string_view json);
  void set_not_leading() { snapshot_.not_leading = true; }
  void set_heartbeat(std::string_view json);
  /// Of an agent that says nothing of its address.
  void set_address(const IpAddress& address) { address_ = address; }

  Snapshot finish(const KnownHosts& hosts) &&;

 private:
  bool fits(std::size_t size, std::size_t max, std::string_view what);
  void join_tasks();

  Snapshot snapshot_;
  ElementParser elements_{snapshot_.problems};
  std::map<TaskKey, GoneReason> gone_;
  std::size_t task_count_ = 0;
  std::string leader_;
  std::string leader_hostname_;
  std::optional<IpAddress> address_;
};

/// Reads the `get_state` value that `scan` stands at.
void read_get_state(JsonScan& scan, SnapshotBuilder& builder);

/// The addresses of an agent whose pid and hostname are no literals, where they are known.
void fill_from_hosts(Agent& agent, const KnownHosts& hosts);

/// How a task ended, for one in a terminal state.
GoneReason gone_reason(TaskState state) noexcept;

}  // namespace muster::mesos
