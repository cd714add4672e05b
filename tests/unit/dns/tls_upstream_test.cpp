// Upstreams over TLS (RFC 7858, strict profile of RFC 8310): dns::Server before a real TLS server.
#include <algorithm>
#include <poll.h>
#include <set>

#include "base/rng.hpp"
#include "dns/core/reply.hpp"
#include "tests/support/seeds.hpp"
#include "tls_server.hpp"

using namespace muster;
using namespace muster::dns;
using namespace muster::dns::testing;

TEST_SUITE_BEGIN("dns/tls upstream");

namespace {

using Lines = std::vector<std::string>;

void put16(Bytes& to, std::size_t at, std::size_t value) {
  to[at] = static_cast<std::byte>(value >> 8);
  to[at + 1] = static_cast<std::byte>(value & 0xFF);
}

std::size_t question_end(const Bytes& query) {
  return skip_name(query, kHeaderSize) + 4;
}

// The query as its own reply with one address; `last` is its last octet. Without EDNS.
Bytes reply_of(const Bytes& query, int last) {
  Bytes out{query.begin(), query.begin() + static_cast<std::ptrdiff_t>(question_end(query))};
  out[2] |= std::byte{0x80};
  out[3] = std::byte{0x80};
  put16(out, 6, 1);
  put16(out, 10, 0);
  const Bytes record = bytes_of(std::string{"\xC0\x0C\0\1\0\1\0\0\0\x3C\0\4\xC0\0\2", 15});
  out.insert(out.end(), record.begin(), record.end());
  out.push_back(static_cast<std::byte>(last));
  return out;
}

Bytes with_opt(Bytes reply, const Bytes& options) {
  put16(reply, 10, 1);
  const Bytes opt = bytes_of(std::string{"\0\0\x29\4\xD0\0\0\0\0", 9});
  reply.insert(reply.end(), opt.begin(), opt.end());
  reply.push_back(static_cast<std::byte>(options.size() >> 8));
  reply.push_back(static_cast<std::byte>(options.size() & 0xFF));
  reply.insert(reply.end(), options.begin(), options.end());
  return reply;
}

// Of a name that begins with "n" and a number.
int number_in(const Bytes& query) {
  int out = 0;
  const auto size = std::to_integer<std::size_t>(query[kHeaderSize]);
  for (std::size_t i = 1; i < size; ++i) {
    out = out * 10 + std::to_integer<int>(query[kHeaderSize + 1 + i]) - '0';
  }
  return out;
}

// Answers everything, each with its number.
void serve(TlsPeer& peer, int) {
  for (Bytes query = peer.read_query(); !query.empty(); query = peer.read_query()) {
    if (!peer.reply(reply_of(query, number_in(query)))) return;
  }
}

ServerOptions with_upstreams(std::vector<Upstream> upstreams, const std::string& ca_file) {
  ServerOptions options = local_options();
  options.upstreams = std::move(upstreams);
  options.upstream_ca_file = ca_file;
  return options;
}

bool eventually(const std::function<bool()>& holds) {
  const TimePoint end = Clock::now() + std::chrono::seconds{60};
  while (!holds()) {
    if (Clock::now() > end) return false;
    std::this_thread::sleep_for(Duration{1});
  }
  return true;
}

// What the workers have reported comes by way of the control thread, which is this one.
std::string trouble(RunningServer& running) {
  running.control.restart();
  running.control.poll();
  return running.server.status().last_error;
}

double errors(const RunningServer& running, const std::string& cause = "") {
  return counter_value(running.server, "muster_dns_tls_errors_total", cause);
}

Bytes ask_raw(const Endpoint& server, const Bytes& query) {
  const FileDescriptor client = open_client(server, SOCK_DGRAM);
  transmit(client, query);
  return receive(client);
}

FileDescriptor accept_one(const ListenSockets& at) {
  pollfd ready{at.tcp.get(), POLLIN, 0};
  REQUIRE(poll(&ready, 1, 30'000) == 1);
  return FileDescriptor{accept4(at.tcp.get(), nullptr, nullptr, SOCK_CLOEXEC)};
}

Lines addresses(RunningServer& running, const std::string& owner) {
  return ask_udp(running.at(), owner, type::kA).data(1);
}

}  // namespace

TEST_CASE("what a TLS upstream answers is relayed octet for octet, but for the id") {
  const TestAuthority authority;
  std::mutex mutex;
  Bytes heard;
  std::string asked_for;
  Bytes options = bytes_of(std::string{"\0\3\0\2ns", 6});
  TlsServer server{authority.make(), [&](TlsPeer& peer, int) {
                     const std::scoped_lock lock{mutex};
                     heard = peer.read_query();
                     asked_for = peer.asked_for();
                     const Bytes bare = reply_of(heard, 7);
                     const bool edns = heard.size() > question_end(heard);
                     Bytes padded = options;
                     const Bytes padding = bytes_of(std::string{"\0\x0C\0\5\0\0\0\0\0", 9});
                     padded.insert(padded.begin(), padding.begin(), padding.end());
                     peer.reply(edns ? with_opt(bare, padded) : bare);
                   }};
  RunningServer running{with_upstreams({server.upstream()}, authority.file)};
  Bytes query = make_query(name("n7.example.com"), type::kA, {.id = 4242});
  SUBCASE("with EDNS: padded there and back, and the client sees nothing of it") {
    const Bytes got = ask_raw(running.at(), query);
    const std::scoped_lock lock{mutex};
    CHECK(heard.size() == 128);
    CHECK(std::equal(heard.begin() + 12, heard.begin() + 32, query.begin() + 12));
    Bytes expected = with_opt(reply_of(query, 7), options);
    CHECK(got == expected);
  }
  SUBCASE("without EDNS: as it is") {
    query = make_query(name("n7.example.com"), type::kA, {.id = 4242, .udp_size = 0});
    const Bytes got = ask_raw(running.at(), query);
    const std::scoped_lock lock{mutex};
    CHECK(heard.size() == query.size());
    CHECK(std::equal(heard.begin() + 2, heard.end(), query.begin() + 2, query.end()));
    CHECK(got == reply_of(query, 7));
  }
  CHECK(asked_for == "dns.example");
  CHECK_FALSE(server.heard_plaintext());
  CHECK(errors(running) == 0);
}

TEST_CASE("who has not the right certificate is refused with the reason, and never asked") {
  struct Row {
    const char* what;
    const char* names;
    long valid_seconds;
    enum { ours, other, itself } signer;
    const char* host;
    const char* reason;
    const char* expected;
  };
  const TestAuthority authority;
  const TestAuthority stranger{"a stranger"};
  const Row rows[] = {
      {"another name", "DNS:other.example,DNS:more.example", 3600, Row::ours, "dns.example",
       "hostname mismatch: it is for other.example, more.example, by \"muster-test-root\", until "
       "20",
       "; expected one for dns.example by "},
      {"a name below", "DNS:a.dns.example", 3600, Row::ours, "dns.example", "hostname mismatch",
       "it is for a.dns.example"},
      {"half a wildcard", "DNS:d*.example", 3600, Row::ours, "dns.example", "hostname mismatch",
       "it is for d*.example"},
      {"no name but the subject's", "", 3600, Row::ours, "muster-test-server", "hostname mismatch",
       "it is for \"muster-test-server\""},
      {"the address only", "IP:127.0.0.1", 3600, Row::ours, "dns.example", "hostname mismatch",
       "it is for 127.0.0.1"},
      {"another address", "IP:127.0.0.2", 3600, Row::ours, "", "IP address mismatch",
       "; expected one for 127.0.0.1 by "},
      {"expired", "DNS:dns.example", -60, Row::ours, "dns.example", "certificate has expired",
       "it is for dns.example"},
      {"an unknown authority", "DNS:dns.example", 3600, Row::other, "dns.example",
       "unable to get local issuer certificate", "; expected one for dns.example by "},
      {"signed by itself", "DNS:dns.example", 3600, Row::itself, "dns.example",
       "self-signed certificate", "; expected one for dns.example by "},
  };
  for (const Row& row : rows) {
    CAPTURE(row.what);
    const TestCertificate certificate =
        row.signer == Row::itself
            ? TestCertificate::make("itself", nullptr, row.names, row.valid_seconds)
            : (row.signer == Row::ours ? authority : stranger).make(row.names, row.valid_seconds);
    TlsServer server{certificate, serve};
    const Upstream upstream = server.upstream(row.host);
    RunningServer running{with_upstreams({upstream}, authority.file)};
    const Reply reply = ask_udp(running.at(), "n1.example.com", type::kA);
    CHECK(reply.rcode == rcode::kServFail);
    CHECK(reply.extended_error == ede::kNetworkError);
    CHECK(eventually([&] { return !trouble(running).empty(); }));
    const std::string said = trouble(running);
    CAPTURE(said);
    CHECK(said.starts_with("upstream " + to_string(upstream) + ": certificate: "));
    CHECK(said.find(row.reason) != std::string::npos);
    CHECK(said.find(row.expected) != std::string::npos);
    CHECK(said.find(authority.file) != std::string::npos);
    CHECK(errors(running, "certificate") >= 1);
    CHECK(errors(running, "certificate") == errors(running));
    CHECK(server.greeted() == 0);
    CHECK_FALSE(server.heard_plaintext());
  }
}

TEST_CASE("a wildcard for one label, and an address where no name is given, are good") {
  const TestAuthority authority;
  TlsServer server{authority.make("DNS:*.muster.example,IP:127.0.0.1"), serve};
  for (const char* const host : {"dns.muster.example", ""}) {
    CAPTURE(std::string{host});
    RunningServer running{with_upstreams({server.upstream(host)}, authority.file)};
    CHECK(addresses(running, "n5.example.com") == Lines{"192.0.2.5"});
  }
}

TEST_CASE("a refused TLS upstream leaves its questions to the others of the list") {
  const TestAuthority authority;
  TlsServer wrong{authority.make("DNS:other.example"), serve};
  SUBCASE("another one with TLS") {
    TlsServer right{authority.make(), serve};
    RunningServer running{with_upstreams({wrong.upstream(), right.upstream()}, authority.file)};
    for (int i = 1; i < 20; ++i) {
      const std::string number = std::to_string(i);
      CHECK(addresses(running, "n" + number + ".example.com") == Lines{"192.0.2." + number});
    }
    CHECK(wrong.greeted() == 0);
    CHECK(right.greeted() == 1);
    CHECK_FALSE(right.heard_plaintext());
  }
  SUBCASE("one that is asked in the clear") {
    auto bound = bind_listeners(ip("127.0.0.1"), std::nullopt, 1);
    REQUIRE(bound.has_value());
    const ListenSockets& plain = bound->front();
    RunningServer running{with_upstreams({wrong.upstream(), plain.endpoint}, authority.file)};
    const FileDescriptor client = open_client(running.at(), SOCK_DGRAM);
    transmit(client, make_query(name("n1.example.com"), type::kA, {.id = 3}));
    pollfd ready{plain.udp.get(), POLLIN, 0};
    REQUIRE(poll(&ready, 1, 30'000) == 1);
    Bytes query(4096);
    sockaddr_in from{};
    socklen_t size = sizeof from;
    auto* const address = reinterpret_cast<sockaddr*>(&from);
    const ssize_t got = recvfrom(plain.udp.get(), query.data(), query.size(), 0, address, &size);
    REQUIRE(got > 0);
    query.resize(static_cast<std::size_t>(got));
    CHECK(query.size() < 128);  // no padding in the clear
    const Bytes right = reply_of(query, 1);
    sendto(plain.udp.get(), right.data(), right.size(), 0, address, size);
    const auto reply = parse_reply(receive(client));
    REQUIRE(reply.has_value());
    CHECK(reply->data(1) == Lines{"192.0.2.1"});
  }
  CHECK_FALSE(wrong.heard_plaintext());
}

TEST_CASE("no TLS there, or nobody who speaks: each has its cause") {
  const TestAuthority authority;
  auto bound = bind_listeners(ip("127.0.0.1"), std::nullopt, 1);
  REQUIRE(bound.has_value());
  const ListenSockets& there = bound->front();
  Upstream upstream{there.endpoint};
  upstream.tls = true;
  RunningServer running{with_upstreams({upstream}, authority.file)};
  const FileDescriptor client = open_client(running.at(), SOCK_DGRAM);
  transmit(client, make_query(name("n1.example.com"), type::kA, {.id = 3}));
  std::string said;
  SUBCASE("nobody speaks") {
    said = "timeout: no TLS handshake within 3 s";
  }
  SUBCASE("a plain server speaks") {
    said = "handshake: wrong version number; expected TLS 1.2 or later";
    const FileDescriptor peer = accept_one(there);
    CHECK(read_exactly(peer, 3) == Bytes{std::byte{22}, std::byte{3}, std::byte{1}});
    transmit(peer, framed(make_query(name("n1.example.com"), type::kA, {.id = 3})));
    CHECK(parse_reply(receive(client))->rcode == rcode::kServFail);
  }
  SUBCASE("it hangs up") {
    said = "handshake: the connection was closed; expected a TLS server";
    const FileDescriptor peer = accept_one(there);
    CHECK(read_exactly(peer, 1) == Bytes{std::byte{22}});
    shutdown(peer.get(), SHUT_WR);
    CHECK(parse_reply(receive(client))->rcode == rcode::kServFail);
  }
  const std::string whole = "upstream " + to_string(upstream) + ": " + said;
  CHECK(eventually([&] { return trouble(running) == whole; }));
  CHECK(trouble(running) == whole);
  CHECK(errors(running, said.substr(0, said.find(':'))) == 1);
  std::byte any{};
  CHECK(recv(there.udp.get(), &any, 1, MSG_DONTWAIT) < 0);
}

TEST_CASE("nobody at the other end is a failure to connect") {
  const TestAuthority authority;
  Upstream upstream{Endpoint{ip("127.0.0.1"), port(1)}};
  upstream.tls = true;
  RunningServer running{with_upstreams({upstream}, authority.file)};
  CHECK(ask_udp(running.at(), "n1.example.com", type::kA).rcode == rcode::kServFail);
  CHECK(errors(running, "connect") == 1);
  CHECK(eventually([&] { return !trouble(running).empty(); }));
  CHECK(trouble(running) == "upstream tls://127.0.0.1:1: connect: Connection refused");
}

TEST_CASE("questions share one connection, and replies may come in any order") {
  const TestAuthority authority;
  constexpr int kQueries = 40;
  std::mutex mutex;
  std::set<std::uint16_t> ids;
  TlsServer server{authority.make(), [&](TlsPeer& peer, int) {
                     std::vector<Bytes> queries;
                     for (int i = 0; i < kQueries; ++i) queries.push_back(peer.read_query());
                     std::reverse(queries.begin(), queries.end());
                     Bytes all;
                     for (const Bytes& query : queries) {
                       if (query.empty()) return;
                       const Bytes one = framed(reply_of(query, number_in(query)));
                       all.insert(all.end(), one.begin(), one.end());
                       const std::scoped_lock lock{mutex};
                       ids.insert(static_cast<std::uint16_t>(std::to_integer<int>(query[0]) << 8 |
                                                             std::to_integer<int>(query[1])));
                     }
                     peer.write(all);
                     peer.read_query();
                   }};
  RunningServer running{with_upstreams({server.upstream()}, authority.file)};
  const FileDescriptor client = open_client(running.at(), SOCK_DGRAM);
  for (std::uint16_t id = 1; id <= kQueries; ++id) {
    transmit(client,
             make_query(name("n" + std::to_string(id) + ".example.com"), type::kA, {.id = id}));
  }
  for (int i = 0; i < kQueries; ++i) {
    const auto reply = parse_reply(receive(client));
    REQUIRE(reply.has_value());
    CHECK(reply->data(1) == Lines{"192.0.2." + std::to_string(reply->id)});
  }
  CHECK(server.accepted() == 1);
  const std::scoped_lock lock{mutex};
  CHECK(ids.size() == kQueries);
  // Of random ids all small ones would be a wonder; the client's were 1 to 40.
  CHECK(*ids.rbegin() > kQueries);
}

TEST_CASE("a connection that the server closed between questions is made anew, with less") {
  const TestAuthority authority;
  int version = 0;
  SUBCASE("TLS 1.2") {
    version = TLS1_2_VERSION;
  }
  SUBCASE("TLS 1.3") {
    version = TLS1_3_VERSION;
  }
  std::atomic<int> resumed{0};
  TlsServer server{authority.make(),
                   [&](TlsPeer& peer, int number) {
                     if (peer.resumed()) ++resumed;
                     if (number > 1) return serve(peer, number);
                     const Bytes query = peer.read_query();
                     peer.reply(reply_of(query, number_in(query)));
                   },
                   version};
  RunningServer running{with_upstreams({server.upstream()}, authority.file)};
  CHECK(addresses(running, "n1.example.com") == Lines{"192.0.2.1"});
  CHECK(
      eventually([&] { return counter_value(running.server, "muster_dns_tls_connections") == 0; }));
  CHECK(addresses(running, "n2.example.com") == Lines{"192.0.2.2"});
  CHECK(server.greeted() == 2);
  CHECK(resumed == 1);
  CHECK(counter_value(running.server, "muster_dns_tls_handshakes_total", "resumed") == 1);
  CHECK(counter_value(running.server, "muster_dns_tls_handshakes_total", "full") == 1);
  CHECK(counter_value(running.server, "muster_dns_forward_asked_again_total") == 0);
  CHECK(errors(running) == 0);
  CHECK(trouble(running).empty());
}

TEST_CASE("a server that dies with a question is asked it once more") {
  const TestAuthority authority;
  for (const int deaths : {1, 1000}) {
    CAPTURE(deaths);
    TlsServer server{authority.make(), [&](TlsPeer& peer, int number) {
                       if (number > deaths) return serve(peer, number);
                       peer.read_query();
                     }};
    RunningServer running{with_upstreams({server.upstream()}, authority.file)};
    const Reply reply = ask_udp(running.at(), "n1.example.com", type::kA);
    CHECK(reply.rcode == (deaths == 1 ? rcode::kNoError : rcode::kServFail));
    CHECK(server.greeted() == 2);
    CHECK(counter_value(running.server, "muster_dns_forward_asked_again_total") == 1);
    CHECK(errors(running, "closed") == std::min(deaths, 2));
    CHECK(eventually([&] { return trouble(running).empty() == (deaths == 1); }));
  }
}

TEST_CASE("a server that dies with a question leaves it to another of the list") {
  const TestAuthority authority;
  TlsServer dying{authority.make(), [](TlsPeer& peer, int) { peer.read_query(); }};
  TlsServer other{authority.make(), serve};
  RunningServer running{with_upstreams({dying.upstream(), other.upstream()}, authority.file)};
  CHECK(addresses(running, "n1.example.com") == Lines{"192.0.2.1"});
  CHECK(dying.greeted() == 1);
  CHECK(other.greeted() == 1);
  CHECK(eventually([&] { return errors(running, "closed") == 1; }));
}

TEST_CASE("a reply to another question is not believed, and the right one behind it is") {
  const TestAuthority authority;
  TlsServer server{authority.make(), [](TlsPeer& peer, int) {
                     for (Bytes query = peer.read_query(); !query.empty();
                          query = peer.read_query()) {
                       Bytes other_name = reply_of(query, 66);
                       other_name[kHeaderSize + 1] = std::byte{'x'};
                       Bytes other_id = reply_of(query, 67);
                       other_id[0] ^= std::byte{0x55};
                       peer.reply(other_name);
                       peer.reply(other_id);
                       peer.reply(reply_of(query, number_in(query)));
                     }
                   }};
  RunningServer running{with_upstreams({server.upstream()}, authority.file)};
  CHECK(addresses(running, "n1.example.com") == Lines{"192.0.2.1"});
  CHECK(counter_value(running.server, "muster_dns_forward_mismatched_total") == 1);
  CHECK(errors(running, "garbage") == 2);
  CHECK(server.greeted() == 1);
}

TEST_CASE("a server that sends what is no DNS is left, and costs counters only") {
  struct Row {
    const char* what;
    Bytes octets;
  };
  const Row rows[] = {
      {"a length of nothing", Bytes(2)},
      {"less than a header", bytes_of(std::string{"\0\x0B-----------", 13})},
      {"text", bytes_of(std::string{"\0\5hello"})},
      {"an unfinished message", bytes_of(std::string{"\xFF\xFF and no more"})},
  };
  const TestAuthority authority;
  for (const Row& row : rows) {
    CAPTURE(row.what);
    TlsServer server{authority.make(), [&](TlsPeer& peer, int number) {
                       if (number > 1) return serve(peer, number);
                       peer.read_query();
                       peer.write(row.octets);
                       // The end of it is what an unfinished message has to wait for.
                     }};
    RunningServer running{with_upstreams({server.upstream()}, authority.file)};
    CHECK(addresses(running, "n1.example.com") == Lines{"192.0.2.1"});
    CHECK(server.greeted() == 2);
    CHECK(errors(running) >= 1);
  }
}

TEST_CASE("noise from an upstream costs counters, and no client more than SERVFAIL") {
  const TestAuthority authority;
  muster::testing::for_each_seed(5, [&](std::uint64_t seed) {
    MUSTER_SHOW_SEED(seed);
    std::atomic<bool> noisy{true};
    TlsServer server{authority.make(), [&](TlsPeer& peer, int number) {
                       if (!noisy) return serve(peer, number);
                       Rng rng{seed * 1000 + static_cast<std::uint64_t>(number)};
                       const Bytes query = peer.read_query();
                       if (query.empty()) return;
                       const Bytes good = framed(reply_of(query, 1));
                       Bytes noise;
                       for (int i = 0; i < 40; ++i) {
                         Bytes one = good;
                         for (std::uint64_t hits = 1 + rng.below(6); hits > 0; --hits) {
                           one[rng.below(one.size())] ^= static_cast<std::byte>(rng.next() | 1);
                         }
                         noise.insert(noise.end(), one.begin(), one.end());
                       }
                       peer.write(noise);
                       peer.read_query();
                     }};
    RunningServer running{with_upstreams({server.upstream()}, authority.file)};
    for (std::uint16_t id = 1; id <= 20; ++id) {
      const Bytes query = make_query(name("n1.example.com"), type::kA, {.id = id});
      const Bytes reply = ask_raw(running.at(), query);
      // Data that changed nobody can see; but it is a reply to this question.
      REQUIRE(walk_reply(reply).has_value());
      CHECK(answers_question(reply, query));
    }
    noisy = false;
    CHECK(eventually([&] { return addresses(running, "n9.example.com") == Lines{"192.0.2.9"}; }));
  });
}

TEST_CASE("a reply of 65,535 octets reaches who can take it, and is cut for who cannot") {
  const TestAuthority authority;
  const auto huge = [](const Bytes& query) {
    Bytes out = reply_of(query, 1);
    out.resize(question_end(query));
    const Bytes record = bytes_of(std::string{"\xC0\x0C\0\x0A\0\1\0\0\0\x3C", 10});  // type NULL
    out.insert(out.end(), record.begin(), record.end());
    const std::size_t at = out.size();
    out.resize(kMaxMessageSize, std::byte{0x5A});
    put16(out, at, kMaxMessageSize - at - 2);
    return out;
  };
  TlsServer server{authority.make(), [&](TlsPeer& peer, int) {
                     for (Bytes query = peer.read_query(); !query.empty();
                          query = peer.read_query()) {
                       peer.reply(huge(query));
                     }
                   }};
  RunningServer running{with_upstreams({server.upstream()}, authority.file)};
  const Bytes query = make_query(name("n1.example.com"), 10, {.id = 77, .udp_size = 0});
  const FileDescriptor tcp = open_client(running.at(), SOCK_STREAM);
  transmit(tcp, framed(query));
  CHECK(read_message(tcp) == huge(query));
  const Bytes cut = ask_raw(running.at(), make_query(name("n2.example.com"), 10, {.id = 78}));
  const auto reply = parse_reply(cut);
  REQUIRE(reply.has_value());
  CHECK(reply->truncated());
  CHECK(cut.size() <= kDefaultUdpSize);
  CHECK(server.greeted() == 1);
}

TEST_CASE("another authority holds after a reload, and one that cannot be read changes nothing") {
  const TestAuthority authority;
  const TestAuthority stranger;
  TlsServer server{authority.make(), serve};
  ServerOptions options = with_upstreams({server.upstream()}, stranger.file);
  RunningServer running{options};
  CHECK(ask_udp(running.at(), "n1.example.com", type::kA).rcode == rcode::kServFail);
  CHECK(eventually([&] { return !trouble(running).empty(); }));
  options.upstream_ca_file = authority.file;
  running.server.reconfigure(options);
  CHECK(eventually([&] {
    return trouble(running).empty() && addresses(running, "n2.example.com") == Lines{"192.0.2.2"};
  }));
  options.upstream_ca_file = authority.file + ".missing";
  running.server.reconfigure(options);
  CHECK(eventually([&] { return !trouble(running).empty(); }));
  CHECK(trouble(running).find(authority.file + ".missing: expected certificates in PEM") !=
        std::string::npos);
  CHECK(addresses(running, "n3.example.com") == Lines{"192.0.2.3"});
  options.upstreams = {};
  running.server.reconfigure(options);
  CHECK(trouble(running).empty());
}

TEST_CASE("a server that is told of a file which is none does not start") {
  const TestFolder folder;
  ServerOptions options = local_options();
  Upstream upstream{Endpoint{ip("127.0.0.1"), port(853)}};
  upstream.tls = true;
  options.upstreams = {upstream};
  options.upstream_ca_file = folder.put("ca.pem", "not a certificate\n");
  boost::asio::io_context control;
  prometheus::Registry registry;
  Server server{control.get_executor(), control.get_executor(), options, registry};
  CHECK_FALSE(server.start().has_value());
  CHECK(server.status().last_error.find(options.upstream_ca_file) != std::string::npos);
  CHECK(server.bound().empty());
}

TEST_CASE("a server stops while TLS is being agreed on, and while replies are due") {
  const TestAuthority authority;
  std::atomic<int> heard{0};
  TlsServer silent{authority.make(), [&](TlsPeer& peer, int) {
                     while (!peer.read_query().empty()) ++heard;
                   }};
  auto bound = bind_listeners(ip("127.0.0.1"), std::nullopt, 1);
  REQUIRE(bound.has_value());
  Upstream mute{bound->front().endpoint};
  mute.tls = true;
  ServerOptions options = with_upstreams({silent.upstream(), mute}, authority.file);
  options.parallel_upstreams = 2;
  RunningServer running{options};
  const FileDescriptor udp = open_client(running.at(), SOCK_DGRAM);
  transmit(udp, make_query(name("n1.example.com"), type::kA, {.id = 1}));
  CHECK(eventually([&] { return heard == 1; }));
  running.server.stop();
}

TEST_SUITE_END();
