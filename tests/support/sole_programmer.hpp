#pragma once

#include "base/cluster_delta.hpp"
#include "base/time.hpp"
#include "lb/core/vip_table.hpp"
#include "lb/io/programmer.hpp"

namespace muster::testing {

struct OwnTable {
  explicit OwnTable(lb::Policy policy) : own{policy} {}
  lb::VipTable own;
};

/// A Programmer whose table is nobody else's.
class SoleProgrammer : private OwnTable, public lb::Programmer {
 public:
  SoleProgrammer(lb::Driver& driver, lb::Policy policy)
      : OwnTable{policy}, Programmer{driver, own} {}

  lb::VipTable& table() noexcept { return own; }
  void take(const ClusterDelta& delta, TimePoint now = {}) {
    Programmer::take(own.apply(delta, now), delta.complete);
  }
};

}  // namespace muster::testing
