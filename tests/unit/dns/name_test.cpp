#include "base/rng.hpp"
#include "dns/core/reply.hpp"
#include "dns_support.hpp"
#include "tests/support/seeds.hpp"

using namespace muster;
using namespace muster::dns;
using namespace muster::dns::testing;

TEST_SUITE_BEGIN("dns/name");

TEST_CASE("text that is no name is refused with the reason") {
  struct Row {
    std::string what;
    std::string text;
    DecodeError error;
  };
  std::string long_name;
  for (int i = 0; i < 128; ++i) long_name += "a.";
  const Row rows[] = {
      {"an empty label", "a..b", DecodeError::bad_label},
      {"a leading dot", ".a", DecodeError::bad_label},
      {"two dots", "..", DecodeError::bad_label},
      {"a label of 64", std::string(64, 'x'), DecodeError::bad_label},
      {"over 255 octets", long_name, DecodeError::name_too_long},
      {"a lone backslash", "a\\", DecodeError::bad_escape},
      {"two digits", "\\12", DecodeError::bad_escape},
      {"a value over 255", "\\256", DecodeError::bad_escape},
  };
  for (const Row& row : rows) {
    CAPTURE(row.what);
    const auto parsed = Name::parse(row.text);
    REQUIRE_FALSE(parsed.has_value());
    CHECK(parsed.error() == row.error);
  }
  CHECK(Name::parse("")->to_string() == ".");
  CHECK(Name::parse("WWW.Example")->to_string() == "www.example.");
  CHECK(Name::parse("a\\.b.\\000\\032")->to_string() == "a\\.b.\\000\\032.");
}

TEST_CASE("wire names that lie about themselves are refused with the reason") {
  struct Row {
    std::string what;
    std::string message;
    std::size_t at;
    DecodeError error;
  };
  std::string deep;
  for (int i = 0; i < 5; ++i) deep += '\x3F' + std::string(63, 'a');
  const Row rows[] = {
      {"nothing", "", 0, DecodeError::truncated},
      {"a label cut short", "\5abc", 0, DecodeError::truncated},
      {"no root", "\3abc", 0, DecodeError::truncated},
      {"half a pointer", std::string{"\0\xC0", 2}, 1, DecodeError::truncated},
      {"a pointer to itself", std::string{"\xC0\0", 2}, 0, DecodeError::bad_pointer},
      {"a pointer forward", std::string{"\xC0\2\0", 3}, 0, DecodeError::bad_pointer},
      {"a loop of two", std::string{"\1a\xC0\4\1b\xC0\0", 8}, 4, DecodeError::bad_pointer},
      {"label type 01", std::string{"\x41x\0", 3}, 0, DecodeError::reserved_label},
      {"label type 10", std::string{"\x81x\0", 3}, 0, DecodeError::reserved_label},
      {"over 255 octets", deep + '\0', 0, DecodeError::name_too_long},
  };
  for (const Row& row : rows) {
    CAPTURE(row.what);
    const Bytes message = bytes_of(row.message);
    ByteReader reader{std::span{message}.subspan(row.at)};
    const auto decoded = Name::decode(message, reader);
    REQUIRE_FALSE(decoded.has_value());
    CHECK(decoded.error() == row.error);
  }
}

TEST_CASE("a name is within its ancestors and not within what only looks like one") {
  CHECK(name("a.mesos").is_within(name("mesos")));
  CHECK(name("mesos").is_within(name("MESOS.")));
  CHECK(name("mesos").is_within(name(".")));
  CHECK_FALSE(name("notmesos").is_within(name("mesos")));
  CHECK_FALSE(name("mesos").is_within(name("a.mesos")));
}

TEST_CASE("folding eight octets at a time is folding one by one") {
  muster::testing::for_each_seed(200, [](std::uint64_t seed) {
    MUSTER_SHOW_SEED(seed);
    Rng rng{seed};
    std::string from;
    for (std::uint64_t n = rng.below(260); n > 0; --n) from += static_cast<char>(rng.below(256));
    std::string to(from.size() + 8, '!');
    fold_copy(to.data(), from.data(), from.size());
    std::string want = from;
    for (char& c : want) {
      if (c >= 'A' && c <= 'Z') c = static_cast<char>(c + 32);
    }
    CHECK(to.substr(0, from.size()) == want);
  });
}

