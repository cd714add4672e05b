#include "lb/io/ipvs_driver.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <optional>
#include <utility>
#include <variant>

#include <linux/netfilter/nf_tables.h>
#include <linux/rtnetlink.h>

#include "base/assert.hpp"
#include "lb/io/conntrack.hpp"
#include "lb/io/ipvs.hpp"
#include "lb/io/ipvs_cleanup.hpp"
#include "lb/io/ipvs_guard.hpp"
#include "lb/io/ipvs_kernel.hpp"
#include "lb/io/ipvs_plan.hpp"
#include "lb/io/monitor.hpp"
#include "lb/io/nft_elements.hpp"
#include "lb/io/nft_link.hpp"
#include "lb/io/unanswered.hpp"

namespace muster::lb {
namespace {

using ipvs::Change;
using ipvs::Edits;
using ipvs::Known;
using ipvs::Wish;
using Kind = ipvs::Change::Kind;

constexpr std::array kFamilies{Family::v4, Family::v6};
/// Keepalives come after 7,200 s (tcp_keepalive_time): connections that send them stay.
constexpr std::uint32_t kTcpSeconds = 7500;

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
  Result<Wish> fit(const Transaction& transaction) const;
  Result<void> write_guard(bool reset, const Edits& edits);
  Edits before(const Wish& wish, bool reset) const;
  Edits after(const Wish& wish) const;
  Result<void> balance(const Wish& wish, bool reset);
  void note_drains(const std::vector<Change>& changes);
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
  Known known_;          // what that has become in the kernel
  /// Until when a backend of weight 0 may keep its connections.
  std::map<std::pair<Vip, Endpoint>, TimePoint> drains_;
};

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

bool IpvsDriver::outside_range(const IpAddress& address) const {
  const auto& range = layout_.range(address.family());
  return !range || !range->contains(address);
}

routes::Route IpvsDriver::route_to(const Prefix& destination, const IpAddress& source) const {
  return {.destination = destination,
          .source = source,
          .table = RT_TABLE_LOCAL,
          .interface = routes::loopback(),
          .local = true};
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

/// The commands' outcome, or the first that does not fit what is there.
Result<Wish> IpvsDriver::fit(const Transaction& transaction) const {
  Wish wish;
  std::set<IpAddress> hairpin = transaction.reset ? std::set<IpAddress>{} : known_.sets.hairpin;
  AppliedTable next;
  for (const Command& command : transaction.commands) {
    bool fits = true;
    if (const auto* put = std::get_if<PutHairpin>(&command)) {
      fits = hairpin.insert(put->address).second;
      wish.hairpin.push_back(command);
    } else if (const auto* drop = std::get_if<DropHairpin>(&command)) {
      fits = hairpin.erase(drop->address) == 1;
      wish.hairpin.push_back(command);
    } else {
      const Vip vip = std::visit(
          [](const auto& c) -> Vip {
            if constexpr (requires { c.vip; }) return c.vip;
            MUSTER_ASSERT(false);
          },
          command);
      if (wish.vips.try_emplace(vip).second && !transaction.reset) {
        const auto found = shadow_.find(vip);
        if (found != shadow_.end()) next.insert(*found);
      }
      fits = lb::apply(command, next);
    }
    if (!fits) return netlink::errno_code(ENOENT);
  }
  for (auto& [vip, applied] : wish.vips) {
    const auto found = next.find(vip);
    if (found != next.end()) applied = std::move(found->second);
    if (applied.selector && known_.foreign.contains(vip)) return netlink::errno_code(EEXIST);
  }
  return wish;
}

Result<void> IpvsDriver::write_guard(bool reset, const Edits& edits) {
  if (!reset && edits.empty()) return {};
  netlink::Writer out;
  nft::begin_batch(out, nft_->next_sequence());
  if (reset) {
    for (const Family family : kFamilies) {
      nft::write_removal(out, *nft_, layout_.table, family);
      ipvs::write_guard(out, *nft_, layout_.guard(family));
    }
  }
  nft::write_vips(out, *nft_, layout_.table, nft::Set::vips, edits.vips);
  nft::write_vips(out, *nft_, layout_.table, nft::Set::refused, edits.refused);
  nft::write_addresses(out, *nft_, layout_.table, ipvs::kAddressesSet, edits.addresses_added,
                       edits.addresses_removed);
  nft::write_commands(out, *nft_, layout_.table, edits.hairpin);
  const auto done = edits.size() < nft::kNoticedCommands
                        ? nft::commit(*nft_, out)
                        : nft::commit_unnoticed(*nft_, out, *monitor_);
  detail_ = nft_->detail();
  if (!done) return done;
  if (reset) known_.sets = {};
  ipvs::carry_out(edits, known_.sets);
  return done;
}

/// What the guard must know before IPVS does: that a service is ours, and what is refused from now
/// on, so that no connection slips through to whoever has the address outside.
Edits IpvsDriver::before(const Wish& wish, bool reset) const {
  const ipvs::GuardSets none;
  const ipvs::GuardSets& there = reset ? none : known_.sets;
  std::set<Vip> vips;
  std::set<IpAddress> addresses;
  const auto claim = [&](const Vip& vip) {
    if (!there.vips.contains(vip)) vips.insert(vip);
    const IpAddress& address = vip.endpoint.address;
    if (outside_range(address) && !there.addresses.contains(address)) addresses.insert(address);
  };
  Edits edits;
  if (reset) {
    for (const auto& [vip, kept] : known_.services) claim(vip);
  }
  for (const auto& [vip, applied] : wish.vips) {
    if (applied.selector) claim(vip);
    if (!applied.refuses || there.refused.contains(vip)) continue;
    edits.refused.added.push_back(vip);
    const IpAddress& address = vip.endpoint.address;
    if (outside_range(address) && !there.addresses.contains(address)) addresses.insert(address);
  }
  edits.vips.added.assign(vips.begin(), vips.end());
  edits.addresses_added.assign(addresses.begin(), addresses.end());
  edits.hairpin = wish.hairpin;
  return edits;
}

Edits IpvsDriver::after(const Wish& wish) const {
  Edits edits;
  for (const auto& [vip, applied] : wish.vips) {
    if (!applied.refuses && known_.sets.refused.contains(vip)) edits.refused.removed.push_back(vip);
  }
  return edits;
}

void IpvsDriver::note_drains(const std::vector<Change>& changes) {
  for (const Change& change : changes) {
    if (change.kind == Kind::put_service || change.kind == Kind::set_service) {
      ipvs::Kept& kept = known_.services[change.vip];
      kept.scheduler = change.scheduler;
      kept.affinity_seconds = change.affinity_seconds;
      continue;
    }
    const std::pair key{change.vip, *change.backend};
    Weights& weights = known_.services[change.vip].weights;
    known_.idle.erase(key);
    drains_.erase(key);
    if (change.kind == Kind::drop_backend) {
      weights.erase(*change.backend);
      continue;
    }
    weights[*change.backend] = change.weight;
    if (change.weight == 0) drains_[key] = Clock::now() + config_.drain;
  }
}

Result<void> IpvsDriver::balance(const Wish& wish, bool reset) {
  std::vector<Change> changes;
  const auto plan = [&](const Vip& vip, const Applied& applied) {
    const auto kept = known_.services.find(vip);
    const Selector selector =
        applied.selector.value_or(Selector{config_.policy, 0, 0});  // matters if there are weights
    ipvs::plan_changes(vip, {scheduler_of(selector.policy), selector.affinity_seconds},
                       kept != known_.services.end() ? &kept->second : nullptr, weights_of(applied),
                       changes);
  };
  for (const auto& [vip, applied] : wish.vips) plan(vip, applied);
  // A reset says all there is to be; but one that says nothing only clears the ground for what
  // follows, and whoever is served meanwhile stays served.
  if (reset && !wish.vips.empty()) {
    for (const auto& [vip, kept] : known_.services) {
      if (!wish.vips.contains(vip)) plan(vip, Applied{});
    }
  }
  if (changes.empty()) return {};
  const auto done = ipvs_->commit(changes);
  if (!done) {
    detail_ = ipvs_->detail();
    return done;
  }
  note_drains(changes);
  return {};
}

/// Only once publish_routes() has said from which address; it catches up with those before.
Result<void> IpvsDriver::route_addresses(const std::vector<IpAddress>& addresses) {
  for (const IpAddress& address : addresses) {
    const auto source = source_of(address.family());
    if (!source) continue;
    const Prefix all{address, static_cast<std::uint8_t>(address.octets().size() * 8)};
    const auto done = routes::change(*routes_, routes::kIpvs, route_to(all, *source), true);
    if (!done) return done.error();
  }
  return {};
}

Result<void> IpvsDriver::apply(const Transaction& transaction) {
  MUSTER_ASSERT(ipvs_);
  if (!transaction.reset && transaction.commands.empty()) return {};
  if (transaction.reset) {
    // What was adopted says nothing about a table that is not ours.
    auto now = ipvs::read_kernel(layout_, expected_);
    if (!now) return now.error();
    known_ = std::move(*now);
    shadow_.clear();
  }
  const auto wish = fit(transaction);
  if (!wish) return wish.error();
  const Edits first = before(*wish, transaction.reset);
  if (const auto done = write_guard(transaction.reset, first); !done) return done;
  if (const auto done = balance(*wish, transaction.reset); !done) return done;
  if (const auto done = route_addresses(first.addresses_added); !done) return done;
  if (const auto done = write_guard(false, after(*wish)); !done) return done;
  for (const auto& [vip, applied] : wish->vips) {
    if (applied.empty()) {
      shadow_.erase(vip);
    } else {
      shadow_.insert_or_assign(vip, applied);
    }
  }
  return {};
}

std::set<IpAddress> IpvsDriver::addresses_wanted() const {
  std::set<IpAddress> wanted;
  for (const auto* vips : {&known_.sets.vips, &known_.sets.refused}) {
    for (const Vip& vip : *vips) {
      if (outside_range(vip.endpoint.address)) wanted.insert(vip.endpoint.address);
    }
  }
  return wanted;
}

/// Each service of ours is claimed, and nothing else is.
Result<void> IpvsDriver::mend_claims() {
  Edits edits;
  for (const auto& [vip, kept] : known_.services) {
    if (!known_.sets.vips.contains(vip)) edits.vips.added.push_back(vip);
  }
  for (const Vip& vip : known_.sets.vips) {
    if (!known_.services.contains(vip)) edits.vips.removed.push_back(vip);
  }
  return write_guard(false, edits);
}

/// Takes away backends that have drained, services without any, and what was there for their sake.
Result<std::size_t> IpvsDriver::sweep() {
  std::vector<Change> changes;
  const TimePoint now = Clock::now();
  for (const auto& [vip, kept] : known_.services) {
    std::size_t left = kept.weights.size();
    for (const auto& [backend, weight] : kept.weights) {
      if (weight > 0) continue;
      const auto drain = drains_.find({vip, backend});
      const bool due = drain == drains_.end() || drain->second <= now;
      if (!due && !known_.idle.contains({vip, backend})) continue;
      changes.push_back({.kind = Kind::drop_backend, .vip = vip, .backend = backend});
      --left;
    }
    if (left > 0) continue;
    changes.push_back({.kind = Kind::drop_service, .vip = vip});
  }
  if (!changes.empty()) {
    if (const auto done = ipvs_->commit(changes); !done) return done.error();
  }
  for (const Change& change : changes) {
    if (change.kind == Kind::drop_service) {
      known_.services.erase(change.vip);
    } else {
      known_.services[change.vip].weights.erase(*change.backend);
      known_.idle.erase({change.vip, *change.backend});
      drains_.erase({change.vip, *change.backend});
    }
  }
  if (const auto done = mend_claims(); !done) return done.error();
  Edits addresses;
  const auto wanted = addresses_wanted();
  std::set_difference(known_.sets.addresses.begin(), known_.sets.addresses.end(), wanted.begin(),
                      wanted.end(), std::back_inserter(addresses.addresses_removed));
  std::set_difference(wanted.begin(), wanted.end(), known_.sets.addresses.begin(),
                      known_.sets.addresses.end(), std::back_inserter(addresses.addresses_added));
  for (const IpAddress& address : addresses.addresses_removed) {
    const Prefix all{address, static_cast<std::uint8_t>(address.octets().size() * 8)};
    const auto done = routes::change(*routes_, routes::kIpvs, route_to(all, address), false);
    if (!done) return done.error();
  }
  if (const auto done = write_guard(false, addresses); !done) return done.error();
  return changes.size();
}

Result<std::size_t> IpvsDriver::publish_routes(const RouteSources& sources) {
  sources_ = sources;
  auto sysctls = ipvs::set_sysctls(detail_);
  if (!sysctls) return sysctls;
  if (const auto swept = sweep(); !swept) return swept;
  std::vector<routes::Route> wanted;
  for (const Family family : kFamilies) {
    const auto& range = layout_.range(family);
    const auto source = source_of(family);
    if (range && source) wanted.push_back(route_to(*range, *source));
  }
  for (const IpAddress& address : known_.sets.addresses) {
    const auto source = source_of(address.family());
    if (!source) continue;
    const auto length = static_cast<std::uint8_t>(address.octets().size() * 8);
    wanted.push_back(route_to({address, length}, *source));
  }
  auto changed = routes::publish(*routes_, routes::kIpvs, wanted);
  if (!changed) {
    detail_ = routes_->detail();
    return changed;
  }
  for (const Family family : kFamilies) {
    const auto bridges =
        nft::publish_bridges(*nft_, *routes_, family, layout_.table, ipvs::kBridgeIdsMap);
    if (!bridges) return bridges.error();
    *changed += *bridges;
  }
  return *changed + *sysctls;
}

RouteSources IpvsDriver::find_sources() {
  RouteSources found;
  if (config_.range_v4) found.v4 = routes::source_towards(*routes_, config_.range_v4->address);
  if (config_.range_v6) found.v6 = routes::source_towards(*routes_, config_.range_v6->address);
  return found;
}

}  // namespace

std::unique_ptr<Driver> make_ipvs_driver(const std::string& table) {
  return std::make_unique<IpvsDriver>(table);
}

}  // namespace muster::lb
