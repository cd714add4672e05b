#pragma once

#include <cstddef>
#include <cstdint>
#include <list>
#include <memory>
#include <span>
#include <string>
#include <sys/socket.h>
#include <thread>
#include <variant>
#include <vector>

#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ip/udp.hpp>
#include <boost/asio/steady_timer.hpp>

#include "base/io/snapshot.hpp"
#include "base/slab.hpp"
#include "dns/core/access.hpp"
#include "dns/core/answer.hpp"
#include "dns/core/query_log.hpp"
#include "dns/core/rate_limit.hpp"
#include "dns/io/counters.hpp"
#include "dns/io/notifier.hpp"
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
  /// What may change while it serves.
  struct Policy {
    ForwarderOptions forwarder;
    Relay::Tls tls;        // for those of its upstreams that have it
    AccessList recursion;  // whose queries are forwarded
    AccessList transfer;   // who may have whole zones
    unsigned rate_limit = 0;
    std::uint64_t rate_seed = 0;
    unsigned query_log = 0;  // every how many queries are logged; 0: none
  };
  struct Options {
    Policy policy;
    std::uint32_t first_rotation = 0;
    std::shared_ptr<const Cookies> cookies;    // all workers make the same
    std::vector<Endpoint> notify;              // secondaries to tell of changes
    std::vector<std::string> notify_apexes{};  // and of which zones
    QueryLog::Sink query_sink{};               // called on the worker's thread
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

  /// Tells the secondaries; from any thread, between run() and stop().
  void notify();

  /// Goes by another policy from now on. What is under way at upstreams is answered as it was
  /// asked; the cache begins empty. From any thread, between run() and stop().
  void take(Policy);

  /// One snapshot and one time for a batch; valid until the next call.
  const ZoneSnapshot& zones();
  /// The same snapshot for as long as it is held.
  std::shared_ptr<const ZoneSnapshot> hold_zones() { return reader_.hold(); }
  /// Answers into `out` what parse_query() made `query` and `verdict` of. For Kind::forward the
  /// caller then calls forward(), for Kind::transfer, which comes over TCP only, it sends the zone.
  /// `client` is an address of 4 or 16 octets.
  Answer respond(std::span<const std::byte> message, const Query& query, QueryVerdict verdict,
                 Transport transport, std::span<const std::byte> client, const ZoneSnapshot& zones,
                 std::span<std::byte> out);
  void forward(std::span<const std::byte> message, const Query& query, Transport transport,
               Client client);
  WorkerCounters& counters() noexcept { return counters_; }
  boost::asio::io_context& context() noexcept { return context_; }
  bool can_forward() const noexcept { return relay_->can_forward(); }
  /// A forwarded reply that has left.
  void recycle(std::vector<std::byte>&& reply) { relay_->recycle(std::move(reply)); }

 private:
  std::unique_ptr<Relay> make_relay(ForwarderOptions options, Relay::Tls tls);
  void end_retired();
  void deliver(Forwarder::Deliver&& deliver);
  void flush_soon();
  void log(const Answer& made, const Query& query, Transport transport,
           std::span<const std::byte> client);
  bool limited(std::span<const std::byte> client, const Query& query, std::span<std::byte> out,
               Answer& made);
  void answer_forward(std::span<const std::byte> message, Transport transport,
                      std::span<const std::byte> client, std::span<std::byte> out,
                      const Query& query, Answer& made);
  void answer_transfer(std::span<const std::byte> message, Transport transport,
                       const AnswerOptions& options, const ZoneSnapshot& zones,
                       std::span<std::byte> out, const Query& query, Answer& made);

  static constexpr std::size_t kMaxIdle = 512;

  struct Pending {
    Client client{};
    std::uint16_t qtype = 0;
    std::string logged;  // the beginning of its line in the query log, if it has one
  };

  SnapshotCell<ZoneSnapshot>::Reader reader_;
  WorkerCounters& counters_;
  std::shared_ptr<const Cookies> cookies_;
  AccessList recursion_;
  AccessList transfer_;
  RateLimit rate_limit_;
  QueryLog::Sink query_sink_;
  QueryLog query_log_;
  std::string logged_;  // of a query that forward() is to be called for
  TimePoint now_ = Clock::now();
  std::uint32_t unix_now_ = 0;
  boost::asio::io_context context_;
  std::unique_ptr<Relay> relay_;
  std::list<std::unique_ptr<Relay>> retired_;  // with what was asked under earlier policies
  boost::asio::steady_timer retiring_{context_};
  Notifier notifier_;
  std::list<std::unique_ptr<UdpSocket>> udp_;
  std::unique_ptr<TcpConnections> tcp_;
  Slab<Pending> pending_{kMaxIdle};  // bounded by the forwarder's waiters
  std::uint32_t rotation_;
  bool flushing_ = false;  // a flush of the sockets is posted
  std::thread thread_;
};

}  // namespace muster::dns
