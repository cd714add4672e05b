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
#include "lb/io/nft_affinity.hpp"
#include "lb/io/nft_elements.hpp"
#include "lb/io/nft_link.hpp"
#include "lb/io/nft_schema.hpp"
#include "lb/io/routes.hpp"
#include "lb/io/unanswered.hpp"

namespace muster::lb {
namespace {

constexpr int kMaxReads = 6;

constexpr std::array kFamilies{Family::v4, Family::v6};
constexpr std::array kSets{nft::Set::vips, nft::Set::slots, nft::Set::refused};

/// What two dumps agreed on: as long as the ruleset's generation stays, nothing can have changed.
struct Agreed {
  std::uint32_t generation = 0;  // 0: none
  std::size_t elements = 0;
  friend bool operator==(const Agreed&, const Agreed&) = default;
};

struct Dump {
  KernelState state;
  Agreed seen;  // without a generation, if there was more than one while it was read
};

class NftDriver final : public Driver {
 public:
  NftDriver(const std::string& table, std::unique_ptr<netlink::Source> source)
      : source_{std::move(source)} {
    config_.table = table;
  }

  Result<Capabilities> open(const DriverConfig& config) override;
  Result<KernelState> read() override;
  Result<std::vector<SlotCount>> read_counts() override;
  void adopt(const KernelState& state) override {
    classes_ = state.classes;
    generation_ = state.generation;
  }
  bool untouched() override { return generation_ != 0 && nft::generation(*nft_) == generation_; }
  Result<void> apply(const Transaction& transaction) override;
  Result<std::size_t> publish_routes(const RouteSources& sources) override;
  RouteSources find_sources() override;
  Result<std::size_t> flush_udp(const UdpKeep& keep) override {
    return source_ ? flush_stale_udp(*worker_nft_, keep) : flush_stale_udp(keep);
  }
  Result<std::size_t> forget_clients(const UdpKeep& keep) override {
    return nft::forget_clients(*worker_nft_, config_.table, keep);
  }
  int unanswered_fd() const noexcept override { return unanswered_ ? unanswered_->fd() : -1; }
  std::vector<Unanswered> take_unanswered() override {
    return unanswered_ ? unanswered_->drain() : std::vector<Unanswered>{};
  }
  int monitor_fd() const noexcept override { return monitor_ ? monitor_->fd() : -1; }
  bool drain_monitor() override { return monitor_ && monitor_->drain(); }
  bool take_firewall_change() override { return monitor_ && monitor_->take_others(); }
  Result<std::size_t> present() override;
  Result<std::vector<std::string>> cleanup() override;
  std::string detail() const override { return detail_; }

 private:
  nft::SchemaOptions schema_of(Family family) const;
  Result<void> commit(netlink::Writer& out);
  Result<void> probe(bool syn_failover);
  Result<KernelState> read_tables(netlink::Socket& socket) const;
  Result<Dump> dump();
  Result<KernelState::Schema> read_family(netlink::Socket& socket, Family family,
                                          const nft::TableInfo& table,
                                          nft::ElementReader& elements) const;
  Result<void> read_sets(netlink::Socket& socket, Family family,
                         nft::ElementReader& elements) const;
  const std::optional<Prefix>& range(Family family) const {
    return family == Family::v4 ? config_.range_v4 : config_.range_v6;
  }

  Result<netlink::Socket*> reader();
  void end_reading();

