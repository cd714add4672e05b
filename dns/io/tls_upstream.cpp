#include "dns/io/tls_upstream.hpp"

#include <array>
#include <cerrno>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <utility>

#include <boost/asio/post.hpp>

#include "base/assert.hpp"
#include "base/io/to_asio.hpp"

namespace muster::dns {
namespace {

namespace asio = boost::asio;

// What was sent and is not acknowledged for so long went to nobody, or through a NAT that forgot
// us: known before the client gives up, so that it can be asked anew.
constexpr int kUnacknowledgedMs = 1500;

void set_options(int socket) {
  // Advice: a connection without them works too.
  const int yes = 1;
  setsockopt(socket, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
  setsockopt(socket, IPPROTO_TCP, TCP_USER_TIMEOUT, &kUnacknowledgedMs, sizeof kUnacknowledgedMs);
}

}  // namespace

TlsUpstream::TlsUpstream(asio::io_context& context, Upstream upstream,
                         std::shared_ptr<const TlsContext> tls, TlsTallies& tallies, Events events)
    : context_{context},
      upstream_{std::move(upstream)},
      tls_{std::move(tls)},
      tallies_{tallies},
      events_{std::move(events)},
      socket_{context},
      timer_{context} {
  MUSTER_ASSERT(tls_ != nullptr);  // there is no other way to ask it
}

template <class Then>
auto TlsUpstream::in_this_life(Then then) {
  ++waits_;
  return [this, life = life_, then = std::move(then)](const ErrorCode& error) {
    --waits_;
    if (life == life_ && error != asio::error::operation_aborted) then(error);
  };
}

bool TlsUpstream::ask(ExchangeId exchange, std::uint16_t id, std::span<const std::byte> query) {
  if (stream_.full() || stopped_) {
    tallies_.failed(StreamFailure::full);
    return false;
  }
  stream_.ask(Clock::now(), exchange, id, query);
  return true;
}

void TlsUpstream::flush() {
  if (stream_.state() == UpstreamStream::State::open && !stream_.unsent().empty()) {
    // Whoever asks is not to hear of a failure before it has asked.
    if (!write_queries() || !transmit()) {
      auto broken = in_this_life([this](const ErrorCode&) { broke(); });
      asio::post(context_, [broken = std::move(broken)] { broken(ErrorCode{}); });
    }
  }
  arm();
}

void TlsUpstream::connect() {
  stream_.opening(Clock::now());
  const auto to = to_asio<asio::ip::tcp::endpoint>(upstream_.endpoint);
  ErrorCode error;
  socket_.open(to.protocol(), error);
  if (!error) socket_.non_blocking(true, error);
  if (error) return fail(StreamFailure::connect, error.message());
  socket_.async_connect(to, in_this_life([this](const ErrorCode& result) { connected(result); }));
}

void TlsUpstream::connected(const ErrorCode& error) {
  if (error) return fail(StreamFailure::connect, error.message());
  set_options(socket_.native_handle());
  session_.emplace(*tls_, upstream_, std::move(ticket_));
  wait_read();
  advance(false);
}

void TlsUpstream::wait_read() {
  socket_.async_wait(asio::ip::tcp::socket::wait_read,
                     in_this_life([this](const ErrorCode&) { readable(); }));
}

void TlsUpstream::wait_write() {
  if (std::exchange(writing_, true)) return;
  socket_.async_wait(asio::ip::tcp::socket::wait_write, in_this_life([this](const ErrorCode&) {
                       writing_ = false;
                       advance(false);
                     }));
}

void TlsUpstream::readable() {
  std::array<std::byte, kRead> chunk;
  bool ended = false;
  for (unsigned reads = 0; reads < kReadsPerWake && !ended; ++reads) {
    const ssize_t got = recv(socket_.native_handle(), chunk.data(), chunk.size(), MSG_DONTWAIT);
    if (got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) break;
    if (got < 0 && errno == EINTR) continue;
    ended = got <= 0;
    silent_ = got < 0 && errno == ETIMEDOUT;
    if (got > 0) session_->feed(std::span{chunk}.first(static_cast<std::size_t>(got)));
  }
  const std::uint64_t life = life_;
  advance(ended);
  if (life == life_ && session_) wait_read();
}

// Takes TLS as far as it gets; `ended`: nothing more will come.
void TlsUpstream::advance(bool ended) {
  if (stream_.state() == UpstreamStream::State::opening && !shake_hands(ended)) return;
  if (!read_replies(ended)) return;
  if (!write_queries() || !transmit()) broke();
}

// True once there is a connection.
bool TlsUpstream::shake_hands(bool ended) {
  const TlsSession::Step step = session_->handshake();
  const bool sent = transmit();  // after a failure too: the other side learns why
  if (step == TlsSession::Step::failed) {
    fail(session_->failure(), session_->problem());
  } else if (step == TlsSession::Step::more && (ended || !sent)) {
    fail(StreamFailure::handshake, "the connection was closed; expected a TLS server");
  }
  if (step != TlsSession::Step::done) return false;
  stream_.opened(Clock::now());
  tallies_.opened.add();
  if (session_->resumed()) tallies_.resumed.add();
  if (std::exchange(troubled_, false)) events_.report("");
  arm();
  return true;
}

// False if the connection is no more.
bool TlsUpstream::read_replies(bool ended) {
  std::array<std::byte, kRead> chunk;
  std::uint64_t strays = 0;
  bool sane = true;
  auto step = TlsSession::Step::done;
  for (;;) {
    std::size_t size = 0;
    step = session_->read(chunk, size);
    if (step != TlsSession::Step::done) break;
    sane = stream_.received(Clock::now(), std::span{chunk}.first(size), events_.reply, strays);
    if (!sane) break;
  }
  if (strays > 0) tallies_.failed(StreamFailure::garbage, strays);
  if (!sane) {
    fail(StreamFailure::garbage, "what it sends is no DNS; expected replies to what it was asked");
  } else if (step == TlsSession::Step::failed && !session_->problem().empty()) {
    fail(StreamFailure::handshake, session_->problem());
  } else if (step == TlsSession::Step::failed || ended) {
    broke();
  } else {
    events_.settled();
    return true;
  }
  return false;
}

bool TlsUpstream::write_queries() {
  // What the socket does not take stays with us, where it is bounded, not with TLS.
  while (out_.empty() && !stream_.unsent().empty()) {
    const auto unsent = stream_.unsent();
    if (!session_->write(unsent)) return false;
    stream_.sent(unsent.size());
    session_->take_output(out_);
    if (!transmit()) return false;
  }
  return true;
}

// Sends what TLS has made. False if the connection is broken.
bool TlsUpstream::transmit() {
  session_->take_output(out_);
  std::size_t done = 0;
  while (done < out_.size()) {
    const ssize_t sent = send(socket_.native_handle(), out_.data() + done, out_.size() - done,
                              MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent < 0 && errno == EINTR) continue;
    if (sent < 0) break;
    done += static_cast<std::size_t>(sent);
  }
  const int error = errno;
  out_.erase(out_.begin(), out_.begin() + static_cast<std::ptrdiff_t>(done));
  if (out_.empty()) return true;
  if (error != EAGAIN && error != EWOULDBLOCK) return false;
  wait_write();
  return true;
}

// Closed by the other side: no failure if nobody waits.
void TlsUpstream::broke() {
  if (!stream_.wanted()) {
    finish(false);
  } else if (silent_) {
    fail(StreamFailure::timeout, "what was sent is not acknowledged");
  } else {
    fail(StreamFailure::closed, "the connection was closed before it answered");
  }
}

void TlsUpstream::fail(StreamFailure failure, const std::string& what) {
  // What it sent that was garbage is counted, one by one.
  if (failure != StreamFailure::garbage) tallies_.failed(failure);
  troubled_ = true;
  events_.report(std::string{name_of(failure)} + ": " + what);
  finish(true);
}

void TlsUpstream::finish(bool failed) {
  const bool was_open = stream_.state() == UpstreamStream::State::open;
  if (was_open) tallies_.closed.add();
  const std::vector<ExchangeId> waiting = stream_.closed(Clock::now(), failed);
  if (session_) {
    session_->close();
    transmit();  // its farewell; whether it arrives is all the same
    ticket_ = session_->take_ticket();
  }
  ++life_;
  ErrorCode ignored;
  socket_.close(ignored);
  session_.reset();
  out_.clear();
  writing_ = false;
  silent_ = false;
  if (stopped_) return;
  if (failed) {
    events_.lost(was_open, waiting);
  } else {
    events_.settled();
  }
  arm();
}

// A timer that fires too early finds nothing to do; setting one anew costs a system call.
void TlsUpstream::arm() {
  const auto deadline = stream_.next_deadline();
  if (!deadline || stopped_ || (armed_ && timer_.expiry() <= *deadline)) return;
  armed_ = true;
  timer_.expires_at(*deadline);
  ++waits_;
  timer_.async_wait([this](const ErrorCode& error) {
    --waits_;
    if (error || stopped_) return;
    armed_ = false;
    on_timer();
  });
}

void TlsUpstream::on_timer() {
  static_assert(UpstreamStream::kLimit == Duration{3000});  // as the messages have it
  switch (stream_.due(Clock::now())) {
    case UpstreamStream::Due::nothing:
      break;
    case UpstreamStream::Due::open:
      connect();
      break;
    case UpstreamStream::Due::give_up:
      if (!session_) {
        fail(StreamFailure::timeout, "no connection within 3 s");
      } else if (stream_.state() == UpstreamStream::State::opening) {
        fail(StreamFailure::timeout, "no TLS handshake within 3 s");
      } else {
        fail(StreamFailure::timeout, "no reply within 3 s");
      }
      break;
    case UpstreamStream::Due::close_idle:
      finish(false);
      break;
  }
  arm();
}

void TlsUpstream::stop() {
  stopped_ = true;
  timer_.cancel();
  finish(false);
}

}  // namespace muster::dns
