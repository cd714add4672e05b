#include "lb/io/ipvs_cleanup.hpp"

#include <array>
#include <cerrno>

#include "lb/io/ipvs.hpp"
#include "lb/io/nft_link.hpp"

namespace muster::lb::ipvs {
namespace {

constexpr std::array kFamilies{Family::v4, Family::v6};

}  // namespace

Result<std::size_t> present(const Layout& layout) {
  auto nft = netlink::Socket::open(NETLINK_NETFILTER);
  if (!nft) return nft.error();
  std::size_t count = 0;
  for (const Family family : kFamilies) {
    const auto table = nft::read_table(*nft, family, layout.table);
    if (table && table->there) ++count;
  }
  auto socket = netlink::Socket::open(NETLINK_ROUTE);
  if (!socket) return socket.error();
  const auto found = routes::ours(*socket, routes::kIpvs);
  if (!found) return found.error();
  return count + found->size();
}

Result<std::size_t> held_connections(const Layout& layout) {
  const auto known = read_kernel(layout, {});
  if (!known && known.error() == Errc::no_ipvs) return std::size_t{0};
  if (!known) return known.error();
  return static_cast<std::size_t>(known->open);
}

Result<std::vector<std::string>> cleanup(const Layout& layout) {
  std::vector<std::string> removed;
  if (const auto there = present(layout); !there) {
    return there.error();
  } else if (*there == 0) {
    return removed;
  }
  const auto known = read_kernel(layout, {});
  if (!known && known.error() != Errc::no_ipvs) return known.error();
  auto route_socket = netlink::Socket::open(NETLINK_ROUTE);
  if (!route_socket) return route_socket.error();
  const auto found = routes::ours(*route_socket, routes::kIpvs);
  if (!found) return found.error();
  const auto gone = routes::publish(*route_socket, routes::kIpvs, {});
  if (!gone && gone.error().value() == EPERM) return Errc::not_permitted;
  if (!gone) return gone.error();
  for (const auto& route : *found) {
    removed.push_back("route " + route.destination.to_string() + " (protocol " +
                      std::to_string(routes::kIpvs) + ")");
  }
  if (known && !known->services.empty()) {
    auto link = Link::open();
    if (!link) return link.error();
    std::vector<Change> changes;
    for (const auto& [vip, kept] : known->services) {
      changes.push_back({.kind = Change::Kind::drop_service, .vip = vip});
    }
    if (const auto done = link->commit(changes); !done) return done.error();
    removed.push_back("IPVS services: " + std::to_string(changes.size()));
  }
  auto nft = netlink::Socket::open(NETLINK_NETFILTER);
  if (!nft) return nft.error();
  for (const Family family : kFamilies) {
    const auto table = nft::read_table(*nft, family, layout.table);
    if (!table) return table.error();
    if (!table->there) continue;
    netlink::Writer out;
    nft::begin_batch(out, nft->next_sequence());
    nft::write_removal(out, *nft, layout.table, family);
    const auto done = nft::commit(*nft, out);
    if (!done && done.error().value() == EPERM) return Errc::not_permitted;
    if (!done) return done.error();
    removed.push_back(std::string{"nftables table "} + (family == Family::v4 ? "ip " : "ip6 ") +
                      layout.table);
  }
  return removed;
}

}  // namespace muster::lb::ipvs
