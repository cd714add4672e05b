#include "mesos/core/recordio.hpp"

#include <cstdint>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include "base/rng.hpp"
#include "mesos/core/json_scan.hpp"

using namespace muster::mesos;
using muster::Rng;

namespace {

/// All records of `text`, fed in pieces of `piece` octets.
std::vector<std::string> decode(RecordIoDecoder& decoder, std::string_view text,
                                std::size_t piece) {
  std::vector<std::string> out;
  for (std::size_t at = 0; at < text.size(); at += piece) {
    decoder.feed(text.substr(at, piece));
    while (auto record = decoder.next()) out.push_back(std::move(*record));
  }
  return out;
}

}  // namespace

TEST_SUITE_BEGIN("mesos/core/recordio");

TEST_CASE("headers that are no decimal length end the stream for good") {
  struct Row {
    std::string what;
    const char* bytes;
    RecordError error;
  };
  const Row rows[] = {
      {"no digits", "\n{}", RecordError::bad_header},
      {"a letter", "1x\n", RecordError::bad_header},
      {"a sign", "-1\n", RecordError::bad_header},
      {"a carriage return", "2\r\n{}", RecordError::bad_header},
      {"a space", " 2\n{}", RecordError::bad_header},
      {"digits without end", "00000000000000000000000", RecordError::bad_header},
      {"larger than the limit", "1001\n", RecordError::record_too_large},
      {"more than fits in 32 bits", "9999999999\n", RecordError::record_too_large},
  };
  for (const Row& row : rows) {
    CAPTURE(row.what);
    for (const std::size_t piece : {std::size_t{1}, std::size_t{100}}) {
      RecordIoDecoder decoder{1000};
      CHECK(decode(decoder, row.bytes, piece).empty());
      REQUIRE(decoder.error().has_value());
      CHECK(*decoder.error() == row.error);
      decoder.feed("2\n{}");
      CHECK_FALSE(decoder.next().has_value());
    }
  }
}

TEST_CASE("records come out whole however the bytes are cut") {
  const std::string text = "2\n{}0\n11\n{\"type\":\"X\"3\n}\n}";
  for (std::size_t piece = 1; piece <= text.size(); ++piece) {
    CAPTURE(piece);
    RecordIoDecoder decoder;
    CHECK(decode(decoder, text, piece) ==
          std::vector<std::string>{"{}", "", "{\"type\":\"X\"", "}\n}"});
    CHECK(decoder.at_boundary());
    CHECK_FALSE(decoder.error().has_value());
  }
}

TEST_CASE("a record that is cut short is not handed out") {
  RecordIoDecoder decoder;
  CHECK(decode(decoder, "5\nabcd", 3).empty());
  CHECK_FALSE(decoder.at_boundary());
}

TEST_CASE("scanning damaged JSON fails and does not run past the end") {
  for (const char* text : {"", "{", "[1,2", "{\"a\"", "{\"a\":", "{\"a\":}", "{\"a\" 1}", "{a:1}",
                           "{\"a\":1,}", "{\"a\":\"x}", "{\"a\":\"x\\\"}", "{\"a\":1 \"b\":2}"}) {
    CAPTURE(text);
    JsonScan scan{text};
    scan.object([](std::string_view) {});
    CHECK_FALSE(scan.finish());
  }
}

TEST_CASE("scanning visits members and elements, and passes over what nobody takes") {
  JsonScan scan{R"( {"a" : [1, "]}\"\\", {"b":[]}] , "c\"d":{"e":null},"f":true} )"};
  std::vector<std::string> seen;
  CHECK(scan.object([&](std::string_view key) {
    seen.emplace_back(key);
    if (key == "a") scan.array([&] { seen.emplace_back(scan.skip()); });
  }));
  CHECK(scan.finish());
  CHECK(seen == std::vector<std::string>{"a", "1", R"("]}\"\\")", R"({"b":[]})", R"(c\"d)", "f"});
}

// Octet by octet, and without regard to how the scanner goes about it. 0: it does not end.
std::size_t end_of_value(std::string_view text) {
  std::size_t depth = 0;
  bool quoted = false;
  for (std::size_t at = 0; at < text.size(); ++at) {
    const char c = text[at];
    if (quoted) {
      if (c == '\\') ++at;
      if (c == '"') quoted = false;
    } else if (c == '"') {
      quoted = true;
    } else if (c == '{' || c == '[') {
      ++depth;
    } else if ((c == '}' || c == ']') && --depth == 0) {
      return at + 1;
    }
  }
  return 0;
}

TEST_CASE("values of any length end where they end, whatever stands in their strings") {
  const std::uint64_t seed = 7;
  INFO("seed ", seed);
  Rng rng{seed};
  // Plain letters make blocks that can be passed whole; the rest is what must not fool that.
  constexpr std::string_view kAny = "aaaaaaaaaaaaaaaaaaaaaaaaaaaa,,::[]{}\"\"\"\\\\\x7f_Y;";
  for (int round = 0; round < 20'000; ++round) {
    std::string text{"["};
    const std::size_t size = rng.below(400);
    const std::uint64_t variety = 1 + rng.below(kAny.size());
    for (std::size_t i = 0; i < size; ++i) text += kAny[rng.below(variety)];
    if (rng.chance(50)) text += "\"]]}}";
    CAPTURE(text);
    const std::size_t end = end_of_value(text);
    JsonScan scan{text};
    const std::string_view value = scan.skip();
    REQUIRE(scan.ok() == (end != 0));
    REQUIRE(value.size() == end);
  }
}

TEST_SUITE_END();
