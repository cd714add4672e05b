#pragma once

#include <memory>

#include "lb/io/driver.hpp"

namespace muster::lb {

/// nf_tables over netlink. See lb/README.md for the shape of the table.
///
/// Needs CAP_NET_ADMIN and Linux 5.10. Without `nf_conntrack_timeout` in the kernel it works, but
/// without SYN failover, and says so in its capabilities.
class NftDriver final : public Driver {
 public:
  /// `table` matters to cleanup() only; open() brings its own.
  explicit NftDriver(const std::string& table = "muster");
  ~NftDriver() override;

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
  Result<std::vector<std::string>> cleanup() override;
  std::string detail() const override;

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace muster::lb
