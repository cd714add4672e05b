#include "dns/core/forwarder.hpp"

#include <algorithm>

#include "dns/core/reply.hpp"
#include "dns/core/resolv_conf.hpp"
#include "dns_support.hpp"

using namespace muster;
using namespace muster::dns;
using namespace muster::dns::testing;

TEST_SUITE_BEGIN("dns/forwarder");

namespace {

using namespace std::chrono_literals;

Endpoint upstream(int number) {
  return {ip("192.0.2." + std::to_string(number)), port(53)};
}

ForwarderOptions two_upstreams() {
  return {.upstreams = {upstream(1), upstream(2)}, .zone_upstreams = {}};
}

Upstream over_tls(int number) {
  Upstream out{upstream(number)};
  out.tls = true;
  return out;
}

ForwarderOptions asking(std::vector<Upstream> upstreams) {
  return {.upstreams = std::move(upstreams), .zone_upstreams = {}};
}

struct Scene {
  explicit Scene(ForwarderOptions options = two_upstreams()) : forwarder{std::move(options)} {}

  void ask(std::string_view owner, std::uint64_t client, QueryOptions options = {.id = 7},
           Transport transport = Transport::udp) {
    const Bytes message = make_query(name(owner), type::kA, options);
    Query query;
    REQUIRE(parse_query(message, query) == QueryVerdict::ok);
    forwarder.ask(now, message, query, transport, client, actions);
  }

  // The sends so far, taken.
  std::vector<Forwarder::Send> sends() { return std::exchange(actions.sends, {}); }
  Forwarder::Send only_send() {
    auto all = sends();
    REQUIRE(all.size() == 1);
    return all[0];
  }
  std::vector<Forwarder::Deliver> replies() { return std::exchange(actions.replies, {}); }
  Reply only_reply() {
    const auto all = replies();
    REQUIRE(all.size() == 1);
    const auto reply = parse_reply(all[0].reply);
    REQUIRE(reply.has_value());
    return *reply;
  }

  bool reply_to(const Forwarder::Send& send, Bytes reply) {
    return forwarder.on_reply(now, send.exchange, send.upstream, send.transport, 0, reply, actions);
  }

  void advance(Duration by) {
    now += by;
    forwarder.on_time(now, actions);
  }

  TimePoint now = TimePoint{} + 1h;
  Forwarder forwarder;
  Forwarder::Actions actions;
};

// The query as its own reply, with `records` addresses behind the question.
Bytes reply_of(const Bytes& query, std::uint16_t code = 0, int records = 1,
               bool truncated = false) {
  Bytes out = query;
  const std::size_t end = skip_name(query, kHeaderSize) + 4;
  const bool edns = out.size() > end;
  const Bytes opt{out.begin() + static_cast<std::ptrdiff_t>(end), out.end()};
  out.resize(end);
  out[2] |= std::byte{static_cast<unsigned char>(truncated ? 0x82 : 0x80)};
  out[3] = static_cast<std::byte>(0x80 | code);
  out[6] = static_cast<std::byte>(records >> 8);
  out[7] = static_cast<std::byte>(records & 0xFF);
  for (int i = 0; i < records; ++i) {
    const Bytes record = bytes_of(std::string{"\xC0\x0C\0\1\0\1\0\0\0\x3C\0\4\xC0\0\2", 15});
    out.insert(out.end(), record.begin(), record.end());
    out.push_back(static_cast<std::byte>(i & 0xFF));
  }
  if (edns) out.insert(out.end(), opt.begin(), opt.end());
  return out;
}

}  // namespace

TEST_CASE("resolv.conf gives the servers it names, and never ourselves") {
  const std::vector<Endpoint> own{{ip("198.51.100.1"), port(53)}};
  CHECK(parse_resolv_conf("", own).empty());
  CHECK(parse_resolv_conf("nameserver", own).empty());
  CHECK(parse_resolv_conf("nameserver 1.2.3\nnameserver fe80::1%eth0\n", own).empty());
  CHECK(parse_resolv_conf("# nameserver 9.9.9.9\nnameservers 9.9.9.9\nsearch x\n"
                          "nameserver\t192.0.2.1\r\n nameserver 198.51.100.1\n"
                          "nameserver 192.0.2.1\nnameserver 2001:db8::1",
                          own) ==
        std::vector<Endpoint>{upstream(1), {ip("2001:db8::1"), port(53)}});
}

