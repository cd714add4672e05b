#include "lb/io/bpf_sockets.hpp"

#include <bpf/bpf.h>
#include <cerrno>
#include <netinet/in.h>
#include <optional>
#include <vector>

#include <linux/inet_diag.h>
#include <linux/sock_diag.h>

#include "lb/io/bpf_table.hpp"
#include "lb/io/netlink.hpp"

namespace muster::lb::bpf {
namespace {

/// Sockets ended in one go; what is beyond is found by the next flush.
constexpr std::size_t kMaxStale = 100'000;

inet_diag_req_v2 request(std::uint8_t family) {
  inet_diag_req_v2 out{};
  out.sdiag_family = family;
  out.sdiag_protocol = IPPROTO_UDP;
  out.idiag_states = ~0U;
  return out;
}

/// What connecting() in balance.bpf.c has noted about the socket.
std::optional<muster_bpf_peer> peer_of(const Maps& maps, const inet_diag_msg& socket) {
  const std::uint64_t cookie =
      std::uint64_t{socket.id.idiag_cookie[1]} << 32 | socket.id.idiag_cookie[0];
  muster_bpf_peer peer{};
  if (::bpf_map_lookup_elem(maps.dialled.get(), &cookie, &peer) != 0) return std::nullopt;
  return peer;
}

bool is_stale(const muster_bpf_peer& peer, const UdpKeep& keep) {
  const auto vip = decode(peer.vip);
  const auto backend = decode(peer.backend);
  if (!vip || !backend) return false;
  const auto wanted = keep.find(*vip);
  return wanted != keep.end() && !wanted->second.contains(backend->endpoint);
}

Result<std::vector<inet_diag_msg>> find_stale(netlink::Socket& socket, const Maps& maps,
                                              std::uint8_t family, const UdpKeep& keep) {
  netlink::Writer out;
  out.begin(SOCK_DIAG_BY_FAMILY, NLM_F_REQUEST | NLM_F_DUMP, socket.next_sequence(),
            request(family));
  out.end();
  std::vector<inet_diag_msg> found;
  const auto done = socket.request(out.bytes(), [&](const netlink::Message& message) {
    const auto one = message.fixed<inet_diag_msg>();
    if (!one || one->id.idiag_dport == 0 || found.size() >= kMaxStale) return;
    const auto peer = peer_of(maps, *one);
    if (peer && is_stale(*peer, keep)) found.push_back(*one);
  });
  if (!done && done.error().value() != EINTR) return done.error();
  return found;
}

Result<void> destroy(netlink::Socket& socket, const inet_diag_msg& one) {
  inet_diag_req_v2 which = request(one.idiag_family);
  which.id = one.id;  // with its cookie: nobody else's socket in its place is meant
  netlink::Writer out;
  out.begin(SOCK_DESTROY, NLM_F_REQUEST | NLM_F_ACK, socket.next_sequence(), which);
  out.end();
  return socket.transact(out.bytes());
}

}  // namespace

Result<std::size_t> destroy_stale_sockets(const Maps& maps, const UdpKeep& keep) {
  std::size_t count = 0;
  if (keep.empty()) return count;
  auto socket = netlink::Socket::open(NETLINK_SOCK_DIAG);
  if (!socket) return socket.error();
  // An IPv6 socket may be connected to an IPv4 Vip.
  for (const std::uint8_t family : {std::uint8_t{AF_INET}, std::uint8_t{AF_INET6}}) {
    const auto stale = find_stale(*socket, maps, family, keep);
    if (!stale) return stale.error();
    for (const inet_diag_msg& one : *stale) {
      const auto gone = destroy(*socket, one);
      if (!gone && gone.error().value() != ENOENT) return gone.error();
      count += gone ? 1U : 0U;
    }
  }
  return count;
}

}  // namespace muster::lb::bpf
