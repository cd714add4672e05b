#include "lb/io/unanswered.hpp"

#include <array>
#include <cerrno>
#include <netinet/in.h>
#include <optional>
#include <sys/socket.h>

#include <linux/filter.h>
#include <linux/netfilter/nf_conntrack_common.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_conntrack.h>

#include "lb/io/conntrack.hpp"

namespace muster::lb {
namespace {

constexpr std::uint32_t kAll = 0xFFFFFFFF;
constexpr auto kFindAttribute = static_cast<std::uint32_t>(SKF_AD_OFF + SKF_AD_NLATTR);

/// Passes what has a status, and in it no SEEN_REPLY.
Result<void> only_unanswered(int fd) {
  std::array<sock_filter, 9> program{{
      {BPF_LD | BPF_IMM, 0, 0, sizeof(nlmsghdr) + sizeof(nfgenmsg)},  // where attributes begin
      {BPF_LDX | BPF_IMM, 0, 0, CTA_STATUS},
      {BPF_LD | BPF_W | BPF_ABS, 0, 0, kFindAttribute},
      {BPF_JMP | BPF_JEQ | BPF_K, 3, 0, 0},
      {BPF_MISC | BPF_TAX, 0, 0, 0},
      {BPF_LD | BPF_W | BPF_IND, 0, 0, sizeof(nlattr)},
      {BPF_JMP | BPF_JSET | BPF_K, 0, 1, IPS_SEEN_REPLY},
      {BPF_RET | BPF_K, 0, 0, 0},
      {BPF_RET | BPF_K, 0, 0, kAll},
  }};
  const sock_fprog filter{.len = program.size(), .filter = program.data()};
  if (::setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &filter, sizeof filter) < 0) {
    return netlink::errno_code(errno);
  }
  return {};
}

std::optional<Unanswered> read(const netlink::Message& message) {
  if (message.header.nlmsg_type != (NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_DELETE)) {
    return std::nullopt;
  }
  const auto header = message.fixed<nfgenmsg>();
  if (!header || (header->nfgen_family != AF_INET && header->nfgen_family != AF_INET6)) {
    return std::nullopt;
  }
  const Family family = header->nfgen_family == AF_INET ? Family::v4 : Family::v6;
  const netlink::Bytes attributes = message.attributes(sizeof(nfgenmsg));
  const auto status = netlink::find(attributes, CTA_STATUS).u32_be();
  if (!status || (*status & IPS_SEEN_REPLY) != 0) return std::nullopt;
  const auto dialled = flow_end(netlink::find(attributes, CTA_TUPLE_ORIG).value, family,
                                IPPROTO_TCP, FlowEnd::destination);
  const auto backend = flow_end(netlink::find(attributes, CTA_TUPLE_REPLY).value, family,
                                IPPROTO_TCP, FlowEnd::source);
  if (!dialled || !backend || *dialled == *backend) return std::nullopt;
  return Unanswered{{Protocol::tcp, *dialled}, *backend};
}

}  // namespace

Result<UnansweredWatch> UnansweredWatch::open(netlink::Source* source) {
  auto socket = netlink::open_from(source, NETLINK_NETFILTER);
  if (!socket) return socket.error();
  if (const auto done = only_unanswered(socket->fd()); !done) return done.error();
  if (const auto done = socket->join(NFNLGRP_CONNTRACK_DESTROY); !done) return done.error();
  return UnansweredWatch{std::move(*socket)};
}

std::vector<Unanswered> UnansweredWatch::drain() {
  std::vector<Unanswered> all;
  for (std::size_t i = 0; i < kMaxDatagrams; ++i) {
    const auto got = socket_.receive_ready();
    if (!got) continue;  // some were lost
    if (got->empty()) break;
    netlink::Messages messages{*got};
    while (const auto message = messages.next()) {
      if (const auto one = read(*message)) all.push_back(*one);
    }
  }
  return all;
}

}  // namespace muster::lb
