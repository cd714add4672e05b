#include "lb/io/ipvs_kernel.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <fstream>
#include <sys/utsname.h>

#include "lb/io/nft_elements.hpp"
#include "lb/io/nft_link.hpp"

namespace muster::lb::ipvs {
namespace {

constexpr std::array kFamilies{Family::v4, Family::v6};
constexpr std::array kProtocols{Protocol::tcp, Protocol::udp};

struct Sysctl {
  const char* name;
  const char* value;
};
constexpr std::array kSysctls{
    // Conntrack keeps an entry of each connection: rules that ask for "established" pass the
    // answers, and masquerading is possible at all.
    Sysctl{"conntrack", "1"},
    // Packets of a connection whose backend was removed are balanced anew (udp) or refused (tcp)
    // rather than dropped without a word.
    Sysctl{"expire_nodest_conn", "1"},
    // A client's affinity ends when its backend drains, not hours later.
    Sysctl{"expire_quiescent_template", "1"},
};

/// Before 5.9 the first packet of a connection that reuses a port in TIME_WAIT is dropped if this
/// is 1, the default; from then on 0 would send it to a drained backend.
bool reuse_costs_a_packet() {
  utsname name{};
  int major = 0;
  int minor = 0;
  if (::uname(&name) != 0) return false;
  if (std::sscanf(name.release, "%d.%d", &major, &minor) != 2) return false;
  return major < 5 || (major == 5 && minor < 9);
}

Result<void> read_sets(netlink::Socket& socket, const Layout& layout, Family family, Known& known) {
  using netlink::Message;
  bool good = true;
  const auto dump = [&](std::string_view set, auto read) {
    return nft::dump_set(socket, family, layout.table, set,
                         [&](const Message& message) { good = read(message) && good; });
  };
  for (const Protocol protocol : kProtocols) {
    for (const nft::Set set : {nft::Set::vips, nft::Set::refused}) {
      auto& into = set == nft::Set::vips ? known.sets.vips : known.sets.refused;
      const auto done = dump(nft::set_name(set, protocol), [&](const Message& message) {
        return nft::read_vips(message, family, protocol, into);
      });
      if (!done) return done.error();
    }
  }
  auto done = dump(kAddressesSet, [&](const Message& message) {
    return nft::read_addresses(message, family, known.sets.addresses);
  });
  if (!done) return done.error();
  nft::ElementReader pairs;
  done = dump(nft::kHairpinSet, [&](const Message& message) {
    pairs.read(message, family, nft::kHairpinSet);
    return true;
  });
  if (!done) return done.error();
  KernelState state;
  pairs.finish(state);
  known.sets.hairpin.merge(state.hairpin);
  known.intact = known.intact && good && pairs.strange() == 0;
  return {};
}

Result<void> read_table(netlink::Socket& socket, const Layout& layout, Family family,
                        const std::map<Family, nft::SchemaCounts>& expected, Known& known) {
  const auto table = nft::read_table(socket, family, layout.table);
  if (!table) return table.error();
  if (!table->there) return {};
  ++known.tables;
  const auto read = read_sets(socket, layout, family, known);
  if (!read && read.error().value() != ENOENT) return read.error();
  if (!read) known.intact = false;  // a set is missing
  const auto counts = expected.find(family);
  if (counts == expected.end()) return {};
  const auto mark =
      nft::count_chains(socket, family, layout.table, guard_mark(layout.guard(family)));
  if (!mark) return mark.error();
  const auto rules = nft::count_rules(socket, family, layout.table);
  if (!rules) return rules.error();
  known.intact = known.intact && *mark == 1 && table->flags == 0 &&
                 table->objects == counts->second.objects && *rules == counts->second.rules;
  return {};
}

bool is_ours(const Layout& layout, const Known& known, const Vip& vip) {
  const IpAddress& address = vip.endpoint.address;
  const auto& range = layout.range(address.family());
  if ((range && range->contains(address)) || known.sets.vips.contains(vip)) return true;
  return std::any_of(known.routes.begin(), known.routes.end(), [&](const routes::Route& route) {
    return route.destination.contains(address);
  });
}

}  // namespace

Result<void> read_services(Link& link, const Layout& layout, Known& known) {
  const auto services = link.services();
  if (!services) return services.error();
  known.services.clear();
  known.foreign.clear();
  known.idle.clear();
  known.connections.clear();
  known.open = 0;
  for (const VirtualService& service : *services) {
    if (!is_ours(layout, known, service.vip)) {
      known.foreign.insert(service.vip);
      continue;
    }
    const auto destinations = link.destinations(service.vip);
    if (!destinations && destinations.error().value() == ESRCH) continue;  // gone meanwhile
    if (!destinations) return destinations.error();
    Kept& kept = known.services[service.vip];
    kept.scheduler = service.scheduler;
    kept.affinity_seconds = service.affinity_seconds;
    for (const Destination& destination : *destinations) {
      kept.weights[destination.endpoint] = destination.weight;
      known.connections[service.vip][destination.endpoint] = destination.connections;
      known.open += destination.open;
      if (destination.weight == 0 && destination.open == 0) {
        known.idle.insert({service.vip, destination.endpoint});
      }
    }
  }
  return {};
}

Result<Known> read_kernel(const Layout& layout,
                          const std::map<Family, nft::SchemaCounts>& expected) {
  Known known;
  auto nft = netlink::Socket::open(NETLINK_NETFILTER);
  if (!nft) return nft.error();
  for (const Family family : kFamilies) {
    const auto done = read_table(*nft, layout, family, expected, known);
    if (!done) return done.error();
  }
  auto route_socket = netlink::Socket::open(NETLINK_ROUTE);
  if (!route_socket) return route_socket.error();
  auto found = routes::ours(*route_socket, routes::kIpvs);
  if (!found) return found.error();
  known.routes = std::move(*found);
  auto link = Link::open();
  if (!link) return link.error();
  const auto done = read_services(*link, layout, known);
  if (!done) return done.error();
  return known;
}

Result<std::size_t> set_sysctls(std::string& detail) {
  std::vector<Sysctl> wanted{kSysctls.begin(), kSysctls.end()};
  if (reuse_costs_a_packet()) wanted.push_back({"conn_reuse_mode", "0"});
  std::size_t changed = 0;
  for (const auto& [name, value] : wanted) {
    const std::string path = std::string{"/proc/sys/net/ipv4/vs/"} + name;
    std::string now;
    if (!(std::ifstream{path} >> now)) now.clear();
    if (now == value) continue;
    std::ofstream file{path};
    if (!(file << value << std::flush)) {
      detail = "net.ipv4.vs." + std::string{name} + " is not " + value + " and cannot be written";
      return netlink::errno_code(EACCES);
    }
    ++changed;
  }
  return changed;
}

}  // namespace muster::lb::ipvs
