#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <unordered_map>
#include <utility>
#include <variant>
#include <vector>

#include "base/observation.hpp"
#include "base/task.hpp"
#include "cluster/core/records.hpp"
#include "cluster/core/vip_address.hpp"

namespace muster::cluster {

struct VipOptions {
  AddressRange v4 = default_vip_range_v4();
  AddressRange v6 = default_vip_range_v6();
  /// How long a name without backends keeps its address: a service taken down over night finds
  /// it again, and clients that cached it never reach somebody else.
  std::chrono::seconds retention = std::chrono::hours{24};
  std::size_t max_allocations = 100'000;
  /// How long a name is still served at an address that it lost to an older allocation.
  std::chrono::seconds former = std::chrono::minutes{10};
};

/// One VIP of one port of one task: an explicit address, or a name with the families that the
/// port's endpoints have.
struct VipUse {
  std::variant<IpAddress, VipName> host;
  bool v4 = false;
  bool v6 = false;
  friend auto operator<=>(const VipUse&, const VipUse&) = default;
};

/// What a task's labels ask for, once for each use.
std::vector<VipUse> vip_uses(const Task&);

/// Gives named VIPs their addresses: the hash's choice (see vip_address.hpp), else the next free
/// one, passing over what explicit VIPs use. An address stays with its name until `retention`
/// after the name's last backend, longer than that only while there is room.
///
/// use() and release() are noted and take effect in settle(), so that names are served in their
/// order and after all explicit addresses, however the tasks came in.
class VipAllocator {
 public:
  explicit VipAllocator(VipOptions options) : options_{options} {}

  /// A name's new record, or none: the allocation ended.
  using Changed = std::pair<VipName, std::optional<VipRecord>>;

  void use(const VipUse&);
  void release(const VipUse&);
  /// Works off what was noted, about `limit` names of it: to be called until !pending(). Anything
  /// may be noted in between. `wall_seconds` is Unix time.
  std::vector<Changed> settle(std::int64_t wall_seconds,
                              std::size_t limit = std::numeric_limits<std::size_t>::max());
  bool pending() const noexcept {
    return !touched_.empty() || !wanting_.empty() || !disputed_.empty() || !ended_.empty();
  }
  /// Ends retentions.
  std::vector<Changed> expire(std::int64_t wall_seconds);
  /// When expire() next has something to do, Unix time.
  std::optional<std::int64_t> next_expiry() const;
  /// An allocation made before, here or elsewhere; use() of its name may come before or after.
  /// Of two names with one address the older allocation keeps it; false: nothing was left to
  /// this one, its name is served anew when used.
  bool adopt(const VipRecord&);

  /// An allocation that was made in vain, in the other half of a partition. Takes effect in
  /// settle(): the older one keeps its address, be it of the same name or of another, and the
  /// name that loses an address is served at both for a while.
  void claim(const VipRecord&, std::int64_t wall_seconds);

  const std::map<VipName, VipRecord>& records() const noexcept { return entries_; }
  std::size_t unused() const noexcept { return unused_.size(); }
  std::vector<Problem> take_problems();

 private:
  struct Uses {
    std::size_t v4 = 0;
    std::size_t v6 = 0;
    std::size_t all = 0;
  };

  void note_ended(std::vector<Changed>&);
  void settle_touched(const VipName&, std::int64_t wall_seconds, std::vector<Changed>&);
  void settle_wanting(const VipName&, std::int64_t wall_seconds, std::vector<Changed>&);
  bool assign(VipRecord&, const Uses&);
  std::optional<IpAddress> choose(const VipName&, const AddressRange&);
  bool evict_oldest_unused(const AddressRange* range);
  void drop(const VipName&);
  bool take_address(const IpAddress&, const VipRecord& claim, std::int64_t wall_seconds);
  void retire(VipRecord&, const IpAddress&, std::int64_t wall_seconds);
  void index_former(const VipRecord&);
  void unindex_former(const VipRecord&);
  void complain(std::string kind, std::string where, std::string what);

  VipOptions options_;
  std::map<VipName, VipRecord> entries_;
  std::unordered_map<IpAddress, VipName> owner_;  // of each address in entries_
  std::map<VipName, Uses> uses_;                  // of names, allocated or not
  std::map<IpAddress, std::size_t> explicit_;     // how many uses
  std::set<std::pair<std::int64_t, VipName>> unused_;
  std::map<IpAddress, VipName> former_;  // not to be given to others meanwhile
  std::set<std::pair<std::int64_t, VipName>> former_until_;
  std::set<VipName> disputed_;  // changed by claims since the last settle()
  std::set<VipName> touched_;
  std::set<VipName> wanting_;   // touched, in use, and perhaps short of an address
  std::set<VipName> starved_;   // in use, without an address
  std::vector<VipName> ended_;  // evicted since the last settle()
  bool freed_ = false;          // an address, since starved_ was last tried
  std::uint64_t next_sequence_ = 1;
  std::vector<Problem> problems_;
};

}  // namespace muster::cluster
