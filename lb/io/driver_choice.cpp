#include "lb/io/driver_choice.hpp"

#include <optional>
#include <utility>

#include "lb/io/bpf_driver.hpp"
#include "lb/io/bpf_pins.hpp"
#include "lb/io/forward_accept.hpp"
#include "lb/io/ipvs_driver.hpp"
#include "lb/io/nft_driver.hpp"

namespace muster::lb {
namespace {

std::unique_ptr<Driver> make(std::string_view name, const std::string& table) {
  if (name == "ipvs") return make_ipvs_driver(table);
  if (name == "bpf") return make_bpf_driver(table);
  return make_nft_driver(table);
}
std::string_view other_than(std::string_view name) {
  return name == "ipvs" ? "nft" : "ipvs";
}

/// A driver, and the one that was before it.
class Succession final : public Driver {
 public:
  Succession(std::string_view name, std::string table)
      : name_{name}, table_{std::move(table)}, driver_{make(first_choice(), table_)} {}

  Result<Capabilities> open(const DriverConfig& config) override {
    drain_ = config.drain;
    table_ = config.table;
    forward_ = ForwardAccept{table_};
    std::string passed_over;
    // First of all: what asks closes its sockets, which after open()'s trials takes long.
    const bool nft_there = is_there("nft");
    const bool ipvs_there = is_there("ipvs");
    auto opened = driver_->open(config);
    if (!opened && name_ == "auto" && opened.error() != Errc::not_permitted &&
        opened.error() != Errc::bad_range) {
      passed_over = "ipvs: " + opened.error().message();
      if (!driver_->detail().empty()) passed_over += " (" + driver_->detail() + ")";
      driver_ = make("nft", table_);
      opened = driver_->open(config);
    }
    if (!opened) return opened;
    opened->passed_over = std::move(passed_over);
    bpf_ = opened->driver == "bpf";
    other_serves_ = opened->driver == "ipvs" ? nft_there : ipvs_there;
    if (other_serves_) other_ = make(other_than(opened->driver), table_);
    return opened;
  }

  /// With the other one still serving, an empty table of ours must not come between: it would
  /// refuse what it does not know yet. As "another schema" it waits for the whole state.
  Result<KernelState> read() override {
    auto state = driver_->read();
    if (state && state->schema == KernelState::Schema::absent && other_serves_) {
      state->schema = KernelState::Schema::other;
    }
    return state;
  }

  Result<std::vector<SlotCount>> read_counts() override { return driver_->read_counts(); }
  void adopt(const KernelState& state) override { driver_->adopt(state); }
  Result<void> apply(const Transaction& transaction) override {
    return driver_->apply(transaction);
  }
  Result<std::size_t> publish_routes(const RouteSources& sources) override {
    return driver_->publish_routes(sources);
  }
  RouteSources find_sources() override { return driver_->find_sources(); }
  Result<std::size_t> flush_udp(const UdpKeep& keep) override { return driver_->flush_udp(keep); }
  Result<std::size_t> forget_clients(const UdpKeep& keep) override {
    return driver_->forget_clients(keep);
  }
  int unanswered_fd() const noexcept override { return driver_->unanswered_fd(); }
  std::vector<Unanswered> take_unanswered() override { return driver_->take_unanswered(); }
  int monitor_fd() const noexcept override { return driver_->monitor_fd(); }
  bool drain_monitor() override { return driver_->drain_monitor(); }
  Result<ForwardOutcome> keep_forward(const forward::Acceptance& acceptance) override {
    return forward_.keep(acceptance);
  }
  bool take_firewall_change() override { return driver_->take_firewall_change(); }

  Result<std::size_t> retire_others() override {
    // What bpf has balanced it goes on with, and connections need nothing of it.
    if (!bpf_ && bpf::pinned(table_)) {
      const auto unpinned = bpf::unpin(table_);
      if (!unpinned) return unpinned.error();
      const auto rest = retire_other();
      return rest ? Result<std::size_t>{*rest + unpinned->size()} : rest;
    }
    return retire_other();
  }

  Result<std::size_t> present() override { return driver_->present(); }
  Result<std::size_t> held_connections() override { return driver_->held_connections(); }

  Result<std::vector<std::string>> cleanup() override {
    auto removed = bpf::unpin(table_);
    if (!removed) return removed;
    std::vector<std::string> all = *std::move(removed);
    const auto rules = forward_.remove();
    if (!rules) return rules.error();
    all.insert(all.end(), rules->begin(), rules->end());
    for (const std::string_view name : {"nft", "ipvs"}) {
      const auto gone = make(name, table_)->cleanup();
      if (!gone) return gone.error();
      all.insert(all.end(), gone->begin(), gone->end());
    }
    return all;
  }

  std::string detail() const override { return driver_->detail(); }

 private:
  /// Whether anything of that driver's is in the kernel, or cannot be said not to be.
  bool is_there(std::string_view driver) const {
    const auto count = make(driver, table_)->present();
    return !count || *count > 0;
  }

  std::string_view first_choice() const {
    return name_ == "auto" ? std::string_view{"ipvs"} : std::string_view{name_};
  }

  Result<std::size_t> retire_other() {
    if (!other_) return std::size_t{0};
    const auto held = other_->held_connections();
    if (!held) return held.error();
    if (!retiring_since_) retiring_since_ = Clock::now();
    if (*held > 0 && Clock::now() - *retiring_since_ < drain_) return std::size_t{0};
    const auto removed = other_->cleanup();
    if (!removed) return removed.error();
    other_serves_ = false;
    other_.reset();
    return removed->size();
  }

  std::string name_;
  std::string table_;
  ForwardAccept forward_{table_};  // the same whichever driver it is
  std::unique_ptr<Driver> driver_;
  // Only open() and the thread of read() touch these.
  std::unique_ptr<Driver> other_;  // null: there is nothing of it
  bool other_serves_ = false;
  bool bpf_ = false;  // it is the driver
  std::optional<TimePoint> retiring_since_;
  Duration drain_{};
};

}  // namespace

bool is_driver_name(std::string_view name) noexcept {
  return name == "auto" || name == "ipvs" || name == "nft" || name == "bpf";
}

Result<std::unique_ptr<Driver>> make_driver(std::string_view name, const std::string& table) {
  if (!is_driver_name(name)) return Errc::bad_driver;
  return std::unique_ptr<Driver>{std::make_unique<Succession>(name, table)};
}

}  // namespace muster::lb
