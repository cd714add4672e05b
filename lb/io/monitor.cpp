#include "lb/io/monitor.hpp"

#include <arpa/inet.h>
#include <array>
#include <cerrno>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <linux/filter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/rtnetlink.h>

#include "lb/io/routes.hpp"

namespace muster::lb {
namespace {

constexpr std::uint32_t kPidOffset = offsetof(nlmsghdr, nlmsg_pid);
constexpr std::uint32_t kRouteProtocolOffset = sizeof(nlmsghdr) + offsetof(rtmsg, rtm_protocol);
constexpr std::uint32_t kTypeOffset = offsetof(nlmsghdr, nlmsg_type);
constexpr std::uint32_t kLinkIndexOffset = sizeof(nlmsghdr) + offsetof(ifinfomsg, ifi_index);
constexpr std::uint32_t kAll = 0xFFFFFFFF;

template <std::size_t N>
Result<void> attach(int fd, std::array<sock_filter, N> program) {
  const sock_fprog filter{.len = N, .filter = program.data()};
  if (::setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &filter, sizeof filter) < 0) {
    return netlink::errno_code(errno);
  }
  return {};
}

Result<void> ignore_own(int fd, std::uint32_t own, std::uint32_t worker) {
  // BPF loads in network order; nlmsg_pid is in the host's.
  return attach<5>(fd, {{{BPF_LD | BPF_W | BPF_ABS, 0, 0, kPidOffset},
                         {BPF_JMP | BPF_JEQ | BPF_K, 1, 0, htonl(own)},
                         {BPF_JMP | BPF_JEQ | BPF_K, 0, 1, htonl(worker)},
                         {BPF_RET | BPF_K, 0, 0, 0},
                         {BPF_RET | BPF_K, 0, 0, kAll}}});
}

/// And the loopback interface: when it goes down the kernel forgets the routes by it in silence.
Result<void> only_our_routes(int fd, std::uint32_t own, std::uint32_t mark) {
  return attach<10>(fd, {{{BPF_LD | BPF_W | BPF_ABS, 0, 0, kPidOffset},
                          {BPF_JMP | BPF_JEQ | BPF_K, 6, 0, htonl(own)},
                          {BPF_LD | BPF_H | BPF_ABS, 0, 0, kTypeOffset},
                          {BPF_JMP | BPF_JEQ | BPF_K, 0, 2, htons(RTM_NEWLINK)},
                          {BPF_LD | BPF_W | BPF_ABS, 0, 0, kLinkIndexOffset},
                          {BPF_JMP | BPF_JEQ | BPF_K, 3, 2, htonl(routes::kLoopback)},
                          {BPF_LD | BPF_B | BPF_ABS, 0, 0, kRouteProtocolOffset},
                          {BPF_JMP | BPF_JEQ | BPF_K, 1, 0, mark},
                          {BPF_RET | BPF_K, 0, 0, 0},
                          {BPF_RET | BPF_K, 0, 0, kAll}}});
}

bool is_of_chains(int message) {
  return message == NFT_MSG_NEWCHAIN || message == NFT_MSG_DELCHAIN || message == NFT_MSG_NEWRULE ||
         message == NFT_MSG_DELRULE;
}

}  // namespace

Monitor::Monitor(Monitor&& other) noexcept
    : nft_{std::move(other.nft_)},
      routes_{std::move(other.routes_)},
      table_{std::move(other.table_)},
      epoll_{std::exchange(other.epoll_, -1)},
      suspicion_{std::exchange(other.suspicion_, -1)} {}

Monitor::~Monitor() {
  if (epoll_ >= 0) ::close(epoll_);
  if (suspicion_ >= 0) ::close(suspicion_);
}

Result<Monitor> Monitor::open(std::string table, const Own& own, std::uint8_t route_mark,
                              netlink::Source* source) {
  auto nft = netlink::open_from(source, NETLINK_NETFILTER);
  if (!nft) return nft.error();
  auto routes = netlink::open_from(source, NETLINK_ROUTE);
  if (!routes) return routes.error();
  for (const auto& done : {ignore_own(nft->fd(), own.nft, own.worker_nft),
                           only_our_routes(routes->fd(), own.routes, route_mark),
                           nft->join(NFNLGRP_NFTABLES), routes->join(RTNLGRP_IPV4_ROUTE),
                           routes->join(RTNLGRP_IPV6_ROUTE), routes->join(RTNLGRP_LINK)}) {
    if (!done) return done.error();
  }
  Monitor monitor{std::move(*nft), std::move(*routes), std::move(table)};
  monitor.epoll_ = ::epoll_create1(EPOLL_CLOEXEC);
  monitor.suspicion_ = ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (monitor.epoll_ < 0 || monitor.suspicion_ < 0) return netlink::errno_code(errno);
  for (const int fd : {monitor.nft_.fd(), monitor.routes_.fd(), monitor.suspicion_}) {
    epoll_event interest{};
    interest.events = EPOLLIN;
    interest.data.fd = fd;
    if (::epoll_ctl(monitor.epoll_, EPOLL_CTL_ADD, fd, &interest) < 0) {
      return netlink::errno_code(errno);
    }
  }
  return monitor;
}

bool Monitor::drain_nft() {
  bool ours = false;
  for (std::size_t i = 0; i < kMaxDatagrams; ++i) {
    const auto got = nft_.receive_ready();
    if (!got) return others_ = true;  // ENOBUFS: who knows
    if (got->empty()) break;
    netlink::Messages all{*got};
    while (const auto message = all.next()) {
      const int type = message->header.nlmsg_type;
      if (type >> 8 != NFNL_SUBSYS_NFTABLES || (type & 0xFF) == NFT_MSG_NEWGEN) continue;
      // NFTA_TABLE_NAME, NFTA_CHAIN_TABLE, NFTA_RULE_TABLE, …: the table is always number 1.
      const auto table =
          netlink::find(message->attributes(sizeof(nfgenmsg)), NFTA_TABLE_NAME).text();
      ours = ours || table == table_;
      others_ = others_ || (is_of_chains(type & 0xFF) && table != table_);
    }
  }
  return ours;
}

bool Monitor::drain_routes() {
  bool ours = false;
  for (std::size_t i = 0; i < kMaxDatagrams; ++i) {
    const auto got = routes_.receive_ready();
    if (!got) return true;
    if (got->empty()) break;
    ours = true;
  }
  return ours;
}

bool Monitor::drain() {
  const bool tables = drain_nft();
  const bool routes = drain_routes();
  eventfd_t suspicions = 0;
  const bool suspected = ::eventfd_read(suspicion_, &suspicions) == 0;
  others_ = others_ || suspected;
  return tables || routes || suspected;
}

void Monitor::pause() {
  nft_.leave(NFNLGRP_NFTABLES);
}

void Monitor::resume() {
  if (!nft_.join(NFNLGRP_NFTABLES)) suspect();
}

void Monitor::suspect() {
  ::eventfd_write(suspicion_, 1);
}

}  // namespace muster::lb
