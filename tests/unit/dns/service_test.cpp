// The server's guards and services, on sockets: batches, transfer, NOTIFY, access, cache, cookies.
#include <algorithm>
#include <atomic>
#include <fcntl.h>
#include <poll.h>

#include "dns/core/reply.hpp"
#include "dns/core/transfer.hpp"
#include "io_support.hpp"

using namespace muster;
using namespace muster::dns;
using namespace muster::dns::testing;

TEST_SUITE_BEGIN("dns/service");

namespace {

ClusterDelta with_task(int number) {
  ClusterDelta delta = complete_delta();
  const std::string text = std::to_string(number);
  delta.tasks.push_back(came(make_task("t." + text, "app" + text)));
  return delta;
}

std::uint16_t code_of(const RunningServer& running, const std::string& owner) {
  return ask_udp(running.at(), owner, type::kA).rcode;
}

// Answers each query with one address until `stop`; counts them.
class FakeUpstream {
 public:
  FakeUpstream() {
    auto bound = bind_listeners(ip("127.0.0.1"), std::nullopt, 1);
    REQUIRE(bound.has_value());
    sockets_ = std::move(bound->front());
    thread_ = std::thread{[this] { run(); }};
  }
  ~FakeUpstream() {
    stop_ = true;
    thread_.join();
  }
  Endpoint at() const { return sockets_->endpoint; }
  int count() const { return count_; }
  void silence(bool silent = true) { silent_ = silent; }

 private:
  void run() {
    while (!stop_) {
      pollfd wait{sockets_->udp.get(), POLLIN, 0};
      if (poll(&wait, 1, 20) <= 0) continue;
      Bytes query(kMaxMessageSize);
      sockaddr_storage from{};
      socklen_t size = sizeof from;
      const ssize_t got = recvfrom(wait.fd, query.data(), query.size(), 0,
                                   reinterpret_cast<sockaddr*>(&from), &size);
      if (got <= 0) continue;
      ++count_;
      if (silent_) continue;
      query.resize(skip_name(query, kHeaderSize) + 4);
      query[2] |= std::byte{0x80};
      query[7] = std::byte{1};
      query[11] = std::byte{0};
      const Bytes record = bytes_of(std::string{"\xC0\x0C\0\1\0\1\0\0\0\x01\0\4\xC0\0\2\1", 16});
      query.insert(query.end(), record.begin(), record.end());
      sendto(wait.fd, query.data(), query.size(), 0, reinterpret_cast<const sockaddr*>(&from),
             size);
    }
  }
  std::optional<ListenSockets> sockets_;
  std::atomic<bool> stop_{false};
  std::atomic<bool> silent_{false};
  std::atomic<int> count_{0};
  std::thread thread_;
};

}  // namespace

TEST_CASE("the first change shows at once, those behind it together and soon") {
  RunningServer running{local_options()};
  running.server.apply(with_task(0));
  CHECK(code_of(running, "app0.marathon.mesos") == rcode::kNoError);
  const std::uint32_t serial = running.server.status().serial;
  // Within one batch: what comes is staged, and one publication shows all of it.
  const TimePoint start = Clock::now();
  int applied = 0;
  while (applied < 20) running.server.apply(with_task(++applied));
  const bool in_one_batch = Clock::now() - start < Server::kBatch;
  running.control.run();
  CHECK(Clock::now() - start < std::chrono::seconds{5});
  for (int i = 1; i <= applied; ++i) {
    CHECK(code_of(running, "app" + std::to_string(i) + ".marathon.mesos") == rcode::kNoError);
  }
  // On a machine that stood still in between it may be more.
  if (in_one_batch) CHECK(running.server.status().serial <= serial + 2);
}