TEST_CASE("a reply goes to its client, with the client's id and spelling") {
  Scene scene;
  Bytes message = make_query(name("www.example.com"), type::kA, {.id = 0x1234});
  message[kHeaderSize + 1] = std::byte{'W'};
  Query query;
  REQUIRE(parse_query(message, query) == QueryVerdict::ok);
  scene.forwarder.ask(scene.now, message, query, Transport::udp, 42, scene.actions);
  const auto send = scene.only_send();
  CHECK(send.upstream == 0);
  CHECK(scene.reply_to(send, reply_of(send.query)));
  REQUIRE(scene.actions.replies.size() == 1);
  CHECK(scene.actions.replies[0].client == 42);
  CHECK(scene.actions.done == std::vector<Forwarder::ExchangeId>{send.exchange});
  const Reply reply = scene.only_reply();
  CHECK(reply.id == 0x1234);
  CHECK(reply.question[1] == 'W');
  CHECK(reply.data(1) == std::vector<std::string>{"192.0.2.0"});
  CHECK(scene.forwarder.in_flight() == 0);
  CHECK_FALSE(scene.forwarder.next_deadline().has_value());
}

TEST_CASE("the client's EDNS options stay with us") {
  Scene scene;
  Bytes message = make_query(name("www.example.com"), type::kA, {.id = 1, .udp_size = 4096});
  // A cookie of eight octets in the OPT record.
  message[message.size() - 1] = std::byte{12};
  const Bytes cookie = bytes_of(std::string{"\0\x0A\0\x8secretxx", 12});
  message.insert(message.end(), cookie.begin(), cookie.end());
  Query query;
  REQUIRE(parse_query(message, query) == QueryVerdict::ok);
  scene.forwarder.ask(scene.now, message, query, Transport::udp, 1, scene.actions);
  const auto send = scene.only_send();
  const std::string sent{reinterpret_cast<const char*>(send.query.data()), send.query.size()};
  CHECK(sent.find("secret") == std::string::npos);
  const auto shape = walk_reply(send.query);
  REQUIRE(shape.has_value());
  CHECK(shape->opt_size == kOptSize);
}

TEST_CASE("what is not the reply is not believed, and the right one still is") {
  struct Row {
    std::string what;
    void (*spoil)(Bytes&);
  };
  const Row rows[] = {
      {"nothing", [](Bytes& reply) { reply.clear(); }},
      {"half a header", [](Bytes& reply) { reply.resize(6); }},
      {"only a header", [](Bytes& reply) { reply.resize(kHeaderSize); }},
      {"another id", [](Bytes& reply) { reply[1] ^= std::byte{1}; }},
      {"a query", [](Bytes& reply) { reply[2] &= std::byte{0x7F}; }},
      {"another opcode", [](Bytes& reply) { reply[2] |= std::byte{0x10}; }},
      {"another name", [](Bytes& reply) { reply[kHeaderSize + 1] = std::byte{'x'}; }},
      {"another spelling", [](Bytes& reply) { reply[kHeaderSize + 1] = std::byte{'W'}; }},
      {"another type", [](Bytes& reply) { reply[kHeaderSize + 18] = std::byte{28}; }},
      {"two questions", [](Bytes& reply) { reply[5] = std::byte{2}; }},
      {"a record cut short", [](Bytes& reply) { reply.resize(reply.size() - kOptSize - 2); }},
      {"more records than there are", [](Bytes& reply) { reply[6] = std::byte{200}; }},
  };
  for (const Row& row : rows) {
    CAPTURE(row.what);
    Scene scene;
    scene.ask("www.example.com", 1);
    const auto send = scene.only_send();
    Bytes forged = reply_of(send.query);
    row.spoil(forged);
    CHECK_FALSE(scene.reply_to(send, forged));
    CHECK(scene.replies().empty());
    CHECK(scene.forwarder.stats().mismatched == 1);
    CHECK(scene.reply_to(send, reply_of(send.query)));
    CHECK(scene.replies().size() == 1);
  }
}

