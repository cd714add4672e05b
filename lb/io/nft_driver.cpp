#include "lb/io/nft_driver.hpp"

#include <array>
#include <cerrno>
#include <sys/socket.h>
#include <utility>

#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/rtnetlink.h>

#include "base/assert.hpp"
#include "lb/io/conntrack.hpp"
#include "lb/io/monitor.hpp"
#include "lb/io/netlink.hpp"
#include "lb/io/nft_elements.hpp"
#include "lb/io/nft_link.hpp"
#include "lb/io/nft_schema.hpp"
#include "lb/io/routes.hpp"

namespace muster::lb {
namespace {

constexpr int kMaxReads = 6;

constexpr std::array kFamilies{Family::v4, Family::v6};
constexpr std::array kSets{nft::Set::vips, nft::Set::slots, nft::Set::refused};

}  // namespace

class NftDriver::Impl {
 public:
  explicit Impl(const std::string& table) { config_.table = table; }
  Result<Capabilities> open(const DriverConfig& config);
  Result<KernelState> read() const;
  void adopt(const KernelState& state) { classes_ = state.classes; }
  Result<void> apply(const Transaction& transaction);
  Result<std::size_t> publish_routes(const RouteSources& sources);
  RouteSources find_sources();
  Result<std::size_t> present() const;
  Result<std::vector<std::string>> cleanup();

  std::optional<Monitor> monitor;
  std::string detail;

 private:
  nft::SchemaOptions schema_of(Family family) const;
  Result<void> commit(netlink::Writer& out);
  Result<void> probe(bool syn_failover);
  Result<KernelState::Schema> read_family(netlink::Socket& socket, Family family,
                                          const nft::TableInfo& table,
                                          nft::ElementReader& elements) const;
  Result<void> read_sets(netlink::Socket& socket, Family family,
                         nft::ElementReader& elements) const;
  const std::optional<Prefix>& range(Family family) const {
    return family == Family::v4 ? config_.range_v4 : config_.range_v6;
  }

