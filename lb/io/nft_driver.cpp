#include "lb/io/nft_driver.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <fstream>
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
#include "lb/io/nft_schema.hpp"
#include "lb/io/routes.hpp"

namespace muster::lb {
namespace {

constexpr std::array kFamilies{Family::v4, Family::v6};
/// From here on it pays to switch the notices of our own changes off.
constexpr std::size_t kNoticedCommands = 200;
constexpr std::array kSets{nft::Set::vips, nft::Set::slots, nft::Set::refused};

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wnon-virtual-dtor"  // nobody deletes a category; Boost's has none
class Category final : public boost::system::error_category {
 public:
  const char* name() const noexcept override { return "muster.lb"; }
  std::string message(int code) const override {
    switch (static_cast<Errc>(code)) {
      case Errc::not_permitted:
        return "programming the kernel's load balancing needs the capability CAP_NET_ADMIN";
      case Errc::no_nftables:
        return "this kernel has no nf_tables; load or enable CONFIG_NF_TABLES (Linux 5.10 or "
               "later)";
      case Errc::missing_feature:
        return "this kernel's nf_tables lacks something the load balancer needs (Linux 5.10 with "
               "nft_nat, nft_masq, nft_reject, nft_numgen, nft_ct)";
      case Errc::bad_range:
        return "a VIP range must be address/length, such as 11.0.0.0/8";
    }
    return "unknown load balancer error";
  }
};
#pragma GCC diagnostic pop

/// Old tables are removed whether or not they are there: "add, delete" is nft's way to say so.
void write_removal(netlink::Writer& out, netlink::Socket& socket, std::string_view table,
                   Family family) {
  for (const std::uint16_t message : {NFT_MSG_NEWTABLE, NFT_MSG_DELTABLE}) {
    const std::uint16_t flags = message == NFT_MSG_NEWTABLE ? NLM_F_CREATE : 0;
    nft::begin(out, message, flags, socket.next_sequence(), nft::nf_family(family));
    out.text(NFTA_TABLE_NAME, table);
    out.end();
  }
}

/// The kernel calls a dump interrupted when anything in any table has changed. Where others do that
/// all the time no read would ever succeed; and of changes to our own table we know.
Result<void> whatever_interrupted(Result<void> done) {
  if (!done && done.error().value() == EINTR) return {};
  return done;
}

/// Bridged packets already pass the rules: br_netfilter is on.
bool bridges_call_us(Family family) {
  std::ifstream file{family == Family::v4 ? "/proc/sys/net/bridge/bridge-nf-call-iptables"
                                          : "/proc/sys/net/bridge/bridge-nf-call-ip6tables"};
  int on = 0;
  return file >> on && on == 1;
}

}  // namespace

const boost::system::error_category& error_category() noexcept {
  static const Category category;
  return category;
}

std::optional<Prefix> Prefix::parse(std::string_view text) {
  const std::size_t slash = text.find('/');
  if (slash == std::string_view::npos) return std::nullopt;
  const auto address = IpAddress::parse(text.substr(0, slash));
  const std::string_view digits = text.substr(slash + 1);
  unsigned length = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), length);
  const bool whole = error == std::errc{} && end == digits.data() + digits.size();
  // Length 0 would make us the guard of the whole internet.
  if (!address || !whole || length == 0 || length > address->octets().size() * 8) {
    return std::nullopt;
  }
  for (unsigned bit = length; bit < address->octets().size() * 8; ++bit) {
    if ((address->octets()[bit / 8] & (0x80U >> (bit % 8))) != 0) return std::nullopt;
  }
  return Prefix{*address, static_cast<std::uint8_t>(length)};
}

std::string Prefix::to_string() const {
  return address.to_string() + "/" + std::to_string(length);
}

class NftDriver::Impl {
 public:
  explicit Impl(const std::string& table) { config_.table = table; }
  Result<Capabilities> open(const DriverConfig& config);
  Result<KernelState> read() const;
  void adopt(const KernelState& state) { classes_ = state.classes; }
  Result<void> apply(const Transaction& transaction);
  Result<std::size_t> publish_routes(const RouteSources& sources);
  RouteSources find_sources();
  Result<std::vector<std::string>> cleanup();

  std::optional<Monitor> monitor;
  std::string detail;