TEST_CASE("equal questions are asked once and answered each") {
  Scene scene;
  scene.ask("www.example.com", 1, {.id = 1});
  scene.ask("WWW.example.COM", 2, {.id = 2});
  scene.ask("www.example.com", 3, {.id = 3}, Transport::tcp);
  const auto send = scene.only_send();
  scene.ask("www.example.com", 4, {.id = 4, .dnssec_ok = true});  // another question
  scene.ask("www.example.com", 5, {.id = 5, .udp_size = 0});      // and another
  CHECK(scene.sends().size() == 2);
  scene.reply_to(send, reply_of(send.query));
  auto replies = scene.replies();
  REQUIRE(replies.size() == 3);
  for (const auto& deliver : replies) {
    CHECK(parse_reply(deliver.reply)->id == deliver.client);
  }
  CHECK(scene.forwarder.in_flight() == 2);
}

TEST_CASE("a slow upstream is hedged, and whoever is first answers") {
  Scene scene;
  scene.ask("www.example.com", 1);
  const auto first = scene.only_send();
  const auto hedge_at = scene.forwarder.next_deadline();
  REQUIRE(hedge_at.has_value());
  CHECK(*hedge_at - scene.now <= 400ms);
  scene.now = *hedge_at;
  scene.forwarder.on_time(scene.now, scene.actions);
  const auto second = scene.only_send();
  CHECK(second.upstream != first.upstream);
  CHECK(scene.reply_to(second, reply_of(second.query)));
  CHECK(scene.only_reply().rcode == 0);
  // The slow one's reply finds nobody waiting.
  CHECK(scene.reply_to(first, reply_of(first.query)));
  CHECK(scene.replies().empty());
}

TEST_CASE("SERVFAIL and REFUSED are tried elsewhere, NXDOMAIN is an answer") {
  Scene scene;
  scene.ask("www.example.com", 1);
  auto first = scene.only_send();
  scene.reply_to(first, reply_of(first.query, rcode::kServFail, 0));
  CHECK(scene.replies().empty());
  const auto second = scene.only_send();
  CHECK(second.upstream != first.upstream);
  SUBCASE("the other knows") {
    scene.reply_to(second, reply_of(second.query));
    CHECK(scene.only_reply().rcode == 0);
  }
  SUBCASE("the other says that there is none") {
    scene.reply_to(second, reply_of(second.query, rcode::kNxDomain, 0));
    CHECK(scene.only_reply().rcode == rcode::kNxDomain);
  }
  SUBCASE("the other refuses too: the client hears the first") {
    scene.reply_to(second, reply_of(second.query, rcode::kRefused, 0));
    CHECK(scene.only_reply().rcode == rcode::kServFail);
  }
  SUBCASE("the other cannot be reached") {
    scene.forwarder.on_error(scene.now, second.exchange, second.upstream, Transport::udp,
                             scene.actions);
    CHECK(scene.only_reply().rcode == rcode::kServFail);
  }
}

TEST_CASE("nobody answers: SERVFAIL with the reason, within three seconds") {
  Scene scene;
  scene.ask("www.example.com", 1);
  const TimePoint start = scene.now;
  std::size_t sent = scene.sends().size();
  while (const auto deadline = scene.forwarder.next_deadline()) {
    scene.now = *deadline;
    scene.forwarder.on_time(scene.now, scene.actions);
    sent += scene.sends().size();
  }
  CHECK(scene.now - start < 3s);
  CHECK(sent == 4);  // two rounds over two
  const Reply reply = scene.only_reply();
  CHECK(reply.rcode == rcode::kServFail);
  CHECK(reply.extended_error == ede::kNoReachableAuthority);
  CHECK((reply.flags & flag::kResponse) != 0);
  CHECK(scene.forwarder.stats().timeouts == 1);
}

