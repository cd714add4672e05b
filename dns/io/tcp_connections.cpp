#include "dns/io/tcp_connections.hpp"

#include <algorithm>
#include <array>
#include <utility>

#include <boost/asio/buffer.hpp>
#include <boost/asio/write.hpp>

#include "dns/core/transfer.hpp"

namespace muster::dns {
namespace {

namespace asio = boost::asio;
constexpr std::size_t kLengthSize = 2;  // RFC 1035 §4.2.2
constexpr std::size_t kMaxRead =
    std::size_t{64} * 1024;  // of one read, where a client sends that much
constexpr Duration kSweep{500};
constexpr Duration kAcceptPause{100};

std::optional<IpAddress> client_address(const asio::ip::tcp::socket& socket) {
  ErrorCode error;
  const auto remote = socket.remote_endpoint(error);
  if (error) return std::nullopt;
  if (remote.address().is_v4()) return IpAddress{remote.address().to_v4().to_bytes()};
  return IpAddress{remote.address().to_v6().to_bytes()};
}

}  // namespace

/// Lives until it is shut and neither a read nor a write is outstanding.
struct TcpConnections::Connection {
  Connection(std::uint64_t number, asio::ip::tcp::socket from, IpAddress peer)
      : id{number}, socket{std::move(from)}, client{peer} {}

