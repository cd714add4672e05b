#pragma once

// Private to ipvs_driver.cpp, ipvs_apply.cpp and ipvs_upkeep.cpp.

#include <array>
#include <cstddef>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "lb/io/conntrack.hpp"
#include "lb/io/driver.hpp"
#include "lb/io/ipvs.hpp"
#include "lb/io/ipvs_cleanup.hpp"
#include "lb/io/ipvs_guard.hpp"
#include "lb/io/ipvs_kernel.hpp"
#include "lb/io/ipvs_plan.hpp"
#include "lb/io/monitor.hpp"
#include "lb/io/netlink.hpp"
#include "lb/io/routes.hpp"
#include "lb/io/unanswered.hpp"

namespace muster::lb {

/// Driver `ipvs`, on a table of its own beside IPVS: docs/adr/011-ipvs-and-its-guard.md.
class IpvsDriver final : public Driver {
 public:
  explicit IpvsDriver(const std::string& table) { layout_.table = ipvs::guard_table(table); }

  Result<Capabilities> open(const DriverConfig& config) override;
  Result<KernelState> read() override;
  void adopt(const KernelState& state) override;
  Result<void> apply(const Transaction& transaction) override;
  Result<std::size_t> publish_routes(const RouteSources& sources) override;
  RouteSources find_sources() override;
  Result<std::size_t> flush_udp(const UdpKeep& keep) override { return flush_stale_udp(keep); }
  int unanswered_fd() const noexcept override { return unanswered_ ? unanswered_->fd() : -1; }
  std::vector<Unanswered> take_unanswered() override {
    return unanswered_ ? unanswered_->drain() : std::vector<Unanswered>{};
  }
  int monitor_fd() const noexcept override { return monitor_ ? monitor_->fd() : -1; }
  bool drain_monitor() override { return monitor_ && monitor_->drain(); }
  bool take_firewall_change() override { return monitor_ && monitor_->take_others(); }
  Result<std::size_t> present() override { return ipvs::present(layout_); }
  Result<std::size_t> held_connections() override { return ipvs::held_connections(layout_); }
  Result<std::vector<std::string>> cleanup() override { return ipvs::cleanup(layout_); }
  std::string detail() const override { return detail_; }

 private:
  std::string_view scheduler_of(Policy policy) const;
  Policy policy_of(std::string_view scheduler) const;
  bool outside_range(const IpAddress& address) const;
  routes::Route route_to(const Prefix& destination, const IpAddress& source) const;
  std::optional<IpAddress> source_of(Family family) const {
    return family == Family::v4 ? sources_.v4 : sources_.v6;
  }

  Result<void> try_guard();
  Result<std::string> probe_guard();
  Result<void> probe_ipvs();
  Result<ipvs::Wish> fit(const Transaction& transaction) const;
  Result<void> write_guard(bool reset, const ipvs::Edits& edits);
  ipvs::Edits before(const ipvs::Wish& wish, bool reset) const;
  ipvs::Edits after(const ipvs::Wish& wish) const;
  Result<void> balance(const ipvs::Wish& wish, bool reset);
  void note_drains(const std::vector<ipvs::Change>& changes);
  Result<void> route_addresses(const std::vector<IpAddress>& addresses);
  Result<void> mend_claims();
  Result<std::size_t> sweep();
  std::set<IpAddress> addresses_wanted() const;

  DriverConfig config_;
  ipvs::Layout layout_;
  std::map<Family, nft::SchemaCounts> expected_;
  std::optional<ipvs::Link> ipvs_;
  std::optional<netlink::Socket> nft_;
  std::optional<netlink::Socket> routes_;
  std::optional<Monitor> monitor_;
  std::optional<UnansweredWatch> unanswered_;
  std::string detail_;
  RouteSources sources_;

  AppliedTable shadow_;  // what apply() was asked for, as the caller numbers slots
  ipvs::Known known_;    // what that has become in the kernel
  /// Until when a backend of weight 0 may keep its connections.
  std::map<std::pair<Vip, Endpoint>, TimePoint> drains_;
};

}  // namespace muster::lb