TEST_CASE("small changes that make many names: the table grows, and every name is there") {
  RunningServer running{local_options()};
  constexpr int kTasks = 6'000;  // each with several names
  for (int from = 0; from < kTasks; from += 60) {
    ClusterDelta delta = complete_delta();
    for (int i = from; i < from + 60; ++i) {
      delta.tasks.push_back(std::move(with_task(i).tasks.front()));
    }
    running.server.apply(delta);
    running.control.poll();
    running.control.restart();
  }
  running.control.run();
  REQUIRE(running.server.status().names > 30'000);
  for (int i = 0; i < kTasks; i += 97) {
    CHECK(code_of(running, "app" + std::to_string(i) + ".marathon.mesos") == rcode::kNoError);
  }
  CHECK(code_of(running, "app5999.marathon.mesos") == rcode::kNoError);
}

TEST_CASE("a VIP's name goes at once, whatever waits for a batch") {
  RunningServer running{local_options()};
  const VipAllocation vip{VipName{"web.marathon"}, ip("11.1.2.3"), std::nullopt};
  ClusterDelta delta = complete_delta();
  delta.vips = {came(vip)};
  running.server.apply(delta);
  const std::string owner = "web.marathon.l4lb.thisdcos.directory";
  CHECK(code_of(running, owner) == rcode::kNoError);
  running.server.apply(with_task(1));
  delta.vips = {went(vip)};
  running.server.apply(delta);
  CHECK(code_of(running, owner) == rcode::kNxDomain);
  CHECK(code_of(running, "app1.marathon.mesos") == rcode::kNoError);
}

TEST_CASE("a zone goes over TCP to whom it may, whole, and to nobody else") {
  ClusterDelta delta = complete_delta();
  for (int i = 0; i < 200; ++i) {
    delta.tasks.push_back(came(make_task("t." + std::to_string(i), "app" + std::to_string(i))));
  }
  const auto records_from = [&](std::vector<Prefix> allowed) {
    ServerOptions options = local_options();
    options.transfer_to = std::move(allowed);
    RunningServer running{options};
    running.server.apply(delta);
    running.control.run();
    const FileDescriptor client = open_client(running.at(), SOCK_STREAM);
    // Another query behind it is answered after the zone.
    Bytes both = framed(make_query(name("mesos"), type::kAxfr, {.id = 1}));
    const Bytes next = framed(make_query(name("app7.marathon.mesos"), type::kA, {.id = 2}));
    both.insert(both.end(), next.begin(), next.end());
    transmit(client, both);
    std::size_t records = 0;
    for (;;) {
      const auto reply = parse_reply(read_message(client));
      REQUIRE(reply.has_value());
      if (reply->id == 2) break;
      CHECK(reply->id == 1);
      if (reply->rcode == rcode::kRefused) CHECK(reply->records.empty());
      records += reply->records.size();
    }
    // Over UDP only IXFR has an answer.
    const Reply udp = ask_udp(running.at(), "mesos", type::kAxfr);
    CHECK(udp.rcode == rcode::kRefused);
    return records;
  };
  CHECK(records_from({}) == 0);
  CHECK(records_from({*Prefix::parse("10.0.0.0/8")}) == 0);
  // Four names a task, and SOA twice and NS.
  CHECK(records_from({*Prefix::parse("127.0.0.0/8")}) > 800);
}

TEST_CASE("before the state is complete a zone is not given away") {
  ServerOptions options = local_options();
  options.transfer_to = {*Prefix::parse("127.0.0.0/8")};
  RunningServer running{options};
  const FileDescriptor client = open_client(running.at(), SOCK_STREAM);
  transmit(client, framed(make_query(name("mesos"), type::kAxfr, {.id = 1})));
  const auto reply = parse_reply(read_message(client));
  REQUIRE(reply.has_value());
  CHECK(reply->rcode == rcode::kServFail);
  CHECK(reply->extended_error == ede::kNotReady);
}

TEST_CASE("secondaries are told when zones change") {
  auto secondary = bind_listeners(ip("127.0.0.1"), std::nullopt, 1);
  REQUIRE(secondary.has_value());
  const timeval limit{kPatienceSeconds, 0};
  const int fd = secondary->front().udp.get();
  const int blocking = fcntl(fd, F_GETFL) & ~O_NONBLOCK;
  fcntl(fd, F_SETFL, blocking);
  setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
  ServerOptions options = local_options();
  options.notify = {secondary->front().endpoint};
  RunningServer running{options};
  running.server.apply(with_task(1));
  std::vector<std::string> told;
  while (std::find(told.begin(), told.end(), "mesos.") == told.end()) {
    Bytes message(512);
    sockaddr_storage from{};
    socklen_t size = sizeof from;
    const ssize_t got =
        recvfrom(fd, message.data(), message.size(), 0, reinterpret_cast<sockaddr*>(&from), &size);
    REQUIRE(got > 0);
    message.resize(static_cast<std::size_t>(got));
    CHECK((message[2] & std::byte{0x78}) == std::byte{opcode::kNotify << 3});
    ByteReader in{std::span<const std::byte>{message}.subspan(kHeaderSize)};
    told.push_back(Name::decode(message, in)->to_string());
    message[2] |= std::byte{0x80};
    sendto(fd, message.data(), message.size(), 0, reinterpret_cast<const sockaddr*>(&from), size);
  }
}

TEST_CASE("names of others are forwarded for whom it is allowed, ours are answered to all") {
  FakeUpstream upstream;
  ServerOptions options = local_options();
  options.upstreams = {upstream.at()};
  RunningServer open{options};
  open.server.apply(with_task(1));
  // Loopback is among the private networks, and an address of this machine.
  CHECK(code_of(open, "www.example.com") == rcode::kNoError);
  CHECK(upstream.count() == 1);
}

TEST_CASE("a forwarded name is asked for once while its answer lasts, and old when all is silent") {
  FakeUpstream upstream;
  ServerOptions options = local_options();
  options.upstreams = {upstream.at()};
  RunningServer running{options};
  running.server.apply(with_task(1));
  CHECK(code_of(running, "www.example.com") == rcode::kNoError);
  for (int i = 0; i < 5; ++i) {
    const Reply reply = ask_udp(running.at(), "www.example.com", type::kA);
    CHECK(reply.data(1) == std::vector<std::string>{"192.0.2.1"});
  }
  CHECK(counter_value(running.server, "muster_dns_cache_hits_total") >= 1);
  upstream.silence();
  // Its TTL is a second: until the answer is an old one, and then it is there all the same.
  while (counter_value(running.server, "muster_dns_cache_stale_total") == 0) {
    CHECK(code_of(running, "www.example.com") == rcode::kNoError);
  }
}

TEST_CASE("a connection says how long it may idle to who asks") {
  RunningServer running{local_options()};
  running.server.apply(with_task(1));
  Bytes query = make_query(name("app1.marathon.mesos"), type::kA, {.id = 4});
  query.back() = std::byte{4};
  const Bytes option = bytes_of(std::string_view{"\0\x0B\0\0", 4});
  query.insert(query.end(), option.begin(), option.end());
  const FileDescriptor tcp = open_client(running.at(), SOCK_STREAM);
  transmit(tcp, framed(query));
  const Bytes reply = read_message(tcp);
  REQUIRE(reply.size() > 6);
  // The last option: code 11, two octets, 100 × 100 ms.
  CHECK(Bytes{reply.end() - 6, reply.end()} == bytes_of(std::string_view{"\0\x0B\0\2\0\x64", 6}));
  const FileDescriptor udp = open_client(running.at(), SOCK_DGRAM);
  transmit(udp, query);
  const Bytes plain = receive(udp);
  CHECK(plain.size() == reply.size() - 6);
}

TEST_CASE("another policy holds from now on, and what was asked under the old one is answered") {
  FakeUpstream before;
  FakeUpstream after;
  before.silence();
  ServerOptions options = local_options();
  options.upstreams = {before.at()};
  RunningServer running{options};
  std::thread waiting{[&] {
    // The upstream's first reply is to the repetition, when another policy holds already.
    CHECK(ask_udp(running.at(), "old.example", type::kA).rcode == rcode::kNoError);
  }};
  while (before.count() == 0) std::this_thread::sleep_for(Duration{1});
  options.upstreams = {after.at()};
  running.server.reconfigure(options);
  CHECK(ask_udp(running.at(), "new.example", type::kA).rcode == rcode::kNoError);
  CHECK(after.count() == 1);
  before.silence(false);
  waiting.join();
  CHECK(after.count() == 1);
  options.upstreams = {};
  running.server.reconfigure(options);
  CHECK(code_of(running, "newer.example") == rcode::kRefused);
}

TEST_SUITE_END();
