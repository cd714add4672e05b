#include <atomic>
#include <set>

#include "io_support.hpp"

using namespace muster;
using namespace muster::dns;
using namespace muster::dns::testing;

TEST_SUITE_BEGIN("dns/server");

namespace {

ClusterDelta with_task(std::string_view id = "web.1", std::string_view task_name = "web") {
  ClusterDelta delta = complete_delta();
  delta.tasks.push_back(came(make_task(id, task_name)));
  return delta;
}

}  // namespace

TEST_CASE("a query over UDP is answered from the state that was applied last") {
  RunningServer running{local_options()};
  CHECK(ask_udp(running.at(), "web.marathon.mesos", type::kA).rcode == rcode::kServFail);
  CHECK_FALSE(running.server.status().ready);
  running.server.apply(with_task());
  CHECK(running.server.status().ready);
  const Reply reply = ask_udp(running.at(), "web.marathon.mesos", type::kA);
  CHECK(reply.rcode == rcode::kNoError);
  CHECK(reply.data(1) == std::vector<std::string>{"10.0.0.5"});
  CHECK(ask_udp(running.at(), "nobody.marathon.mesos", type::kA).rcode == rcode::kNxDomain);
  CHECK(counter_value(running.server, "muster_dns_queries_total", "nxdomain") == 1);
  CHECK(counter_value(running.server, "muster_dns_received_total", "udp") == 3);
}

TEST_CASE("garbage is not answered, and what follows it is") {
  RunningServer running{local_options()};
  running.server.apply(with_task());
  const FileDescriptor client = open_client(running.at(), SOCK_DGRAM);
  transmit(client, bytes_of("x"));
  transmit(client, Bytes(11, std::byte{0xFF}));
  Bytes response = make_query(name("web.marathon.mesos"), type::kA, {.id = 1});
  response[2] |= std::byte{0x80};
  transmit(client, response);
  transmit(client, Bytes(5000, std::byte{0}));  // longer than any query may be
  transmit(client, make_query(name("web.marathon.mesos"), type::kA, {.id = 2}));
  const auto reply = parse_reply(receive(client));
  REQUIRE(reply.has_value());
  CHECK(reply->id == 2);
  CHECK(counter_value(running.server, "muster_dns_dropped_total", "invalid") == 4);
}

TEST_CASE("more queries at once than a batch holds are all answered") {
  RunningServer running{local_options(2)};
  running.server.apply(with_task());
  const FileDescriptor client = open_client(running.at(), SOCK_DGRAM);
  constexpr std::uint16_t kQueries = 200;
  for (std::uint16_t id = 1; id <= kQueries; ++id) {
    transmit(client, make_query(name("web.marathon.mesos"), type::kA, {.id = id}));
  }
  std::set<std::uint16_t> ids;
  for (std::uint16_t i = 0; i < kQueries; ++i) {
    const auto reply = parse_reply(receive(client));
    REQUIRE(reply.has_value());
    ids.insert(reply->id);
  }
  CHECK(ids.size() == kQueries);
}

TEST_CASE("several addresses of both families, each with UDP and TCP on one port") {
  ServerOptions options = local_options(2);
  options.listen = {
      {ip("127.0.0.1"), port(53)}, {ip("127.0.0.2"), port(53)}, {ip("::1"), port(53)}};
  RunningServer running{options};
  running.server.apply(with_task());
  REQUIRE(running.server.bound().size() == 3);
  for (const Endpoint& at : running.server.bound()) {
    CAPTURE(to_string(at));
    CHECK(ask_udp(at, "web.marathon.mesos", type::kA).rcode == rcode::kNoError);
    const FileDescriptor tcp = open_client(at, SOCK_STREAM);
    transmit(tcp, framed(make_query(name("web.marathon.mesos"), type::kA, {.id = 5})));
    const auto reply = parse_reply(read_message(tcp));
    REQUIRE(reply.has_value());
    CHECK(reply->id == 5);
  }
}

TEST_CASE("on a wildcard address the reply comes from the address that was asked") {
  ServerOptions options = local_options();
  options.listen = {{ip("0.0.0.0"), port(53)}, {ip("::"), port(53)}};
  RunningServer running{options};
  running.server.apply(with_task());
  // Connected sockets: a reply from another address would not arrive.
  for (const char* const asked : {"127.0.0.1", "127.3.2.1"}) {
    CAPTURE(asked);
    const Endpoint at{ip(asked), running.at(0).port};
    CHECK(ask_udp(at, "web.marathon.mesos", type::kA).rcode == rcode::kNoError);
  }
  CHECK(ask_udp({ip("::1"), running.at(1).port}, "web.marathon.mesos", type::kA).rcode ==
        rcode::kNoError);
}

