#include <atomic>
#include <mutex>
#include <poll.h>
#include <set>

#include <boost/asio/co_spawn.hpp>

#include "dns/core/reply.hpp"
#include "dns/io/client.hpp"
#include "io_support.hpp"

using namespace muster;
using namespace muster::dns;
using namespace muster::dns::testing;

TEST_SUITE_BEGIN("dns/relay");

namespace {

// The query as its own reply with one address; `last` is its last octet.
Bytes reply_of(const Bytes& query, int last, std::uint16_t code = 0) {
  Bytes out{query.begin(),
            query.begin() + static_cast<std::ptrdiff_t>(skip_name(query, kHeaderSize) + 4)};
  out[2] |= std::byte{0x80};
  out[3] = static_cast<std::byte>(0x80 | code);
  out[7] = std::byte{1};
  out[11] = std::byte{0};
  const Bytes record = bytes_of(std::string{"\xC0\x0C\0\1\0\1\0\0\0\x3C\0\4\xC0\0\2", 15});
  out.insert(out.end(), record.begin(), record.end());
  out.push_back(static_cast<std::byte>(last));
  return out;
}

/// An upstream in a thread: what a function says to each query, over UDP and TCP.
class ScriptedUpstream {
 public:
  /// Given the query and where it came from: what to send back, in this order.
  using Script = std::function<std::vector<Bytes>(const Bytes&, int count)>;

  explicit ScriptedUpstream(Script udp, Script tcp = {})
      : udp_{std::move(udp)}, tcp_{std::move(tcp)} {
    auto bound = bind_listeners(ip("127.0.0.1"), std::nullopt, 1);
    REQUIRE(bound.has_value());
    sockets_ = std::move(bound->front());
    thread_ = std::thread{[this] { run(); }};
  }
  ~ScriptedUpstream() {
    stop_ = true;
    thread_.join();
  }

  Endpoint at() const { return sockets_->endpoint; }
  int udp_count() const { return udp_count_; }
  int tcp_count() const { return tcp_count_; }
  std::set<std::uint16_t> ports() {
    const std::scoped_lock lock{mutex_};
    return ports_;
  }
  std::set<std::uint16_t> ids() {
    const std::scoped_lock lock{mutex_};
    return ids_;
  }

 private:
  void run() {
    while (!stop_) {
      pollfd fds[2] = {{sockets_->udp.get(), POLLIN, 0}, {sockets_->tcp.get(), POLLIN, 0}};
      if (poll(fds, 2, 20) <= 0) continue;
      if ((fds[0].revents & POLLIN) != 0) serve_udp();
      if ((fds[1].revents & POLLIN) != 0) serve_tcp();
    }
  }

  void serve_udp() {
    Bytes query(4096);
    sockaddr_in from{};
    socklen_t size = sizeof from;
    auto* const address = reinterpret_cast<sockaddr*>(&from);
    const ssize_t got =
        recvfrom(sockets_->udp.get(), query.data(), query.size(), 0, address, &size);
    if (got < static_cast<ssize_t>(kHeaderSize)) return;
    query.resize(static_cast<std::size_t>(got));
    {
      const std::scoped_lock lock{mutex_};
      ports_.insert(ntohs(from.sin_port));
      ids_.insert(static_cast<std::uint16_t>(std::to_integer<unsigned>(query[0]) << 8 |
                                             std::to_integer<unsigned>(query[1])));
    }
    for (const Bytes& reply : udp_(query, ++udp_count_)) {
      sendto(sockets_->udp.get(), reply.data(), reply.size(), 0, address, size);
    }
  }

  void serve_tcp() {
    const FileDescriptor client{accept4(sockets_->tcp.get(), nullptr, nullptr, SOCK_CLOEXEC)};
    if (client.get() < 0 || !tcp_) return;
    const Bytes query = read_message(client);
    if (query.empty()) return;
    for (const Bytes& reply : tcp_(query, ++tcp_count_)) {
      const Bytes out = framed(reply);
      send(client.get(), out.data(), out.size(), MSG_NOSIGNAL);
    }
  }

  Script udp_;
  Script tcp_;
  std::optional<ListenSockets> sockets_;
  std::atomic<bool> stop_{false};
  std::atomic<int> udp_count_{0};
  std::atomic<int> tcp_count_{0};
  std::mutex mutex_;
  std::set<std::uint16_t> ports_;  // guarded by mutex_
  std::set<std::uint16_t> ids_;    // guarded by mutex_
  std::thread thread_;
};

std::vector<Bytes> answers_one(const Bytes& query, int) {
  return {reply_of(query, 1)};
}
std::vector<Bytes> says_nothing(const Bytes&, int) {
  return {};
}

ServerOptions with_upstreams(std::vector<Upstream> upstreams) {
  ServerOptions options = local_options();
  options.upstreams = std::move(upstreams);
  return options;
}

using Lines = std::vector<std::string>;

}  // namespace

