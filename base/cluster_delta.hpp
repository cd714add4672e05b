#pragma once

#include <memory>
#include <vector>

#include "base/task.hpp"

namespace muster {

/// One thing's way from one state to the next; null means "not there". Both null never happens,
/// and neither do two equal values. The values are shared and never change, so a consumer may
/// keep either.
template <class T>
struct Change {
  std::shared_ptr<const T> before;
  std::shared_ptr<const T> after;
};

/// What changed in the cluster as this node now sees it. cluster/core makes it, lb/core and
/// dns/core take it; it costs what changed, not what is there.
struct ClusterDelta {
  /// A complete state of the cluster has been seen since this node started, or was on its disk.
  /// Before that nothing may be pruned, and a name not found is SERVFAIL, not NXDOMAIN.
  bool complete = false;

  std::vector<Change<Task>> tasks;
  std::vector<Change<Agent>> agents;
  std::vector<Change<Framework>> frameworks;
  std::vector<Change<Master>> masters;
  std::vector<Change<VipAllocation>> vips;

  bool empty() const noexcept {
    return tasks.empty() && agents.empty() && frameworks.empty() && masters.empty() && vips.empty();
  }
};

}  // namespace muster