TEST_CASE("an address in use is an error that names it, and nothing runs") {
  RunningServer first{local_options()};
  ServerOptions options = local_options();
  options.any_port = false;
  options.listen = {first.at()};
  boost::asio::io_context control;
  prometheus::Registry registry;
  Server second{control.get_executor(), control.get_executor(), options, registry};
  const auto started = second.start();
  REQUIRE_FALSE(started.has_value());
  CHECK(started.error() == boost::system::errc::address_in_use);
  CHECK(second.status().last_error.find(to_string(first.at())) != std::string::npos);
  CHECK(second.bound().empty());
  second.stop();
}

TEST_CASE("pipelined TCP queries are all answered on one connection") {
  RunningServer running{local_options()};
  running.server.apply(with_task());
  const FileDescriptor client = open_client(running.at(), SOCK_STREAM);
  Bytes all;
  constexpr std::uint16_t kQueries = 500;
  for (std::uint16_t id = 1; id <= kQueries; ++id) {
    const Bytes one = framed(make_query(name("web.marathon.mesos"), type::kA, {.id = id}));
    all.insert(all.end(), one.begin(), one.end());
  }
  transmit(client, all);
  for (std::uint16_t id = 1; id <= kQueries; ++id) {
    const auto reply = parse_reply(read_message(client));
    REQUIRE(reply.has_value());
    REQUIRE(reply->id == id);
  }
  // The client says that it is done: so is the connection.
  shutdown(client.get(), SHUT_WR);
  CHECK(read_exactly(client, 1).empty());
}

TEST_CASE("a TCP client that sends octet by octet is answered") {
  RunningServer running{local_options()};
  running.server.apply(with_task());
  const FileDescriptor client = open_client(running.at(), SOCK_STREAM);
  const int now = 1;
  setsockopt(client.get(), IPPROTO_TCP, 1 /* TCP_NODELAY */, &now, sizeof now);
  for (const std::byte octet :
       framed(make_query(name("web.marathon.mesos"), type::kA, {.id = 7}))) {
    transmit(client, {octet});
  }
  const auto reply = parse_reply(read_message(client));
  REQUIRE(reply.has_value());
  CHECK(reply->id == 7);
}