TEST_CASE("logged queries say who asked for what, and who answered") {
  ScriptedUpstream upstream{answers_one};
  ServerOptions options = with_upstreams({upstream.at()});
  std::mutex mutex;
  std::string log;
  options.query_sink = [&](const std::string& line) {
    const std::scoped_lock lock{mutex};
    log += line + '\n';
  };
  RunningServer running{options};
  running.server.apply(complete_delta());
  ask_udp(running.at(), "www.example.com", type::kA);
  options.query_log = 1;
  running.server.reconfigure(options);
  const auto logged = [&](const std::string& line) {
    const std::scoped_lock lock{mutex};
    return log.find(line) != std::string::npos;
  };
  const std::string ours =
      "client=127.0.0.1 transport=udp name=nobody.marathon.mesos. type=A rcode=NXDOMAIN";
  for (int i = 0; i < 1000 && !logged(ours);
       ++i) {  // the worker takes the policy when it gets to it
    ask_udp(running.at(), "nobody.marathon.mesos", type::kA);
  }
  CHECK(logged(ours));
  ask_udp(running.at(), "www.example.com", type::kA);
  ask_udp(running.at(), "www.example.com", type::kA);
  for (const char* const from : {"from=zone", "from=upstream", "from=cache"}) {
    CAPTURE(std::string{from});
    CHECK(logged(from));
  }
}

TEST_CASE("names of others are forwarded, ours and internal ones never") {
  ScriptedUpstream upstream{answers_one};
  RunningServer running{with_upstreams({upstream.at()})};
  running.server.apply(complete_delta());
  const Reply reply = ask_udp(running.at(), "www.example.com", type::kA, {.id = 4242});
  CHECK(reply.data(1) == Lines{"192.0.2.1"});
  CHECK(upstream.udp_count() == 1);
  for (const char* const internal :
       {"x.mesos", "x.thisdcos.directory", "x.y.thisdcos.global", "localhost", "x.localhost",
        "x.local", "x.onion", "zk-9.zk", "x.spartan"}) {
    CAPTURE(internal);
    ask_udp(running.at(), internal, type::kA);
  }
  CHECK(upstream.udp_count() == 1);
  CHECK(counter_value(running.server, "muster_dns_queries_total", "forwarded") == 1);
}

TEST_CASE("without upstreams other names are refused") {
  RunningServer running{local_options()};
  const Reply reply = ask_udp(running.at(), "www.example.com", type::kA);
  CHECK(reply.rcode == rcode::kRefused);
  CHECK((reply.flags & flag::kRecursionAvailable) == 0);
}

TEST_CASE("forged replies before the right one are ignored and counted") {
  ScriptedUpstream upstream{[](const Bytes& query, int) {
    Bytes wrong_id = reply_of(query, 66);
    wrong_id[0] ^= std::byte{0x55};
    Bytes wrong_question = reply_of(query, 67);
    wrong_question[kHeaderSize + 1] = std::byte{'x'};
    Bytes a_query = reply_of(query, 68);
    a_query[2] &= std::byte{0x7F};
    return std::vector<Bytes>{wrong_id, wrong_question, a_query, bytes_of("junk"),
                              reply_of(query, 1)};
  }};
  RunningServer running{with_upstreams({upstream.at()})};
  CHECK(ask_udp(running.at(), "www.example.com", type::kA).data(1) == Lines{"192.0.2.1"});
  CHECK(counter_value(running.server, "muster_dns_forward_mismatched_total") == 2);
}