TEST_CASE("connection refused by all is SERVFAIL at once") {
  Scene scene;
  scene.ask("www.example.com", 1);
  for (int i = 0; i < 2; ++i) {
    const auto send = scene.only_send();
    scene.forwarder.on_error(scene.now, send.exchange, send.upstream, Transport::udp,
                             scene.actions);
  }
  CHECK(scene.only_reply().extended_error == ede::kNetworkError);
  CHECK(scene.forwarder.in_flight() == 0);
}

TEST_CASE("an upstream that fails twice is asked last, and first again in time") {
  Scene scene;
  int asked = 0;
  const auto ask_one = [&] {
    scene.ask("q" + std::to_string(++asked) + ".example", 1);
    return scene.only_send();
  };
  for (int i = 0; i < 3; ++i) {
    const auto send = ask_one();  // upstream 0 is the faster one
    REQUIRE(send.upstream == 0);
    scene.now += 1ms;
    scene.reply_to(send, reply_of(send.query));
  }
  for (int i = 0; i < 2; ++i) {
    const auto send = ask_one();
    CHECK(send.upstream == 0);  // one failure may be the network's
    scene.forwarder.on_error(scene.now, send.exchange, send.upstream, Transport::udp,
                             scene.actions);
    const auto other = scene.only_send();
    scene.now += 60ms;
    scene.reply_to(other, reply_of(other.query));
  }
  const auto avoided = ask_one();
  CHECK(avoided.upstream == 1);
  scene.reply_to(avoided, reply_of(avoided.query));
  scene.now += 1s;
  const auto forgiven = ask_one();
  CHECK(forgiven.upstream == 0);
  CHECK(scene.replies().size() == 6);
}

TEST_CASE("the faster upstream is asked first") {
  Scene scene;
  for (int i = 0; i < 20; ++i) {
    scene.ask("q" + std::to_string(i) + ".example", 1);
    auto send = scene.only_send();
    if (send.upstream == 0) {
      scene.advance(60ms);  // upstream 0 takes its time
      scene.sends();
    } else {
      scene.now += 2ms;
    }
    scene.reply_to(send, reply_of(send.query));
    scene.replies();
  }
  scene.ask("last.example", 1);
  CHECK(scene.only_send().upstream == 1);
}

TEST_CASE("the longest zone with upstreams of its own decides who is asked") {
  Scene scene{{.upstreams = {upstream(1)},
               .zone_upstreams = {{std::string{name("example").wire()}, {upstream(2)}},
                                  {std::string{name("corp.example").wire()}, {upstream(3)}},
                                  {std::string{name("none.example").wire()}, {}}}}};
  struct Row {
    const char* owner;
    int upstream;
  };
  for (const Row& row : {Row{"a.example", 2}, Row{"example", 2}, Row{"x.corp.EXAMPLE", 3},
                         Row{"notcorp.example", 2}, Row{"example.org", 1}, Row{"anexample", 1}}) {
    CAPTURE(row.owner);
    scene.ask(row.owner, 1);
    CHECK(scene.forwarder.upstreams()[scene.only_send().upstream] == upstream(row.upstream));
  }
  scene.ask("x.none.example", 9);
  CHECK(scene.sends().empty());
  CHECK(scene.only_reply().rcode == rcode::kServFail);
}