  std::uint64_t id;
  asio::ip::tcp::socket socket;
  IpAddress client;
  std::vector<std::byte> in = std::vector<std::byte>(4096);
  std::size_t have = 0;
  std::vector<std::byte> out;      // to be written next
  std::vector<std::byte> writing;  // being written
  std::size_t forwarding = 0;
  std::optional<Transfer> transfer;  // until it has been sent nothing else is answered
  bool reading = false;
  bool write_pending = false;
  bool busy = false;   // within pump()
  bool ended = false;  // the client sent its last; answers still go out
  bool shut = false;
  TimePoint progress = Clock::now();
};

TcpConnections::TcpConnections(Worker& worker)
    : worker_{worker}, sweeper_{worker.context()}, scratch_(kMaxMessageSize) {}

TcpConnections::~TcpConnections() = default;

void TcpConnections::listen(ListenSockets& sockets) {
  acceptors_.emplace_back(
      worker_.context(),
      sockets.endpoint.address.is_v4() ? asio::ip::tcp::v4() : asio::ip::tcp::v6(),
      sockets.tcp.release());
}

void TcpConnections::start() {
  for (Acceptor& acceptor : acceptors_) accept(acceptor);
}

void TcpConnections::accept(Acceptor& acceptor) {
  acceptor.async_accept([this, &acceptor](const ErrorCode& error, asio::ip::tcp::socket socket) {
    if (closing_) return;
    if (!error) {
      adopt(std::move(socket));
      return accept(acceptor);
    }
    // Out of descriptors, most likely: trying again at once would spin.
    auto pause = std::make_unique<asio::steady_timer>(worker_.context(), kAcceptPause);
    asio::steady_timer& timer = *pause;
    timer.async_wait([this, &acceptor, pause = std::move(pause)](const ErrorCode&) {
      if (!closing_) accept(acceptor);
    });
  });
}

void TcpConnections::adopt(asio::ip::tcp::socket socket) {
  const auto client = client_address(socket);
  if (!client) return;  // gone already
  if (connections_.size() >= kMaxConnections || per_client_[*client] >= kMaxPerClient) {
    worker_.counters().tcp_refused.add();
    if (per_client_[*client] == 0) per_client_.erase(*client);
    return;
  }
  ErrorCode ignored;
  socket.set_option(asio::ip::tcp::no_delay{true}, ignored);
  ++per_client_[*client];
  const std::uint64_t id = next_id_++;
  Connection& connection =
      connections_.try_emplace(id, id, std::move(socket), *client).first->second;
  worker_.counters().tcp_connections.set(connections_.size());
  read(connection);
  if (!sweeping_) sweep();
}

bool TcpConnections::full(const Connection& connection) {
  return connection.transfer || connection.out.size() + connection.writing.size() > kMaxOutput ||
         connection.forwarding >= kMaxForwarding;
}

// Answers what has been read, writes what has been answered, reads on; may end the connection.
void TcpConnections::pump(Connection& connection) {
  connection.busy = true;
  if (!connection.shut) send_zone(connection);
  if (!connection.shut) take_messages(connection);
  connection.busy = false;
  write(connection);
  read(connection);
  release(connection);
}

void TcpConnections::read(Connection& connection) {
  if (connection.reading || connection.ended || connection.shut || full(connection)) return;
  connection.reading = true;
  const auto room =
      asio::buffer(connection.in.data() + connection.have, connection.in.size() - connection.have);
  connection.socket.async_read_some(room,
                                    [this, &connection](const ErrorCode& error, std::size_t size) {
                                      connection.reading = false;
                                      if (error == asio::error::eof) {
                                        connection.ended = true;
                                      } else if (error) {
                                        shut(connection);
                                      }
                                      connection.have += size;
                                      pump(connection);
                                    });
}

void TcpConnections::take_messages(Connection& connection) {
  std::span<const std::byte> rest{connection.in.data(), connection.have};
  const ZoneSnapshot& zones = worker_.zones();
  while (rest.size() >= kLengthSize && !full(connection)) {
    const std::size_t size =
        std::to_integer<std::size_t>(rest[0]) << 8 | std::to_integer<std::size_t>(rest[1]);
    if (rest.size() < kLengthSize + size) {
      if (connection.in.size() < kLengthSize + size) {
        // The rest goes first to the front, then the buffer may grow to hold the message.
        connection.in.erase(
            connection.in.begin(),
            connection.in.begin() + static_cast<std::ptrdiff_t>(connection.have - rest.size()));
        connection.have = rest.size();
        connection.in.resize(kLengthSize + size);
        return;
      }
      break;
    }
    connection.progress = Clock::now();
    answer(connection, rest.subspan(kLengthSize, size), zones);
    if (connection.shut) return;
    rest = rest.subspan(kLengthSize + size);
  }
  // A client that fills the buffer pipelines: more of it a read, and so more answers a write.
  const bool filled = connection.have == connection.in.size();
  std::copy(rest.begin(), rest.end(), connection.in.begin());
  connection.have = rest.size();
  if (filled && connection.in.size() < kMaxRead) connection.in.resize(connection.in.size() * 2);
}

// As much of a transfer as may be buffered; the write that empties the buffer brings the rest.
void TcpConnections::send_zone(Connection& connection) {
  while (connection.transfer && connection.out.size() + connection.writing.size() <= kMaxOutput) {
    const std::vector<std::byte> message = connection.transfer->next();
    if (message.empty()) {
      connection.transfer.reset();
      return;
    }
    connection.out.push_back(static_cast<std::byte>(message.size() >> 8));
    connection.out.push_back(static_cast<std::byte>(message.size() & 0xFF));
    connection.out.insert(connection.out.end(), message.begin(), message.end());
  }
}

void TcpConnections::answer(Connection& connection, std::span<const std::byte> message,
                            const ZoneSnapshot& zones) {
  Query query;
  const QueryVerdict verdict = parse_query(message, query);
  const auto client = std::as_bytes(connection.client.octets());
  const Answer made =
      worker_.respond(message, query, verdict, Transport::tcp, client, zones, scratch_);
  if (made.kind == Answer::Kind::drop) return shut(connection);  // it does not speak DNS
  if (made.kind == Answer::Kind::forward) {
    ++connection.forwarding;
    worker_.forward(message, query, Transport::tcp, Worker::TcpClient{connection.id});
    return;
  }
  if (made.kind == Answer::Kind::transfer) {
    worker_.counters().transfers.add();
    connection.transfer.emplace(worker_.hold_zones(), made.zone, message, query);
    return send_zone(connection);
  }
  connection.out.push_back(static_cast<std::byte>(made.size >> 8));
  connection.out.push_back(static_cast<std::byte>(made.size & 0xFF));
  connection.out.insert(connection.out.end(), scratch_.begin(),
                        scratch_.begin() + static_cast<std::ptrdiff_t>(made.size));
}

void TcpConnections::send(std::uint64_t id, std::span<const std::byte> reply) {
  const auto found = connections_.find(id);
  if (found == connections_.end()) return;
  Connection& connection = found->second;
  if (connection.forwarding > 0) --connection.forwarding;
  if (connection.shut) return;
  connection.out.push_back(static_cast<std::byte>(reply.size() >> 8));
  connection.out.push_back(static_cast<std::byte>(reply.size() & 0xFF));
  connection.out.insert(connection.out.end(), reply.begin(), reply.end());
  // From within pump() itself, the answer joins those of the same write.
  if (!connection.busy) pump(connection);
}

void TcpConnections::write(Connection& connection) {
  if (connection.write_pending || connection.shut || connection.out.empty()) return;
  connection.write_pending = true;
  connection.writing.swap(connection.out);
  connection.out.clear();
  connection.progress = Clock::now();
  asio::async_write(connection.socket, asio::buffer(connection.writing),
                    [this, &connection](const ErrorCode& error, std::size_t) {
                      connection.write_pending = false;
                      connection.writing.clear();
                      connection.progress = Clock::now();
                      if (error) shut(connection);
                      pump(connection);
                    });
}

void TcpConnections::shut(Connection& connection) {
  if (std::exchange(connection.shut, true)) return;
  ErrorCode ignored;
  connection.socket.close(ignored);
}

void TcpConnections::release(Connection& connection) {
  if (connection.reading || connection.write_pending) return;
  const bool done = connection.ended && connection.forwarding == 0 && connection.out.empty() &&
                    !connection.transfer;
  if (!connection.shut && !done) return;
  shut(connection);
  const auto count = per_client_.find(connection.client);
  if (--count->second == 0) per_client_.erase(count);
  connections_.erase(connection.id);
  worker_.counters().tcp_connections.set(connections_.size());
}

// One timer for all: what has made no progress goes. Runs only while there are connections.
void TcpConnections::sweep() {
  sweeping_ = !connections_.empty() && !closing_;
  if (!sweeping_) return;
  sweeper_.expires_after(kSweep);
  sweeper_.async_wait([this](const ErrorCode& error) {
    if (error || closing_) return;
    std::vector<std::uint64_t> idle;
    const TimePoint now = Clock::now();
    for (auto& [id, connection] : connections_) {
      // Forwarded queries end by themselves, within the forwarder's budget.
      if (now - connection.progress > kIdle && connection.forwarding == 0) idle.push_back(id);
    }
    for (const std::uint64_t id : idle) {
      worker_.counters().tcp_idle_closed.add();
      Connection& connection = connections_.at(id);
      shut(connection);
      release(connection);
    }
    sweep();
  });
}

void TcpConnections::close() {
  closing_ = true;
  sweeper_.cancel();
  for (Acceptor& acceptor : acceptors_) {
    ErrorCode ignored;
    acceptor.close(ignored);
  }
  std::vector<std::uint64_t> all;
  for (const auto& [id, connection] : connections_) all.push_back(id);
  for (const std::uint64_t id : all) {
    Connection& connection = connections_.at(id);
    shut(connection);
    release(connection);
  }
}

}  // namespace muster::dns
