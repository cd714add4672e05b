#include <algorithm>
#include <map>
#include <set>

#include "base/byte_writer.hpp"
#include "base/rng.hpp"
#include "dns_support.hpp"
#include "tests/support/seeds.hpp"

using namespace muster;
using namespace muster::dns;
using namespace muster::dns::testing;

TEST_SUITE_BEGIN("dns/answer");

namespace {

using Lines = std::vector<std::string>;

ClusterDelta instances(int count, std::string_view app = "web") {
  ClusterDelta delta = complete_delta();
  for (int i = 0; i < count; ++i) {
    Task task = make_task(std::string{app} + "." + std::to_string(i), app);
    task.addresses = {ip("10.1." + std::to_string(i / 250) + "." + std::to_string(i % 250))};
    task.agent_addresses = task.addresses;
    task.host_ports = {port(31000)};
    delta.tasks.push_back(came(task));
  }
  return delta;
}

std::shared_ptr<const ZoneSnapshot> zones_of(const ClusterDelta& delta) {
  return Catalog{{.node_addresses = {ip("198.51.100.1")}}}.apply(delta);
}

Answer answer_raw(const Bytes& message, const ZoneSnapshot& zones, Bytes& out,
                  AnswerOptions options = {}) {
  out.assign(kMaxMessageSize, std::byte{0xEE});
  Query query;
  const Answer result = answer(message, zones, options, out, query);
  out.resize(result.kind == Answer::Kind::reply ? result.size : 0);
  return result;
}

// A message from its parts, so that rows can get one of them wrong.
struct Parts {
  std::uint16_t flags = 0;
  std::array<std::uint16_t, 4> counts{1, 0, 0, 0};
  std::string owner = std::string{"\3web\x8marathon\5mesos\0", 20};
  std::string after_owner = std::string{"\0\1\0\1", 4};
  std::string records{};

  Bytes bytes() const {
    ByteWriter out;
    out.u16(0xABCD);
    out.u16(flags);
    for (const std::uint16_t count : counts) out.u16(count);
    for (const std::string* part : {&owner, &after_owner, &records}) {
      out.raw(std::as_bytes(std::span{*part}));
    }
    return std::move(out).release();
  }
};

std::string opt_record(std::uint16_t size, std::uint8_t version = 0, std::string options = {}) {
  std::string out{"\0\0\x29", 3};
  out += static_cast<char>(size >> 8);
  out += static_cast<char>(size & 0xFF);
  out += '\0';
  out += static_cast<char>(version);
  out += std::string{"\0\0", 2};
  out += static_cast<char>(options.size() >> 8);
  out += static_cast<char>(options.size() & 0xFF);
  return out + options;
}

}  // namespace

