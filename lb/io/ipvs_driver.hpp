#pragma once

#include <memory>

#include "lb/io/driver.hpp"

namespace muster::lb {

/// IPVS over generic netlink, with a table of nf_tables around it (ipvs_guard.hpp) and the routes
/// that bring packets to it.
///
/// Needs CAP_NET_ADMIN, write access to /proc/sys/net/ipv4/vs, Linux 4.19. What it cannot do is
/// one table in docs/data-plane.md: above all, a connection stays with the backend that its first
/// packet got. A backend that leaves is kept at weight 0 until its connections have ended, at most
/// DriverConfig::drain. Changes of IPVS by others are found by read() only: the kernel tells of
/// none.
class IpvsDriver final : public Driver {
 public:
  /// `table` matters before open() only, which brings its own.
  explicit IpvsDriver(const std::string& table = "muster");
  ~IpvsDriver() override;

  Result<Capabilities> open(const DriverConfig& config) override;
  Result<KernelState> read() override;
  void adopt(const KernelState& state) override;
  Result<void> apply(const Transaction& transaction) override;
  Result<std::size_t> publish_routes(const RouteSources& sources) override;
  RouteSources find_sources() override;
  Result<std::size_t> flush_udp(const UdpKeep& keep) override;
  int monitor_fd() const noexcept override;
  bool drain_monitor() override;
  Result<std::size_t> present() override;
  Result<std::size_t> held_connections() override;
  Result<std::vector<std::string>> cleanup() override;
  std::string detail() const override;

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace muster::lb
