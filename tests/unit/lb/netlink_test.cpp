#include "lb/io/netlink.hpp"

#include <doctest/doctest.h>
#include <linux/netfilter/nfnetlink.h>

#include "base/rng.hpp"
#include "lb/io/driver.hpp"
#include "lb/io/nft_elements.hpp"
#include "lb/io/nft_schema.hpp"
#include "tests/support/lb_samples.hpp"
#include "tests/support/seeds.hpp"

namespace muster::lb {
namespace {

using namespace testing;

TEST_CASE("what the writer writes the reader reads") {
  netlink::Writer out;
  out.begin(7, NLM_F_REQUEST, 42, nfgenmsg{.nfgen_family = 2, .version = 0, .res_id = 0});
  out.text(1, "muster");
  out.nest(2, [&] {
    out.u8(1, 200);
    out.u16_be(2, 0x1234);
    out.u32_be(3, 0x12345678);
    out.u32(4, 5);
  });
  out.end();
  netlink::Messages messages{out.bytes()};
  const auto message = messages.next();
  REQUIRE(message);
  CHECK(message->header.nlmsg_type == 7);
  CHECK(message->header.nlmsg_seq == 42);
  const auto attributes = message->attributes(sizeof(nfgenmsg));
  CHECK(netlink::find(attributes, 1).text() == "muster");
  const auto nest = netlink::find(attributes, 2).value;
  CHECK(netlink::find(nest, 1).u8() == 200);
  CHECK(netlink::find(nest, 2).u16_be() == 0x1234);
  CHECK(netlink::find(nest, 3).u32_be() == 0x12345678);
  CHECK(netlink::find(nest, 4).u32() == 5);
  CHECK_FALSE(netlink::find(nest, 5).u32());
  CHECK_FALSE(messages.next());
}

TEST_CASE("cut and scrambled messages end the reading and nothing else") {
  netlink::Writer out;
  const std::vector<Command> commands{PutSlot{tcp("11.0.0.1:80"), 0, at("10.0.0.1:8080")},
                                      PutSelector{tcp("11.0.0.1:80"), {Policy::random, 1}},
                                      PutSlot{udp("[fd01:c::1]:53"), 0, at("[fd00::1]:5353")},
                                      PutRefusal{tcp("10.1.1.1:1")}, PutHairpin{ip("172.17.0.2")}};
  auto socket = netlink::Socket::open(NETLINK_NETFILTER);
  if (!socket) {
    MESSAGE("skipped: no netlink socket: " << socket.error().message());
    return;
  }
  nft::write_commands(out, *socket, "muster", commands);
  for_each_seed(500, [&](std::uint64_t seed) {
    MUSTER_SHOW_SEED(seed);
    Rng rng{seed};
    std::vector<std::uint8_t> bytes{out.bytes().begin(), out.bytes().end()};
    bytes.resize(rng.below(bytes.size() + 1));
    for (std::uint64_t i = rng.below(8); i > 0 && !bytes.empty(); --i) {
      bytes[rng.below(bytes.size())] = static_cast<std::uint8_t>(rng.next());
    }
    netlink::Messages messages{bytes};
    nft::ElementReader reader;
    while (const auto message = messages.next()) {
      for (const char* set : {"slots_tcp", "vips_udp", "refused_tcp", "classes_tcp", "hairpin"}) {
        reader.read(*message, rng.chance(50) ? Family::v4 : Family::v6, set);
      }
    }
    KernelState state;
    reader.finish(state);
    CHECK(state.vips.size() < 100);
  });
}

TEST_CASE("selectors have one class id each, and other numbers are none") {
  std::vector<std::uint32_t> affinities{kAffinitySeconds.begin(), kAffinitySeconds.end()};
  affinities.push_back(0);
  for (const Policy policy : {Policy::random, Policy::round_robin, Policy::source_hash}) {
    for (const std::uint32_t size : size_classes()) {
      for (const std::uint32_t seconds : affinities) {
        const Selector selector{policy, size, seconds};
        CHECK(nft::selector_of(nft::class_id(selector)) == selector);
      }
    }
  }
  for (const std::uint32_t id : {0U, 65U, 0x10000U, 0x30001U, 0xD00001U, 0xFFFFFFFFU}) {
    CAPTURE(id);
    CHECK_FALSE(nft::selector_of(id));
  }
}

TEST_CASE("a range is address/length with no bits beyond it") {
  struct Row {
    const char* text;
    bool good;
  };
  const Row rows[] = {{"", false},
                      {"11.0.0.0", false},
                      {"11.0.0.0/", false},
                      {"11.0.0.0/33", false},
                      {"11.0.0.0/0", false},
                      {"11.0.0.1/8", false},
                      {"11.0.0.0/8x", false},
                      {"11.0.0/8", false},
                      {"fd01:c::/129", false},
                      {"fd01:c::1/64", false},
                      {"/8", false},
                      {"11.0.0.0/-8", false},
                      {"11.0.0.0/8", true},
                      {"11.128.0.0/9", true},
                      {"fd01:c::/64", true},
                      {"10.1.2.3/32", true}};
  for (const Row& row : rows) {
    CAPTURE(row.text);
    const auto range = Prefix::parse(row.text);
    CHECK(range.has_value() == row.good);
    if (range) CHECK(range->to_string() == row.text);
  }
}

}  // namespace
}  // namespace muster::lb
