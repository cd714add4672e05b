#include "lb/io/bpf_driver.hpp"

#include <algorithm>
#include <optional>
#include <utility>
#include <vector>

#include "lb/io/bpf_kernel.hpp"
#include "lb/io/bpf_pins.hpp"
#include "lb/io/bpf_sockets.hpp"
#include "lb/io/bpf_table.hpp"
#include "lb/io/nft_driver.hpp"

namespace muster::lb {
namespace {

/// Repaired after one read, which the control thread waits for: some 10 ms. The rest is nftables'
/// until the next one.
constexpr std::size_t kMaxRepairs = 4000;
/// At start nobody waits yet.
constexpr std::size_t kAll = static_cast<std::size_t>(-1);

struct Own final : KernelState::Own {
  bpf::Content content;
};

void collect(const Command& command, bpf::Writes& writes, std::vector<Vip>& touched) {
  if (const auto* put = std::get_if<PutSlot>(&command)) {
    writes.puts.push_back({put->vip, put->index, put->backend});
  } else if (const auto* replaced = std::get_if<ReplaceSlot>(&command)) {
    writes.puts.push_back({replaced->vip, replaced->index, replaced->backend});
  } else if (const auto* dropped = std::get_if<DropSlot>(&command)) {
    writes.drops.emplace_back(dropped->vip, dropped->index);
  }
  std::visit(
      [&](const auto& one) {
        if constexpr (requires { one.vip; }) {
          if (touched.empty() || touched.back() != one.vip) touched.push_back(one.vip);
        }
      },
      command);
}

class BpfDriver final : public Driver {
 public:
  explicit BpfDriver(std::string table) : table_{std::move(table)}, nft_{make_nft_driver(table_)} {}

  Result<Capabilities> open(const DriverConfig& config) override {
    table_ = config.table;
    auto opened = nft_->open(config);
    if (!opened) return opened;
    if (config.check_only) {
      if (const auto able = bpf::probe(config.bpf_cgroup, detail_); !able) return able.error();
    } else {
      auto maps = bpf::attach(config.table, config.bpf_cgroup, detail_);
      if (!maps) return maps.error();
      maps_.emplace(std::move(*maps));
    }
    opened->driver = "bpf";
    return opened;
  }

  Result<KernelState> read() override {
    auto state = nft_->read();
    if (!state || !maps_) return state;
    auto content = bpf::read(*maps_);
    if (!content) return content.error();
    for (const auto& [vip, counts] : content->connections) {
      const auto sums = state->connections.find(vip);
      if (sums == state->connections.end()) continue;
      for (std::size_t i = 0; i < counts.size() && i < sums->second.size(); ++i) {
        sums->second[i] += counts[i];
      }
    }
    auto own = std::make_shared<Own>();
    own->content = std::move(*content);
    state->own = std::move(own);
    return state;
  }

  void adopt(const KernelState& state) override {
    nft_->adopt(state);
    record_ = state.vips;
    // Without nftables' table there is nothing to compare with: what is in the maps goes on.
    const auto own = std::dynamic_pointer_cast<Own>(state.own);
    if (!own || state.schema != KernelState::Schema::current) return;
    const auto writes = bpf::difference(record_, own->content, adopted_ ? kMaxRepairs : kAll);
    bpf::write(*maps_, writes);
    adopted_ = true;
  }

  Result<void> apply(const Transaction& transaction) override {
    auto done = nft_->apply(transaction);
    if (!done) return done;
    if (transaction.reset) record_.clear();
    bpf::Writes writes;
    lb::apply(transaction.commands, record_);
    std::vector<Vip> touched;
    for (const Command& command : transaction.commands) collect(command, writes, touched);
    std::sort(touched.begin(), touched.end());
    touched.erase(std::unique(touched.begin(), touched.end()), touched.end());
    // Each that was touched is written anew, and with it cleared of suspicion.
    for (const Vip& vip : touched) {
      const auto applied = record_.find(vip);
      if (applied != record_.end() && bpf::can_balance(applied->second)) {
        writes.balance.emplace_back(vip, applied->second.selector->size);
      } else {
        writes.leave.push_back(vip);
      }
    }
    bpf::write(*maps_, writes);
    if (transaction.reset) sweep();
    return done;
  }

  Result<std::size_t> publish_routes(const RouteSources& sources) override {
    return nft_->publish_routes(sources);
  }
  RouteSources find_sources() override { return nft_->find_sources(); }

  Result<std::size_t> flush_udp(const UdpKeep& keep) override {
    auto flows = nft_->flush_udp(keep);
    if (!flows) return flows;
    const auto sockets = bpf::destroy_stale_sockets(*maps_, keep);
    if (!sockets) return sockets.error();
    return *flows + *sockets;
  }

  Result<std::size_t> forget_clients(const UdpKeep& keep) override {
    return nft_->forget_clients(keep);
  }
  int unanswered_fd() const noexcept override { return nft_->unanswered_fd(); }
  std::vector<Unanswered> take_unanswered() override { return nft_->take_unanswered(); }
  int monitor_fd() const noexcept override { return nft_->monitor_fd(); }
  bool drain_monitor() override { return nft_->drain_monitor(); }
  bool take_firewall_change() override { return nft_->take_firewall_change(); }

  Result<std::size_t> present() override {
    const auto tables = nft_->present();
    if (!tables) return tables;
    return *tables + (bpf::pinned(table_) ? 1U : 0U);
  }

  Result<std::vector<std::string>> cleanup() override {
    auto removed = bpf::unpin(table_);
    if (!removed) return removed;
    maps_.reset();
    auto tables = nft_->cleanup();
    if (!tables) return tables;
    removed->insert(removed->end(), tables->begin(), tables->end());
    return removed;
  }

  std::string detail() const override { return detail_.empty() ? nft_->detail() : detail_; }

 private:
  /// After a table was made anew with contents: what else is in the maps goes. One that was made
  /// empty is still to be filled, and till then the maps serve.
  void sweep() {
    if (record_.empty()) return;
    const auto content = bpf::read(*maps_);
    if (content) bpf::write(*maps_, bpf::difference(record_, *content, kAll));
  }

  std::string table_;
  std::unique_ptr<Driver> nft_;
  std::optional<bpf::Maps> maps_;
  AppliedTable record_;  // of nftables
  bool adopted_ = false;
  std::string detail_;
};

}  // namespace

std::unique_ptr<Driver> make_bpf_driver(const std::string& table) {
  return std::make_unique<BpfDriver>(table);
}

}  // namespace muster::lb