TEST_CASE("what is no query is dropped or refused as its fault demands") {
  struct Row {
    std::string what;
    Bytes message;
    Answer::Kind kind;
    std::uint16_t rcode;
  };
  using Kind = Answer::Kind;
  const std::string deep = [] {
    std::string out;
    for (int i = 0; i < 128; ++i) out += std::string{"\1a", 2};
    return out + '\0';
  }();
  const Row rows[] = {
      {"nothing", {}, Kind::drop, 0},
      {"less than a header", Bytes(11), Kind::drop, 0},
      {"a response", Parts{.flags = 0x8000}.bytes(), Kind::drop, 0},
      {"a response of only a header",
       Parts{.flags = 0x8000, .owner = {}, .after_owner = {}}.bytes(), Kind::drop, 0},
      {"a header with an unknown opcode",
       Parts{.flags = 0x7800, .counts = {}, .owner = {}, .after_owner = {}}.bytes(), Kind::reply,
       rcode::kNotImp},
      {"NOTIFY", Parts{.flags = 0x2000}.bytes(), Kind::reply, rcode::kNotImp},
      {"UPDATE", Parts{.flags = 0x2800}.bytes(), Kind::reply, rcode::kNotImp},
      {"only a header", Parts{.counts = {}, .owner = {}, .after_owner = {}}.bytes(), Kind::reply,
       rcode::kFormErr},
      {"a question that is counted and missing", Parts{.owner = {}, .after_owner = {}}.bytes(),
       Kind::reply, rcode::kFormErr},
      {"two questions", Parts{.counts = {2, 0, 0, 0}}.bytes(), Kind::reply, rcode::kFormErr},
      {"a name without end", Parts{.owner = "\3web", .after_owner = {}}.bytes(), Kind::reply,
       rcode::kFormErr},
      {"a label longer than the rest", Parts{.owner = "\x3Fx", .after_owner = {}}.bytes(),
       Kind::reply, rcode::kFormErr},
      {"a label type that never was", Parts{.owner = std::string{"\x41x\0", 3}}.bytes(),
       Kind::reply, rcode::kFormErr},
      {"a name of 257 octets", Parts{.owner = deep}.bytes(), Kind::reply, rcode::kFormErr},
      {"a pointer to itself", Parts{.owner = "\xC0\x0C"}.bytes(), Kind::reply, rcode::kFormErr},
      {"a pointer into the header", Parts{.owner = std::string{"\xC0\0", 2}}.bytes(), Kind::reply,
       rcode::kFormErr},
      {"no class", Parts{.after_owner = std::string{"\0\1\0", 3}}.bytes(), Kind::reply,
       rcode::kFormErr},
      {"a record that is counted and missing", Parts{.counts = {1, 0, 0, 1}}.bytes(), Kind::reply,
       rcode::kFormErr},
      {"65535 records in nothing", Parts{.counts = {1, 65535, 65535, 65535}}.bytes(), Kind::reply,
       rcode::kFormErr},
      {"an OPT whose data is cut",
       Parts{.counts = {1, 0, 0, 1}, .records = opt_record(1232, 0, "ab").substr(0, 12)}.bytes(),
       Kind::reply, rcode::kFormErr},
      {"two OPTs",
       Parts{.counts = {1, 0, 0, 2}, .records = opt_record(1232) + opt_record(1232)}.bytes(),
       Kind::reply, rcode::kFormErr},
      {"an OPT below a name",
       Parts{.counts = {1, 0, 0, 1}, .records = "\1a" + opt_record(1232)}.bytes(), Kind::reply,
       rcode::kFormErr},
      {"OPT as the type asked for", Parts{.after_owner = std::string{"\0\x29\0\1", 4}}.bytes(),
       Kind::reply, rcode::kFormErr},
      {"EDNS version 1", Parts{.counts = {1, 0, 0, 1}, .records = opt_record(1232, 1)}.bytes(),
       Kind::reply, rcode::kBadVers},
      {"class CHAOS", Parts{.after_owner = std::string{"\0\1\0\3", 4}}.bytes(), Kind::reply,
       rcode::kRefused},
      {"class ANY", Parts{.after_owner = std::string{"\0\1\0\xFF", 4}}.bytes(), Kind::reply,
       rcode::kRefused},
      {"AXFR", Parts{.after_owner = std::string{"\0\xFC\0\1", 4}}.bytes(), Kind::reply,
       rcode::kRefused},
      {"IXFR", Parts{.after_owner = std::string{"\0\xFB\0\1", 4}}.bytes(), Kind::reply,
       rcode::kRefused},
      {"a TSIG of a key we do not have",
       Parts{.counts = {1, 0, 0, 1}, .records = std::string{"\0\0\xFA\0\xFF\0\0\0\0\0\0", 11}}
           .bytes(),
       Kind::reply, rcode::kNotAuth},
      {"octets behind the last record", Parts{.records = "garbage"}.bytes(), Kind::reply,
       rcode::kNoError},
      {"OPT that is not the last record",
       Parts{.counts = {1, 0, 0, 2},
             .records = opt_record(1232) + std::string{"\0\0\1\0\1\0\0\0\0\0\0", 11}}
           .bytes(),
       Kind::reply, rcode::kNoError},
      {"an unknown EDNS option",
       Parts{.counts = {1, 0, 0, 1},
             .records = opt_record(1232, 0, std::string{"\xFD\xE9\0\2xy", 6})}
           .bytes(),
       Kind::reply, rcode::kNoError},
      {"no fault", Parts{}.bytes(), Kind::reply, rcode::kNoError},
  };
  const auto zones = zones_of(instances(1));
  for (const Row& row : rows) {
    CAPTURE(row.what);
    Bytes out;
    const Answer result = answer_raw(row.message, *zones, out);
    CHECK(result.kind == row.kind);
    if (row.kind != Kind::reply) continue;
    const auto reply = parse_reply(out);
    REQUIRE(reply.has_value());
    CHECK(reply->id == 0xABCD);
    CHECK((reply->flags & flag::kResponse) != 0);
    CHECK(reply->rcode == row.rcode);
    // The same opcode, whatever it is.
    CHECK((reply->flags & flag::kOpcodeMask) ==
          ((std::to_integer<unsigned>(row.message[2]) << 8) & flag::kOpcodeMask));
  }
}

