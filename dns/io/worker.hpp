#pragma once

#include <cstddef>
#include <cstdint>
#include <list>
#include <memory>
#include <span>
#include <sys/socket.h>
#include <thread>
#include <unordered_map>
#include <variant>
#include <vector>

#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ip/udp.hpp>
#include <boost/asio/steady_timer.hpp>

#include "base/io/snapshot.hpp"
#include "dns/core/answer.hpp"
#include "dns/io/counters.hpp"
#include "dns/io/relay.hpp"
#include "dns/io/sockets.hpp"

namespace muster::dns {

class TcpConnections;
class UdpSocket;

/// One thread that answers: its sockets, its io_context, its forwarder. Shares nothing with the
/// other workers; gets zones from the SnapshotCell. run() and stop() are the control thread's,
/// everything else happens on the worker's own.
class Worker {
 public:
  struct Options {
    ForwarderOptions forwarder;
    std::uint32_t first_rotation = 0;
  };
  /// Where a forwarded answer goes back to.
  struct UdpClient {
    UdpSocket* socket;
    sockaddr_storage from;
    socklen_t from_size;
    std::vector<char> control;  // IP_PKTINFO, where the socket needs it
  };
  struct TcpClient {
    std::uint64_t connection;
  };
  using Client = std::variant<UdpClient, TcpClient>;

  Worker(Options, SnapshotCell<ZoneSnapshot>&, WorkerCounters&);
  ~Worker();

  void add(ListenSockets sockets);
  void run();   // starts the thread
  void stop();  // ends and joins it

  /// One snapshot for a batch; valid until the next call.
  const ZoneSnapshot& zones() { return reader_.get(); }
  /// Answers into `out`. For Kind::forward the caller then calls forward().
  Answer respond(std::span<const std::byte> message, Transport transport, const ZoneSnapshot& zones,
                 std::span<std::byte> out, Query& query);
  void forward(std::span<const std::byte> message, const Query& query, Transport transport,
               Client client);
  WorkerCounters& counters() noexcept { return counters_; }
  boost::asio::io_context& context() noexcept { return context_; }
  bool can_forward() const noexcept { return relay_.can_forward(); }

 private:
  void deliver(Forwarder::Deliver&& deliver);

  struct Pending {
    Client client;
    std::uint16_t qtype;
  };

  SnapshotCell<ZoneSnapshot>::Reader reader_;
  WorkerCounters& counters_;
  boost::asio::io_context context_;
  Relay relay_;
  std::list<std::unique_ptr<UdpSocket>> udp_;
  std::unique_ptr<TcpConnections> tcp_;
  std::unordered_map<std::uint64_t, Pending> pending_;  // bounded by the forwarder's waiters
  std::uint64_t next_client_ = 1;
  std::uint32_t rotation_;
  std::thread thread_;
};

}  // namespace muster::dns
