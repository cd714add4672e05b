#include "dns/io/sockets.hpp"

#include <algorithm>
#include <arpa/inet.h>
#include <cerrno>
#include <cstddef>
#include <cstring>
#include <ifaddrs.h>
#include <netinet/in.h>
#include <unistd.h>

namespace muster::dns {
namespace {

// 208 KiB, the default, overflows at about 270 small packets; a burst of a few thousand must fit.
constexpr int kReceiveBuffer = 1 << 20;
constexpr int kBacklog = 256;
// Free for UDP need not be free for TCP; the next free UDP port is another guess.
constexpr int kPortTries = 64;

ErrorCode last_error() {
  return ErrorCode{errno, boost::system::system_category()};
}

ErrorCode set(const FileDescriptor& fd, int level, int name, int value = 1) {
  if (setsockopt(fd.get(), level, name, &value, sizeof value) != 0) return last_error();
  return {};
}

Result<FileDescriptor> open_socket(const IpAddress& address, int kind) {
  const int family = address.is_v4() ? AF_INET : AF_INET6;
  FileDescriptor fd{socket(family, kind | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)};
  if (fd.get() < 0) return last_error();
  // Lets us start before the address is up (the dummy interface of the load balancer).
  const bool v4 = address.is_v4();
  if (const auto error =
          set(fd, v4 ? IPPROTO_IP : IPPROTO_IPV6, v4 ? IP_FREEBIND : IPV6_FREEBIND)) {
    return error;
  }
  if (!v4) {
    if (const auto error = set(fd, IPPROTO_IPV6, IPV6_V6ONLY)) return error;
  }
  return fd;
}

Result<Port> bound_port(const FileDescriptor& fd) {
  sockaddr_storage storage{};
  socklen_t size = sizeof storage;
  if (getsockname(fd.get(), reinterpret_cast<sockaddr*>(&storage), &size) != 0) return last_error();
  std::uint16_t number = 0;
  if (storage.ss_family == AF_INET) {
    sockaddr_in in{};
    std::memcpy(&in, &storage, sizeof in);
    number = ntohs(in.sin_port);
  } else {
    sockaddr_in6 in{};
    std::memcpy(&in, &storage, sizeof in);
    number = ntohs(in.sin6_port);
  }
  const auto port = Port::from(number);
  if (!port) return ErrorCode{EINVAL, boost::system::system_category()};
  return *port;
}

// `first`: fails if anybody else has the port; then opens it to our other workers.
Result<FileDescriptor> bind_one(const IpAddress& address, std::optional<Port> port, int kind,
                                bool first) {
  auto fd = open_socket(address, kind);
  if (!fd) return fd;
  if (kind == SOCK_STREAM) {
    // Connections of a former run in TIME_WAIT do not hold the port.
    if (const auto error = set(*fd, SOL_SOCKET, SO_REUSEADDR)) return error;
  }
  if (!first) {
    if (const auto error = set(*fd, SOL_SOCKET, SO_REUSEPORT)) return error;
  }
  const SocketAddress to = to_socket_address(address, port);
  if (bind(fd->get(), to.get(), to.size) != 0) return last_error();
  if (first) {
    if (const auto error = set(*fd, SOL_SOCKET, SO_REUSEPORT)) return error;
  }
  return fd;
}

ErrorCode prepare_udp(const FileDescriptor& fd, const IpAddress& address) {
  const bool v4 = address.is_v4();
  if (const auto error = set(fd, SOL_SOCKET, SO_RCVBUF, kReceiveBuffer)) return error;
  // Path MTU discovery could be abused to make us send fragments (RFC 9715 §3.1).
  if (const auto error = v4 ? set(fd, IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_OMIT)
                            : set(fd, IPPROTO_IPV6, IPV6_MTU_DISCOVER, IPV6_PMTUDISC_OMIT)) {
    return error;
  }
  if (!address.is_unspecified()) return {};
  return v4 ? set(fd, IPPROTO_IP, IP_PKTINFO) : set(fd, IPPROTO_IPV6, IPV6_RECVPKTINFO);
}

Result<ListenSockets> bind_pair(const IpAddress& address, std::optional<Port> port, bool first) {
  auto udp = bind_one(address, port, SOCK_DGRAM, first);
  if (!udp) return udp.error();
  const auto number = bound_port(*udp);
  if (!number) return number.error();
  auto tcp = bind_one(address, *number, SOCK_STREAM, first);
  if (!tcp) return tcp.error();
  if (const auto error = prepare_udp(*udp, address)) return error;
  if (listen(tcp->get(), kBacklog) != 0) return last_error();
  return ListenSockets{Endpoint{address, *number}, address.is_unspecified(), std::move(*udp),
                       std::move(*tcp)};
}

}  // namespace

FileDescriptor::~FileDescriptor() {
  if (fd_ >= 0) close(fd_);
}

SocketAddress to_socket_address(const IpAddress& address, std::optional<Port> port) {
  SocketAddress out;
  const std::uint16_t number = htons(port ? port->number() : std::uint16_t{0});
  if (address.is_v4()) {
    sockaddr_in in{};
    in.sin_family = AF_INET;
    in.sin_port = number;
    std::memcpy(&in.sin_addr, address.octets().data(), 4);
    std::memcpy(&out.storage, &in, sizeof in);
    out.size = sizeof in;
  } else {
    sockaddr_in6 in{};
    in.sin6_family = AF_INET6;
    in.sin6_port = number;
    std::memcpy(&in.sin6_addr, address.octets().data(), 16);
    std::memcpy(&out.storage, &in, sizeof in);
    out.size = sizeof in;
  }
  return out;
}

std::optional<IpAddress> address_of(const sockaddr_storage& storage) {
  if (storage.ss_family == AF_INET) {
    sockaddr_in in{};
    std::memcpy(&in, &storage, sizeof in);
    IpAddress::V4 octets{};
    std::memcpy(octets.data(), &in.sin_addr, octets.size());
    return IpAddress{octets};
  }
  if (storage.ss_family != AF_INET6) return std::nullopt;
  sockaddr_in6 in{};
  std::memcpy(&in, &storage, sizeof in);
  IpAddress::V6 octets{};
  std::memcpy(octets.data(), &in.sin6_addr, octets.size());
  return IpAddress{octets};
}

std::span<const std::byte> octets_of(const sockaddr_storage& storage) noexcept {
  const auto all = std::as_bytes(std::span{&storage, 1});
  if (storage.ss_family == AF_INET) return all.subspan(offsetof(sockaddr_in, sin_addr), 4);
  if (storage.ss_family == AF_INET6) return all.subspan(offsetof(sockaddr_in6, sin6_addr), 16);
  return {};
}

IpAddress address_of(std::span<const std::byte> octets) noexcept {
  if (octets.size() != 16) {
    IpAddress::V4 v4{};
    std::memcpy(v4.data(), octets.data(), std::min(octets.size(), v4.size()));
    return IpAddress{v4};
  }
  IpAddress::V6 v6{};
  std::memcpy(v6.data(), octets.data(), v6.size());
  return IpAddress{v6};
}

Result<std::vector<ListenSockets>> bind_listeners(const IpAddress& address,
                                                  std::optional<Port> port, unsigned workers) {
  std::vector<ListenSockets> out;
  for (int tries = 0; out.empty(); ++tries) {
    auto first = bind_pair(address, port, true);
    if (first) {
      out.push_back(std::move(*first));
    } else if (port || tries >= kPortTries) {
      return first.error();
    }
  }
  while (out.size() < workers) {
    auto more = bind_pair(address, out.front().endpoint.port, false);
    if (!more) return more.error();
    out.push_back(std::move(*more));
  }
  return out;
}

std::vector<IpAddress> local_addresses() {
  std::vector<IpAddress> out;
  ifaddrs* list = nullptr;
  if (getifaddrs(&list) != 0) return out;
  for (const ifaddrs* at = list; at != nullptr; at = at->ifa_next) {
    if (at->ifa_addr == nullptr) continue;
    sockaddr_storage storage{};
    const bool v4 = at->ifa_addr->sa_family == AF_INET;
    if (!v4 && at->ifa_addr->sa_family != AF_INET6) continue;
    std::memcpy(&storage, at->ifa_addr, v4 ? sizeof(sockaddr_in) : sizeof(sockaddr_in6));
    if (const auto address = address_of(storage)) out.push_back(*address);
  }
  freeifaddrs(list);
  return out;
}

}  // namespace muster::dns
