#include <algorithm>
#include <array>

#include <boost/asio/co_spawn.hpp>

#include "base/io/async.hpp"
#include "gossip/io/node_impl.hpp"

// Sockets, streams and the timer.
namespace muster::gossip {

namespace asio = boost::asio;
using asio::ip::tcp;
using asio::ip::udp;

namespace {

constexpr std::size_t kDrainAtOnce = 8192;  // 4 MB of small datagrams, with their overhead
constexpr std::size_t kBeatBetween = 64;    // datagrams
constexpr std::size_t kMaxStreams = 32;
constexpr Duration kHostProbe{110};  // within the verify burst
constexpr Duration kMetrics{1'000};

template <class AsioEndpoint>
std::optional<Endpoint> from_asio(const AsioEndpoint& from) {
  const auto port = Port::from(from.port());
  if (!port) return std::nullopt;
  if (from.address().is_v4()) return Endpoint{IpAddress{from.address().to_v4().to_bytes()}, *port};
  return Endpoint{IpAddress{from.address().to_v6().to_bytes()}, *port};
}

asio::awaitable<Result<Done>> connect_once(tcp::socket& socket, tcp::endpoint to) {
  ErrorCode error;
  co_await socket.async_connect(to, asio::redirect_error(asio::use_awaitable, error));
  if (error) co_return error;
  co_return Done{};
}

}  // namespace

void Node::Impl::wait_readable() {
  udp_.async_wait(udp::socket::wait_read, [this](ErrorCode error) {
    if (error || stopping_) return;
    const Step step{*this};
    drain();
    wait_readable();
  });
}

// Heartbeats need no drained sockets, only judgements do.
void Node::Impl::beat() {
  const TimePoint now = Clock::now();
  const TimePoint due = core_->monitor().next_heartbeat();
  if (now < due) return;
  counted_.worst_lateness = std::max<std::chrono::nanoseconds>(counted_.worst_lateness, now - due);
  Effects fx;
  core_->beat(now, fx);
  perform(fx);
}

void Node::Impl::drain() {
  std::array<std::byte, kMaxDatagram + 1> buffer;
  Effects fx;
  for (std::size_t i = 0; i < kDrainAtOnce; ++i) {
    udp::endpoint from;
    ErrorCode error;
    const std::size_t size = udp_.receive_from(asio::buffer(buffer), from, 0, error);
    if (error == asio::error::would_block || error == asio::error::try_again) break;
    if (error) continue;  // an ICMP error for something sent before
    ++counted_.packets_received;
    counted_.bytes_received += size;
    const auto endpoint = from_asio(from);
    if (!endpoint) continue;
    core_->on_datagram(*endpoint, std::span{buffer}.first(size), Clock::now(), fx);
    if (i % kBeatBetween == kBeatBetween - 1) beat();
  }
  perform(fx);
}

void Node::Impl::arm() {
  const TimePoint due = core_->next_deadline();
  if (due == armed_ || stopping_) return;
  armed_ = due;
  timer_.expires_at(due);
  timer_.async_wait([this](ErrorCode error) {
    if (error || stopping_) return;
    armed_ = TimePoint::max();
    on_timer();
  });
}

void Node::Impl::on_timer() {
  const Step step{*this};
  beat();
  // Then what has come, and last what is late: after a pause everybody would look silent.
  drain();
  Effects fx;
  const TimePoint now = Clock::now();
  if (core_->next_deadline() <= now) core_->on_timer(now, fx);
  if (now >= next_metrics_) {
    next_metrics_ = now + kMetrics;
    report_refusals();
    take_stats(now);
  }
  perform(fx);
}

void Node::Impl::act(const StreamAction& action) {
  if (stopping_) return;
  if (const auto* open = std::get_if<StreamOpen>(&action)) {
    tasks_.spawn(run_client(open->stream, open->to));
  } else if (const auto* send = std::get_if<StreamSend>(&action)) {
    const auto found = connections_.find(send->stream);
    if (found != connections_.end()) found->second->out.push_back(send->bytes);
  } else if (const auto* close = std::get_if<StreamClose>(&action)) {
    const auto found = connections_.find(close->stream);
    if (found == connections_.end()) return;
    found->second->closing = true;
    found->second->stream.close();
  }
}

asio::awaitable<void> Node::Impl::probe_host(NodeUid uid, Endpoint at) {
  ++probes_;
  tcp::socket socket{context_};
  auto operation = connect_once(socket, to_asio<tcp::endpoint>(at));
  const auto answer = co_await with_timeout(std::move(operation), kHostProbe);
  --probes_;
  if (answer || answer.error() == asio::error::connection_refused) {
    core_->on_host_probe(uid, Clock::now());
  }
}

asio::awaitable<void> Node::Impl::run_client(StreamId id, Endpoint to) {
  Connection connection{tcp::socket{context_}, sealer()};
  connections_.emplace(id, &connection);
  const auto connected = co_await connection.stream.connect(to_asio<tcp::endpoint>(to));
  if (connected) co_await converse(id, connection);
  connections_.erase(id);
  core_->on_stream_closed(id, Clock::now());
}

asio::awaitable<void> Node::Impl::run_server(tcp::socket socket) {
  const StreamId id = next_incoming_;
  next_incoming_ += 2;
  ++incoming_;
  Connection connection{std::move(socket), sealer()};
  connections_.emplace(id, &connection);
  const auto accepted = co_await connection.stream.accept();
  if (accepted) co_await converse(id, connection);
  connections_.erase(id);
  --incoming_;
  core_->on_stream_closed(id, Clock::now());
}

asio::awaitable<void> Node::Impl::converse(StreamId id, Connection& connection) {
  bool opened = false;
  const bool server = id % 2 == 0;
  Effects fx;
  // A peer is not believed before its first frame, which echoes what we have just drawn.
  if (!server) {
    core_->on_stream_opened(id, Clock::now(), fx);
    perform(fx);
    opened = true;
  }
  while (!connection.closing && !stopping_) {
    if (!connection.out.empty()) {
      auto frame = std::move(connection.out.front());
      connection.out.pop_front();
      const auto written = co_await connection.stream.write(std::move(frame));
      if (!written) break;
      const Step step{*this};
      core_->on_stream_writable(id, Clock::now(), fx);
      perform(fx);
      continue;
    }
    auto frame = co_await connection.stream.read();
    if (!frame) break;
    if (!opened) {
      core_->on_stream_opened(id, Clock::now(), fx);
      opened = true;
    }
    const Step step{*this};
    core_->on_stream_data(id, *frame, Clock::now(), fx);
    perform(fx);
  }
  connection.stream.close();
}

void Node::Impl::accept_next() {
  acceptor_.async_accept([this](ErrorCode error, tcp::socket socket) {
    if (stopping_ || error == asio::error::operation_aborted) return;
    if (!error && incoming_ < kMaxStreams) tasks_.spawn(run_server(std::move(socket)));
    accept_next();
  });
}

}  // namespace muster::gossip
