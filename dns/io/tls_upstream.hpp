#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/steady_timer.hpp>

#include "dns/core/upstream_stream.hpp"
#include "dns/io/counters.hpp"
#include "dns/io/tls_session.hpp"

namespace muster::dns {

/// The connection to one TLS upstream: socket, timer and TLS around an UpstreamStream. There is
/// none until somebody asks. On the worker's io_context; functions of `Events` are called from
/// handlers only, never from within a call.
class TlsUpstream {
 public:
  using ExchangeId = UpstreamStream::ExchangeId;

  struct Events {
    UpstreamStream::Take reply;
    std::function<void()> settled;  // after one or several replies
    std::function<void(bool was_open, const std::vector<ExchangeId>& waiting)> lost;
    std::function<void(const std::string& problem)> report;  // empty: it is well again
  };

  TlsUpstream(boost::asio::io_context& context, Upstream upstream,
              std::shared_ptr<const TlsContext> tls, TlsTallies& tallies, Events events);
  TlsUpstream(const TlsUpstream&) = delete;
  TlsUpstream& operator=(const TlsUpstream&) = delete;

  /// See UpstreamStream; flush() sends what ask() took.
  bool has_id(std::uint16_t id) const noexcept { return stream_.has_id(id); }
  /// False, and counted, if it has too many already.
  bool ask(ExchangeId exchange, std::uint16_t id, std::span<const std::byte> query);
  void abandon(ExchangeId exchange) { stream_.abandon(exchange); }
  void flush();

  /// Closes. The object may go once it is idle().
  void stop();
  bool idle() const noexcept { return waits_ == 0; }

 private:
  static constexpr std::size_t kRead = std::size_t{16} * 1024;  // a TLS record
  static constexpr unsigned kReadsPerWake = 8;                  // so that others have their turn

  // `then` gets the outcome, unless the connection has ended meanwhile.
  template <class Then>
  auto in_this_life(Then then);

  void connect();
  void connected(const ErrorCode& error);
  void wait_read();
  void wait_write();
  void readable();
  void advance(bool ended);
  bool shake_hands(bool ended);
  bool read_replies(bool ended);
  bool write_queries();
  bool transmit();
  void broke();
  void fail(StreamFailure failure, const std::string& what);
  void finish(bool failed);
  void arm();
  void on_timer();

  boost::asio::io_context& context_;
  const Upstream upstream_;
  std::shared_ptr<const TlsContext> tls_;
  TlsTallies& tallies_;
  Events events_;
  UpstreamStream stream_;
  boost::asio::ip::tcp::socket socket_;
  boost::asio::steady_timer timer_;
  std::optional<TlsSession> session_;  // once connected
  TlsTicket ticket_;                   // for the next connection
  std::vector<std::byte> out_;         // made by TLS, not sent yet
  std::uint64_t life_ = 0;             // of the connection; what waits for an older one is void
  std::size_t waits_ = 0;              // handlers that have not run yet
  bool writing_ = false;               // waits until the socket takes more
  bool silent_ = false;                // the other side acknowledges nothing
  bool armed_ = false;
  bool troubled_ = false;  // the last report was of a problem
  bool stopped_ = false;
};

}  // namespace muster::dns
