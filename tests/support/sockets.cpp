#include "tests/support/sockets.hpp"

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <mutex>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdexcept>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <thread>
#include <unistd.h>
#include <utility>

namespace muster::testing {
namespace {

struct Address {
  sockaddr_storage storage{};
  socklen_t size = 0;
  const sockaddr* get() const { return reinterpret_cast<const sockaddr*>(&storage); }
  sockaddr* get() { return reinterpret_cast<sockaddr*>(&storage); }
};

Address address_of(const Endpoint& endpoint) {
  Address address;
  if (endpoint.address.is_v4()) {
    sockaddr_in v4{};
    v4.sin_family = AF_INET;
    v4.sin_port = htons(endpoint.port.number());
    std::memcpy(&v4.sin_addr, endpoint.address.octets().data(), 4);
    std::memcpy(&address.storage, &v4, sizeof v4);
    address.size = sizeof v4;
  } else {
    sockaddr_in6 v6{};
    v6.sin6_family = AF_INET6;
    v6.sin6_port = htons(endpoint.port.number());
    std::memcpy(&v6.sin6_addr, endpoint.address.octets().data(), 16);
    std::memcpy(&address.storage, &v6, sizeof v6);
    address.size = sizeof v6;
  }
  return address;
}

std::optional<Endpoint> endpoint_of(const Address& address) {
  if (address.storage.ss_family == AF_INET) {
    sockaddr_in v4{};
    std::memcpy(&v4, &address.storage, sizeof v4);
    IpAddress::V4 octets{};
    std::memcpy(octets.data(), &v4.sin_addr, 4);
    const auto port = Port::from(ntohs(v4.sin_port));
    return port ? std::optional{Endpoint{IpAddress{octets}, *port}} : std::nullopt;
  }
  sockaddr_in6 v6{};
  std::memcpy(&v6, &address.storage, sizeof v6);
  IpAddress::V6 octets{};
  std::memcpy(octets.data(), &v6.sin6_addr, 16);
  const auto port = Port::from(ntohs(v6.sin6_port));
  return port ? std::optional{Endpoint{IpAddress{octets}, *port}} : std::nullopt;
}

[[noreturn]] void fail(const char* what) {
  throw std::runtime_error{std::string{what} + ": " + std::strerror(errno)};
}

int make(const Endpoint& endpoint, int type) {
  const int fd = ::socket(endpoint.address.is_v4() ? AF_INET : AF_INET6, type | SOCK_CLOEXEC, 0);
  if (fd < 0) fail("socket");
  return fd;
}

Socket bound(const Endpoint& endpoint, int type) {
  Socket socket{make(endpoint, type)};
  const int on = 1;
  ::setsockopt(socket.fd(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  const Address address = address_of(endpoint);
  if (::bind(socket.fd(), address.get(), address.size) != 0) fail("bind");
  return socket;
}

bool ready(int fd, short events, std::chrono::milliseconds limit) {
  pollfd waiting{.fd = fd, .events = events, .revents = 0};
  return ::poll(&waiting, 1, static_cast<int>(limit.count())) > 0;
}

}  // namespace

Socket::Socket(Socket&& other) noexcept : fd_{std::exchange(other.fd_, -1)} {}

Socket::~Socket() {
  if (fd_ >= 0) ::close(fd_);
}

void Socket::send(const std::string& text) const {
  // Errors show as an answer that does not come.
  [[maybe_unused]] const auto sent = ::send(fd_, text.data(), text.size(), MSG_NOSIGNAL);
}

std::string Socket::receive(std::chrono::milliseconds limit) const {
  if (!ready(fd_, POLLIN, limit)) return {};
  char text[256];
  const auto size = ::recv(fd_, text, sizeof text, 0);
  return size > 0 ? std::string{text, static_cast<std::size_t>(size)} : std::string{};
}

Endpoint Socket::local() const {
  Address address;
  address.size = sizeof address.storage;
  if (::getsockname(fd_, address.get(), &address.size) != 0) fail("getsockname");
  return endpoint_of(address).value();
}

std::optional<Endpoint> Socket::peer() const {
  Address address;
  address.size = sizeof address.storage;
  if (::getpeername(fd_, address.get(), &address.size) != 0) return std::nullopt;
  return endpoint_of(address);
}

Socket Socket::tcp_listener(const Endpoint& endpoint) {
  Socket socket = bound(endpoint, SOCK_STREAM);
  if (::listen(socket.fd(), 1024) != 0) fail("listen");
  return socket;
}

Socket Socket::udp_bound(const Endpoint& endpoint) {
  return bound(endpoint, SOCK_DGRAM);
}

Socket Socket::accept() const {
  const int fd = ::accept4(fd_, nullptr, nullptr, SOCK_CLOEXEC);
  if (fd < 0) fail("accept");
  return Socket{fd};
}

Attempt connect_tcp(const Endpoint& to, std::chrono::milliseconds limit) {
  Socket socket{make(to, SOCK_STREAM | SOCK_NONBLOCK)};
  const Address address = address_of(to);
  const auto began = std::chrono::steady_clock::now();
  Attempt attempt;
  if (::connect(socket.fd(), address.get(), address.size) != 0) attempt.error = errno;
  if (attempt.error == EINPROGRESS) {
    attempt.error = ETIMEDOUT;
    if (ready(socket.fd(), POLLOUT, limit)) {
      socklen_t size = sizeof attempt.error;
      ::getsockopt(socket.fd(), SOL_SOCKET, SO_ERROR, &attempt.error, &size);
    }
  }
  attempt.took = std::chrono::duration_cast<std::chrono::microseconds>(
      std::chrono::steady_clock::now() - began);
  tcp_info info{};
  socklen_t size = sizeof info;
  ::getsockopt(socket.fd(), IPPROTO_TCP, TCP_INFO, &info, &size);
  attempt.repeats = static_cast<int>(info.tcpi_total_retrans);
  if (attempt.error == 0) attempt.socket.emplace(std::move(socket));
  return attempt;
}

Socket connect_udp(const Endpoint& to) {
  Socket socket{make(to, SOCK_DGRAM)};
  const Address address = address_of(to);
  if (::connect(socket.fd(), address.get(), address.size) != 0) fail("connect");
  return socket;
}

struct NameServer::Impl {
  Impl(const Endpoint& endpoint, std::string its_name)
      : name{std::move(its_name)},
        tcp{Socket::tcp_listener(endpoint)},
        udp{Socket::udp_bound(endpoint)},
        stop{::eventfd(0, EFD_CLOEXEC)} {}

  void serve() {
    for (;;) {
      pollfd waiting[]{{tcp.fd(), POLLIN, 0}, {udp.fd(), POLLIN, 0}, {stop.fd(), POLLIN, 0}};
      if (::poll(waiting, 3, -1) < 0 && errno != EINTR) return;
      if (waiting[2].revents != 0) return;
      if (waiting[0].revents != 0) {
        const Socket client = tcp.accept();
        note(client.peer());
        client.send(name);
      }
      if (waiting[1].revents != 0) answer_datagram();
    }
  }

  void answer_datagram() {
    char text[256];
    Address from;
    from.size = sizeof from.storage;
    if (::recvfrom(udp.fd(), text, sizeof text, 0, from.get(), &from.size) < 0) return;
    note(endpoint_of(from));
    ::sendto(udp.fd(), name.data(), name.size(), 0, from.get(), from.size);
  }

  void note(std::optional<Endpoint> client) {
    const std::scoped_lock lock{mutex};
    last_client = client;
  }

  std::string name;
  Socket tcp;
  Socket udp;
  Socket stop;
  std::mutex mutex;
  std::optional<Endpoint> last_client;
  std::thread thread;
};

NameServer::NameServer(const Endpoint& endpoint, std::string name)
    : impl_{new Impl{endpoint, std::move(name)}} {
  impl_->thread = std::thread{[this] { impl_->serve(); }};
}

NameServer::~NameServer() {
  ::eventfd_write(impl_->stop.fd(), 1);
  impl_->thread.join();
  delete impl_;
}

std::optional<Endpoint> NameServer::last_client() const {
  const std::scoped_lock lock{impl_->mutex};
  return impl_->last_client;
}

std::string ask_tcp(const Endpoint& to, std::chrono::milliseconds limit) {
  const Attempt attempt = connect_tcp(to, limit);
  if (attempt.error != 0) return std::string{"error: "} + std::strerror(attempt.error);
  const std::string name = attempt.socket->receive(limit);
  return name.empty() ? "error: no answer" : name;
}

std::string ask(const Socket& socket, std::chrono::milliseconds limit) {
  socket.send("?");
  const std::string name = socket.receive(limit);
  return name.empty() ? "error: no answer" : name;
}

std::string ask_udp(const Endpoint& to, std::chrono::milliseconds limit) {
  return ask(connect_udp(to), limit);
}

}  // namespace muster::testing