TEST_CASE("a reply from another address does not arrive") {
  // It knows id, port and question, as nobody outside can, and still comes from elsewhere.
  auto bound = bind_listeners(ip("127.0.0.1"), std::nullopt, 1);
  REQUIRE(bound.has_value());
  const ListenSockets& silent = bound->front();
  RunningServer running{with_upstreams({silent.endpoint})};
  const FileDescriptor client = open_client(running.at(), SOCK_DGRAM);
  transmit(client, make_query(name("www.example.com"), type::kA, {.id = 3}));
  pollfd ready{silent.udp.get(), POLLIN, 0};
  REQUIRE(poll(&ready, 1, 10'000) == 1);
  Bytes query(4096);
  sockaddr_in from{};
  socklen_t size = sizeof from;
  auto* const address = reinterpret_cast<sockaddr*>(&from);
  const ssize_t got = recvfrom(silent.udp.get(), query.data(), query.size(), 0, address, &size);
  REQUIRE(got > 0);
  query.resize(static_cast<std::size_t>(got));
  const FileDescriptor spoofer{socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0)};
  const Bytes forged = reply_of(query, 66);
  sendto(spoofer.get(), forged.data(), forged.size(), 0, address, size);
  const Bytes right = reply_of(query, 1);
  sendto(silent.udp.get(), right.data(), right.size(), 0, address, size);
  const auto reply = parse_reply(receive(client));
  REQUIRE(reply.has_value());
  CHECK(reply->data(1) == Lines{"192.0.2.1"});
}

TEST_CASE("a lost packet, a slow, a dead and a failing upstream cost no client its answer") {
  ScriptedUpstream good{answers_one};
  SUBCASE("the first packet is lost") {
    ScriptedUpstream lossy{[](const Bytes& query, int count) {
      return count == 1 ? std::vector<Bytes>{} : std::vector<Bytes>{reply_of(query, 1)};
    }};
    RunningServer running{with_upstreams({lossy.at()})};
    CHECK(ask_udp(running.at(), "www.example.com", type::kA).data(1) == Lines{"192.0.2.1"});
  }
  SUBCASE("it never answers") {
    ScriptedUpstream silent{says_nothing};
    RunningServer running{with_upstreams({silent.at(), good.at()})};
    CHECK(ask_udp(running.at(), "www.example.com", type::kA).data(1) == Lines{"192.0.2.1"});
    CHECK(counter_value(running.server, "muster_dns_forward_hedged_total") >= 1);
  }
  SUBCASE("nobody is there") {
    Endpoint dead = good.at();
    {
      ScriptedUpstream gone{says_nothing};
      dead = gone.at();
    }
    RunningServer running{with_upstreams({dead, good.at()})};
    CHECK(ask_udp(running.at(), "www.example.com", type::kA).data(1) == Lines{"192.0.2.1"});
  }
  SUBCASE("it says SERVFAIL") {
    ScriptedUpstream failing{[](const Bytes& query, int) {
      return std::vector<Bytes>{reply_of(query, 9, rcode::kServFail)};
    }};
    RunningServer running{with_upstreams({failing.at(), good.at()})};
    const Reply reply = ask_udp(running.at(), "www.example.com", type::kA);
    CHECK(reply.rcode == rcode::kNoError);
    CHECK(reply.data(1) == Lines{"192.0.2.1"});
  }
}

TEST_CASE("nobody answers: SERVFAIL in less than three seconds") {
  ScriptedUpstream silent{says_nothing};
  RunningServer running{with_upstreams({silent.at()})};
  const TimePoint start = Clock::now();
  const Reply reply = ask_udp(running.at(), "www.example.com", type::kA);
  CHECK(reply.rcode == rcode::kServFail);
  CHECK(reply.extended_error == ede::kNoReachableAuthority);
  CHECK(Clock::now() - start < std::chrono::seconds{3});
}

TEST_CASE("a truncated reply is fetched over TCP, and whole for who can take it") {
  ScriptedUpstream upstream{
      [](const Bytes& query, int) {
        Bytes cut = reply_of(query, 1);
        cut[2] |= std::byte{0x02};
        return std::vector<Bytes>{cut};
      },
      [](const Bytes& query, int) { return std::vector<Bytes>{reply_of(query, 2)}; }};
  RunningServer running{with_upstreams({upstream.at()})};
  const Reply reply = ask_udp(running.at(), "www.example.com", type::kA);
  CHECK_FALSE(reply.truncated());
  CHECK(reply.data(1) == Lines{"192.0.2.2"});
  CHECK(upstream.tcp_count() == 1);
}

TEST_CASE("forwarded and own queries of one TCP connection are all answered, as they come") {
  ScriptedUpstream upstream{answers_one};
  RunningServer running{with_upstreams({upstream.at()})};
  running.server.apply(complete_delta());
  const FileDescriptor client = open_client(running.at(), SOCK_STREAM);
  Bytes all;
  constexpr std::uint16_t kQueries = 300;  // more than may be under way at once
  for (std::uint16_t id = 1; id <= kQueries; ++id) {
    const std::string owner = id % 3 == 0 ? "localhost" : "n" + std::to_string(id) + ".example.com";
    const Bytes one = framed(make_query(name(owner), type::kA, {.id = id}));
    all.insert(all.end(), one.begin(), one.end());
  }
  transmit(client, all);
  shutdown(client.get(), SHUT_WR);  // answers still come
  std::set<std::uint16_t> ids;
  for (std::uint16_t i = 0; i < kQueries; ++i) {
    const auto reply = parse_reply(read_message(client));
    REQUIRE(reply.has_value());
    CHECK(reply->rcode == rcode::kNoError);
    ids.insert(reply->id);
  }
  CHECK(ids.size() == kQueries);
  CHECK(read_exactly(client, 1).empty());
}

TEST_CASE("queries leave from many ports under many ids, through more sockets than one") {
  ScriptedUpstream upstream{answers_one};
  RunningServer running{with_upstreams({upstream.at()})};
  constexpr int kQueries = 600;
  for (int i = 0; i < kQueries; ++i) {
    REQUIRE(ask_udp(running.at(), "n" + std::to_string(i) + ".example.com", type::kA).rcode ==
            rcode::kNoError);
  }
  CHECK(upstream.ports().size() >= 8);
  CHECK(upstream.ids().size() > kQueries * 9 / 10);
}

TEST_CASE("we are not our own upstream") {
  ServerOptions options = local_options();
  // The port is not known before: bind one, free it, and take it.
  Endpoint at{ip("127.0.0.1"), port(1)};
  {
    RunningServer probe{local_options()};
    at = probe.at();
  }
  options.any_port = false;
  options.listen = {at};
  options.upstreams = {at};
  RunningServer running{options};
  CHECK(ask_udp(running.at(), "www.example.com", type::kA).rcode == rcode::kRefused);
}

TEST_CASE("two servers that forward to each other end the loop by themselves") {
  Endpoint first{ip("127.0.0.1"), port(1)};
  {
    RunningServer probe{local_options()};
    first = probe.at();
  }
  RunningServer second{with_upstreams({first})};
  ServerOptions options = with_upstreams({second.at()});
  options.any_port = false;
  options.listen = {first};
  RunningServer running{options};
  CHECK(ask_udp(running.at(), "www.example.com", type::kA).rcode == rcode::kServFail);
  CHECK(counter_value(running.server, "muster_dns_forward_sent_total") < 20);
}

TEST_CASE("the client believes only replies to its question and goes to TCP when told") {
  ScriptedUpstream upstream{
      [](const Bytes& query, int) {
        Bytes wrong = reply_of(query, 66);
        wrong[1] ^= std::byte{1};
        Bytes cut = reply_of(query, 1);
        cut[2] |= std::byte{0x02};
        return std::vector<Bytes>{wrong, cut};
      },
      [](const Bytes& query, int) { return std::vector<Bytes>{reply_of(query, 2)}; }};
  boost::asio::io_context context;
  std::optional<Result<Bytes>> result;
  boost::asio::co_spawn(
      context,
      ask(upstream.at(), make_query(name("www.example.com"), type::kA, {.id = 5}), Duration{5000}),
      [&](std::exception_ptr failure, Result<Bytes> reply) {
        REQUIRE(failure == nullptr);
        result = std::move(reply);
      });
  context.run();
  REQUIRE(result.has_value());
  REQUIRE(result->has_value());
  CHECK(parse_reply(**result)->data(1) == Lines{"192.0.2.2"});
}

TEST_CASE("the client gives up in time") {
  ScriptedUpstream silent{says_nothing};
  boost::asio::io_context context;
  std::optional<Result<Bytes>> result;
  boost::asio::co_spawn(
      context,
      ask(silent.at(), make_query(name("www.example.com"), type::kA, {.id = 5}), Duration{50}),
      [&](std::exception_ptr, Result<Bytes> reply) { result = std::move(reply); });
  context.run();
  REQUIRE(result.has_value());
  REQUIRE_FALSE(result->has_value());
  CHECK(result->error() == boost::asio::error::timed_out);
}

TEST_CASE("a server stops while forwarded queries are under way") {
  ScriptedUpstream silent{says_nothing};
  RunningServer running{with_upstreams({silent.at()})};
  const FileDescriptor udp = open_client(running.at(), SOCK_DGRAM);
  const FileDescriptor tcp = open_client(running.at(), SOCK_STREAM);
  transmit(udp, make_query(name("a.example.com"), type::kA, {.id = 1}));
  transmit(tcp, framed(make_query(name("b.example.com"), type::kA, {.id = 2})));
  while (silent.udp_count() < 2) std::this_thread::yield();
  running.server.stop();
}

TEST_SUITE_END();
