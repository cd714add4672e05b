#include "lb/io/ipvs_driver.hpp"

#include <array>
#include <cerrno>
#include <optional>
#include <utility>

#include <linux/netfilter/nf_tables.h>

#include "lb/io/ipvs_driver_impl.hpp"
#include "lb/io/nft_link.hpp"

namespace muster::lb {
namespace {

using ipvs::Known;

constexpr std::array kFamilies{Family::v4, Family::v6};
/// Keepalives come after 7,200 s (tcp_keepalive_time): connections that send them stay.
constexpr std::uint32_t kTcpSeconds = 7500;

}  // namespace

/// A different one for each, so that policy_of() can tell.
std::string_view IpvsDriver::scheduler_of(Policy policy) const {
  switch (policy) {
    case Policy::random:
      break;
    case Policy::round_robin:
      return config_.scheduler == "wrr" ? "rr" : "wrr";
    case Policy::source_hash:
      return config_.scheduler == "mh" ? "sh" : "mh";
  }
  return config_.scheduler;
}

Policy IpvsDriver::policy_of(std::string_view scheduler) const {
  for (const Policy policy : {Policy::random, Policy::round_robin, Policy::source_hash}) {
    if (scheduler == scheduler_of(policy)) return policy;
  }
  // None of ours: whatever is wanted differs from what no selector of ours has, and is put right.
  return config_.policy == Policy::random ? Policy::round_robin : Policy::random;
}

/// Builds and removes a table in one transaction, of which nothing is ever seen.
Result<void> IpvsDriver::try_guard() {
  for (const Family family : kFamilies) {
    ipvs::GuardOptions options = layout_.guard(family);
    options.table += "_probe";
    netlink::Writer out;
    nft::begin_batch(out, nft_->next_sequence());
    expected_[family] = ipvs::write_guard(out, *nft_, options);
    nft::begin(out, NFT_MSG_DELTABLE, 0, nft_->next_sequence(), nft::nf_family(family));
    out.text(NFTA_TABLE_NAME, options.table);
    out.end();
    const auto done = nft::commit(*nft_, out);
    if (done) continue;
    detail_ = nft_->detail().empty() ? done.error().message() : nft_->detail();
    return done.error();
  }
  return {};
}

/// Brings why backends that do not answer are not noticed; empty if they are.
Result<std::string> IpvsDriver::probe_guard() {
  auto able = try_guard();
  std::string missing;
  if (!able && able.error().value() != EPERM) {
    missing = "the kernel has no timeout policies for nf_tables (CONFIG_NF_CT_NETLINK_TIMEOUT): " +
              able.error().message();
    layout_.hears_unanswered = false;
    able = try_guard();
  }
  if (able) return missing;
  const int error = able.error().value();
  if (error == EPERM) return Errc::not_permitted;
  if (error == ETIMEDOUT || error == EPROTONOSUPPORT) return Errc::no_nftables;
  return Errc::missing_feature;
}

Result<void> IpvsDriver::probe_ipvs() {
  for (const Family family : kFamilies) {
    if (family == Family::v6 && !config_.range_v6) continue;
    const auto done = ipvs_->probe(family, config_.scheduler);
    if (done) continue;
    detail_ = done.error() == Errc::no_scheduler ? "ip_vs_" + config_.scheduler
                                                 : "IPVS: " + done.error().message();
    return done.error().category() == error_category() ? done.error()
                                                       : make_error_code(Errc::missing_feature);
  }
  return {};
}

Result<Capabilities> IpvsDriver::open(const DriverConfig& config) {
  config_ = config;
  layout_ = {.table = ipvs::guard_table(config.table),
             .range_v4 = config.range_v4,
             .range_v6 = config.range_v6};
  auto nft = netlink::Socket::open(NETLINK_NETFILTER);
  if (!nft) return nft.error();
  nft_.emplace(std::move(*nft));
  auto routes = netlink::Socket::open(NETLINK_ROUTE);
  if (!routes) return routes.error();
  routes_.emplace(std::move(*routes));
  auto link = ipvs::Link::open();
  if (!link) return link.error();
  ipvs_.emplace(std::move(*link));
  auto deaf = probe_guard();
  if (!deaf) return deaf.error();
  if (const auto able = probe_ipvs(); !able) return able.error();
  if (!config.check_only) {
    if (const auto set = ipvs::set_sysctls(detail_); !set) return Errc::not_permitted;
    if (const auto done = ipvs_->raise_tcp_timeout(kTcpSeconds); !done) return done.error();
  }
  auto opened = Monitor::open(
      layout_.table, {.nft = nft_->port(), .worker_nft = nft_->port(), .routes = routes_->port()},
      routes::kIpvs);
  if (!opened) return opened.error();
  monitor_.emplace(std::move(*opened));
  if (deaf->empty() && !config.check_only) {
    auto watch = UnansweredWatch::open();
    if (watch) {
      unanswered_.emplace(std::move(*watch));
    } else {
      *deaf = watch.error().message();
    }
  }
  return Capabilities{
      .driver = "ipvs",
      .syn_failover = false,
      .syn_failover_missing = "IPVS keeps a connection with the backend that its first packet got",
      .ejection_missing = *deaf,
      .passed_over = {}};
}

Result<KernelState> IpvsDriver::read() {
  auto known = ipvs::read_kernel(layout_, expected_);
  if (!known) return known.error();
  KernelState state;
  if (known->tables > 0 || !known->services.empty() || !known->routes.empty()) {
    const bool whole = known->tables == static_cast<int>(kFamilies.size()) && known->intact;
    state.schema = whole ? KernelState::Schema::current : KernelState::Schema::other;
  }
  if (state.schema == KernelState::Schema::current) {
    for (const auto& [vip, kept] : known->services) {
      Applied applied = applied_of(kept.weights, policy_of(kept.scheduler), kept.affinity_seconds);
      if (!applied.empty()) state.vips.emplace_hint(state.vips.end(), vip, std::move(applied));
    }
    for (const Vip& vip : known->sets.refused) state.vips[vip].refuses = true;
    state.hairpin = known->sets.hairpin;
    state.backend_connections = std::move(known->connections);
  }
  state.own = std::make_shared<Known>(std::move(*known));
  return state;
}

void IpvsDriver::adopt(const KernelState& state) {
  shadow_ = state.vips;
  auto* known = dynamic_cast<Known*>(state.own.get());
  known_ = known != nullptr ? std::move(*known) : Known{};
  // What drains without our knowing since when does so from now on.
  std::map<std::pair<Vip, Endpoint>, TimePoint> drains;
  for (const auto& [vip, kept] : known_.services) {
    for (const auto& [backend, weight] : kept.weights) {
      if (weight > 0) continue;
      const auto since = drains_.find({vip, backend});
      drains[{vip, backend}] =
          since != drains_.end() ? since->second : Clock::now() + config_.drain;
    }
  }
  drains_ = std::move(drains);
}

RouteSources IpvsDriver::find_sources() {
  RouteSources found;
  if (config_.range_v4) found.v4 = routes::source_towards(*routes_, config_.range_v4->address);
  if (config_.range_v6) found.v6 = routes::source_towards(*routes_, config_.range_v6->address);
  return found;
}

std::unique_ptr<Driver> make_ipvs_driver(const std::string& table) {
  return std::make_unique<IpvsDriver>(table);
}

}  // namespace muster::lb
