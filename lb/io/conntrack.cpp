#include "lb/io/conntrack.hpp"

#include <algorithm>
#include <arpa/inet.h>
#include <cerrno>
#include <netinet/in.h>
#include <vector>

#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_conntrack.h>

#include "lb/io/netlink.hpp"

namespace muster::lb {
namespace {

/// Stale flows taken away in one go; what is beyond is found by the next flush.
constexpr std::size_t kMaxStale = 1'000'000;

/// Compare the protocol only: bit of CTA_PROTO_NUM in the kernel's nf_internals.h.
constexpr std::uint32_t kFilterProtocol = 1U << 3;

struct Flow {
  std::vector<std::uint8_t> original;  // CTA_TUPLE_ORIG, as the kernel wrote it
  std::uint32_t id = 0;                // network order, opaque
  std::optional<std::uint16_t> zone;
};

void begin(netlink::Writer& out, netlink::Socket& socket, std::uint16_t message, int flags,
           Family family) {
  const nfgenmsg header{
      .nfgen_family = static_cast<std::uint8_t>(family == Family::v4 ? AF_INET : AF_INET6),
      .version = NFNETLINK_V0,
      .res_id = 0};
  out.begin(static_cast<std::uint16_t>(NFNL_SUBSYS_CTNETLINK << 8 | message),
            static_cast<std::uint16_t>(NLM_F_REQUEST | flags), socket.next_sequence(), header);
}

std::optional<Flow> stale(const netlink::Message& message, Family family, const UdpKeep& keep) {
  const netlink::Bytes attributes = message.attributes(sizeof(nfgenmsg));
  const netlink::Bytes original = netlink::find(attributes, CTA_TUPLE_ORIG).value;
  const auto dialled = flow_end(original, family, IPPROTO_UDP, FlowEnd::destination);
  if (!dialled) return std::nullopt;
  const auto vip = keep.find({Protocol::udp, *dialled});
  if (vip == keep.end()) return std::nullopt;
  const auto backend = flow_end(netlink::find(attributes, CTA_TUPLE_REPLY).value, family,
                                IPPROTO_UDP, FlowEnd::source);
  if (backend && vip->second.contains(*backend)) return std::nullopt;
  return Flow{.original = {original.begin(), original.end()},
              .id = netlink::find(attributes, CTA_ID).u32().value_or(0),
              .zone = netlink::find(attributes, CTA_ZONE).u16_be()};
}

Result<std::vector<Flow>> find_stale(netlink::Socket& socket, Family family, const UdpKeep& keep,
                                     bool filtered) {
  netlink::Writer out;
  begin(out, socket, IPCTNL_MSG_CT_GET, NLM_F_DUMP, family);
  if (filtered) {
    out.nest(CTA_TUPLE_ORIG,
             [&] { out.nest(CTA_TUPLE_PROTO, [&] { out.u8(CTA_PROTO_NUM, IPPROTO_UDP); }); });
    out.nest(CTA_FILTER, [&] {
      out.u32(CTA_FILTER_ORIG_FLAGS, kFilterProtocol);
      out.u32(CTA_FILTER_REPLY_FLAGS, 0);
    });
  }
  out.end();
  std::vector<Flow> found;
  const auto done = socket.request(out.bytes(), [&](const netlink::Message& message) {
    if (found.size() >= kMaxStale) return;
    if (auto flow = stale(message, family, keep)) found.push_back(std::move(*flow));
  });
  // Conntrack changes all the time: a dump that says so is complete enough, for no flow that was
  // there from beginning to end is missing from it.
  if (!done && done.error().value() != EINTR) return done.error();
  return found;
}

Result<void> forget(netlink::Socket& socket, Family family, const Flow& flow) {
  netlink::Writer out;
  begin(out, socket, IPCTNL_MSG_CT_DELETE, NLM_F_ACK, family);
  out.attribute(CTA_TUPLE_ORIG | NLA_F_NESTED, flow.original);
  out.u32(CTA_ID, flow.id);  // so that a new flow in its place is safe
  if (flow.zone) out.u16_be(CTA_ZONE, *flow.zone);
  out.end();
  return socket.transact(out.bytes());
}

}  // namespace

std::optional<Endpoint> flow_end(netlink::Bytes tuple, Family family, std::uint8_t protocol,
                                 FlowEnd which) {
  const bool source = which == FlowEnd::source;
  const netlink::Bytes ip = netlink::find(tuple, CTA_TUPLE_IP).value;
  const netlink::Bytes proto = netlink::find(tuple, CTA_TUPLE_PROTO).value;
  if (netlink::find(proto, CTA_PROTO_NUM).u8() != protocol) return std::nullopt;
  const auto port = Port::from(
      netlink::find(proto, source ? CTA_PROTO_SRC_PORT : CTA_PROTO_DST_PORT).u16_be().value_or(0));
  if (!port) return std::nullopt;
  if (family == Family::v4) {
    const netlink::Bytes octets = netlink::find(ip, source ? CTA_IP_V4_SRC : CTA_IP_V4_DST).value;
    IpAddress::V4 v4{};
    if (octets.size() != v4.size()) return std::nullopt;
    std::copy(octets.begin(), octets.end(), v4.begin());
    return Endpoint{IpAddress{v4}, *port};
  }
  const netlink::Bytes octets = netlink::find(ip, source ? CTA_IP_V6_SRC : CTA_IP_V6_DST).value;
  IpAddress::V6 v6{};
  if (octets.size() != v6.size()) return std::nullopt;
  std::copy(octets.begin(), octets.end(), v6.begin());
  return Endpoint{IpAddress{v6}, *port};
}

Result<std::size_t> flush_stale_udp(const UdpKeep& keep) {
  auto socket = netlink::Socket::open(NETLINK_NETFILTER);
  if (!socket) return socket.error();
  return flush_stale_udp(*socket, keep);
}

Result<std::size_t> flush_stale_udp(netlink::Socket& socket, const UdpKeep& keep) {
  std::size_t count = 0;
  for (const Family family : {Family::v4, Family::v6}) {
    const bool concerned = std::any_of(keep.begin(), keep.end(), [family](const auto& entry) {
      return entry.first.endpoint.address.family() == family;
    });
    if (!concerned) continue;
    auto flows = find_stale(socket, family, keep, true);
    if (!flows) flows = find_stale(socket, family, keep, false);
    if (!flows) return flows.error();
    for (const Flow& flow : *flows) {
      const auto gone = forget(socket, family, flow);
      if (!gone && gone.error().value() != ENOENT) return gone.error();
      count += gone ? 1U : 0U;
    }
  }
  return count;
}

}  // namespace muster::lb