TEST_CASE("an answer is authoritative, echoes the question's spelling and copies RD and CD") {
  const auto zones = zones_of(instances(1));
  Bytes query = make_query(name("web.marathon.mesos"), type::kA,
                           {.id = 1, .checking_disabled = true, .dnssec_ok = true});
  query[kHeaderSize + 1] = std::byte{'W'};
  query[kHeaderSize + 5] = std::byte{'M'};
  Bytes out;
  answer_raw(query, *zones, out);
  const auto reply = parse_reply(out);
  REQUIRE(reply.has_value());
  CHECK(reply->question == std::string{"\3Web\x8Marathon\5mesos\0", 20});
  CHECK(reply->flags == (flag::kResponse | flag::kAuthoritative | flag::kRecursionDesired |
                         flag::kRecursionAvailable | flag::kCheckingDisabled));
  CHECK(reply->udp_size == kDefaultUdpSize);
  REQUIRE(reply->records.size() == 1);
  CHECK(reply->records[0].ttl == 5);
  // The answer's owner is the pointer to the question: it is spelt alike.
  CHECK(out[query.size() - kOptSize] == std::byte{0xC0});
  CHECK(out[query.size() - kOptSize + 1] == std::byte{0x0C});
  Bytes unavailable;
  answer_raw(query, *zones, unavailable, {.recursion_available = false});
  CHECK((parse_reply(unavailable)->flags & flag::kRecursionAvailable) == 0);
}

TEST_CASE("names that exist without the type are NODATA, others NXDOMAIN, with the apex's SOA") {
  const auto zones = zones_of(instances(2));
  struct Row {
    std::string what;
    const char* name;
    std::uint16_t qtype;
    std::uint16_t rcode;
    const char* apex;
  };
  const Row rows[] = {
      {"below nothing", "nobody.marathon.mesos", type::kA, rcode::kNxDomain, "mesos."},
      {"a suffix only of the octets", "notmesos.thisdcos.directory", type::kA, rcode::kNxDomain,
       "thisdcos.directory."},
      {"below a name with records", "x.web.marathon.mesos", type::kA, rcode::kNxDomain, "mesos."},
      {"no AAAA", "web.marathon.mesos", type::kAaaa, rcode::kNoError, "mesos."},
      {"a type nobody knows", "web.marathon.mesos", 65280, rcode::kNoError, "mesos."},
      {"the apex", "mesos", type::kA, rcode::kNoError, "mesos."},
      {"an empty non-terminal", "_tcp.marathon.mesos", type::kSrv, rcode::kNoError, "mesos."},
      {"the parent of all its frameworks' agents", "marathon.slave.mesos", type::kA,
       rcode::kNoError, "mesos."},
      {"another zone", "x.l4lb.thisdcos.directory", type::kA, rcode::kNxDomain,
       "l4lb.thisdcos.directory."},
      {"no zone, but ours", "x.thisdcos.directory", type::kA, rcode::kNxDomain,
       "thisdcos.directory."},
      {"an alias", "x.mesos.thisdcos.directory", type::kA, rcode::kNxDomain,
       "mesos.thisdcos.directory."},
      {"an alias' empty non-terminal", "_tcp.marathon.mesos.thisdcos.directory", type::kA,
       rcode::kNoError, "mesos.thisdcos.directory."},
      {"never asked of the world", "printer.local", type::kA, rcode::kNxDomain, "local."},
  };
  for (const Row& row : rows) {
    CAPTURE(row.what);
    const Reply reply = ask(*zones, row.name, row.qtype);
    CHECK(reply.rcode == row.rcode);
    CHECK(reply.authoritative());
    REQUIRE(reply.records.size() == 1);
    CHECK(reply.records[0].section == 2);
    CHECK(reply.records[0].type == type::kSoa);
    CHECK(reply.records[0].owner == row.apex);
    CHECK(reply.records[0].ttl == 1);  // min(TTL 5, MINIMUM 1), RFC 2308 §5
  }
}

