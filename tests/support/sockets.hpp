#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>

#include "base/endpoint.hpp"

namespace muster::testing {

/// Plain blocking sockets for scenarios. They belong to the namespace of the thread that makes
/// them, and may be used from any. Every wait has a limit.
class Socket {
 public:
  Socket(Socket&& other) noexcept;
  Socket& operator=(Socket&&) = delete;
  ~Socket();
  int fd() const noexcept { return fd_; }

  void send(const std::string& text) const;
  /// What comes within `limit`; empty if nothing does, or the other end closed.
  std::string receive(std::chrono::milliseconds limit = std::chrono::seconds{5}) const;

  Endpoint local() const;
  std::optional<Endpoint> peer() const;

  static Socket tcp_listener(const Endpoint& endpoint);
  static Socket udp_bound(const Endpoint& endpoint);
  Socket accept() const;

  explicit Socket(int fd) : fd_{fd} {}

 private:
  int fd_;
};

struct Attempt {
  int error = 0;  // errno, 0 if it succeeded, ETIMEDOUT if the limit passed
  std::chrono::microseconds took{};
  int repeats = 0;  // SYNs that the kernel sent again: time as the connection knows it
  std::optional<Socket> socket;
};

/// Connects by tcp from an address of the kernel's choice; never waits longer than `limit`.
Attempt connect_tcp(const Endpoint& to, std::chrono::milliseconds limit = std::chrono::seconds{5});
/// A udp socket that talks to `to` only.
Socket connect_udp(const Endpoint& to);

/// A server on its own thread that answers each tcp connection, and each udp datagram, with its
/// name. Lives in the namespace of the thread that makes it; stops when destroyed.
class NameServer {
 public:
  NameServer(const Endpoint& endpoint, std::string name);
  NameServer(const NameServer&) = delete;
  NameServer& operator=(const NameServer&) = delete;
  ~NameServer();
  /// Where the last client seemed to come from.
  std::optional<Endpoint> last_client() const;

 private:
  struct Impl;
  Impl* impl_;
};

/// Dials `to` by tcp and returns the name that answers; otherwise "error: …".
std::string ask_tcp(const Endpoint& to, std::chrono::milliseconds limit = std::chrono::seconds{5});
/// The same by udp, from a new socket.
std::string ask_udp(const Endpoint& to, std::chrono::milliseconds limit = std::chrono::seconds{2});
/// The same on a socket that is there already.
std::string ask(const Socket& socket, std::chrono::milliseconds limit = std::chrono::seconds{2});

}  // namespace muster::testing