 private:
  struct Table {
    bool there = false;
    std::string comment;
    std::uint32_t objects = 0;
    std::uint32_t flags = 0;  // dormant, or owned by a program
  };
  nft::SchemaOptions schema_of(Family family) const;
  Result<void> commit(netlink::Writer& out);
  Result<void> commit_unnoticed(netlink::Writer& out);
  std::uint32_t generation();
  Result<void> probe(bool syn_failover);
  Result<KernelState::Schema> read_family(netlink::Socket& socket, Family family,
                                          const Table& table, nft::ElementReader& elements) const;
  Result<Table> read_table(netlink::Socket& socket, Family family) const;
  Result<std::uint32_t> count_rules(netlink::Socket& socket, Family family) const;
  Result<void> read_sets(netlink::Socket& socket, Family family,
                         nft::ElementReader& elements) const;
  Result<std::size_t> publish_bridges(Family family);
  Result<void> dump_set(netlink::Socket& socket, Family family, std::string_view set,
                        const std::function<void(const netlink::Message&)>& each) const;
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

/// Ends the batch that `out` holds and has the kernel carry it out.
Result<void> NftDriver::Impl::commit(netlink::Writer& out) {
  // On the last message rather than on the end mark, whose acknowledgement came with Linux 6.10.
  out.flag_last(NLM_F_ACK);
  nft::end_batch(out, nft_->next_sequence());
  const auto done = nft_->transact(out.bytes());
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

  Capabilities capabilities{.driver = "nft", .syn_failover = true, .syn_failover_missing = {}};
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
  auto opened = Monitor::open(config_.table, nft_->port(), routes_->port());
  if (!opened) return opened.error();
  monitor.emplace(std::move(*opened));
  return capabilities;
}

Result<NftDriver::Impl::Table> NftDriver::Impl::read_table(netlink::Socket& socket,
                                                           Family family) const {
  netlink::Writer out;
  nft::begin(out, NFT_MSG_GETTABLE, NLM_F_ACK, socket.next_sequence(), nft::nf_family(family));
  out.text(NFTA_TABLE_NAME, config_.table);
  out.end();
  Table table;
  const auto done = socket.request(out.bytes(), [&](const netlink::Message& message) {
    const netlink::Bytes attributes = message.attributes(sizeof(nfgenmsg));
    const netlink::Bytes note = netlink::find(attributes, NFTA_TABLE_USERDATA).value;
    // type 0, one octet of length, text with its zero
    if (note.size() > 2 && note[0] == 0) {
      table.comment = netlink::Attribute{0, note.subspan(2)}.text();
    }
    table.there = true;
    table.objects = netlink::find(attributes, NFTA_TABLE_USE).u32_be().value_or(0);
    table.flags = netlink::find(attributes, NFTA_TABLE_FLAGS).u32_be().value_or(0);
  });
  if (!done && done.error().value() != ENOENT) return done.error();
  return table;
}

Result<std::uint32_t> NftDriver::Impl::count_rules(netlink::Socket& socket, Family family) const {
  netlink::Writer out;
  nft::begin(out, NFT_MSG_GETRULE, NLM_F_DUMP, socket.next_sequence(), nft::nf_family(family));
  out.text(NFTA_RULE_TABLE, config_.table);
  out.end();
  std::uint32_t count = 0;
  const auto done = socket.request(out.bytes(), [&](const netlink::Message& message) {
    const netlink::Bytes attributes = message.attributes(sizeof(nfgenmsg));
    if (netlink::find(attributes, NFTA_RULE_TABLE).text() == config_.table) ++count;
  });
  if (const auto counted = whatever_interrupted(done); !counted) return counted.error();
  return count;
}

Result<void> NftDriver::Impl::dump_set(
    netlink::Socket& socket, Family family, std::string_view set,
    const std::function<void(const netlink::Message&)>& each) const {
  netlink::Writer out;
  nft::begin(out, NFT_MSG_GETSETELEM, NLM_F_DUMP, socket.next_sequence(), nft::nf_family(family));
  out.text(NFTA_SET_ELEM_LIST_TABLE, config_.table);
  out.text(NFTA_SET_ELEM_LIST_SET, set);
  out.end();
  return whatever_interrupted(socket.request(out.bytes(), each));
}

Result<void> NftDriver::Impl::read_sets(netlink::Socket& socket, Family family,
                                        nft::ElementReader& elements) const {
  std::vector<std::string> names{std::string{nft::kHairpinSet}};
  for (const Protocol protocol : {Protocol::tcp, Protocol::udp}) {
    for (const nft::Set set : kSets) names.push_back(nft::set_name(set, protocol));
    names.push_back(nft::classes_name(protocol));
  }
  for (const std::string& name : names) {
    const auto done = dump_set(socket, family, name, [&](const netlink::Message& message) {
      elements.read(message, family, name);
    });
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
    const auto table = read_table(*socket, family);
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
                                                         const Table& table,
                                                         nft::ElementReader& elements) const {
  if (table.comment != nft::schema_comment(schema_of(family))) return KernelState::Schema::other;
  const auto read = read_sets(socket, family, elements);
  if (!read && read.error().value() == ENOENT) return KernelState::Schema::other;
  if (!read) return read.error();
  const auto rules = count_rules(socket, family);
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
      write_removal(out, *nft_, config_.table, family);
      nft::write_schema(out, *nft_, schema_of(family));
    }
  }
  std::set<SizeClass> classes = transaction.reset ? std::set<SizeClass>{} : classes_;
  for (const SizeClass& size_class : nft::classes_of(transaction.commands)) {
    if (!classes.insert(size_class).second) continue;
    nft::write_class(out, *nft_, schema_of(size_class.family), size_class);
  }
  nft::write_commands(out, *nft_, config_.table, transaction.commands);
  auto done = transaction.commands.size() < kNoticedCommands ? commit(out) : commit_unnoticed(out);
  if (done) classes_ = std::move(classes);
  return done;
}