TEST_CASE("queries for other names are to be forwarded") {
  const auto zones = zones_of(instances(1));
  for (const char* const other : {"example.com", "notmesos", "mesos.example", "directory", ".",
                                  "7.7.7.7.in-addr.arpa", "arpa", "in-addr.arpa"}) {
    CAPTURE(other);
    Bytes out;
    CHECK(answer_raw(make_query(name(other), type::kA, {}), *zones, out).kind ==
          Answer::Kind::forward);
  }
}

TEST_CASE("a suffix with upstreams of its own is forwarded, though its parent never is") {
  const auto zones =
      Catalog{{.forwarded = {"corp.local", "home.arpa", "sub.mesos"}}}.apply(complete_delta());
  Bytes out;
  const auto kind = [&](const char* owner) {
    return answer_raw(make_query(name(owner), type::kA, {}), *zones, out).kind;
  };
  CHECK(kind("x.corp.local") == Answer::Kind::forward);
  CHECK(kind("corp.local") == Answer::Kind::forward);
  CHECK(kind("x.local") == Answer::Kind::reply);
  CHECK(kind("x.home.arpa") == Answer::Kind::forward);
  CHECK(kind("x.sub.mesos") == Answer::Kind::reply);
}

TEST_CASE("before a complete state what is missing is SERVFAIL with the reason, not NXDOMAIN") {
  Catalog catalog{{}};
  ClusterDelta partial = instances(1);
  partial.complete = false;
  const auto zones = catalog.apply(partial);
  CHECK(ask(*zones, "web.marathon.mesos", type::kA).rcode == rcode::kNoError);
  for (const std::uint16_t qtype : {type::kA, type::kAaaa}) {
    const Reply missing = ask(*zones, "other.marathon.mesos", qtype);
    CHECK(missing.rcode == rcode::kServFail);
    CHECK(missing.extended_error == ede::kNotReady);
    CHECK_FALSE(missing.authoritative());
  }
  CHECK(ask(*zones, "other.l4lb.thisdcos.directory", type::kA).rcode == rcode::kServFail);
  CHECK(ask(*zones, "mesos", type::kSoa).rcode == rcode::kNoError);
  // What does not depend on the cluster is known from the start.
  CHECK(ask(*zones, "ready.spartan", type::kA).data(1) == Lines{"127.0.0.1"});
  CHECK(ask(*zones, "x.localhost", type::kA).rcode == rcode::kNxDomain);
  // Without EDNS there is no room for the reason.
  CHECK_FALSE(ask(*zones, "other.mesos", type::kA, {}, {.id = 4711, .udp_size = 0}).edns);
  CHECK(ask(*catalog.apply(complete_delta()), "other.marathon.mesos", type::kA).rcode ==
        rcode::kNxDomain);
  // And once complete, always.
  ClusterDelta later;
  later.tasks.push_back(came(make_task("late.1", "late")));
  CHECK(ask(*catalog.apply(later), "other.marathon.mesos", type::kA).rcode == rcode::kNxDomain);
}

TEST_CASE("fixed names are there") {
  const auto zones = zones_of(complete_delta());
  CHECK(ask(*zones, "localhost", type::kAaaa).data(1) == Lines{"::1"});
  CHECK(ask(*zones, "ns.spartan", type::kA).data(1) == Lines{"198.51.100.1"});
  CHECK(ask(*zones, "ns1.mesos", type::kA).data(1) == Lines{"198.51.100.1"});
  CHECK(ask(*zones, "mesos", type::kNs).data(1) == Lines{"ns1.mesos."});
  CHECK(ask(*zones, "thisnode.thisdcos.directory", type::kA).data(1) == Lines{"198.51.100.1"});
  const Reply soa = ask(*zones, "MESOS", type::kSoa);
  REQUIRE(soa.data(1).size() == 1);
  CHECK(soa.data(1)[0] ==
        "ns1.mesos. root.ns1.mesos. " + std::to_string(zones->serial()) + " 60 180 86400 1");
  CHECK(soa.records[0].ttl == 5);
  // DC/OS nodes trust the resolver only if this has an answer.
  CHECK(ask(*zones, "ready.spartan", type::kAny).data(1) == Lines{"127.0.0.1"});
}

