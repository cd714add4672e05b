#include "lb/io/routes.hpp"

#include <algorithm>
#include <cerrno>
#include <set>
#include <sys/socket.h>

#include <linux/if_addr.h>
#include <linux/rtnetlink.h>

namespace muster::lb::routes {
namespace {

/// Ours are two, and for IPVS one for each Vip outside the range. What another program marks with
/// our number is not followed without end.
constexpr std::size_t kMaxRoutes = 100'000;

unsigned char af_of(Family family) {
  return family == Family::v4 ? AF_INET : AF_INET6;
}

std::optional<IpAddress> address_of(netlink::Bytes octets) {
  if (octets.size() == 4) {
    IpAddress::V4 v4{};
    std::copy(octets.begin(), octets.end(), v4.begin());
    return IpAddress{v4};
  }
  if (octets.size() == 16) {
    IpAddress::V6 v6{};
    std::copy(octets.begin(), octets.end(), v6.begin());
    return IpAddress{v6};
  }
  return std::nullopt;
}

std::optional<Route> read_route(const netlink::Message& message, Family family, std::uint8_t mark) {
  const auto header = message.fixed<rtmsg>();
  if (message.header.nlmsg_type != RTM_NEWROUTE || !header) return std::nullopt;
  if (header->rtm_protocol != mark || header->rtm_family != af_of(family)) return std::nullopt;
  const netlink::Bytes attributes = message.attributes(sizeof(rtmsg));
  auto destination = address_of(netlink::find(attributes, RTA_DST).value);
  if (!destination) {
    destination = family == Family::v4 ? IpAddress{IpAddress::V4{}} : IpAddress{IpAddress::V6{}};
  }
  return Route{.destination = {*destination, header->rtm_dst_len},
               .source = address_of(netlink::find(attributes, RTA_PREFSRC).value),
               .table = netlink::find(attributes, RTA_TABLE).u32().value_or(header->rtm_table),
               .interface = netlink::find(attributes, RTA_OIF).u32().value_or(0),
               .local = header->rtm_type == RTN_LOCAL};
}

std::optional<IpAddress> first_global(netlink::Socket& socket, Family family) {
  ifaddrmsg header{};
  header.ifa_family = af_of(family);
  netlink::Writer out;
  out.begin(RTM_GETADDR, NLM_F_REQUEST | NLM_F_DUMP, socket.next_sequence(), header);
  out.end();
  std::optional<IpAddress> first;
  const auto done = socket.request(out.bytes(), [&](const netlink::Message& message) {
    const auto found = message.fixed<ifaddrmsg>();
    if (first || message.header.nlmsg_type != RTM_NEWADDR || !found) return;
    const bool usable = found->ifa_scope == RT_SCOPE_UNIVERSE &&
                        (found->ifa_flags & (IFA_F_DEPRECATED | IFA_F_DADFAILED)) == 0;
    const netlink::Bytes attributes = message.attributes(sizeof(ifaddrmsg));
    const netlink::Attribute local = netlink::find(attributes, IFA_LOCAL);
    const auto address =
        address_of(local.type != 0 ? local.value : netlink::find(attributes, IFA_ADDRESS).value);
    if (usable && address && address->is_unicast() && !address->is_loopback()) first = address;
  });
  return done ? first : std::nullopt;
}

}  // namespace

Result<std::vector<Route>> ours(netlink::Socket& socket, std::uint8_t mark) {
  std::vector<Route> found;
  for (const Family family : {Family::v4, Family::v6}) {
    rtmsg header{};
    header.rtm_family = af_of(family);
    header.rtm_protocol = mark;  // with strict checking the kernel leaves out all others
    netlink::Writer out;
    out.begin(RTM_GETROUTE, NLM_F_REQUEST | NLM_F_DUMP, socket.next_sequence(), header);
    out.end();
    const auto done = socket.request(out.bytes(), [&](const netlink::Message& message) {
      const auto route = read_route(message, family, mark);
      if (route && found.size() < kMaxRoutes) found.push_back(*route);
    });
    // A kernel without IPv6 has no routes of it.
    if (!done && done.error().value() != EAFNOSUPPORT && done.error().value() != EOPNOTSUPP &&
        done.error().value() != ENOENT) {
      return done.error();
    }
  }
  return found;
}

Result<std::size_t> change(netlink::Socket& socket, std::uint8_t mark, const Route& route,
                           bool add) {
  rtmsg header{};
  header.rtm_family = af_of(route.destination.address.family());
  header.rtm_dst_len = route.destination.length;
  header.rtm_table = static_cast<unsigned char>(route.table < 256 ? route.table : RT_TABLE_COMPAT);
  header.rtm_protocol = mark;
  header.rtm_type = route.local ? RTN_LOCAL : RTN_UNICAST;
  if (!add) {
    header.rtm_scope = RT_SCOPE_NOWHERE;
  } else if (route.destination.address.is_v4()) {
    header.rtm_scope = route.local ? RT_SCOPE_HOST : RT_SCOPE_LINK;
  }

  netlink::Writer out;
  const int flags = NLM_F_REQUEST | NLM_F_ACK | (add ? NLM_F_CREATE | NLM_F_EXCL : 0);
  out.begin(add ? RTM_NEWROUTE : RTM_DELROUTE, static_cast<std::uint16_t>(flags),
            socket.next_sequence(), header);
  out.attribute(RTA_DST, route.destination.address.octets());
  out.u32(RTA_TABLE, route.table);
  if (route.interface != 0) out.u32(RTA_OIF, route.interface);
  if (add && route.source) out.attribute(RTA_PREFSRC, route.source->octets());
  out.end();
  const auto done = socket.transact(out.bytes());
  if (done) return std::size_t{1};
  if (done.error().value() == (add ? EEXIST : ESRCH)) return std::size_t{0};
  return done.error();
}

Result<std::size_t> publish(netlink::Socket& socket, std::uint8_t mark,
                            const std::vector<Route>& wanted) {
  const auto found = ours(socket, mark);
  if (!found) return found.error();
  const std::set<Route> there{found->begin(), found->end()};
  const std::set<Route> wish{wanted.begin(), wanted.end()};
  std::size_t changed = 0;
  for (const Route& route : there) {
    if (wish.contains(route)) continue;
    const auto done = change(socket, mark, route, false);
    if (!done) return done.error();
    changed += *done;
  }
  for (const Route& route : wish) {
    if (there.contains(route)) continue;
    const auto done = change(socket, mark, route, true);
    if (!done) return done.error();
    changed += *done;
  }
  return changed;
}

std::optional<IpAddress> source_towards(netlink::Socket& socket, const IpAddress& destination) {
  rtmsg header{};
  header.rtm_family = af_of(destination.family());
  header.rtm_dst_len = destination.is_v4() ? 32 : 128;
  netlink::Writer out;
  out.begin(RTM_GETROUTE, NLM_F_REQUEST | NLM_F_ACK, socket.next_sequence(), header);
  out.attribute(RTA_DST, destination.octets());
  out.end();
  std::optional<IpAddress> source;
  const auto done = socket.request(out.bytes(), [&](const netlink::Message& message) {
    const auto route = message.fixed<rtmsg>();
    if (!route || (route->rtm_type != RTN_UNICAST && route->rtm_type != RTN_LOCAL)) return;
    source = address_of(netlink::find(message.attributes(sizeof(rtmsg)), RTA_PREFSRC).value);
    if (source == destination) source.reset();  // an address of this node
  });
  if (done && source && source->is_unicast() && !source->is_loopback()) return source;
  return first_global(socket, destination.family());
}

Result<std::vector<std::uint32_t>> bridges(netlink::Socket& socket) {
  netlink::Writer out;
  out.begin(RTM_GETLINK, NLM_F_REQUEST | NLM_F_DUMP, socket.next_sequence(), ifinfomsg{});
  out.nest(IFLA_LINKINFO, [&] { out.text(IFLA_INFO_KIND, "bridge"); });
  out.end();
  std::vector<std::uint32_t> found;
  const auto done = socket.request(out.bytes(), [&](const netlink::Message& message) {
    const auto link = message.fixed<ifinfomsg>();
    if (message.header.nlmsg_type != RTM_NEWLINK || !link || link->ifi_index <= 0) return;
    const netlink::Bytes info =
        netlink::find(message.attributes(sizeof(ifinfomsg)), IFLA_LINKINFO).value;
    if (netlink::find(info, IFLA_INFO_KIND).text() == "bridge") {
      found.push_back(static_cast<std::uint32_t>(link->ifi_index));
    }
  });
  if (!done) return done.error();
  std::sort(found.begin(), found.end());
  return found;
}

}  // namespace muster::lb::routes
