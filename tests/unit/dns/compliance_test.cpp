// What ISC's DNS-Compliance-Testing asks of a server (RFC 8906): EDNS versions, flags and options,
// header flags, opcodes and types, over UDP and TCP, each at the zone's apex as it does.
#include <array>
#include <functional>

#include "base/byte_writer.hpp"
#include "dns_support.hpp"

using namespace muster;
using namespace muster::dns;
using namespace muster::dns::testing;

TEST_SUITE_BEGIN("dns/compliance");

namespace {

struct Option {
  std::uint16_t code;
  Bytes data;
};

struct Ask {
  std::string what;
  std::uint16_t flags = 0;
  std::uint16_t qtype = type::kSoa;
  bool edns = false;
  std::uint16_t udp_size = 4096;
  std::uint8_t version = 0;
  std::uint16_t edns_flags = 0;
  std::vector<Option> options{};
  bool question = true;
};

Bytes message_of(const Ask& ask) {
  ByteWriter out;
  out.u16(0x1234);
  out.u16(ask.flags);
  out.u16(ask.question ? 1 : 0);
  out.u16(0);
  out.u16(0);
  out.u16(ask.edns ? 1 : 0);
  if (ask.question) {
    out.raw(std::as_bytes(std::span{name("mesos").wire()}));
    out.u16(ask.qtype);
    out.u16(kClassIn);
  }
  if (!ask.edns) return std::move(out).release();
  out.u8(0);
  out.u16(type::kOpt);
  out.u16(ask.udp_size);
  out.u8(0);
  out.u8(ask.version);
  out.u16(ask.edns_flags);
  ByteWriter options;
  for (const Option& option : ask.options) {
    options.u16(option.code);
    options.u16(static_cast<std::uint16_t>(option.data.size()));
    options.raw(option.data);
  }
  out.u16(static_cast<std::uint16_t>(options.size()));
  out.raw(options.bytes());
  return std::move(out).release();
}

const ZoneSnapshot& zones() {
  static const auto made = [] {
    Catalog catalog{{.node_addresses = {ip("127.0.0.1")}}};
    ClusterDelta delta = complete_delta();
    delta.tasks.push_back(came(make_task("web.1", "web")));
    return catalog.apply(delta);
  }();
  return *made;
}

const Cookies kCookies{Cookies::Secret{}};
const Bytes kClient{std::byte{127}, std::byte{0}, std::byte{0}, std::byte{1}};

// The reply to one check; every check wants one that can be read and echoes id and question.
Reply reply_to(const Ask& ask, Transport transport) {
  const Bytes message = message_of(ask);
  Bytes out(transport == Transport::udp ? kDefaultUdpSize : kMaxMessageSize);
  Query query;
  const Answer made = answer(message, zones(),
                             {.transport = transport,
                              .recursion_available = false,
                              .cookies = &kCookies,
                              .client = kClient,
                              .now = 1'700'000'000},
                             out, query);
  REQUIRE(made.kind == Answer::Kind::reply);
  const auto reply = parse_reply(std::span{out}.first(made.size));
  REQUIRE(reply.has_value());
  CHECK(reply->id == 0x1234);
  CHECK((reply->flags & flag::kResponse) != 0);
  CHECK((reply->flags & flag::kOpcodeMask) == (ask.flags & flag::kOpcodeMask));
  CHECK_FALSE(reply->truncated());
  return *reply;
}

void check_well_formed(const Ask& ask, const Reply& reply) {
  CHECK(reply.questions == 1);
  CHECK(reply.edns == ask.edns);
  CHECK((reply.flags & 0x0040) == 0);                // Z stays zero
  CHECK((reply.flags & flag::kAuthenticData) == 0);  // nothing here is signed
  CHECK((reply.flags & flag::kRecursionDesired) == (ask.flags & flag::kRecursionDesired));
  CHECK((reply.flags & flag::kCheckingDisabled) == (ask.flags & flag::kCheckingDisabled));
}

const Bytes kNothing{};

std::vector<Ask> soa_checks() {
  const Option nsid{3, kNothing};
  const Option subnet{8, bytes_of(std::string_view{"\0\1\0\0", 4})};
  const Option expire{9, kNothing};
  const Option cookie{10, bytes_of("8octets!")};
  const Option keepalive{11, kNothing};
  const Option padding{12, Bytes(40)};
  const Option unknown{100, kNothing};
  std::vector<Ask> out{
      {.what = "dns"},
      {.what = "aa", .flags = flag::kAuthoritative},
      {.what = "ad", .flags = flag::kAuthenticData},
      {.what = "cd", .flags = flag::kCheckingDisabled},
      {.what = "ra", .flags = flag::kRecursionAvailable},
      {.what = "rd", .flags = flag::kRecursionDesired},
      {.what = "tc", .flags = flag::kTruncated},
      {.what = "zflag", .flags = 0x0040},
      {.what = "all flags", .flags = 0x07F0},
      {.what = "rcode in a query", .flags = 0x000F},
      {.what = "edns", .edns = true},
      {.what = "edns@512", .edns = true, .udp_size = 512},
      {.what = "edns@0", .edns = true, .udp_size = 0},
      {.what = "edns@65535", .edns = true, .udp_size = 65535},
      {.what = "do", .edns = true, .edns_flags = 0x8000},
      {.what = "docd", .flags = flag::kCheckingDisabled, .edns = true, .edns_flags = 0x8000},
      {.what = "doad", .flags = flag::kAuthenticData, .edns = true, .edns_flags = 0x8000},
      {.what = "ednsflags", .edns = true, .edns_flags = 0x0080},
      {.what = "all ednsflags", .edns = true, .edns_flags = 0xFFFF},
      {.what = "ednsopt", .edns = true, .options = {unknown}},
      {.what = "ednsnsid", .edns = true, .options = {nsid}},
      {.what = "ednscookie", .edns = true, .options = {cookie}},
      {.what = "ednsexpire", .edns = true, .options = {expire}},
      {.what = "ednssubnet", .edns = true, .options = {subnet}},
      {.what = "ednskeepalive", .edns = true, .options = {keepalive}},
      {.what = "ednspadding", .edns = true, .options = {padding}},
      {.what = "optlist", .edns = true, .options = {nsid, subnet, expire, cookie}},
      {.what = "signed", .edns = true, .udp_size = 512, .edns_flags = 0x8000},
  };
  return out;
}

}  // namespace

TEST_CASE("flags, EDNS flags, sizes and options change nothing of an SOA answer") {
  for (const Transport transport : {Transport::udp, Transport::tcp}) {
    for (const Ask& ask : soa_checks()) {
      CAPTURE(ask.what);
      CAPTURE(transport == Transport::tcp);
      const Reply reply = reply_to(ask, transport);
      check_well_formed(ask, reply);
      CHECK(reply.rcode == rcode::kNoError);
      CHECK(reply.authoritative());
      REQUIRE(reply.records.size() >= 1);
      CHECK(reply.records[0].type == type::kSoa);
      CHECK(reply.records[0].owner == "mesos.");
    }
  }
}

TEST_CASE("every EDNS version but 0 is BADVERS with an OPT of version 0, whatever else is asked") {
  const std::vector<std::vector<Option>> options{{},
                                                 {{100, kNothing}},
                                                 {{3, kNothing}},
                                                 {{10, bytes_of("8octets!")}},
                                                 {{9, kNothing}},
                                                 {{8, bytes_of(std::string_view{"\0\1\0\0", 4})}},
                                                 {{10, bytes_of("bad")}}};
  constexpr std::array<std::uint8_t, 4> kVersions{1, 2, 100, 255};
  constexpr std::array<std::uint16_t, 3> kFlags{0x0000, 0x8000, 0x0080};
  for (const std::uint8_t version : kVersions) {
    for (const std::uint16_t edns_flags : kFlags) {
      for (const auto& each : options) {
        Ask ask{.what = "", .edns = true, .version = version, .edns_flags = edns_flags};
        ask.options = each;
        CAPTURE(unsigned{version});
        const Reply reply = reply_to(ask, Transport::udp);
        CHECK(reply.rcode == rcode::kBadVers);
        CHECK(reply.edns);
        CHECK(reply.records.empty());
      }
    }
  }
}

TEST_CASE("every opcode but QUERY is NOTIMP, with a question and for a header alone") {
  constexpr std::array<std::uint16_t, 3> kFlags{0x0000, 0x0100, 0x07F0};
  for (std::uint16_t opcode = 1; opcode < 16; ++opcode) {
    for (const bool question : {true, false}) {
      for (const std::uint16_t flags : kFlags) {
        Ask ask{.what = "", .flags = static_cast<std::uint16_t>(opcode << 11 | flags)};
        ask.question = question;
        CAPTURE(opcode);
        CAPTURE(question);
        const Reply reply = reply_to(ask, Transport::udp);
        CHECK(reply.rcode == rcode::kNotImp);
        CHECK((reply.flags & 0x07F0) == 0);
        CHECK(reply.records.empty());
      }
    }
  }
}

TEST_CASE("every type is answered: with data, or with NODATA and the zone's SOA") {
  std::vector<std::uint16_t> types;
  for (std::uint16_t i = 1; i <= 65; ++i) {
    if (i != type::kOpt) types.push_back(i);  // OPT is no type of a question
  }
  constexpr std::array<std::uint16_t, 23> kMore{99,  100, 101,  102,   103,   104,   105,  106,
                                                107, 108, 109,  256,   257,   258,   259,  260,
                                                261, 666, 1000, 32768, 32769, 65280, 65535};
  for (const std::uint16_t more : kMore) {
    types.push_back(more);
  }
  for (const std::uint16_t qtype : types) {
    for (const bool edns : {false, true}) {
      Ask ask{.what = type_text(qtype), .qtype = qtype, .edns = edns};
      CAPTURE(ask.what);
      const Reply reply = reply_to(ask, Transport::udp);
      check_well_formed(ask, reply);
      CHECK(reply.rcode == rcode::kNoError);
      CHECK(reply.authoritative());
      const bool there = qtype == type::kSoa || qtype == type::kNs;
      CHECK(reply.data(1).size() == (there ? 1 : 0));
      if (there) continue;
      REQUIRE(reply.data(2).size() == 1);
      CHECK(reply.records[0].type == type::kSoa);
    }
  }
}

TEST_CASE("an option that is cut and a cookie of a length none has are FORMERR") {
  const std::vector<Bytes> wrong{Bytes(1), Bytes(7), Bytes(9), Bytes(15), Bytes(41), Bytes(100)};
  for (const Bytes& cookie : wrong) {
    Ask ask{.what = "cookie", .edns = true};
    ask.options = {{10, cookie}};
    CAPTURE(cookie.size());
    CHECK(reply_to(ask, Transport::udp).rcode == rcode::kFormErr);
  }
  Ask ask{.what = "cut", .edns = true};
  ask.options = {{3, Bytes(10)}};
  Bytes message = message_of(ask);
  message[message.size() - 11] = std::byte{200};  // the option's own length
  Bytes out(kDefaultUdpSize);
  Query query;
  CHECK(answer(message, zones(), {}, out, query).rcode == rcode::kFormErr);
}

TEST_CASE("a query without a question is FORMERR, unless it only wants a cookie") {
  Ask ask{.what = "no question"};
  ask.question = false;
  CHECK(reply_to(ask, Transport::udp).rcode == rcode::kFormErr);
  ask.edns = true;
  CHECK(reply_to(ask, Transport::udp).rcode == rcode::kFormErr);
  ask.options = {{10, bytes_of("8octets!")}};
  const Reply reply = reply_to(ask, Transport::udp);
  CHECK(reply.rcode == rcode::kNoError);
  CHECK(reply.questions == 0);
  CHECK(reply.edns);
}

TEST_SUITE_END();
