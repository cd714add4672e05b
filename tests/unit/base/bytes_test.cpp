#include <string>
#include <vector>

#include <doctest/doctest.h>

#include "base/byte_reader.hpp"
#include "base/byte_writer.hpp"

using namespace muster;

TEST_SUITE_BEGIN("base/bytes");

TEST_CASE("what ByteWriter writes ByteReader reads") {
  ByteWriter writer;
  writer.u8(7);
  writer.u16(0xABCD);
  writer.u32(0x01020304);
  writer.u64(0xFEDCBA9876543210ULL);
  writer.text("muster");
  for (const std::uint64_t value : {0ULL, 127ULL, 128ULL, 300ULL, ~0ULL}) writer.varint(value);
  ByteReader reader{writer.bytes()};
  CHECK(reader.u8() == 7);
  CHECK(reader.u16() == 0xABCD);
  CHECK(reader.u32() == 0x01020304);
  CHECK(reader.u64() == 0xFEDCBA9876543210ULL);
  CHECK(reader.text() == "muster");
  for (const std::uint64_t value : {0ULL, 127ULL, 128ULL, 300ULL, ~0ULL}) {
    CHECK(reader.varint() == value);
  }
  CHECK(reader.ok());
  CHECK(reader.remaining() == 0);
}

TEST_CASE("a reader that runs out stays failed and returns nothing") {
  struct Row {
    std::string what;
    std::vector<std::uint8_t> bytes;
  };
  const Row rows[] = {
      {"varint cut short", {0x80}},
      {"varint of eleven octets", {0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 1}},
      {"varint above 64 bits", {0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x7F}},
      {"text longer than what is left", {5, 'a', 'b'}},
      {"text of an absurd length", {0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 1, 'a'}},
  };
  for (const Row& row : rows) {
    CAPTURE(row.what);
    ByteReader reader{std::as_bytes(std::span{row.bytes})};
    CHECK(reader.text().empty());
    CHECK_FALSE(reader.ok());
    CHECK(reader.u8() == 0);
    CHECK_FALSE(reader.ok());
  }
}

TEST_SUITE_END();
