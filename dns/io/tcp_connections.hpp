#pragma once

#include <cstddef>
#include <cstdint>
#include <list>
#include <span>
#include <unordered_map>
#include <vector>

#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/steady_timer.hpp>

#include "base/endpoint.hpp"
#include "base/time.hpp"
#include "dns/io/worker.hpp"

namespace muster::dns {

/// A worker's TCP side (RFC 7766): queries may be pipelined, all answers to what one read
/// brought leave in one write, and forwarded answers follow when they come, out of order.
class TcpConnections {
 public:
  static constexpr std::size_t kMaxConnections = 1024;
  static constexpr std::size_t kMaxPerClient = 128;                   // of one address
  static constexpr std::size_t kMaxForwarding = 100;                  // of one connection
  static constexpr std::size_t kMaxOutput = std::size_t{256} * 1024;  // then answering pauses
  static constexpr Duration kIdle{10'000};  // without a whole query or progress
  static constexpr std::uint16_t kKeepalive = kIdle / Duration{100};  // in RFC 7828's units

  explicit TcpConnections(Worker& worker);
  ~TcpConnections();

  void listen(ListenSockets& sockets);
  void start();
  void close();
  /// A forwarded answer; dropped if the connection has gone.
  void send(std::uint64_t connection, std::span<const std::byte> reply);

 private:
  struct Connection;
  using Acceptor = boost::asio::ip::tcp::acceptor;

  void accept(Acceptor& acceptor);
  void adopt(boost::asio::ip::tcp::socket socket);
  void read(Connection& connection);
  void write(Connection& connection);
  void pump(Connection& connection);
  void take_messages(Connection& connection);
  static void send_zone(Connection& connection);
  static bool full(const Connection& connection);
  void answer(Connection& connection, std::span<const std::byte> message,
              const ZoneSnapshot& zones);
  void shut(Connection& connection);
  void release(Connection& connection);
  void sweep();

  Worker& worker_;
  std::list<Acceptor> acceptors_;
  std::unordered_map<std::uint64_t, Connection> connections_;
  std::unordered_map<IpAddress, std::size_t> per_client_;
  std::uint64_t next_id_ = 1;
  boost::asio::steady_timer sweeper_;
  bool sweeping_ = false;
  bool closing_ = false;
  std::vector<std::byte> scratch_;
};

}  // namespace muster::dns
