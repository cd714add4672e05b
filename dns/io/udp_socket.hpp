#pragma once

#include <array>
#include <cstddef>
#include <span>
#include <sys/socket.h>
#include <vector>

#include <boost/asio/ip/udp.hpp>

#include "dns/io/worker.hpp"

namespace muster::dns {

/// One UDP socket of a worker. Asio only says when it is readable; datagrams are taken and sent
/// in batches by recvmmsg(2) and sendmmsg(2), which costs a third less than an operation each.
class UdpSocket {
 public:
  static constexpr std::size_t kBatch = 32;        // 8 would do almost as well
  static constexpr int kBatchesPerWake = 8;        // then TCP and timers have a turn
  static constexpr std::size_t kMaxQuery = 2048;   // no honest query is longer
  static constexpr std::size_t kControlSize = 64;  // one in6_pktinfo message

  UdpSocket(Worker& worker, ListenSockets& sockets);

  void start();
  void close();
  /// A forwarded answer; leaves with the next flush().
  void queue(Worker::UdpClient&& to, std::vector<std::byte>&& reply);
  void flush();

 private:
  void serve();
  bool serve_batch();
  void parse_batch(std::size_t count, const ZoneSnapshot& zones);
  void send_batch(mmsghdr* messages, std::size_t count);

  struct Slot {
    alignas(8) std::array<std::byte, kMaxQuery> query;
    Query parsed;
    QueryVerdict verdict;
    std::array<std::byte, kDefaultUdpSize> reply;
    sockaddr_storage from;
    alignas(cmsghdr) std::array<char, kControlSize> control;
    iovec in;
    iovec out;
  };

  struct Waiting {
    Worker::UdpClient to;
    std::vector<std::byte> reply;
  };

  Worker& worker_;
  boost::asio::ip::udp::socket socket_;
  bool wildcard_;
  std::vector<Slot> slots_;
  std::array<mmsghdr, kBatch> received_{};
  std::array<mmsghdr, kBatch> replies_{};
  std::vector<Waiting> waiting_;  // at most kBatch
};

}  // namespace muster::dns