TEST_CASE("a TCP message longer than the first buffer is read whole") {
  RunningServer running{local_options()};
  running.server.apply(with_task());
  Bytes query = make_query(name("web.marathon.mesos"), type::kA, {.id = 8});
  query.resize(60'000);  // what follows the records is ignored
  const FileDescriptor client = open_client(running.at(), SOCK_STREAM);
  Bytes two = framed(query);
  const Bytes next = framed(make_query(name("web.marathon.mesos"), type::kA, {.id = 9}));
  two.insert(two.end(), next.begin(), next.end());
  transmit(client, two);
  for (const unsigned id : {8U, 9U}) {
    const auto reply = parse_reply(read_message(client));
    REQUIRE(reply.has_value());
    CHECK(reply->id == id);
  }
}

TEST_CASE("a TCP client that does not speak DNS is hung up on") {
  RunningServer running{local_options()};
  const FileDescriptor client = open_client(running.at(), SOCK_STREAM);
  transmit(client, bytes_of(std::string{"\0\4abcd", 6}));
  CHECK(read_exactly(client, 1).empty());
}

TEST_CASE("a TCP client that asks much and reads late gets every answer") {
  ClusterDelta delta = complete_delta();
  for (int i = 0; i < 200; ++i) {
    Task task = make_task("web." + std::to_string(i), "web");
    task.addresses = {ip("10.1.0." + std::to_string(i))};
    delta.tasks.push_back(came(task));
  }
  RunningServer running{local_options()};
  running.server.apply(delta);
  running.control.run();
  REQUIRE(running.server.status().ready);

  const FileDescriptor client = open_client(running.at(), SOCK_STREAM);
  constexpr std::uint16_t kQueries = 2000;  // 6 MB of answers, far over what may be buffered
  std::thread sender{[&] {
    for (std::uint16_t id = 1; id <= kQueries; ++id) {
      const Bytes one = framed(make_query(name("web.marathon.mesos"), type::kA, {.id = id}));
      if (send(client.get(), one.data(), one.size(), MSG_NOSIGNAL) < 0) return;
    }
  }};
  std::uint16_t whole = 0;
  for (std::uint16_t i = 0; i < kQueries; ++i) {
    // 200 addresses of 16 octets each.
    if (read_message(client).size() > std::size_t{200 * 16}) ++whole;
  }
  sender.join();
  CHECK(whole == kQueries);
}

TEST_CASE("a truncated UDP answer is whole over TCP") {
  ClusterDelta delta = complete_delta();
  for (int i = 0; i < 50; ++i) {
    Task task = make_task("web." + std::to_string(i), "web");
    task.addresses = {ip("10.1.0." + std::to_string(i))};
    delta.tasks.push_back(came(task));
  }
  RunningServer running{local_options()};
  running.server.apply(delta);
  const Reply cut = ask_udp(running.at(), "web.marathon.mesos", type::kA, {.id = 1, .udp_size = 0});
  CHECK(cut.truncated());
  CHECK(cut.data(1).size() == 29);
  const FileDescriptor tcp = open_client(running.at(), SOCK_STREAM);
  transmit(tcp, framed(make_query(name("web.marathon.mesos"), type::kA, {.id = 5})));
  const auto whole = parse_reply(read_message(tcp));
  REQUIRE(whole.has_value());
  CHECK_FALSE(whole->truncated());
  CHECK(whole->data(1).size() == 50);
}

TEST_CASE("a large first state is applied in steps and is complete with the last") {
  ClusterDelta delta = complete_delta();
  for (int i = 0; i < 800; ++i) {
    delta.tasks.push_back(came(make_task("t." + std::to_string(i), "app" + std::to_string(i))));
  }
  RunningServer running{local_options()};
  running.server.apply(delta);
  CHECK_FALSE(running.server.status().ready);
  // A small change behind it waits its turn: order is kept.
  ClusterDelta small = complete_delta();
  small.tasks.push_back(went(make_task("t.7", "app7")));
  running.server.apply(small);
  std::size_t steps = 0;
  while (running.control.run_one() > 0) ++steps;
  CHECK(steps > 1);
  CHECK(running.server.status().ready);
  CHECK(ask_udp(running.at(), "app799.marathon.mesos", type::kA).rcode == rcode::kNoError);
  CHECK(ask_udp(running.at(), "app7.marathon.mesos", type::kA).rcode == rcode::kNxDomain);
}

TEST_CASE("what is asked before the state from disk is whole waits for it") {
  ClusterDelta delta = complete_delta();
  for (int i = 0; i < 800; ++i) {
    delta.tasks.push_back(came(make_task("t." + std::to_string(i), "app" + std::to_string(i))));
  }
  boost::asio::io_context control;
  prometheus::Registry registry;
  Server server{control.get_executor(), control.get_executor(), local_options(), registry};
  REQUIRE(server.bind().has_value());
  const FileDescriptor client = open_client(server.bound().at(0), SOCK_DGRAM);
  transmit(client, make_query(name("app799.marathon.mesos"), type::kA, {.id = 7}));
  server.apply(delta);
  server.serve();
  while (control.run_one() > 0) {
  }
  const auto reply = parse_reply(receive(client));
  server.stop();
  REQUIRE(reply.has_value());
  CHECK(reply->rcode == rcode::kNoError);
}

TEST_CASE("changes while clients ask are never seen half, and never as a dip") {
  RunningServer running{local_options(2)};
  running.server.apply(with_task("fixed.1", "fixed"));
  std::atomic<bool> stop{false};
  std::atomic<int> wrong{0};
  std::atomic<int> asked{0};
  std::vector<std::thread> clients;
  for (int i = 0; i < 2; ++i) {
    clients.emplace_back([&] {
      const FileDescriptor client = open_client(running.at(), SOCK_DGRAM);
      std::uint16_t id = 0;
      while (!stop) {
        const Bytes query = make_query(name("fixed.marathon.mesos"), type::kA, {.id = ++id});
        if (send(client.get(), query.data(), query.size(), 0) < 0) continue;
        const auto reply = parse_reply(receive(client));
        if (!reply || reply->rcode != 0 || reply->data(1).empty()) ++wrong;
        ++asked;
      }
    });
  }
  Task task = make_task("moving.1", "moving");
  for (int i = 0; i < 400 || asked < 200; ++i) {
    ClusterDelta delta = complete_delta();
    Task next = task;
    next.addresses = {ip("10.2.0." + std::to_string(i % 250))};
    delta.tasks.push_back(i == 0 ? came(next) : became(task, next));
    if (i > 0 && task == next) continue;
    task = next;
    running.server.apply(delta);
  }
  stop = true;
  for (std::thread& client : clients) client.join();
  CHECK(wrong == 0);
}

TEST_CASE("a server that stops frees its port, and stop may be called twice") {
  Endpoint at{ip("127.0.0.1"), port(1)};
  {
    RunningServer running{local_options(2)};
    at = running.at();
    running.server.stop();
    running.server.stop();
  }
  ServerOptions options = local_options();
  options.any_port = false;
  options.listen = {at};
  RunningServer again{options};
  CHECK(again.at() == at);
}

TEST_SUITE_END();
