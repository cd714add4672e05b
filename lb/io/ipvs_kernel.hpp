#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "lb/core/weights.hpp"
#include "lb/io/driver.hpp"
#include "lb/io/ipvs.hpp"
#include "lb/io/ipvs_guard.hpp"
#include "lb/io/netlink.hpp"
#include "lb/io/routes.hpp"

/// What of the IPVS driver's is in the kernel, read whole: three places have to be put together.
namespace muster::lb::ipvs {

struct Kept {
  std::string scheduler = {};
  std::uint32_t affinity_seconds = 0;
  Weights weights = {};  // 0: takes no new connections, and stays until its old ones have ended
};

/// Sets of both tables together.
struct GuardSets {
  std::set<Vip> vips;  // whose IPVS service is ours
  std::set<Vip> refused;
  std::set<IpAddress> addresses;
  std::set<IpAddress> hairpin;
};

struct Known final : KernelState::Own {
  std::map<Vip, Kept> services;
  std::set<Vip> foreign;  // services that are not ours
  GuardSets sets;
  std::vector<routes::Route> routes;
  /// Backends of weight 0 that no connection is left to.
  std::set<std::pair<Vip, Endpoint>> idle;
  std::map<Vip, std::map<Endpoint, std::uint64_t>> connections;  // ever, to each backend
  std::uint64_t open = 0;  // connections, over all our services
  int tables = 0;          // of our name
  bool intact = true;      // they are as write_guard() and our changes leave them
};

struct Layout {
  std::string table;  // guard_table()
  std::optional<Prefix> range_v4;
  std::optional<Prefix> range_v6;
  const std::optional<Prefix>& range(Family family) const {
    return family == Family::v4 ? range_v4 : range_v6;
  }
  bool hears_unanswered = true;
  GuardOptions guard(Family family) const {
    return {table, family, range(family), hears_unanswered};
  }
};

/// Reads services, tables and routes. A service is ours if its address is in the range, or on a
/// route of ours, or its Vip in the guard's set: that is written before the service is. `expected`
/// counts what each whole table holds; without it tables are not checked.
Result<Known> read_kernel(const Layout& layout,
                          const std::map<Family, nft::SchemaCounts>& expected);

/// Services of ours, and others', into `known`, whose sets and routes are filled in already.
Result<void> read_services(Link& link, const Layout& layout, Known& known);

/// /proc/sys/net/ipv4/vs as it has to be, each with its reason; returns how many were other.
Result<std::size_t> set_sysctls(std::string& detail);

}  // namespace muster::lb::ipvs
