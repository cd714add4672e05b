#include "lb/io/limits.hpp"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sstream>

#include <linux/inet_diag.h>
#include <linux/sock_diag.h>

#include "lb/io/netlink.hpp"

namespace muster::lb {
namespace {

std::optional<std::uint64_t> number_in(const char* path, int position = 0) {
  std::ifstream file{path};
  std::uint64_t number = 0;
  for (int i = 0; i <= position; ++i) {
    if (!(file >> number)) return std::nullopt;
  }
  return number;
}

/// `TCP: inuse 5 orphan 0 tw 12 alloc 7 mem 1` by its words.
std::map<std::string, std::uint64_t> tcp_counts() {
  std::map<std::string, std::uint64_t> counts;
  std::ifstream file{"/proc/net/sockstat"};
  for (std::string line; std::getline(file, line);) {
    std::istringstream words{line};
    std::string word;
    if (!(words >> word) || word != "TCP:") continue;
    std::uint64_t count = 0;
    while (words >> word >> count) counts[word] = count;
  }
  return counts;
}

std::optional<Endpoint> remote_of(const inet_diag_msg& socket) {
  const auto port = Port::from(ntohs(socket.id.idiag_dport));
  if (!port) return std::nullopt;
  if (socket.idiag_family == AF_INET) {
    IpAddress::V4 octets{};
    std::memcpy(octets.data(), socket.id.idiag_dst, octets.size());
    return Endpoint{IpAddress{octets}, *port};
  }
  IpAddress::V6 octets{};
  std::memcpy(octets.data(), socket.id.idiag_dst, octets.size());
  return Endpoint{IpAddress{octets}, *port};
}

/// Errors leave `use` with what was seen.
void count_sockets(PortUse& use) {
  auto socket = netlink::Socket::open(NETLINK_SOCK_DIAG);
  if (!socket) return;
  for (const std::uint8_t family : {std::uint8_t{AF_INET}, std::uint8_t{AF_INET6}}) {
    inet_diag_req_v2 request{};
    request.sdiag_family = family;
    request.sdiag_protocol = IPPROTO_TCP;
    request.idiag_states = ~(1U << TCP_LISTEN);
    netlink::Writer out;
    out.begin(SOCK_DIAG_BY_FAMILY, NLM_F_REQUEST | NLM_F_DUMP, socket->next_sequence(), request);
    out.end();
    const auto done = socket->request(out.bytes(), [&](const netlink::Message& message) {
      const auto one = message.fixed<inet_diag_msg>();
      const auto remote = one ? remote_of(*one) : std::nullopt;
      if (remote) use.add(ntohs(one->id.idiag_sport), *remote);
    });
    if (!done) return;
  }
}

std::optional<Limit> port_limit() {
  const auto first = number_in("/proc/sys/net/ipv4/ip_local_port_range");
  const auto last = number_in("/proc/sys/net/ipv4/ip_local_port_range", 1);
  if (!first || !last || *first > 65535 || *last > 65535) return std::nullopt;
  PortUse use{static_cast<std::uint16_t>(*first), static_cast<std::uint16_t>(*last)};
  count_sockets(use);
  Limit limit{.name = "ports", .most = use.ports()};
  if (const auto busiest = use.busiest()) {
    limit.used = busiest->second;
    limit.what = "this node's source ports for connections to " + to_string(busiest->first);
  }
  limit.remedy =
      "keep connections open, widen net.ipv4.ip_local_port_range, or use driver bpf, which has as "
      "many ports for each backend";
  return limit;
}

void add(std::vector<Limit>& limits, std::string_view name, std::optional<std::uint64_t> used,
         std::optional<std::uint64_t> most, std::string what, std::string remedy) {
  if (!used || !most || *most == 0) return;
  limits.push_back({name, *used, *most, std::move(what), std::move(remedy)});
}

}  // namespace

void PortUse::add(std::uint16_t local_port, const Endpoint& remote) {
  if (local_port < first_ || local_port > last_) return;
  const auto found = remotes_.find(remote);
  if (found != remotes_.end()) {
    ++found->second;
  } else if (remotes_.size() < kMaxRemotes) {
    remotes_.emplace(remote, 1);
  }
}

std::optional<std::pair<Endpoint, std::uint64_t>> PortUse::busiest() const {
  const auto most =
      std::max_element(remotes_.begin(), remotes_.end(),
                       [](const auto& a, const auto& b) { return a.second < b.second; });
  if (most == remotes_.end()) return std::nullopt;
  return std::pair{most->first, most->second};
}

std::vector<Limit> read_limits() {
  std::vector<Limit> limits;
  if (auto ports = port_limit()) limits.push_back(std::move(*ports));
  add(limits, "conntrack", number_in("/proc/sys/net/netfilter/nf_conntrack_count"),
      number_in("/proc/sys/net/netfilter/nf_conntrack_max"),
      "this node's table of tracked connections (conntrack)",
      "raise net.netfilter.nf_conntrack_max; beyond it packets of new connections are dropped");
  const auto tcp = tcp_counts();
  const auto of = [&tcp](const char* word) -> std::optional<std::uint64_t> {
    const auto found = tcp.find(word);
    return found == tcp.end() ? std::nullopt : std::optional{found->second};
  };
  add(limits, "time_wait", of("tw"), number_in("/proc/sys/net/ipv4/tcp_max_tw_buckets"),
      "this node's table of closed connections (TIME_WAIT)",
      "keep connections open, or raise net.ipv4.tcp_max_tw_buckets");
  add(limits, "orphans", of("orphan"), number_in("/proc/sys/net/ipv4/tcp_max_orphans"),
      "this node's connections that no process holds any more (orphans)",
      "raise net.ipv4.tcp_max_orphans; beyond it they are reset");
  add(limits, "tcp_memory", of("mem"), number_in("/proc/sys/net/ipv4/tcp_mem", 2),
      "this node's memory for tcp", "raise net.ipv4.tcp_mem, or find who does not read");
  return limits;
}

LimitWatch::LimitWatch(prometheus::Registry& registry)
    : ratios_{prometheus::BuildGauge()
                  .Name("muster_lb_limit_used_ratio")
                  .Help("How much of a bound of this node's kernel is used, 0 to 1")
                  .Register(registry)} {}

void LimitWatch::publish(const std::vector<Limit>& limits, LogOnce& log) {
  for (const Limit& limit : limits) {
    ratios_.Add({{"limit", std::string{limit.name}}}).Set(limit.ratio());
    if (limit.ratio() < kWarn) continue;
    log.warn("lb: " + limit.what + ": more than " + std::to_string(static_cast<int>(kWarn * 100)) +
             " % used: " + limit.remedy);
  }
}

}  // namespace muster::lb
