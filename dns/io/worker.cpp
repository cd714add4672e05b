#include "dns/io/worker.hpp"

#include <ctime>
#include <utility>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/post.hpp>

#include "dns/io/tcp_connections.hpp"
#include "dns/io/udp_socket.hpp"

namespace muster::dns {
namespace {

constexpr Duration kRetire{3000};  // beyond ForwarderOptions::budget

}  // namespace

Worker::Worker(Options options, SnapshotCell<ZoneSnapshot>& cell, WorkerCounters& counters)
    : reader_{cell},
      counters_{counters},
      cookies_{std::move(options.cookies)},
      recursion_{std::move(options.policy.recursion)},
      transfer_{std::move(options.policy.transfer)},
      rate_limit_{options.policy.rate_limit, options.policy.rate_seed},
      query_sink_{std::move(options.query_sink)},
      query_log_{options.policy.query_log, query_sink_},
      context_{1},
      relay_{make_relay(std::move(options.policy.forwarder), std::move(options.policy.tls))},
      notifier_{context_, std::move(options.notify), std::move(options.notify_apexes)},
      tcp_{std::make_unique<TcpConnections>(*this)},
      rotation_{options.first_rotation} {}

std::unique_ptr<Relay> Worker::make_relay(ForwarderOptions options, Relay::Tls tls) {
  return std::make_unique<Relay>(
      context_, std::move(options), std::move(tls), counters_.tls,
      [this](Forwarder::Deliver&& made) { deliver(std::move(made)); }, [this] { flush_soon(); });
}

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
    relay_->stop();
    retiring_.cancel();
    for (const auto& relay : retired_) relay->stop();
    notifier_.stop();
  });
  thread_.join();
}

void Worker::take(Policy policy) {
  boost::asio::post(context_, [this, policy = std::move(policy)]() mutable {
    recursion_ = std::move(policy.recursion);
    transfer_ = std::move(policy.transfer);
    rate_limit_ = RateLimit{policy.rate_limit, policy.rate_seed};
    query_log_ = QueryLog{policy.query_log, query_sink_};
    auto next = make_relay(std::move(policy.forwarder), std::move(policy.tls));
    next->count_on_from(*relay_);
    retired_.push_back(std::exchange(relay_, std::move(next)));
    end_retired();
  });
}

// A retired relay is stopped once nothing that it asked can be under way, and freed once its last
// handler has run.
void Worker::end_retired() {
  retiring_.expires_after(kRetire);
  retiring_.async_wait([this](const boost::system::error_code& error) {
    if (error) return;
    std::erase_if(retired_, [](const auto& relay) { return relay->stopped() && relay->idle(); });
    for (const auto& relay : retired_) {
      if (!relay->stopped()) relay->stop();
    }
    if (!retired_.empty()) end_retired();
  });
}

// After what else is ready now: answers that several upstream sockets bring leave together.
void Worker::flush_soon() {
  if (std::exchange(flushing_, true)) return;
  boost::asio::post(context_, [this] {
    flushing_ = false;
    for (const auto& socket : udp_) socket->flush();
  });
}

void Worker::notify() {
  boost::asio::post(context_, [this] { notifier_.changed(); });
}

const ZoneSnapshot& Worker::zones() {
  now_ = Clock::now();
  unix_now_ = static_cast<std::uint32_t>(std::time(nullptr));
  return reader_.get();
}

Answer Worker::respond(std::span<const std::byte> message, const Query& query, QueryVerdict verdict,
                       Transport transport, std::span<const std::byte> client,
                       const ZoneSnapshot& zones, std::span<std::byte> out) {
  const AnswerOptions options{.rotation = rotation_++,
                              .transport = transport,
                              .recursion_available = relay_->can_forward(),
                              .cookies = cookies_.get(),
                              .client = client,
                              .now = unix_now_,
                              .tcp_keepalive = TcpConnections::kKeepalive};
  Answer made = answer(message, query, verdict, zones, options, out);
  const bool unproven = transport == Transport::udp && !made.cookie_valid;
  if (made.kind != Answer::Kind::drop && unproven && limited(client, query, out, made)) {
    // Nothing more to do: what was made is taken back.
  } else if (made.kind == Answer::Kind::forward) {
    answer_forward(message, transport, client, out, query, made);
  } else if (made.kind == Answer::Kind::transfer) {
    answer_transfer(message, transport, options, zones, out, query, made);
  }
  counters_.count(made, transport);
  if (query_log_.take(now_)) log(made, query, transport, client);
  return made;
}