TEST_CASE("a truncated reply is asked again over TCP") {
  Scene scene;
  scene.ask("big.example", 1);
  scene.ask("big.example", 2, {.id = 8}, Transport::tcp);
  const auto udp = scene.only_send();
  scene.reply_to(udp, reply_of(udp.query, 0, 3, true));
  const auto tcp = scene.only_send();
  CHECK(tcp.transport == Transport::tcp);
  CHECK(tcp.upstream == udp.upstream);
  SUBCASE("TCP brings what UDP cannot carry: the TCP client has all, the other what came first") {
    scene.reply_to(tcp, reply_of(tcp.query, 0, 200));
    const auto replies = scene.replies();
    REQUIRE(replies.size() == 2);
    const auto small = parse_reply(replies[0].reply);
    const auto large = parse_reply(replies[1].reply);
    REQUIRE(small.has_value());
    REQUIRE(large.has_value());
    CHECK(small->truncated());
    CHECK(small->data(1).size() == 3);
    CHECK_FALSE(large->truncated());
    CHECK(large->data(1).size() == 200);
  }
  SUBCASE("TCP brings what fits") {
    scene.reply_to(tcp, reply_of(tcp.query, 0, 40));
    for (const auto& deliver : scene.replies()) {
      CHECK_FALSE(parse_reply(deliver.reply)->truncated());
    }
  }
  SUBCASE("TCP fails: the truncated reply is better than none") {
    scene.forwarder.on_error(scene.now, tcp.exchange, tcp.upstream, Transport::tcp, scene.actions);
    for (const auto& deliver : scene.replies()) {
      CHECK(parse_reply(deliver.reply)->data(1).size() == 3);
    }
  }
  SUBCASE("TCP takes too long") {
    scene.advance(3s);
    CHECK(scene.replies().size() == 2);
    CHECK(scene.forwarder.in_flight() == 0);
  }
}

TEST_CASE("a reply too large for the client is cut, with TC and OPT") {
  Scene scene;
  scene.ask("big.example", 1, {.id = 7, .udp_size = 512});
  const auto send = scene.only_send();
  scene.reply_to(send, reply_of(send.query, 0, 60));
  const Reply reply = scene.only_reply();
  CHECK(reply.truncated());
  CHECK(reply.edns);
  CHECK(reply.records.empty());
}

TEST_CASE("a server that cannot read the question is believed on its header alone") {
  Scene scene;
  scene.ask("www.example.com", 1);
  const auto send = scene.only_send();
  Bytes header = reply_of(send.query, rcode::kFormErr, 0);
  header.resize(kHeaderSize);
  header[5] = header[11] = std::byte{0};
  CHECK(scene.reply_to(send, header));
  CHECK(scene.only_reply().rcode == rcode::kFormErr);
}

TEST_CASE("exchanges and waiters are bounded, and what is over gets SERVFAIL") {
  Scene scene;
  for (std::size_t i = 0; i < Forwarder::kMaxExchanges; ++i) {
    scene.ask("n" + std::to_string(i) + ".example", i);
  }
  CHECK(scene.replies().empty());
  scene.ask("one.more.example", 1);
  CHECK(scene.only_reply().rcode == rcode::kServFail);
  for (std::size_t i = 1; i < Forwarder::kMaxWaiters; ++i) scene.ask("n0.example", i);
  CHECK(scene.replies().empty());
  scene.ask("n0.example", 1);
  CHECK(scene.only_reply().rcode == rcode::kServFail);
  CHECK(scene.forwarder.in_flight() == Forwarder::kMaxExchanges);
}

TEST_CASE("an upstream with TLS is asked so and never otherwise, each question once at a time") {
  Scene scene{asking({over_tls(1), over_tls(1)})};
  CHECK(scene.forwarder.upstreams().size() == 1);
  scene.ask("www.example.com", 1);
  const auto send = scene.only_send();
  CHECK(send.transport == Transport::tls);
  CHECK(send.query.size() == 128);
  SUBCASE("it is slow: no second copy") {
    while (const auto deadline = scene.forwarder.next_deadline()) {
      scene.now = *deadline;
      scene.forwarder.on_time(scene.now, scene.actions);
      CHECK(scene.sends().empty());
    }
    CHECK(scene.only_reply().extended_error == ede::kNoReachableAuthority);
    CHECK(scene.forwarder.stats().hedged == 0);
  }
  SUBCASE("a cut reply is what it has") {
    scene.reply_to(send, reply_of(send.query, 0, 0, true));
    CHECK(scene.sends().empty());
    CHECK(scene.only_reply().truncated());
  }
  SUBCASE("its reply cannot be read") {
    Bytes reply = reply_of(send.query);
    reply[6] = std::byte{200};
    CHECK(scene.reply_to(send, reply));
    CHECK(scene.sends().empty());
    CHECK(scene.only_reply().rcode == rcode::kServFail);
    CHECK(scene.forwarder.stats().mismatched == 1);
  }
  SUBCASE("its reply is to another question") {
    Bytes reply = reply_of(send.query);
    reply[kHeaderSize + 1] = std::byte{'x'};
    CHECK_FALSE(scene.reply_to(send, reply));
    CHECK(scene.reply_to(send, reply_of(send.query)));
    CHECK(scene.only_reply().rcode == rcode::kNoError);
  }
}