  DriverConfig config_;
  bool syn_failover_ = true;
  std::map<Family, nft::SchemaCounts> expected_;  // without size classes
  std::set<SizeClass> classes_;
  std::optional<netlink::Socket> nft_;
  std::optional<netlink::Socket> routes_;
};

nft::SchemaOptions NftDriver::Impl::schema_of(Family family) const {
  return {.table = config_.table,
          .family = family,
          .range = range(family),
          .syn_failover = syn_failover_};
}

Result<void> NftDriver::Impl::commit(netlink::Writer& out) {
  const auto done = nft::commit(*nft_, out);
  if (!done) detail = nft_->detail();
  return done;
}

/// Builds and removes a table in one transaction, of which nothing is ever seen.
Result<void> NftDriver::Impl::probe(bool syn_failover) {
  for (const Family family : kFamilies) {
    nft::SchemaOptions options = schema_of(family);
    options.table += "-probe";
    options.syn_failover = syn_failover;
    netlink::Writer out;
    nft::begin_batch(out, nft_->next_sequence());
    const nft::SchemaCounts counts = nft::write_schema(out, *nft_, options);
    nft::write_class(out, *nft_, options, {family, Protocol::tcp, {Policy::random, 2}});
    nft::write_class(out, *nft_, options, {family, Protocol::udp, {Policy::round_robin, 2}});
    nft::begin(out, NFT_MSG_DELTABLE, 0, nft_->next_sequence(), nft::nf_family(family));
    out.text(NFTA_TABLE_NAME, options.table);
    out.end();
    expected_[family] = counts;
    const auto done = commit(out);
    if (!done) return done.error();
  }
  return {};
}

Result<Capabilities> NftDriver::Impl::open(const DriverConfig& config) {
  config_ = config;
  auto nft = netlink::Socket::open(NETLINK_NETFILTER);
  if (!nft) return nft.error();
  nft_.emplace(std::move(*nft));
  auto routes = netlink::Socket::open(NETLINK_ROUTE);
  if (!routes) return routes.error();
  routes_.emplace(std::move(*routes));

  Capabilities capabilities{
      .driver = "nft", .syn_failover = true, .syn_failover_missing = {}, .passed_over = {}};
  auto able = probe(true);
  if (!able && able.error().value() != EPERM) {
    const std::string why = able.error().message();
    able = probe(false);
    syn_failover_ = capabilities.syn_failover = false;
    capabilities.syn_failover_missing =
        "the kernel has no timeout policies for nf_tables (CONFIG_NF_CT_NETLINK_TIMEOUT): " + why;
  }
  if (!able) {
    const int error = able.error().value();
    if (detail.empty()) detail = able.error().message();
    if (error == EPERM) return Errc::not_permitted;
    // nfnetlink without the subsystem says EINVAL to a batch for it, or nothing at all.
    if (error == ETIMEDOUT || error == EPROTONOSUPPORT) return Errc::no_nftables;
    return Errc::missing_feature;
  }
  auto opened = Monitor::open(config_.table, nft_->port(), routes_->port(), routes::kNft);
  if (!opened) return opened.error();
  monitor.emplace(std::move(*opened));
  return capabilities;
}

Result<void> NftDriver::Impl::read_sets(netlink::Socket& socket, Family family,
                                        nft::ElementReader& elements) const {
  std::vector<std::string> names{std::string{nft::kHairpinSet}};
  for (const Protocol protocol : {Protocol::tcp, Protocol::udp}) {
    for (const nft::Set set : kSets) names.push_back(nft::set_name(set, protocol));
    names.push_back(nft::classes_name(protocol));
  }
  for (const std::string& name : names) {
    const auto done = nft::dump_set(
        socket, family, config_.table, name,
        [&](const netlink::Message& message) { elements.read(message, family, name); });
    if (!done) return done.error();
  }
  return {};
}

Result<KernelState> NftDriver::Impl::read() const {
  auto socket = netlink::Socket::open(NETLINK_NETFILTER);
  if (!socket) return socket.error();
  nft::ElementReader elements;
  std::size_t there = 0;
  bool whole = true;
  for (const Family family : kFamilies) {
    const auto table = nft::read_table(*socket, family, config_.table);
    if (!table) return table.error();
    if (!table->there) continue;
    ++there;
    const auto schema = read_family(*socket, family, *table, elements);
    if (!schema) return schema.error();
    whole = whole && *schema == KernelState::Schema::current;
  }
  if (there == 0) return KernelState{};
  if (there < kFamilies.size() || !whole) return KernelState{.schema = KernelState::Schema::other};
  KernelState state{.schema = KernelState::Schema::current};
  elements.finish(state);
  return state;
}

/// `other` if the table is not as write_schema() and our commands can have left it.
Result<KernelState::Schema> NftDriver::Impl::read_family(netlink::Socket& socket, Family family,
                                                         const nft::TableInfo& table,
                                                         nft::ElementReader& elements) const {
  if (table.comment != nft::schema_comment(schema_of(family))) return KernelState::Schema::other;
  const auto read = read_sets(socket, family, elements);
  if (!read && read.error().value() == ENOENT) return KernelState::Schema::other;
  if (!read) return read.error();
  const auto rules = nft::count_rules(socket, family, config_.table);
  if (!rules) return rules.error();
  nft::SchemaCounts expected = expected_.at(family);
  for (const SizeClass& size_class : elements.classes()) {
    if (size_class.family != family) continue;
    expected.objects += nft::kClassCounts.objects;
    expected.rules += nft::kClassCounts.rules;
  }
  // What we cannot have written, plan() has no words to mend.
  const bool intact = elements.strange() == 0 && table.flags == 0 &&
                      table.objects == expected.objects && *rules == expected.rules;
  return intact ? KernelState::Schema::current : KernelState::Schema::other;
}

Result<void> NftDriver::Impl::apply(const Transaction& transaction) {
  MUSTER_ASSERT(nft_);
  if (!transaction.reset && transaction.commands.empty()) return {};
  netlink::Writer out;
  nft::begin_batch(out, nft_->next_sequence());
  if (transaction.reset) {
    for (const Family family : kFamilies) {
      nft::write_removal(out, *nft_, config_.table, family);
      nft::write_schema(out, *nft_, schema_of(family));
    }
  }
  std::set<SizeClass> classes = transaction.reset ? std::set<SizeClass>{} : classes_;
  for (const SizeClass& size_class : nft::classes_of(transaction.commands)) {
    if (!classes.insert(size_class).second) continue;
    nft::write_class(out, *nft_, schema_of(size_class.family), size_class);
  }
  nft::write_commands(out, *nft_, config_.table, transaction.commands);
  auto done = transaction.commands.size() < nft::kNoticedCommands
                  ? nft::commit(*nft_, out)
                  : nft::commit_unnoticed(*nft_, out, *monitor);
  detail = nft_->detail();
  if (done) classes_ = std::move(classes);
  return done;
}

Result<std::size_t> NftDriver::Impl::publish_routes(const RouteSources& sources) {
  std::vector<routes::Route> wanted;
  for (const auto& [family, source] :
       {std::pair{Family::v4, sources.v4}, std::pair{Family::v6, sources.v6}}) {
    if (!source || !range(family)) continue;
    wanted.push_back({.destination = *range(family),
                      .source = *source,
                      .table = RT_TABLE_MAIN,
                      .interface = routes::loopback()});
  }
  auto changed = routes::publish(*routes_, routes::kNft, wanted);
  if (!changed) {
    detail = routes_->detail();
    return changed;
  }
  for (const Family family : kFamilies) {
    const auto bridges = nft::publish_bridges(*nft_, *routes_, family, config_.table);
    if (!bridges) return bridges.error();
    *changed += *bridges;
  }
  return changed;
}

RouteSources NftDriver::Impl::find_sources() {
  RouteSources found;
  if (config_.range_v4) found.v4 = routes::source_towards(*routes_, config_.range_v4->address);
  if (config_.range_v6) found.v6 = routes::source_towards(*routes_, config_.range_v6->address);
  return found;
}

Result<std::size_t> NftDriver::Impl::present() const {
  auto socket = netlink::Socket::open(NETLINK_NETFILTER);
  if (!socket) return socket.error();
  std::size_t count = 0;
  for (const Family family : kFamilies) {
    const auto table = nft::read_table(*socket, family, config_.table);
    if (table && table->there) ++count;
  }
  return count;
}

Result<std::vector<std::string>> NftDriver::Impl::cleanup() {
  std::vector<std::string> removed;
  auto route_socket = netlink::Socket::open(NETLINK_ROUTE);
  if (!route_socket) return route_socket.error();
  const auto found = routes::ours(*route_socket, routes::kNft);
  if (!found) return found.error();
  // Routes first: without rules they would lead nowhere.
  const auto gone = routes::publish(*route_socket, routes::kNft, {});
  if (!gone && gone.error().value() == EPERM) return Errc::not_permitted;
  if (!gone) return gone.error();
  for (const auto& route : *found) {
    removed.push_back("route " + route.destination.to_string() + " (protocol " +
                      std::to_string(routes::kNft) + ")");
  }
  auto socket = netlink::Socket::open(NETLINK_NETFILTER);
  if (!socket) return socket.error();
  nft_.emplace(std::move(*socket));
  for (const Family family : kFamilies) {
    const auto table = nft::read_table(*nft_, family, config_.table);
    if (!table && table.error().value() == EPERM) return Errc::not_permitted;
    if (!table) return table.error();
    if (!table->there) continue;
    // The guard first and by itself: while a table is taken away, packets were seen (6.1) that were
    // not balanced any more and still refused, though another driver was there to serve them.
    netlink::Writer unguard;
    nft::begin_batch(unguard, nft_->next_sequence());
    nft::write_flush(unguard, *nft_, config_.table, family, "guard");
    if (const auto done = commit(unguard); !done && done.error().value() != ENOENT) {
      return done.error().value() == EPERM ? make_error_code(Errc::not_permitted) : done.error();
    }
    netlink::Writer out;
    nft::begin_batch(out, nft_->next_sequence());
    nft::write_removal(out, *nft_, config_.table, family);
    const auto done = commit(out);
    if (!done) return done.error();
    removed.push_back(std::string{"nftables table "} + (family == Family::v4 ? "ip " : "ip6 ") +
                      config_.table);
  }
  return removed;
}

NftDriver::NftDriver(const std::string& table) : impl_{std::make_unique<Impl>(table)} {}
NftDriver::~NftDriver() = default;

Result<Capabilities> NftDriver::open(const DriverConfig& config) {
  return impl_->open(config);
}
/// A map that has just grown a lot is rehashed by the kernel in the background, and a dump that
/// meets that leaves elements out without a word. What two dumps agree on is believed.
Result<KernelState> NftDriver::read() {
  auto state = impl_->read();
  for (int more = kMaxReads - 1; state && more > 0; --more) {
    auto again = impl_->read();
    if (!again) return again;
    if (again->schema == state->schema && again->vips == state->vips) return again;
    state = std::move(again);
  }
  return state;
}
void NftDriver::adopt(const KernelState& state) {
  impl_->adopt(state);
}
Result<void> NftDriver::apply(const Transaction& transaction) {
  return impl_->apply(transaction);
}
Result<std::size_t> NftDriver::publish_routes(const RouteSources& sources) {
  return impl_->publish_routes(sources);
}
RouteSources NftDriver::find_sources() {
  return impl_->find_sources();
}
Result<std::size_t> NftDriver::flush_udp(const UdpKeep& keep) {
  return flush_stale_udp(keep);
}
int NftDriver::monitor_fd() const noexcept {
  return impl_->monitor ? impl_->monitor->fd() : -1;
}
bool NftDriver::drain_monitor() {
  return impl_->monitor && impl_->monitor->drain();
}
Result<std::size_t> NftDriver::present() {
  return impl_->present();
}
Result<std::vector<std::string>> NftDriver::cleanup() {
  return impl_->cleanup();
}
std::string NftDriver::detail() const {
  return impl_->detail;
}

}  // namespace muster::lb
