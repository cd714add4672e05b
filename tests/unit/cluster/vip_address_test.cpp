#include "cluster/core/vip_address.hpp"

#include <string>
#include <vector>

#include <doctest/doctest.h>

using namespace muster;
using namespace muster::cluster;

namespace {

IpAddress ip(const char* text) {
  return IpAddress::parse(text).value();
}

std::string hex(std::span<const std::uint8_t> octets) {
  std::string text;
  for (const std::uint8_t octet : octets) {
    text += "0123456789abcdef"[octet >> 4];
    text += "0123456789abcdef"[octet & 15];
  }
  return text;
}

}  // namespace

TEST_SUITE_BEGIN("cluster/core/vip_address");

TEST_CASE("SHA-1 gives the digests of RFC 3174 and of the padding's edges") {
  struct Row {
    std::string text;
    std::string digest;
  };
  const std::vector<Row> rows{
      {"", "da39a3ee5e6b4b0d3255bfef95601890afd80709"},
      {"abc", "a9993e364706816aba3e25717850c26c9cd0d89d"},
      {"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
       "84983e441c3bd26ebaae4aa1f95129e5e54670f1"},
      {std::string(1'000'000, 'a'), "34aa973cd4c4daa4f61eeb2bdbad27316534016f"},
      {std::string(55, 'a'), "c1c8bbdc22796e28c0e15163d20899b65621d65a"},
      {std::string(56, 'a'), "c2db330f6083854c99d4b5bfb6e8f29f201be699"},
      {std::string(63, 'a'), "03f09f5b158a7a8cdad920bddc29b81c18a551f5"},
      {std::string(64, 'a'), "0098ba824b5c16427bd7a1122a5a442a25ec644d"},
      {std::string(65, 'a'), "11655326c708d70319be2610e8a57d9a5b959d3b"},
  };
  for (const Row& row : rows) {
    CAPTURE(row.text.size());
    CHECK(hex(sha1(row.text)) == row.digest);
  }
}

TEST_CASE("names get the addresses they have in DC/OS") {
  const AddressRange v4 = default_vip_range_v4();
  const AddressRange v6 = default_vip_range_v6();
  const AddressRange to_254{ip("11.0.0.0"), ip("11.255.255.254")};
  const AddressRange small{ip("11.0.0.0"), ip("11.0.0.254")};
  struct Row {
    std::string name;
    AddressRange range;
    const char* address;
  };
  const std::vector<Row> rows{
      {"redis.marathon", v4, "11.202.66.36"},
      {"redis.marathon", to_254, "11.202.66.162"},
      {"foo.bar", small, "11.0.0.37"},
      {"baz.qux", small, "11.0.0.39"},
      {"qux.ipv6", v6, "fd01:c::6d6d:9c64:fd19:f251"},
  };
  for (const Row& row : rows) {
    CAPTURE(row.name);
    CHECK(preferred_address(row.name, row.range).to_string() == row.address);
  }
}

TEST_CASE("an address stays in its range, whatever the range") {
  const std::vector<AddressRange> ranges{
      {ip("10.0.0.1"), ip("10.0.0.1")},
      {ip("10.0.0.1"), ip("10.0.0.2")},
      {ip("0.0.0.0"), ip("255.255.255.255")},
      {ip("fd00::1"), ip("fd00::1")},
      {ip("fd00::1"), ip("fd00::3")},
      {ip("::"), ip("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff")},
      {ip("::"), ip("8000::1")},
  };
  for (const AddressRange& range : ranges) {
    CAPTURE(range.last.to_string());
    std::string name;
    for (int i = 0; i < 100; ++i) {
      name += 'x';
      const IpAddress address = preferred_address(name, range);
      CHECK(range.contains(address));
      CHECK((address != range.last || range.first == range.last));
    }
  }
}

TEST_CASE("the next address carries over, and wraps at the end of the range") {
  const AddressRange v4{ip("10.0.0.0"), ip("10.0.1.0")};
  CHECK(next_address(ip("10.0.0.255"), v4) == ip("10.0.1.0"));
  CHECK(next_address(ip("10.0.1.0"), v4) == ip("10.0.0.0"));
  const AddressRange v6 = default_vip_range_v6();
  CHECK(next_address(ip("fd01:c::ffff"), v6) == ip("fd01:c::1:0"));
  CHECK(next_address(v6.last, v6) == v6.first);
}

TEST_CASE("a range needs two addresses of one family in order") {
  CHECK_FALSE(AddressRange::from(ip("10.0.0.2"), ip("10.0.0.1")));
  CHECK_FALSE(AddressRange::from(ip("10.0.0.1"), ip("fd00::1")));
  CHECK(AddressRange::from(ip("10.0.0.1"), ip("10.0.0.1")));
  CHECK_FALSE(default_vip_range_v4().contains(ip("12.0.0.0")));
  CHECK_FALSE(default_vip_range_v4().contains(ip("fd01:c::1")));
  CHECK(default_vip_range_v4().contains(ip("11.255.255.255")));
}

TEST_SUITE_END();
