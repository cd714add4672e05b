#include "lb/io/ipvs.hpp"

#include <algorithm>
#include <arpa/inet.h>
#include <array>
#include <cerrno>
#include <netinet/in.h>
#include <optional>

#include <linux/genetlink.h>
#include <linux/ip_vs.h>

#include "lb/io/driver.hpp"

namespace muster::lb::ipvs {
namespace {

/// Refusals come back one by one, and must all fit in the socket's buffer.
constexpr std::size_t kMaxPart = 2000;
/// More services than we would ever make; what another program makes is not followed without end.
constexpr std::size_t kMaxServices = 200'000;
constexpr std::size_t kMaxDestinations = 65'536;
/// The service of the probe: by a packet mark that nobody uses. 'mstr'.
constexpr std::uint32_t kProbeMark = 0x6D737472;

std::uint16_t af_of(Family family) {
  return family == Family::v4 ? AF_INET : AF_INET6;
}

/// union nf_inet_addr: 16 octets, of which IPv4 uses the first four.
void write_address(netlink::Writer& out, std::uint16_t type, const IpAddress& address) {
  std::array<std::uint8_t, 16> octets{};
  std::copy(address.octets().begin(), address.octets().end(), octets.begin());
  out.attribute(type, octets);
}

std::optional<Endpoint> read_endpoint(netlink::Bytes octets, std::optional<std::uint16_t> af,
                                      std::optional<std::uint16_t> number) {
  const auto port = Port::from(number.value_or(0));
  if (!port || octets.size() < (af == AF_INET ? 4U : 16U)) return std::nullopt;
  if (af == AF_INET) {
    IpAddress::V4 v4{};
    std::copy_n(octets.begin(), v4.size(), v4.begin());
    return Endpoint{IpAddress{v4}, *port};
  }
  if (af != AF_INET6) return std::nullopt;
  IpAddress::V6 v6{};
  std::copy_n(octets.begin(), v6.size(), v6.begin());
  return Endpoint{IpAddress{v6}, *port};
}

void name_service(netlink::Writer& out, const Vip& vip) {
  out.u16(IPVS_SVC_ATTR_AF, af_of(vip.endpoint.address.family()));
  out.u16(IPVS_SVC_ATTR_PROTOCOL, vip.protocol == Protocol::tcp ? IPPROTO_TCP : IPPROTO_UDP);
  write_address(out, IPVS_SVC_ATTR_ADDR, vip.endpoint.address);
  out.u16_be(IPVS_SVC_ATTR_PORT, vip.endpoint.port.number());
}

/// The hash schedulers' own flag: whom a backend of weight 0 would have got is hashed again.
constexpr std::uint32_t kHashAgain = IP_VS_SVC_F_SCHED1;

void describe_service(netlink::Writer& out, Family family, std::string_view scheduler,
                      std::uint32_t affinity_seconds = 0) {
  out.text(IPVS_SVC_ATTR_SCHED_NAME, scheduler);
  const std::uint32_t hashing = scheduler == "mh" || scheduler == "sh" ? kHashAgain : 0U;
  const std::uint32_t lasting = affinity_seconds > 0 ? std::uint32_t{IP_VS_SVC_F_PERSISTENT} : 0U;
  const ip_vs_flags flags{.flags = hashing | lasting, .mask = 0xFFFFFFFF};
  out.attribute(IPVS_SVC_ATTR_FLAGS, {reinterpret_cast<const std::uint8_t*>(&flags), sizeof flags});
  out.u32(IPVS_SVC_ATTR_TIMEOUT, affinity_seconds);
  out.u32(IPVS_SVC_ATTR_NETMASK, family == Family::v4 ? 0xFFFFFFFF : 128);
}

void write_destination(netlink::Writer& out, const Change& change) {
  out.u16(IPVS_DEST_ATTR_ADDR_FAMILY, af_of(change.backend->address.family()));
  write_address(out, IPVS_DEST_ATTR_ADDR, change.backend->address);
  out.u16_be(IPVS_DEST_ATTR_PORT, change.backend->port.number());
  if (change.kind == Change::Kind::drop_backend) return;
  out.u32(IPVS_DEST_ATTR_FWD_METHOD, IP_VS_CONN_F_MASQ);
  out.u32(IPVS_DEST_ATTR_WEIGHT, change.weight);
  out.u32(IPVS_DEST_ATTR_U_THRESH, 0);
  out.u32(IPVS_DEST_ATTR_L_THRESH, 0);
}

std::optional<VirtualService> read_service(netlink::Bytes service) {
  if (netlink::find(service, IPVS_SVC_ATTR_FWMARK).type != 0) return std::nullopt;
  const auto protocol = netlink::find(service, IPVS_SVC_ATTR_PROTOCOL).u16();
  if (protocol != IPPROTO_TCP && protocol != IPPROTO_UDP) return std::nullopt;
  const auto endpoint = read_endpoint(netlink::find(service, IPVS_SVC_ATTR_ADDR).value,
                                      netlink::find(service, IPVS_SVC_ATTR_AF).u16(),
                                      netlink::find(service, IPVS_SVC_ATTR_PORT).u16_be());
  if (!endpoint) return std::nullopt;
  // ip_vs_flags: the flags first, then a mask.
  const auto flags = netlink::find(service, IPVS_SVC_ATTR_FLAGS).value;
  const std::uint32_t set = netlink::Attribute{0, flags}.u32().value_or(0);
  const std::uint32_t seconds = netlink::find(service, IPVS_SVC_ATTR_TIMEOUT).u32().value_or(0);
  return VirtualService{{protocol == IPPROTO_TCP ? Protocol::tcp : Protocol::udp, *endpoint},
                        std::string{netlink::find(service, IPVS_SVC_ATTR_SCHED_NAME).text()},
                        (set & IP_VS_SVC_F_PERSISTENT) != 0 ? seconds : 0};
}

std::optional<Destination> read_destination(netlink::Bytes dest, Family family) {
  // Before 3.18 the family is not told: it is the service's.
  const auto af = netlink::find(dest, IPVS_DEST_ATTR_ADDR_FAMILY).u16().value_or(af_of(family));
  const auto endpoint = read_endpoint(netlink::find(dest, IPVS_DEST_ATTR_ADDR).value, af,
                                      netlink::find(dest, IPVS_DEST_ATTR_PORT).u16_be());
  if (!endpoint) return std::nullopt;
  const netlink::Bytes stats64 = netlink::find(dest, IPVS_DEST_ATTR_STATS64).value;
  const netlink::Bytes stats = netlink::find(dest, IPVS_DEST_ATTR_STATS).value;
  const auto of = [dest](std::uint16_t type) {
    return netlink::find(dest, type).u32().value_or(0);
  };
  return Destination{
      .endpoint = *endpoint,
      .weight = of(IPVS_DEST_ATTR_WEIGHT),
      .connections = netlink::find(stats64, IPVS_STATS_ATTR_CONNS)
                         .u64()
                         .value_or(netlink::find(stats, IPVS_STATS_ATTR_CONNS).u32().value_or(0)),
      .open = std::uint64_t{of(IPVS_DEST_ATTR_ACTIVE_CONNS)} + of(IPVS_DEST_ATTR_INACT_CONNS)};
}

/// The number that generic netlink has given the family "IPVS".
Result<std::uint16_t> resolve(netlink::Socket& socket) {
  netlink::Writer out;
  const genlmsghdr header{.cmd = CTRL_CMD_GETFAMILY, .version = 1, .reserved = 0};
  out.begin(GENL_ID_CTRL, NLM_F_REQUEST | NLM_F_ACK, socket.next_sequence(), header);
  out.text(CTRL_ATTR_FAMILY_NAME, IPVS_GENL_NAME);
  out.end();
  std::uint16_t family = 0;
  const auto done = socket.request(out.bytes(), [&](const netlink::Message& message) {
    family = netlink::find(message.attributes(sizeof(genlmsghdr)), CTRL_ATTR_FAMILY_ID)
                 .u16()
                 .value_or(0);
  });
  if (!done && done.error().value() == EPERM) return Errc::not_permitted;
  if (!done || family == 0) return Errc::no_ipvs;
  return family;
}

bool is_put(Change::Kind kind) {
  return kind == Change::Kind::put_service || kind == Change::Kind::put_backend;
}
bool is_drop(Change::Kind kind) {
  return kind == Change::Kind::drop_service || kind == Change::Kind::drop_backend;
}

}  // namespace

Result<Link> Link::open() {
  auto socket = netlink::Socket::open(NETLINK_GENERIC);
  if (!socket) return socket.error();
  auto family = resolve(*socket);
  // The kernel loads the module at the first question and may answer "unknown" to that one.
  if (!family && family.error() == Errc::no_ipvs) family = resolve(*socket);
  if (!family) return family.error();
  return Link{std::move(*socket), *family};
}

void Link::begin(netlink::Writer& out, std::uint8_t command, int flags) {
  const genlmsghdr header{.cmd = command, .version = IPVS_GENL_VERSION, .reserved = 0};
  out.begin(family_, static_cast<std::uint16_t>(NLM_F_REQUEST | flags), socket_.next_sequence(),
            header);
}

Result<void> Link::probe(Family family, std::string_view scheduler) {
  for (const std::uint8_t command : {IPVS_CMD_NEW_SERVICE, IPVS_CMD_DEL_SERVICE}) {
    netlink::Writer out;
    begin(out, command, NLM_F_ACK);
    out.nest(IPVS_CMD_ATTR_SERVICE, [&] {
      out.u16(IPVS_SVC_ATTR_AF, af_of(family));
      out.u32(IPVS_SVC_ATTR_FWMARK, kProbeMark);
      describe_service(out, family, scheduler);
    });
    out.end();
    const auto done = socket_.transact(out.bytes());
    if (done || done.error().value() == EEXIST) continue;  // left by one that was killed
    detail_ = socket_.detail();
    if (done.error().value() == EPERM) return Errc::not_permitted;
    if (done.error().value() == ENOENT) return Errc::no_scheduler;
    return done.error();
  }
  return {};
}

Result<std::vector<VirtualService>> Link::services() {
  netlink::Writer out;
  begin(out, IPVS_CMD_GET_SERVICE, NLM_F_DUMP);
  out.end();
  std::vector<VirtualService> found;
  const auto done = socket_.request(out.bytes(), [&](const netlink::Message& message) {
    const auto service = read_service(
        netlink::find(message.attributes(sizeof(genlmsghdr)), IPVS_CMD_ATTR_SERVICE).value);
    if (service && found.size() < kMaxServices) found.push_back(*service);
  });
  if (!done && done.error().value() != EINTR) return done.error();
  return found;
}

Result<std::vector<Destination>> Link::destinations(const Vip& vip) {
  netlink::Writer out;
  begin(out, IPVS_CMD_GET_DEST, NLM_F_DUMP);
  out.nest(IPVS_CMD_ATTR_SERVICE, [&] { name_service(out, vip); });
  out.end();
  std::vector<Destination> found;
  const auto done = socket_.request(out.bytes(), [&](const netlink::Message& message) {
    const auto destination = read_destination(
        netlink::find(message.attributes(sizeof(genlmsghdr)), IPVS_CMD_ATTR_DEST).value,
        vip.endpoint.address.family());
    if (destination && found.size() < kMaxDestinations) found.push_back(*destination);
  });
  if (!done && done.error().value() != EINTR) return done.error();
  return found;
}

void Link::write(netlink::Writer& out, const Change& change) {
  constexpr std::array kCommands{
      IPVS_CMD_NEW_SERVICE, IPVS_CMD_SET_SERVICE, IPVS_CMD_DEL_SERVICE,
      IPVS_CMD_NEW_DEST,    IPVS_CMD_SET_DEST,    IPVS_CMD_DEL_DEST,
  };
  begin(out, static_cast<std::uint8_t>(kCommands[static_cast<std::size_t>(change.kind)]), 0);
  out.nest(IPVS_CMD_ATTR_SERVICE, [&] {
    name_service(out, change.vip);
    if (!change.scheduler.empty()) {
      describe_service(out, change.vip.endpoint.address.family(), change.scheduler,
                       change.affinity_seconds);
    }
  });
  if (change.backend) out.nest(IPVS_CMD_ATTR_DEST, [&] { write_destination(out, change); });
  out.end();
}

Result<void> Link::commit_part(const std::vector<Change>& changes, std::size_t from, std::size_t to,
                               std::vector<Change>& again) {
  netlink::Writer out;
  std::uint32_t first = 0;
  for (std::size_t i = from; i < to; ++i) {
    write(out, changes[i]);
    if (i == from) first = socket_.sequence();
  }
  out.flag_last(NLM_F_ACK);
  ErrorCode error;
  const auto done = socket_.pipeline(out.bytes(), [&](std::uint32_t sequence, const ErrorCode& e) {
    const std::size_t i = from + (sequence - first);
    if (i >= to) return;
    const Change& change = changes[i];
    if (e.value() == EEXIST && is_put(change.kind)) {
      again.push_back(change);
      again.back().kind = change.kind == Change::Kind::put_service ? Change::Kind::set_service
                                                                   : Change::Kind::set_backend;
      return;
    }
    if ((e.value() == ENOENT || e.value() == ESRCH) && is_drop(change.kind)) return;
    if (error) return;
    error = e;
    detail_ = "IPVS, " + to_string(change.vip) +
              (change.backend ? ", " + to_string(*change.backend) : std::string{});
  });
  if (error) return error;
  return done;
}

Result<void> Link::commit(const std::vector<Change>& changes) {
  detail_.clear();
  ErrorCode first;
  std::vector<Change> again;
  for (std::size_t from = 0; from < changes.size(); from += kMaxPart) {
    const std::size_t to = std::min(changes.size(), from + kMaxPart);
    const auto done = commit_part(changes, from, to, again);
    if (!done && !first) first = done.error();
  }
  std::vector<Change> never;  // a `set` is not tried once more
  for (std::size_t from = 0; from < again.size(); from += kMaxPart) {
    const auto done = commit_part(again, from, std::min(again.size(), from + kMaxPart), never);
    if (!done && !first) first = done.error();
  }
  if (first) return first;
  return {};
}

Result<void> Link::raise_tcp_timeout(std::uint32_t seconds) {
  netlink::Writer ask;
  begin(ask, IPVS_CMD_GET_CONFIG, NLM_F_ACK);
  ask.end();
  std::array<std::uint32_t, 3> timeouts{};
  constexpr std::array<std::uint16_t, 3> kTypes{
      IPVS_CMD_ATTR_TIMEOUT_TCP, IPVS_CMD_ATTR_TIMEOUT_TCP_FIN, IPVS_CMD_ATTR_TIMEOUT_UDP};
  const auto asked = socket_.request(ask.bytes(), [&](const netlink::Message& message) {
    const netlink::Bytes attributes = message.attributes(sizeof(genlmsghdr));
    for (std::size_t i = 0; i < kTypes.size(); ++i) {
      timeouts[i] = netlink::find(attributes, kTypes[i]).u32().value_or(0);
    }
  });
  if (!asked) return asked.error();
  if (timeouts[0] >= seconds) return {};
  timeouts[0] = seconds;
  netlink::Writer out;
  begin(out, IPVS_CMD_SET_CONFIG, NLM_F_ACK);
  for (std::size_t i = 0; i < kTypes.size(); ++i) out.u32(kTypes[i], timeouts[i]);
  out.end();
  return socket_.transact(out.bytes());
}

}  // namespace muster::lb::ipvs