TEST_CASE("a list of both is asked by the same rules: best first, another when it is slow") {
  Scene scene{asking({over_tls(1), upstream(2)})};
  scene.ask("www.example.com", 1);
  const auto first = scene.only_send();
  CHECK(first.transport == Transport::tls);
  std::vector<Transport> later;
  while (const auto deadline = scene.forwarder.next_deadline()) {
    scene.now = *deadline;
    scene.forwarder.on_time(scene.now, scene.actions);
    for (const auto& send : scene.sends()) later.push_back(send.transport);
  }
  CHECK(later == std::vector<Transport>{Transport::udp, Transport::udp});
  CHECK(scene.only_reply().rcode == rcode::kServFail);
}

TEST_CASE("what a lost connection had under way is asked elsewhere, or once more") {
  const auto lose = [](Scene& scene, const Forwarder::Send& send, bool was_open) {
    const Forwarder::ExchangeId exchange = send.exchange;
    scene.forwarder.on_connection_lost(scene.now, send.upstream, was_open, {&exchange, 1},
                                       scene.actions);
  };
  SUBCASE("the only one: anew, once") {
    Scene scene{asking({over_tls(1)})};
    scene.ask("www.example.com", 1);
    lose(scene, scene.only_send(), true);
    const auto again = scene.only_send();
    CHECK(again.transport == Transport::tls);
    CHECK(scene.forwarder.stats().asked_again == 1);
    SUBCASE("which answers") {
      scene.reply_to(again, reply_of(again.query));
      CHECK(scene.only_reply().rcode == rcode::kNoError);
    }
    SUBCASE("which is lost too") {
      lose(scene, again, true);
      CHECK(scene.sends().empty());
      CHECK(scene.only_reply().rcode == rcode::kServFail);
    }
  }
  SUBCASE("the only one, and there was no connection: an error at once") {
    Scene scene{asking({over_tls(1)})};
    scene.ask("www.example.com", 1);
    lose(scene, scene.only_send(), false);
    CHECK(scene.sends().empty());
    CHECK(scene.only_reply().extended_error == ede::kNetworkError);
  }
  SUBCASE("another one: there") {
    Scene scene{asking({over_tls(1), over_tls(2)})};
    scene.ask("www.example.com", 1);
    const auto first = scene.only_send();
    lose(scene, first, true);
    const auto second = scene.only_send();
    CHECK(second.upstream != first.upstream);
    lose(scene, second, true);
    CHECK(scene.only_send().upstream == second.upstream);
  }
  SUBCASE("many at once are one failure, which is not held against it") {
    Scene scene{asking({over_tls(1), over_tls(2)})};
    std::vector<Forwarder::ExchangeId> exchanges;
    for (int i = 0; i < 50; ++i) scene.ask("n" + std::to_string(i) + ".example.com", 1);
    for (const auto& send : scene.sends()) exchanges.push_back(send.exchange);
    scene.forwarder.on_connection_lost(scene.now, 0, true, exchanges, scene.actions);
    CHECK(scene.sends().size() == 50);
    scene.ask("next.example.com", 1);
    CHECK(scene.only_send().upstream == 0);
  }
}

TEST_SUITE_END();