TEST_CASE("a walk over a reply finds its TTLs, and OPT, and the truth about its end") {
  const std::string head{"\0\1\x81\x80\0\1\0\1\0\0\0\1", 12};
  const std::string question{"\1a\0\0\1\0\1", 7};
  const std::string record{"\xC0\x0C\0\1\0\1\0\0\0\x3C\0\4\1\2\3\4", 16};
  const std::string opt{"\0\0\x29\4\xD0\1\0\0\0\0\0", 11};
  const auto shape = walk_reply(bytes_of(head + question + record + opt));
  REQUIRE(shape.has_value());
  CHECK(shape->question_end == 19);
  CHECK(shape->ttl_offsets == std::vector<std::uint16_t>{25});
  CHECK(shape->min_ttl == 60);
  CHECK(shape->opt_at == 35);
  CHECK(shape->rcode == 16);  // the upper bits are OPT's
  const std::string negative{"\xC0\x0C\0\1\0\1\xFF\0\0\x3C\0\4\1\2\3\4", 16};
  CHECK(walk_reply(bytes_of(head + question + negative + opt))->min_ttl == 0);
  CHECK_FALSE(walk_reply(bytes_of(head + question + record)).has_value());
  CHECK_FALSE(walk_reply(bytes_of(head.substr(0, 11))).has_value());
  CHECK_FALSE(walk_reply({}).has_value());
  std::string cut = head + question + record.substr(0, 9);
  CHECK_FALSE(walk_reply(bytes_of(cut)).has_value());
  cut[2] = '\x83';
  CHECK(walk_reply(bytes_of(cut)).has_value());  // TC: it says so itself
}

TEST_CASE("replies read like dig's") {
  Catalog catalog{{.first_serial = 5}};
  ClusterDelta delta = complete_delta();
  Task task = make_task("test", "web");
  task.host_ports = {port(31000)};
  delta.tasks = {came(task)};
  const auto zones = catalog.apply(delta);
  const auto text_of = [&](const char* owner, std::uint16_t qtype) {
    Bytes out(kMaxMessageSize);
    Query query;
    const Bytes message = make_query(name(owner), qtype, {.id = 7});
    out.resize(answer(message, *zones, {}, out, query).size);
    return reply_text(out);
  };
  CHECK(text_of("_web._tcp.marathon.mesos", type::kSrv) ==
        ";; status: NOERROR, id: 7\n"
        ";; flags: qr aa rd ra; QUERY: 1, ANSWER: 1, AUTHORITY: 0, ADDITIONAL: 2\n"
        ";; EDNS: version 0, udp 1232\n"
        "\n;; QUESTION SECTION:\n"
        ";_web._tcp.marathon.mesos.\tIN\tSRV\n"
        "\n;; ANSWER SECTION:\n"
        "_web._tcp.marathon.mesos.\t5\tIN\tSRV\t0 1 31000 web-iffe9-s0.marathon.slave.mesos.\n"
        "\n;; ADDITIONAL SECTION:\n"
        "web-iffe9-s0.marathon.slave.mesos.\t5\tIN\tA\t10.0.0.5\n");
  CHECK(text_of("none.mesos", type::kA).find("NXDOMAIN") != std::string::npos);
  CHECK(reply_text({}) == ";; the reply is shorter than a header\n");
  Bytes cut = bytes_of(std::string{"\0\1\x80\0\0\1\0\0\0\0\0\0\3ab", 15});
  CHECK(reply_text(cut).find("malformed") != std::string::npos);
}

TEST_CASE("data is text by its type, and hex where it is not what it claims") {
  const auto text = [](std::uint16_t rtype, std::string_view data) {
    const Bytes bytes = bytes_of(data);
    return data_text(rtype, bytes, 0, bytes.size());
  };
  CHECK(text(type::kA, "\1\2\3\4") == "1.2.3.4");
  CHECK(text(type::kA, "\1\2\3") == "\\# 3 010203");
  CHECK(text(type::kA, "\1\2\3\4\5") == "\\# 5 0102030405");
  CHECK(text(type::kTxt, "\3a\"b\1\n") == "\"a\\\"b\" \"\\010\"");
  CHECK(text(type::kMx, std::string_view{"\0\x0A\1m\0", 5}) == "10 m.");
  CHECK(text(type::kSrv, "\0") == "\\# 0");
  CHECK(text(65280, "\xAB") == "\\# 1 ab");
  CHECK(type_text(type::kSrv) == "SRV");
  CHECK(type_text(65280) == "TYPE65280");
  CHECK(parse_type("srv") == type::kSrv);
  CHECK(parse_type("TYPE65280") == 65280);
  CHECK_FALSE(parse_type("TYPE").has_value());
  CHECK_FALSE(parse_type("TYPE70000").has_value());
  CHECK_FALSE(parse_type("nonsense").has_value());
  CHECK(rcode_text(3) == "NXDOMAIN");
  CHECK(rcode_text(16) == "BADVERS");
  CHECK(rcode_text(99) == "RCODE99");
}

TEST_SUITE_END();
