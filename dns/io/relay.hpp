#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <sys/socket.h>
#include <utility>
#include <vector>

#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/udp.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/unordered/unordered_flat_map.hpp>

#include "base/io/task_group.hpp"
#include "dns/core/forwarder.hpp"
#include "dns/io/tls_upstream.hpp"

namespace muster::dns {

/// The sockets of a Forwarder: for each upstream a few connected UDP sockets on random ports,
/// random ids, and TCP where a reply was cut; or, for one with TLS, its one connection. One per
/// worker thread, on its io_context.
class Relay {
 public:
  using Reply = std::function<void(Forwarder::Deliver&&)>;
  using Settled = std::function<void()>;

  /// What upstreams with TLS need.
  struct Tls {
    std::shared_ptr<const TlsContext> context;  // null: there is no such upstream
    /// An upstream, as it is written, and what is wrong with it; empty: it is well again. On the
    /// worker's thread.
    std::function<void(const std::string& upstream, const std::string& problem)> report;
  };

  static constexpr std::size_t kSocketsPerUpstream = 8;
  static constexpr unsigned kQueriesPerSocket = 256;  // then a new one, on another port
  static constexpr std::size_t kMaxTcp = 64;

  /// `settled` is called after one or several replies, so that they can leave together.
  Relay(boost::asio::io_context&, ForwarderOptions, Tls, TlsTallies&, Reply, Settled);

  std::optional<ReplyCache::Hit> cached(TimePoint now, std::span<const std::byte> message,
                                        const Query& query, Transport transport,
                                        std::span<std::byte> out) {
    return forwarder_.cached(now, message, query, transport, out);
  }
  void refresh(std::span<const std::byte> message, const Query& query);
  /// A reply that was given out and has been sent: its room is used again.
  void recycle(std::vector<std::byte>&& octets) { forwarder_.recycle(std::move(octets)); }

  bool can_forward() const noexcept { return forwarder_.can_forward(); }
  void ask(std::span<const std::byte> message, const Query& query, Transport transport,
           std::uint64_t client);
  /// Ends what is under way. The object may go once it is idle().
  void stop();
  bool stopped() const noexcept { return stopping_; }
  /// Nothing of it is left in the io_context.
  bool idle() const noexcept;

  /// Counters go on where those of `before` are.
  void count_on_from(const Relay& before) { forwarder_.count_on_from(before.forwarder_); }

  const Forwarder& forwarder() const noexcept { return forwarder_; }

 private:
  using PortId = std::uint64_t;
  struct Unsent {
    Forwarder::ExchangeId exchange;
    std::vector<std::byte> query;
  };
  struct Port {
    explicit Port(boost::asio::io_context& context) : socket{context} {}
    boost::asio::ip::udp::socket socket;
    PortId id = 0;
    std::size_t upstream = 0;
    unsigned used = 0;
    bool closing = false;
    // At most kQueriesPerSocket, few as a rule: searched from the front.
    std::vector<std::pair<std::uint16_t, Forwarder::ExchangeId>> in_flight;
    std::vector<Unsent> unsent;  // leave together; at most kSendBatch

    std::optional<Forwarder::ExchangeId> sent_as(std::uint16_t number) const noexcept;
    void forget(std::uint16_t number) noexcept;
  };
  /// Under which ports and ids an exchange's queries left.
  struct Sent {
    std::array<std::pair<PortId, std::uint16_t>, Forwarder::kMaxAttempts> places{};
    std::size_t count = 0;
  };
  /// The ports of one upstream that take new queries.
  struct Open {
    std::vector<Port*> ports;
    Port* current = nullptr;  // of this burst
  };
  static constexpr unsigned kReceiveBatch = 32;
  static constexpr unsigned kSendBatch = 32;
  using Ports = std::map<PortId, Port>;

  void perform(Forwarder::Actions& actions);
  void send_udp(Forwarder::Send& send, Forwarder::Actions& more);
  void send_unsent(Port& port, Forwarder::Actions& more);
  void send_soon(Port& port);
  void flush();
  void take_reply(Port& port, std::span<const std::byte> reply, TimePoint now,
                  Forwarder::Actions& actions);
  void add_tls(std::size_t upstream, const Tls& tls, TlsTallies& tallies);
  void send_tls(Forwarder::Send& send, Forwarder::Actions& more);
  void perform_tls();
  boost::asio::awaitable<void> send_tcp(Forwarder::Send send, Endpoint upstream);
  Port* port_for(std::size_t upstream);
  Port* open_port(std::size_t upstream);
  void close_to_new(Port& port);
  void retire(Port& port);
  void wait(Port& port);
  void receive(Port& port);
  void forget(Forwarder::ExchangeId exchange);
  void arm();
  std::uint16_t random16();

  boost::asio::io_context& context_;
  Forwarder forwarder_;
  Reply reply_;
  Settled settled_;
  Forwarder::Actions spare_;  // its room is used again
  Ports ports_;               // each has one wait outstanding, which erases it when it closes
  PortId next_port_ = 1;
  std::vector<Open> open_;  // by upstream
  boost::unordered_flat_map<Forwarder::ExchangeId, Sent> sent_;
  std::vector<PortId> unsent_;  // ports that have some
  bool flushing_ = false;       // a flush() is posted
  boost::asio::steady_timer timer_;
  TaskGroup tcp_;
  std::size_t tcp_running_ = 0;
  std::map<std::size_t, TlsUpstream> tls_;  // by upstream
  Forwarder::Actions from_tls_;             // what its replies ask for, not performed yet
  std::array<std::uint16_t, 128> random_{};
  std::size_t random_left_ = 0;
  bool armed_ = false;
  bool stopping_ = false;
  // kReceiveBatch messages of any size; what no reply has reached is no memory yet.
  std::unique_ptr<std::byte[]> buffer_;
  std::array<mmsghdr, kReceiveBatch> received_{};
  std::array<iovec, kReceiveBatch> places_{};
};

}  // namespace muster::dns