void Worker::log(const Answer& made, const Query& query, Transport transport,
                 std::span<const std::byte> client) {
  // Of less than a header nothing of `query` was filled in.
  const bool readable = made.qtype != 0 && query.question_end != 0;
  std::string line = QueryLog::begin(
      {address_of(client), transport, readable ? query.wire() : std::string_view{}, made.qtype});
  if (made.kind == Answer::Kind::forward) {
    logged_ = std::move(line);
    return;
  }
  QueryLog::Outcome outcome{"zone", made.rcode, made.size, made.truncated};
  if (made.zone == Answer::kForwardedZone) outcome.from = "cache";
  if (made.kind == Answer::Kind::transfer) outcome.from = "transfer";
  if (made.kind == Answer::Kind::drop) outcome = {"nowhere"};
  query_log_.finish(std::move(line), outcome);
}

bool Worker::limited(std::span<const std::byte> client, const Query& query,
                     std::span<std::byte> out, Answer& made) {
  if (!rate_limit_.enabled()) return false;
  const IpAddress address = address_of(client);
  if (address.is_loopback()) return false;
  const auto verdict = rate_limit_.take(address, now_);
  if (verdict == RateLimit::Verdict::pass) return false;
  counters_.rate_limited.add();
  made.kind = Answer::Kind::drop;
  if (verdict == RateLimit::Verdict::slip && query.question_end > kHeaderSize) {
    made.kind = Answer::Kind::reply;
    made.rcode = rcode::kNoError;
    made.truncated = true;
    made.size = make_slip(out, query);
  }
  return true;
}

void Worker::answer_forward(std::span<const std::byte> message, Transport transport,
                            std::span<const std::byte> client, std::span<std::byte> out,
                            const Query& query, Answer& made) {
  const bool allowed = recursion_.allows(address_of(client));
  if (!relay_->can_forward() || !allowed) {
    made.kind = Answer::Kind::reply;
    made.rcode = rcode::kRefused;
    made.size = empty_reply(message, query, rcode::kRefused,
                            allowed ? std::uint16_t{0} : ede::kProhibited, false, out);
    return;
  }
  const auto hit = relay_->cached(now_, message, query, transport, out);
  if (!hit) return;
  if (hit->refresh) relay_->refresh(message, query);
  made.kind = Answer::Kind::reply;
  made.zone = Answer::kForwardedZone;
  made.rcode = hit->rcode;
  made.truncated = hit->truncated;
  made.size = hit->size;
  counters_.take(relay_->forwarder());
}

void Worker::answer_transfer(std::span<const std::byte> message, Transport transport,
                             const AnswerOptions& options, const ZoneSnapshot& zones,
                             std::span<std::byte> out, const Query& query, Answer& made) {
  const bool allowed = transfer_.allows(address_of(options.client));
  const bool ready = zones.complete() || zones.table().zones[made.zone].fixed;
  if (allowed && ready && transport == Transport::tcp) return;
  if (allowed && ready && query.qtype == type::kIxfr) {
    made = soa_answer(message, zones, options, out, query);
    return;
  }
  made.kind = Answer::Kind::reply;
  made.rcode = allowed && !ready ? rcode::kServFail : rcode::kRefused;
  made.size =
      empty_reply(message, query, made.rcode, allowed && !ready ? ede::kNotReady : std::uint16_t{0},
                  options.recursion_available, out);
}

void Worker::forward(std::span<const std::byte> message, const Query& query, Transport transport,
                     Client client) {
  const auto [number, pending] = pending_.add();
  pending = {std::move(client), query.qtype, std::exchange(logged_, {})};
  relay_->ask(message, query, transport, number);
  counters_.take(relay_->forwarder());
}

void Worker::deliver(Forwarder::Deliver&& made) {
  Pending* const found = pending_.find(made.client);
  if (found == nullptr) return;
  Pending pending = std::exchange(*found, {});
  pending_.drop(made.client);
  counters_.count_forwarded(pending.qtype, made.rcode);
  if (!pending.logged.empty()) {
    query_log_.finish(std::move(pending.logged), {"upstream", made.rcode, made.reply.size()});
  }
  counters_.take(relay_->forwarder());
  if (auto* const udp = std::get_if<UdpClient>(&pending.client)) {
    UdpSocket& socket = *udp->socket;
    socket.queue(std::move(*udp), std::move(made.reply));
  } else {
    tcp_->send(std::get<TcpClient>(pending.client).connection, made.reply);
  }
}

}  // namespace muster::dns
