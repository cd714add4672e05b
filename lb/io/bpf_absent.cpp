#include "lb/io/bpf_driver.hpp"
#include "lb/io/bpf_pins.hpp"
#include "lb/io/nft_driver.hpp"

/// In the place of bpf_driver.cpp where the programs could not be compiled.
namespace muster::lb {
namespace {

class NoBpf final : public Driver {
 public:
  explicit NoBpf(const std::string& table) : nft_{make_nft_driver(table)} {}
  Result<Capabilities> open(const DriverConfig&) override { return Errc::no_bpf_build; }
  Result<KernelState> read() override { return Errc::no_bpf_build; }
  void adopt(const KernelState&) override {}
  Result<void> apply(const Transaction&) override { return Errc::no_bpf_build; }
  Result<std::size_t> publish_routes(const RouteSources&) override { return Errc::no_bpf_build; }
  RouteSources find_sources() override { return {}; }
  Result<std::size_t> flush_udp(const UdpKeep&) override { return Errc::no_bpf_build; }
  int monitor_fd() const noexcept override { return -1; }
  bool drain_monitor() override { return false; }
  Result<std::size_t> present() override { return nft_->present(); }
  Result<std::vector<std::string>> cleanup() override { return nft_->cleanup(); }
  std::string detail() const override { return "this muster was built without driver bpf"; }

 private:
  std::unique_ptr<Driver> nft_;
};

}  // namespace

std::unique_ptr<Driver> make_bpf_driver(const std::string& table) {
  return std::make_unique<NoBpf>(table);
}

}  // namespace muster::lb