TEST_CASE("aliases answer what they stand for, under their own name") {
  ClusterDelta delta = instances(1);
  delta.vips.push_back(came(VipAllocation{VipName{"web.marathon"}, ip("11.1.2.3"), std::nullopt}));
  const auto zones = zones_of(delta);
  for (const char* const alias :
       {"web.marathon.l4lb.thisdcos.directory", "web.marathon.dclb.thisdcos.directory",
        "web.marathon.dclb.thisdcos.global", "web.marathon.l4lb.thisdcos.global"}) {
    CAPTURE(alias);
    const Reply reply = ask(*zones, alias, type::kA);
    CHECK(reply.data(1) == Lines{"11.1.2.3"});
    CHECK(reply.records[0].owner == std::string{alias} + ".");
  }
  // An SRV's additional records would be owned by the alias; they are left out.
  const Reply srv = ask(*zones, "_web._tcp.marathon.mesos.thisdcos.directory", type::kSrv);
  CHECK(srv.data(1).size() == 1);
  CHECK(srv.data(3).empty());
}

TEST_CASE("an SRV answer brings the addresses of its targets") {
  const auto zones = zones_of(instances(3));
  const Reply reply = ask(*zones, "_web._tcp.marathon.mesos", type::kSrv);
  CHECK(reply.data(1).size() == 3);
  CHECK(reply.data(3).size() == 3);
  std::set<std::string> targets;
  std::set<std::string> owners;
  for (const ReplyRecord& record : reply.records) {
    if (record.section == 1) targets.insert(record.data.substr(record.data.rfind(' ') + 1));
    if (record.section == 3) owners.insert(record.owner);
  }
  CHECK(targets == owners);
}

TEST_CASE("each rotation begins with another answer and loses none") {
  const auto zones = zones_of(instances(4));
  for (const std::uint16_t qtype : {type::kA, type::kSrv}) {
    const std::string owner = qtype == type::kA ? "web.marathon.mesos" : "_web._tcp.marathon.mesos";
    std::set<std::string> first;
    std::set<std::string> all;
    for (std::uint32_t rotation = 0; rotation < 4; ++rotation) {
      const Lines data = ask(*zones, owner, qtype, {.rotation = UINT32_MAX - 3 + rotation}).data(1);
      REQUIRE(data.size() == 4);
      first.insert(data.front());
      all.insert(data.begin(), data.end());
    }
    CHECK(first.size() == 4);
    CHECK(all.size() == 4);
  }
}

TEST_CASE("what does not fit is left out: first the additional section, then answers, with TC") {
  struct Row {
    std::string what;
    int count;
    std::uint16_t qtype;
    std::uint16_t udp_size;  // 0: no EDNS
    Transport transport;
    std::size_t answers;
    std::size_t additional;
    bool truncated;
  };
  // web.marathon.mesos: 12 + 24 octets, then 16 an address; OPT takes 11.
  const Row rows[] = {
      {"29 addresses are 500 octets", 29, type::kA, 0, Transport::udp, 29, 0, false},
      {"30 are 516", 30, type::kA, 0, Transport::udp, 29, 0, true},
      {"OPT takes room too", 30, type::kA, 512, Transport::udp, 29, 0, true},
      {"a size below 512 is 512", 30, type::kA, 100, Transport::udp, 29, 0, true},
      {"74 fit into 1232", 74, type::kA, 1232, Transport::udp, 74, 0, false},
      {"75 do not", 75, type::kA, 1232, Transport::udp, 74, 0, true},
      {"a larger size is cut to 1232", 75, type::kA, 4096, Transport::udp, 74, 0, true},
      {"TCP has room, whatever EDNS says", 300, type::kA, 512, Transport::tcp, 300, 0, false},
      {"SRV with its addresses", 4, type::kSrv, 0, Transport::udp, 4, 4, false},
      {"SRV without them is whole", 7, type::kSrv, 0, Transport::udp, 7, 0, false},
      {"SRV over TCP", 50, type::kSrv, 0, Transport::tcp, 50, 50, false},
  };
  for (const Row& row : rows) {
    CAPTURE(row.what);
    const auto zones = zones_of(instances(row.count));
    const Reply reply =
        ask(*zones, row.qtype == type::kA ? "web.marathon.mesos" : "_web._tcp.marathon.mesos",
            row.qtype, {.transport = row.transport}, {.id = 4711, .udp_size = row.udp_size});
    CHECK(reply.data(1).size() == row.answers);
    CHECK(reply.data(3).size() == row.additional);
    CHECK(reply.truncated() == row.truncated);
    CHECK(reply.edns == (row.udp_size != 0));
  }
}

