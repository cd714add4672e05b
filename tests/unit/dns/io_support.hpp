#pragma once

#include <algorithm>
#include <arpa/inet.h>
#include <array>
#include <cstring>
#include <functional>
#include <netinet/in.h>
#include <string>
#include <sys/socket.h>
#include <sys/time.h>
#include <thread>
#include <unistd.h>
#include <utility>
#include <vector>

#include <boost/asio/io_context.hpp>
#include <prometheus/registry.h>

#include "dns/io/server.hpp"
#include "dns/io/sockets.hpp"
#include "dns_support.hpp"

namespace muster::dns::testing {

/// How long a test waits for what must come; far more than it takes.
inline constexpr long kPatienceSeconds = 10;

inline FileDescriptor open_client(const Endpoint& to, int kind, long wait_ms = 0) {
  FileDescriptor fd{socket(to.address.is_v4() ? AF_INET : AF_INET6, kind | SOCK_CLOEXEC, 0)};
  const timeval limit{wait_ms != 0 ? wait_ms / 1000 : kPatienceSeconds, wait_ms % 1000 * 1000};
  setsockopt(fd.get(), SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
  setsockopt(fd.get(), SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
  const SocketAddress address = to_socket_address(to.address, to.port);
  REQUIRE(connect(fd.get(), address.get(), address.size) == 0);
  return fd;
}

/// One datagram; empty if none came.
inline Bytes receive(const FileDescriptor& fd) {
  Bytes buffer(kMaxMessageSize);
  const ssize_t size = recv(fd.get(), buffer.data(), buffer.size(), 0);
  buffer.resize(size > 0 ? static_cast<std::size_t>(size) : 0);
  return buffer;
}

inline void transmit(const FileDescriptor& fd, const Bytes& bytes) {
  REQUIRE(send(fd.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL) ==
          static_cast<ssize_t>(bytes.size()));
}

inline Bytes framed(const Bytes& message) {
  Bytes out(2 + message.size());
  out[0] = static_cast<std::byte>(message.size() >> 8);
  out[1] = static_cast<std::byte>(message.size() & 0xFF);
  std::copy(message.begin(), message.end(), out.begin() + 2);
  return out;
}

/// Exactly `size` octets of a stream; fewer if it ended.
inline Bytes read_exactly(const FileDescriptor& fd, std::size_t size) {
  Bytes out(size);
  std::size_t have = 0;
  while (have < size) {
    const ssize_t got = recv(fd.get(), out.data() + have, size - have, 0);
    if (got <= 0) break;
    have += static_cast<std::size_t>(got);
  }
  out.resize(have);
  return out;
}

/// One framed message; empty if the stream ended or nothing came.
inline Bytes read_message(const FileDescriptor& fd) {
  const Bytes length = read_exactly(fd, 2);
  if (length.size() < 2) return {};
  return read_exactly(
      fd, std::to_integer<std::size_t>(length[0]) << 8 | std::to_integer<std::size_t>(length[1]));
}

inline Reply ask_udp(const Endpoint& server, std::string_view owner, std::uint16_t qtype,
                     QueryOptions options = {.id = 99}) {
  const FileDescriptor client = open_client(server, SOCK_DGRAM);
  transmit(client, make_query(name(owner), qtype, options));
  const Bytes message = receive(client);
  REQUIRE(!message.empty());
  const auto reply = parse_reply(message);
  REQUIRE(reply.has_value());
  CHECK(reply->id == options.id);
  return *reply;
}

inline ServerOptions local_options(unsigned workers = 1) {
  ServerOptions options;
  options.listen = {{ip("127.0.0.1"), port(53)}};
  options.any_port = true;
  options.workers = workers;
  return options;
}

/// A started server on loopback.
struct RunningServer {
  explicit RunningServer(ServerOptions options)
      : server{control.get_executor(), control.get_executor(), std::move(options), registry} {
    const auto started = server.start();
    INFO(server.status().last_error);
    REQUIRE(started.has_value());
  }
  ~RunningServer() { server.stop(); }
  Endpoint at(std::size_t index = 0) const { return server.bound().at(index); }

  boost::asio::io_context control;
  prometheus::Registry registry;
  Server server;
};

inline double counter_value(const Server& server, const std::string& metric_name,
                            const std::string& label_value = "") {
  double total = 0;
  for (const auto& family : server.collectable()->Collect()) {
    if (family.name != metric_name) continue;
    for (const auto& metric : family.metric) {
      bool wanted = label_value.empty();
      for (const auto& label : metric.label) wanted = wanted || label.value == label_value;
      if (wanted) total += metric.counter.value + metric.gauge.value;
    }
  }
  return total;
}

}  // namespace muster::dns::testing
