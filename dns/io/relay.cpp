#include "dns/io/relay.hpp"

#include <algorithm>
#include <cerrno>
#include <sys/random.h>
#include <sys/socket.h>
#include <utility>

#include "base/assert.hpp"
#include "dns/io/client.hpp"
#include "dns/io/sockets.hpp"

namespace muster::dns {
namespace {

namespace asio = boost::asio;
// Turns of one wake-up over a socket, so that a flood cannot starve the others.
constexpr unsigned kReadsPerWake = 64;
constexpr Duration kTcpLimit{2000};

}  // namespace

Relay::Relay(asio::io_context& context, ForwarderOptions options, Tls tls, TlsTallies& tallies,
             Reply reply, Settled settled)
    : context_{context},
      forwarder_{std::move(options)},
      reply_{std::move(reply)},
      settled_{std::move(settled)},
      open_(forwarder_.upstreams().size()),
      timer_{context},
      tcp_{context.get_executor()},
      buffer_{std::make_unique_for_overwrite<std::byte[]>(kReceiveBatch * kMaxMessageSize)} {
  for (std::size_t i = 0; i < kReceiveBatch; ++i) {
    places_[i] = {buffer_.get() + i * kMaxMessageSize, kMaxMessageSize};
    received_[i].msg_hdr.msg_iov = &places_[i];
    received_[i].msg_hdr.msg_iovlen = 1;
  }
  for (std::size_t i = 0; i < forwarder_.upstreams().size(); ++i) {
    if (forwarder_.upstreams()[i].tls) add_tls(i, tls, tallies);
  }
}

void Relay::add_tls(std::size_t upstream, const Tls& tls, TlsTallies& tallies) {
  const Upstream& to = forwarder_.upstreams()[upstream];
  TlsUpstream::Events events;
  events.reply = [this, upstream](Forwarder::ExchangeId exchange, std::uint16_t id,
                                  std::span<const std::byte> reply) {
    return forwarder_.on_reply(Clock::now(), exchange, upstream, Transport::tls, id, reply,
                               from_tls_);
  };
  events.settled = [this] { perform_tls(); };
  events.lost = [this, upstream](bool was_open, const std::vector<Forwarder::ExchangeId>& waiting) {
    forwarder_.on_connection_lost(Clock::now(), upstream, was_open, waiting, from_tls_);
    perform_tls();
  };
  events.report = [report = tls.report, name = to_string(to)](const std::string& problem) {
    if (report) report(name, problem);
  };
  tls_.try_emplace(upstream, context_, to, tls.context, tallies, std::move(events));
}

bool Relay::idle() const noexcept {
  return ports_.empty() && tcp_running_ == 0 && !flushing_ &&
         std::all_of(tls_.begin(), tls_.end(), [](const auto& at) { return at.second.idle(); });
}

std::optional<Forwarder::ExchangeId> Relay::Port::sent_as(std::uint16_t number) const noexcept {
  for (const auto& [sent, exchange] : in_flight) {
    if (sent == number) return exchange;
  }
  return std::nullopt;
}

void Relay::Port::forget(std::uint16_t number) noexcept {
  for (auto& place : in_flight) {
    if (place.first != number) continue;
    place = in_flight.back();
    in_flight.pop_back();
    return;
  }
}

void Relay::ask(std::span<const std::byte> message, const Query& query, Transport transport,
                std::uint64_t client) {
  Forwarder::Actions actions = std::move(spare_);
  forwarder_.ask(Clock::now(), message, query, transport, client, actions);
  perform(actions);
  actions.sends.clear();
  actions.replies.clear();
  actions.done.clear();
  spare_ = std::move(actions);
}

void Relay::refresh(std::span<const std::byte> message, const Query& query) {
  Forwarder::Actions actions;
  forwarder_.refresh(Clock::now(), message, query, actions);
  perform(actions);
}

void Relay::perform(Forwarder::Actions& actions) {
  // A send that fails at once may ask for another: so in rounds, as many as there are attempts.
  bool replied = false;
  while (!actions.sends.empty() || !actions.done.empty() || !actions.replies.empty()) {
    Forwarder::Actions more;
    replied = replied || !actions.replies.empty();
    for (Forwarder::Send& send : actions.sends) {
      if (send.transport == Transport::udp) {
        send_udp(send, more);
      } else if (send.transport == Transport::tls) {
        send_tls(send, more);
      } else if (tcp_running_ < kMaxTcp) {
        ++tcp_running_;
        const Endpoint upstream = forwarder_.upstreams()[send.upstream].endpoint;
        tcp_.spawn(send_tcp(std::move(send), upstream));
      } else {
        forwarder_.on_error(Clock::now(), send.exchange, send.upstream, Transport::tcp, more);
      }
    }
    for (const Forwarder::ExchangeId exchange : actions.done) forget(exchange);
    for (Forwarder::Deliver& deliver : actions.replies) reply_(std::move(deliver));
    if (more.sends.empty() && more.done.empty() && more.replies.empty()) break;
    actions = std::move(more);
  }
  for (auto& [upstream, connection] : tls_) connection.flush();
  if (replied) settled_();
  arm();
}

// What several replies of one connection ask for, together.
void Relay::perform_tls() {
  if (from_tls_.sends.empty() && from_tls_.replies.empty() && from_tls_.done.empty()) return;
  Forwarder::Actions actions = std::exchange(from_tls_, {});
  perform(actions);
}

std::uint16_t Relay::random16() {
  if (random_left_ == 0) {
    // Ids guard against forged replies (RFC 5452 §4.3): the kernel's randomness, not Rng's.
    const ssize_t got = getrandom(random_.data(), sizeof random_, 0);
    MUSTER_ASSERT(got == static_cast<ssize_t>(sizeof random_));
    random_left_ = random_.size();
  }
  return random_[--random_left_];
}

void Relay::close_to_new(Port& port) {
  Open& open = open_[port.upstream];
  std::erase(open.ports, &port);
  if (open.current == &port) open.current = nullptr;
}

void Relay::retire(Port& port) {
  close_to_new(port);
  if (!port.in_flight.empty() || !port.unsent.empty() || port.closing) return;
  port.closing = true;
  ErrorCode ignored;
  port.socket.close(ignored);  // its wait ends, and erases it
}

// One at random for each burst, so that its queries leave, and their replies come, in few system
// calls. Who would forge a reply knows no more for it: a port lives for kQueriesPerSocket anyway.
Relay::Port* Relay::port_for(std::size_t upstream) {
  Open& open = open_[upstream];
  if (open.current == nullptr) {
    // The first bursts each open a port of their own.
    open.current = open.ports.size() < kSocketsPerUpstream
                       ? open_port(upstream)
                       : open.ports[random16() % open.ports.size()];
  }
  Port* const chosen = open.current;
  if (chosen != nullptr && ++chosen->used >= kQueriesPerSocket) close_to_new(*chosen);
  return chosen;
}

Relay::Port* Relay::open_port(std::size_t upstream) {
  const auto made = ports_.try_emplace(next_port_, context_).first;
  Port& port = made->second;
  port.id = next_port_++;
  port.upstream = upstream;
  const Endpoint to = forwarder_.upstreams()[upstream].endpoint;
  const SocketAddress address = to_socket_address(to.address, to.port);
  ErrorCode error;
  port.socket.open(to.address.is_v4() ? asio::ip::udp::v4() : asio::ip::udp::v6(), error);
  if (!error) port.socket.non_blocking(true, error);
  if (error || connect(port.socket.native_handle(), address.get(), address.size) != 0) {
    ports_.erase(made);
    return nullptr;
  }
  open_[upstream].ports.push_back(&port);
  wait(port);
  return &port;
}

void Relay::send_udp(Forwarder::Send& send, Forwarder::Actions& more) {
  Port* const port = port_for(send.upstream);
  if (port == nullptr) {
    forwarder_.on_error(Clock::now(), send.exchange, send.upstream, Transport::udp, more);
    return;
  }
  std::uint16_t id = random16();
  while (port->sent_as(id)) ++id;  // at most kQueriesPerSocket are taken
  send.query[0] = static_cast<std::byte>(id >> 8);
  send.query[1] = static_cast<std::byte>(id & 0xFF);
  port->in_flight.emplace_back(id, send.exchange);
  Sent& sent = sent_[send.exchange];
  if (sent.count < sent.places.size()) sent.places[sent.count++] = {port->id, id};
  send_soon(*port);
  port->unsent.push_back({send.exchange, std::move(send.query)});
  if (port->unsent.size() >= kSendBatch) send_unsent(*port, more);
}

// After what else is ready now, so that what a burst of clients asks leaves together.
void Relay::send_soon(Port& port) {
  if (port.unsent.empty()) unsent_.push_back(port.id);
  if (std::exchange(flushing_, true)) return;
  asio::post(context_, [this] {
    flushing_ = false;
    flush();
  });
}

void Relay::flush() {
  for (Open& open : open_) open.current = nullptr;
  if (stopping_) return;
  Forwarder::Actions more;
  for (const PortId id : std::exchange(unsent_, {})) {
    const auto port = ports_.find(id);
    if (port == ports_.end()) continue;
    send_unsent(port->second, more);
    if (port->second.used >= kQueriesPerSocket) retire(port->second);
  }
  perform(more);
}

void Relay::send_unsent(Port& port, Forwarder::Actions& more) {
  std::array<mmsghdr, kSendBatch> messages{};
  std::array<iovec, kSendBatch> places{};
  const std::size_t count = port.unsent.size();
  for (std::size_t i = 0; i < count; ++i) {
    places[i] = {port.unsent[i].query.data(), port.unsent[i].query.size()};
    messages[i].msg_hdr.msg_iov = &places[i];
    messages[i].msg_hdr.msg_iovlen = 1;
  }
  bool again = false;
  for (std::size_t done = 0; done < count;) {
    const int sent = sendmmsg(port.socket.native_handle(), messages.data() + done,
                              static_cast<unsigned>(count - done), MSG_DONTWAIT);
    if (sent > 0) {
      done += static_cast<std::size_t>(sent);
      again = false;
      continue;
    }
    if (errno == EINTR) continue;
    // The first refusal is an older query's; the second is this one's.
    if (errno == ECONNREFUSED && !std::exchange(again, true)) continue;
    again = false;
    // What a full queue loses is asked again when its time is up.
    if (errno != EAGAIN) {
      forwarder_.on_error(Clock::now(), port.unsent[done].exchange, port.upstream, Transport::udp,
                          more);
    }
    ++done;
  }
  for (Unsent& unsent : port.unsent) forwarder_.recycle(std::move(unsent.query));
  port.unsent.clear();
}

void Relay::send_tls(Forwarder::Send& send, Forwarder::Actions& more) {
  TlsUpstream& connection = tls_.at(send.upstream);
  std::uint16_t id = random16();
  while (connection.has_id(id)) id = random16();  // few of all there are
  if (connection.ask(send.exchange, id, send.query)) return;
  forwarder_.on_error(Clock::now(), send.exchange, send.upstream, Transport::tls, more);
}

asio::awaitable<void> Relay::send_tcp(Forwarder::Send send, Endpoint upstream) {
  const std::uint16_t id = random16();
  send.query[0] = static_cast<std::byte>(id >> 8);
  send.query[1] = static_cast<std::byte>(id & 0xFF);
  auto asked = ask_tcp(upstream, std::move(send.query), kTcpLimit);
  const Result<std::vector<std::byte>> reply = co_await std::move(asked);
  --tcp_running_;
  Forwarder::Actions actions;
  const TimePoint now = Clock::now();
  if (reply) {
    forwarder_.on_reply(now, send.exchange, send.upstream, Transport::tcp, id, *reply, actions);
  } else {
    forwarder_.on_error(now, send.exchange, send.upstream, Transport::tcp, actions);
  }
  perform(actions);
}

void Relay::wait(Port& port) {
  port.socket.async_wait(asio::ip::udp::socket::wait_read, [this, &port](const ErrorCode& error) {
    if (!error && !port.closing && !stopping_) receive(port);
    // Closed before or meanwhile: now nothing is outstanding that refers to it.
    if (port.closing || stopping_) {
      ports_.erase(port.id);
    } else {
      wait(port);
    }
  });
}

void Relay::receive(Port& port) {
  Forwarder::Actions actions;
  for (unsigned reads = 0; reads < kReadsPerWake; reads += kReceiveBatch) {
    const int got = recvmmsg(port.socket.native_handle(), received_.data(), kReceiveBatch,
                             MSG_DONTWAIT, nullptr);
    const TimePoint now = Clock::now();
    if (got < 0) {
      if (errno == EAGAIN || errno == EWOULDBLOCK) break;
      if (errno == EINTR) continue;
      // ECONNREFUSED and its like: nobody is there, so no use in waiting for what is in flight.
      const auto lost = std::exchange(port.in_flight, {});
      for (const auto& [id, exchange] : lost) {
        forwarder_.on_error(now, exchange, port.upstream, Transport::udp, actions);
      }
      continue;
    }
    for (std::size_t i = 0; i < static_cast<std::size_t>(got); ++i) {
      take_reply(port, {buffer_.get() + i * kMaxMessageSize, received_[i].msg_len}, now, actions);
    }
    if (static_cast<unsigned>(got) < kReceiveBatch) break;
  }
  perform(actions);
  if (port.used >= kQueriesPerSocket) retire(port);
}

void Relay::take_reply(Port& port, std::span<const std::byte> reply, TimePoint now,
                       Forwarder::Actions& actions) {
  if (reply.size() < kHeaderSize) return;
  const auto id = static_cast<std::uint16_t>(std::to_integer<unsigned>(reply[0]) << 8 |
                                             std::to_integer<unsigned>(reply[1]));
  const auto exchange = port.sent_as(id);
  if (!exchange) return;
  if (forwarder_.on_reply(now, *exchange, port.upstream, Transport::udp, id, reply, actions)) {
    port.forget(id);
  }
}

void Relay::forget(Forwarder::ExchangeId exchange) {
  for (auto& [upstream, connection] : tls_) connection.abandon(exchange);
  const auto found = sent_.find(exchange);
  if (found == sent_.end()) return;
  for (std::size_t i = 0; i < found->second.count; ++i) {
    const auto [port_id, id] = found->second.places[i];
    const auto port = ports_.find(port_id);
    if (port == ports_.end()) continue;
    if (port->second.sent_as(id) == exchange) port->second.forget(id);
    if (port->second.used >= kQueriesPerSocket) retire(port->second);
  }
  sent_.erase(found);
}

// A timer that fires too early finds nothing to do; setting one anew costs a system call, and most
// deadlines pass unused.
void Relay::arm() {
  const auto deadline = forwarder_.next_deadline();
  if (!deadline || stopping_ || (armed_ && timer_.expiry() <= *deadline)) return;
  armed_ = true;
  timer_.expires_at(*deadline);
  timer_.async_wait([this](const ErrorCode& error) {
    if (error || stopping_) return;
    armed_ = false;
    Forwarder::Actions actions;
    forwarder_.on_time(Clock::now(), actions);
    perform(actions);
  });
}

void Relay::stop() {
  stopping_ = true;
  timer_.cancel();
  for (auto& [upstream, connection] : tls_) connection.stop();
  tcp_.stop();
  asio::co_spawn(context_, tcp_.join(), [](const std::exception_ptr& failure) {
    if (failure) std::rethrow_exception(failure);
  });
  for (auto& [id, port] : ports_) {
    ErrorCode ignored;
    port.socket.close(ignored);
  }
}

}  // namespace muster::dns