TEST_CASE("truncated answers rotate, so that every address is seen in time") {
  const auto zones = zones_of(instances(60));
  std::set<std::string> seen;
  for (std::uint32_t rotation = 0; rotation < 60; ++rotation) {
    const Lines data = ask(*zones, "web.marathon.mesos", type::kA, {.rotation = rotation},
                           {.id = 4711, .udp_size = 0})
                           .data(1);
    seen.insert(data.begin(), data.end());
  }
  CHECK(seen.size() == 60);
}

TEST_CASE("an RRset beyond a TCP message is cut where it still fits") {
  const auto zones = zones_of(instances(4200));
  Bytes out;
  const Answer result = answer_raw(make_query(name("web.marathon.mesos"), type::kA, {}), *zones,
                                   out, {.transport = Transport::tcp});
  CHECK(result.size <= kMaxMessageSize);
  const auto reply = parse_reply(out);
  REQUIRE(reply.has_value());
  CHECK(reply->data(1).size() > 4000);
}

TEST_CASE("any answer parses back, echoes id and question and stays within the limit") {
  muster::testing::for_each_seed(40, [](std::uint64_t seed) {
    MUSTER_SHOW_SEED(seed);
    Rng rng{seed};
    ClusterDelta delta = instances(static_cast<int>(rng.below(80)));
    delta.complete = rng.chance(80);
    const auto zones = zones_of(delta);
    const Lines names{"web.marathon.mesos",
                      "_web._tcp.marathon.mesos",
                      "mesos",
                      "x.mesos",
                      "ready.spartan",
                      "_tcp.marathon.mesos",
                      ".",
                      "example.com",
                      "web.marathon.mesos.thisdcos.directory"};
    for (int i = 0; i < 40; ++i) {
      const std::uint16_t qtypes[] = {type::kA,   type::kAaaa, type::kSrv, type::kAny,
                                      type::kSoa, type::kNs,   0,          65535};
      QueryOptions asked{
          .id = static_cast<std::uint16_t>(rng.below(65536)),
          .udp_size = static_cast<std::uint16_t>(rng.chance(50) ? 0 : rng.below(5000))};
      Bytes query = make_query(name(names[rng.below(names.size())]), qtypes[rng.below(8)], asked);
      const bool spoilt = rng.chance(40);
      for (std::uint64_t n = spoilt ? rng.below(4) + 1 : 0; n > 0; --n) {
        query[rng.below(query.size())] = static_cast<std::byte>(rng.below(256));
      }
      if (rng.chance(10)) query.resize(rng.below(query.size()));
      const bool tcp = rng.chance(30);
      Bytes out;
      const Answer result = answer_raw(query, *zones, out,
                                       {.rotation = static_cast<std::uint32_t>(rng.next()),
                                        .transport = tcp ? Transport::tcp : Transport::udp});
      if (result.kind != Answer::Kind::reply) continue;
      const auto reply = parse_reply(out);
      REQUIRE(reply.has_value());
      CHECK(out[0] == query[0]);
      CHECK(out[1] == query[1]);
      CHECK(result.size <= (tcp ? kMaxMessageSize : kDefaultUdpSize));
      if (asked.udp_size == 0 && !tcp && !spoilt) CHECK(result.size <= kMinUdpSize);
      if (reply->questions == 1) {
        CHECK(std::equal(
            out.begin() + kHeaderSize,
            out.begin() + static_cast<std::ptrdiff_t>(kHeaderSize + reply->question.size() + 4),
            query.begin() + kHeaderSize));
      }
    }
  });
}

TEST_SUITE_END();
