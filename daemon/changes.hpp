#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <string>
#include <vector>

#include "base/cluster_delta.hpp"

namespace muster::daemon {

/// The last things that happened, in words, for whoever comes to look after they did. Bounded;
/// what comes in masses is counted and not told one by one. Control thread only.
class RecentChanges {
 public:
  using WallTime = std::chrono::system_clock::time_point;
  static constexpr std::size_t kMax = 200;
  static constexpr std::size_t kMaxPerDelta = 20;  // more at once become one line
  static constexpr std::size_t kMaxText = 300;

  struct Change {
    std::uint64_t id = 0;  // grows; never used twice
    WallTime at;
    std::string what;  // "joined", "left", "draining", "back" (of backends), or "other"
    std::string text;  // one line; names in it are whatever people called their tasks
  };

  void take(const ClusterDelta& delta, WallTime at);
  /// What happened to nodes, a line each; of more than kMaxPerDelta only how many.
  void note_members(std::vector<std::string> lines, WallTime at);
  void note(std::string what, std::string text, WallTime at);

  /// Newest first.
  const std::deque<Change>& all() const noexcept { return changes_; }

 private:
  void summarise(std::size_t tasks, std::size_t vips, WallTime at);

  std::deque<Change> changes_;
  std::uint64_t last_id_ = 0;
  std::uint64_t summary_id_ = 0;  // of the newest change, if that is a summary that may grow
  std::size_t summary_tasks_ = 0;
  std::size_t summary_vips_ = 0;
};

}  // namespace muster::daemon