/// The ruleset's generation: up by one with every transaction of anybody. 0 if it is not told.
std::uint32_t NftDriver::Impl::generation() {
  netlink::Writer out;
  nft::begin(out, NFT_MSG_GETGEN, NLM_F_ACK, nft_->next_sequence(), AF_UNSPEC);
  out.end();
  std::uint32_t generation = 0;
  const auto done = nft_->request(out.bytes(), [&](const netlink::Message& message) {
    generation =
        netlink::find(message.attributes(sizeof(nfgenmsg)), NFTA_GEN_ID).u32_be().value_or(0);
  });
  return done ? generation : 0;
}

Result<void> NftDriver::Impl::commit_unnoticed(netlink::Writer& out) {
  const std::uint32_t before = generation();
  monitor->pause();
  auto done = commit(out);
  monitor->resume();
  if (before == 0 || generation() != before + (done ? 1U : 0U)) monitor->suspect();
  return done;
}

Result<std::size_t> NftDriver::Impl::publish_bridges(Family family) {
  std::vector<std::uint32_t> wanted;
  if (!bridges_call_us(family)) {
    auto found = routes::bridges(*routes_);
    if (!found) return found.error();
    wanted = std::move(*found);
  }
  std::vector<std::uint32_t> there;
  const auto read = dump_set(*nft_, family, nft::kBridgesSet, [&](const netlink::Message& message) {
    nft::read_bridges(message, there);
  });
  if (!read) return read.error();
  std::sort(there.begin(), there.end());
  std::vector<std::uint32_t> added;
  std::vector<std::uint32_t> removed;
  std::set_difference(wanted.begin(), wanted.end(), there.begin(), there.end(),
                      std::back_inserter(added));
  std::set_difference(there.begin(), there.end(), wanted.begin(), wanted.end(),
                      std::back_inserter(removed));
  if (added.empty() && removed.empty()) return std::size_t{0};
  netlink::Writer out;
  nft::begin_batch(out, nft_->next_sequence());
  nft::write_bridges(out, *nft_, config_.table, family, added, removed);
  const auto done = commit(out);
  if (!done) return done.error();
  return added.size() + removed.size();
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
  auto changed = routes::publish(*routes_, wanted);
  if (!changed) {
    detail = routes_->detail();
    return changed;
  }
  for (const Family family : kFamilies) {
    const auto bridges = publish_bridges(family);
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

Result<std::vector<std::string>> NftDriver::Impl::cleanup() {
  std::vector<std::string> removed;
  auto route_socket = netlink::Socket::open(NETLINK_ROUTE);
  if (!route_socket) return route_socket.error();
  const auto found = routes::ours(*route_socket);
  if (!found) return found.error();
  // Routes first: without rules they would lead nowhere.
  const auto gone = routes::publish(*route_socket, {});
  if (!gone && gone.error().value() == EPERM) return Errc::not_permitted;
  if (!gone) return gone.error();
  for (const auto& route : *found) {
    removed.push_back("route " + route.destination.to_string() + " (protocol " +
                      std::to_string(routes::kProtocol) + ")");
  }
  auto socket = netlink::Socket::open(NETLINK_NETFILTER);
  if (!socket) return socket.error();
  nft_.emplace(std::move(*socket));
  for (const Family family : kFamilies) {
    const auto table = read_table(*nft_, family);
    if (!table && table.error().value() == EPERM) return Errc::not_permitted;
    if (!table) return table.error();
    if (!table->there) continue;
    netlink::Writer out;
    nft::begin_batch(out, nft_->next_sequence());
    write_removal(out, *nft_, config_.table, family);
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
Result<KernelState> NftDriver::read() {
  return impl_->read();
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
Result<std::vector<std::string>> NftDriver::cleanup() {
  return impl_->cleanup();
}
std::string NftDriver::detail() const {
  return impl_->detail;
}

}  // namespace muster::lb