  std::unique_ptr<netlink::Source> source_;  // has only so many
  DriverConfig config_;
  bool syn_failover_ = true;
  std::map<Family, nft::SchemaCounts> expected_;  // without size classes
  std::set<SizeClass> classes_;
  std::optional<netlink::Socket> nft_;
  std::optional<netlink::Socket> routes_;
  std::optional<netlink::Socket> worker_nft_;  // the other thread's, for what it changes
  /// For what it reads. Kept: to close one of these waits for whatever the kernel has yet to free
  /// (`nft_rcv_nl_event`), tens of milliseconds after a change.
  std::optional<netlink::Socket> reader_;
  std::optional<Monitor> monitor_;
  std::optional<UnansweredWatch> unanswered_;
  std::string detail_;
  Agreed agreed_;                 // the reading thread's
  std::uint32_t generation_ = 0;  // as far as we know, the ruleset's; 0: not known
};

nft::SchemaOptions NftDriver::schema_of(Family family) const {
  return {.table = config_.table,
          .family = family,
          .range = range(family),
          .syn_failover = syn_failover_};
}

Result<void> NftDriver::commit(netlink::Writer& out) {
  const auto done = nft::commit(*nft_, out);
  if (!done) detail_ = nft_->detail();
  return done;
}

/// Builds and removes a table in one transaction, of which nothing is ever seen.
Result<void> NftDriver::probe(bool syn_failover) {
  for (const Family family : kFamilies) {
    nft::SchemaOptions options = schema_of(family);
    options.table += "-probe";
    options.syn_failover = syn_failover;
    netlink::Writer out;
    nft::begin_batch(out, nft_->next_sequence());
    const nft::SchemaCounts counts = nft::write_schema(out, *nft_, options);
    nft::write_class(out, *nft_, options, {family, Protocol::tcp, {Policy::random, 2}}, false);
    nft::write_class(out, *nft_, options, {family, Protocol::udp, {Policy::round_robin, 2}}, false);
    nft::write_class(out, *nft_, options,
                     {family, Protocol::udp, {Policy::source_hash, 2, kAffinitySeconds[0]}}, true);
    nft::begin(out, NFT_MSG_DELTABLE, 0, nft_->next_sequence(), nft::nf_family(family));
    out.text(NFTA_TABLE_NAME, options.table);
    out.end();
    expected_[family] = counts;
    const auto done = commit(out);
    if (!done) return done.error();
  }
  return {};
}

/// Says nothing of what the kernel can do.
bool passes(const ErrorCode& error) {
  const int value = error.value();
  return value == ENOBUFS || value == ENOMEM || value == EAGAIN || value == EINTR || value == EBUSY;
}

Result<Capabilities> NftDriver::open(const DriverConfig& config) {
  config_ = config;
  auto nft = netlink::open_from(source_.get(), NETLINK_NETFILTER);
  if (!nft) return nft.error();
  nft_.emplace(std::move(*nft));
  auto routes = netlink::open_from(source_.get(), NETLINK_ROUTE);
  if (!routes) return routes.error();
  routes_.emplace(std::move(*routes));

  Capabilities capabilities{
      .driver = "nft", .syn_failover = true, .syn_failover_missing = {}, .passed_over = {}};
  auto able = probe(true);
  // Without failover the tables are others, and those that serve would be replaced: not for what
  // is gone in a moment.
  if (!able && passes(able.error())) able = probe(true);
  if (!able && able.error().value() != EPERM && !passes(able.error())) {
    const std::string why = able.error().message();
    able = probe(false);
    syn_failover_ = capabilities.syn_failover = false;
    capabilities.syn_failover_missing =
        "the kernel has no timeout policies for nf_tables (CONFIG_NF_CT_NETLINK_TIMEOUT): " + why;
  }
  if (!able) {
    const int error = able.error().value();
    if (detail_.empty()) detail_ = able.error().message();
    if (error == EPERM) return Errc::not_permitted;
    // nfnetlink without the subsystem says EINVAL to a batch for it, or nothing at all.
    if (error == ETIMEDOUT || error == EPROTONOSUPPORT) return Errc::no_nftables;
    return Errc::missing_feature;
  }
  auto worker = netlink::open_from(source_.get(), NETLINK_NETFILTER);
  if (!worker) return worker.error();
  worker_nft_.emplace(std::move(*worker));
  auto opened = Monitor::open(
      config_.table,
      {.nft = nft_->port(), .worker_nft = worker_nft_->port(), .routes = routes_->port()},
      routes::kNft, source_.get());
  if (!opened) return opened.error();
  monitor_.emplace(std::move(*opened));
  if (capabilities.syn_failover && !config.check_only) {
    auto watch = UnansweredWatch::open(source_.get());
    if (watch) {
      unanswered_.emplace(std::move(*watch));
    } else {
      capabilities.ejection_missing = watch.error().message();
    }
  }
  return capabilities;
}

Result<void> NftDriver::read_sets(netlink::Socket& socket, Family family,
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

Result<KernelState> NftDriver::read_tables(netlink::Socket& socket) const {
  nft::ElementReader elements;
  std::size_t there = 0;
  bool whole = true;
  for (const Family family : kFamilies) {
    const auto table = nft::read_table(socket, family, config_.table);
    if (!table) return table.error();
    if (!table->there) continue;
    ++there;
    const auto schema = read_family(socket, family, *table, elements);
    if (!schema) return schema.error();
    whole = whole && *schema == KernelState::Schema::current;
  }
  if (there == 0) return KernelState{};
  if (there < kFamilies.size() || !whole) return KernelState{.schema = KernelState::Schema::other};
  KernelState state{.schema = KernelState::Schema::current};
  elements.finish(state);
  return state;
}

Result<netlink::Socket*> NftDriver::reader() {
  if (source_) return &*worker_nft_;
  if (!reader_) {
    auto socket = netlink::Socket::open(NETLINK_NETFILTER);
    if (!socket) return socket.error();
    reader_.emplace(std::move(*socket));
  }
  return &*reader_;
}

/// After an error: the rest of an answer may still be in the socket.
void NftDriver::end_reading() {
  if (source_) {
    worker_nft_->drain();
  } else {
    reader_.reset();
  }
}

Result<Dump> NftDriver::dump() {
  const auto socket = reader();
  if (!socket) return socket.error();
  const std::uint32_t before = nft::generation(**socket);
  auto state = read_tables(**socket);
  if (!state) {
    end_reading();
    return state.error();
  }
  Dump dump{.state = std::move(*state), .seen = {}};
  if (nft::generation(**socket) == before) dump.seen.generation = before;
  for (const auto& [vip, applied] : dump.state.vips) dump.seen.elements += 1 + applied.slots.size();
  return dump;
}

/// A map that has just grown a lot is rehashed by the kernel in the background, and a dump that
/// meets that leaves elements out without a word. What two dumps agree on is believed, and one
/// more of the same generation and size.
Result<KernelState> NftDriver::read() {
  auto last = dump();
  for (int more = kMaxReads - 1; last && more > 0; --more) {
    if (last->seen.generation != 0 && last->seen == agreed_) break;
    auto again = dump();
    if (!again) return again.error();
    const bool same =
        again->state.schema == last->state.schema && again->state.vips == last->state.vips;
    last = std::move(again);
    if (!same) continue;
    agreed_ = last->seen;
    break;
  }
  if (!last) return last.error();
  last->state.generation = last->seen.generation;
  return std::move(last->state);
}

Result<std::vector<SlotCount>> NftDriver::read_counts() {
  const auto socket = reader();
  if (!socket) return socket.error();
  std::vector<SlotCount> counts;
  for (const Family family : kFamilies) {
    for (const Protocol protocol : {Protocol::tcp, Protocol::udp}) {
      const auto done =
          nft::dump_set(**socket, family, config_.table, nft::set_name(nft::Set::slots, protocol),
                        [&](const netlink::Message& message) {
                          nft::read_counts(message, family, protocol, counts);
                        });
      if (done) continue;
      end_reading();
      return done.error();
    }
  }
  return counts;
}

/// `other` if the table is not as write_schema() and our commands can have left it.
Result<KernelState::Schema> NftDriver::read_family(netlink::Socket& socket, Family family,
                                                   const nft::TableInfo& table,
                                                   nft::ElementReader& elements) const {
  if (table.comment != nft::schema_comment(schema_of(family))) return KernelState::Schema::other;
  const auto read = read_sets(socket, family, elements);
  if (!read && read.error().value() == ENOENT) return KernelState::Schema::other;
  if (!read) return read.error();
  const auto rules = nft::count_rules(socket, family, config_.table);
  if (!rules) return rules.error();
  nft::SchemaCounts expected = expected_.at(family);
  const nft::SchemaCounts more = nft::class_counts(elements.classes(), family);
  expected.objects += more.objects;
  expected.rules += more.rules;
  // What we cannot have written, plan() has no words to mend.
  const bool intact = elements.strange() == 0 && table.flags == 0 &&
                      table.objects == expected.objects && *rules == expected.rules;
  return intact ? KernelState::Schema::current : KernelState::Schema::other;
}

Result<void> NftDriver::apply(const Transaction& transaction) {
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
    const bool first = !nft::has_affinity(classes, size_class.family, size_class.protocol);
    if (!classes.insert(size_class).second) continue;
    nft::write_class(out, *nft_, schema_of(size_class.family), size_class, first);
  }
  nft::write_commands(out, *nft_, config_.table, transaction.commands);
  auto done = transaction.commands.size() < nft::kNoticedCommands
                  ? nft::commit(*nft_, out)
                  : nft::commit_unnoticed(*nft_, out, *monitor_);
  detail_ = nft_->detail();
  if (!done) return done;
  classes_ = std::move(classes);
  if (generation_ != 0) ++generation_;
  return done;
}

Result<std::size_t> NftDriver::publish_routes(const RouteSources& sources) {
  std::vector<routes::Route> wanted;
  for (const auto& [family, source] :
       {std::pair{Family::v4, sources.v4}, std::pair{Family::v6, sources.v6}}) {
    if (!source || !range(family)) continue;
    wanted.push_back({.destination = *range(family),
                      .source = *source,
                      .table = RT_TABLE_MAIN,
                      .interface = routes::kLoopback});
  }
  auto changed = routes::publish(*routes_, routes::kNft, wanted);
  if (!changed) {
    detail_ = routes_->detail();
    return changed;
  }
  for (const Family family : kFamilies) {
    const auto bridges =
        nft::publish_bridges(*nft_, *routes_, family, config_.table, {}, source_ != nullptr);
    if (!bridges) return bridges.error();
    if (*bridges > 0 && generation_ != 0) ++generation_;
    *changed += *bridges;
  }
  return changed;
}

RouteSources NftDriver::find_sources() {
  RouteSources found;
  if (config_.range_v4) found.v4 = routes::source_towards(*routes_, config_.range_v4->address);
  if (config_.range_v6) found.v6 = routes::source_towards(*routes_, config_.range_v6->address);
  return found;
}

Result<std::size_t> NftDriver::present() {
  auto socket = netlink::Socket::open(NETLINK_NETFILTER);
  if (!socket) return socket.error();
  std::size_t count = 0;
  for (const Family family : kFamilies) {
    const auto table = nft::read_table(*socket, family, config_.table);
    if (table && table->there) ++count;
  }
  return count;
}

Result<std::vector<std::string>> NftDriver::cleanup() {
  std::vector<std::string> removed;
  if (!routes_) {
    auto socket = netlink::open_from(source_.get(), NETLINK_ROUTE);
    if (!socket) return socket.error();
    routes_.emplace(std::move(*socket));
  }
  const auto found = routes::ours(*routes_, routes::kNft);
  if (!found) return found.error();
  // Routes first: without rules they would lead nowhere.
  const auto gone = routes::publish(*routes_, routes::kNft, {});
  if (!gone && gone.error().value() == EPERM) return Errc::not_permitted;
  if (!gone) return gone.error();
  for (const auto& route : *found) {
    removed.push_back("route " + route.destination.to_string() + " (protocol " +
                      std::to_string(routes::kNft) + ")");
  }
  if (!nft_) {
    auto socket = netlink::open_from(source_.get(), NETLINK_NETFILTER);
    if (!socket) return socket.error();
    nft_.emplace(std::move(*socket));
  }
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

}  // namespace

std::unique_ptr<Driver> make_nft_driver(const std::string& table,
                                        std::unique_ptr<netlink::Source> source) {
  return std::make_unique<NftDriver>(table, std::move(source));
}

}  // namespace muster::lb
