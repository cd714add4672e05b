#pragma once

#include "base/cluster_delta.hpp"

namespace muster::cluster {

/// `then` follows `first`: a thing changed by both is changed once, from what it was before the
/// first to what it is after the second. `complete` is the second's.
void join(ClusterDelta& first, ClusterDelta then);

}  // namespace muster::cluster
