#include "dns/io/worker.hpp"

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/post.hpp>

#include "dns/io/tcp_connections.hpp"
#include "dns/io/udp_socket.hpp"

namespace muster::dns {

Worker::Worker(Options options, SnapshotCell<ZoneSnapshot>& cell, WorkerCounters& counters)
    : reader_{cell},
      counters_{counters},
      context_{1},
      relay_{context_, std::move(options.forwarder),
             [this](Forwarder::Deliver&& made) { deliver(std::move(made)); }},
      tcp_{std::make_unique<TcpConnections>(*this)},
      rotation_{options.first_rotation} {}

Worker::~Worker() {
  stop();
}

void Worker::add(ListenSockets sockets) {
  udp_.push_back(std::make_unique<UdpSocket>(*this, sockets));
  tcp_->listen(sockets);
}

void Worker::run() {
  for (const auto& socket : udp_) socket->start();
  tcp_->start();
  thread_ = std::thread{[this] { context_.run(); }};
}

void Worker::stop() {
  if (!thread_.joinable()) return;
  boost::asio::post(context_, [this] {
    for (const auto& socket : udp_) socket->close();
    tcp_->close();
    relay_.stop();
  });
  thread_.join();
}

Answer Worker::respond(std::span<const std::byte> message, Transport transport,
                       const ZoneSnapshot& zones, std::span<std::byte> out, Query& query) {
  const AnswerOptions options{
      .rotation = rotation_++, .transport = transport, .recursion_available = relay_.can_forward()};
  Answer made = answer(message, zones, options, out, query);
  if (made.kind == Answer::Kind::forward && !relay_.can_forward()) {
    made.kind = Answer::Kind::reply;
    made.rcode = rcode::kRefused;
    made.size = empty_reply(message, query, rcode::kRefused, 0, false, out);
  }
  counters_.count(made, transport);
  return made;
}

void Worker::forward(std::span<const std::byte> message, const Query& query, Transport transport,
                     Client client) {
  const std::uint64_t number = next_client_++;
  pending_.emplace(number, Pending{std::move(client), query.qtype});
  relay_.ask(message, query, transport, number);
  counters_.take(relay_.forwarder().stats(), relay_.forwarder().in_flight());
}

void Worker::deliver(Forwarder::Deliver&& made) {
  const auto found = pending_.find(made.client);
  if (found == pending_.end()) return;
  const Pending pending = std::move(found->second);
  pending_.erase(found);
  counters_.count_forwarded(pending.qtype, made.rcode);
  counters_.take(relay_.forwarder().stats(), relay_.forwarder().in_flight());
  if (const auto* const udp = std::get_if<UdpClient>(&pending.client)) {
    udp->socket->send(*udp, made.reply);
  } else {
    tcp_->send(std::get<TcpClient>(pending.client).connection, made.reply);
  }
}

}  // namespace muster::dns
