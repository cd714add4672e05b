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

/// Addresses that a named VIP has lost to another, and that serve on for some minutes.
struct FormerVip {
  VipName name;
  std::vector<IpAddress> addresses;
  friend bool operator==(const FormerVip&, const FormerVip&) = default;
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
  std::vector<Change<FormerVip>> former_vips;

  bool empty() const noexcept {
    return tasks.empty() && agents.empty() && frameworks.empty() && masters.empty() &&
           vips.empty() && former_vips.empty();
  }
};

}  // namespace muster
