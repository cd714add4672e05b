#include "cluster/core/records.hpp"

#include <string>

#include <doctest/doctest.h>

#include "base/rng.hpp"
#include "samples.hpp"
#include "tests/support/seeds.hpp"

using namespace muster;
using namespace muster::cluster;
using namespace muster::testing;

namespace {

using Bytes = std::vector<std::byte>;

Bytes from_hex(std::string_view text) {
  const auto digit = [](char c) {
    return static_cast<unsigned>(c >= 'a' ? c - 'a' + 10 : c - '0');
  };
  Bytes bytes;
  std::string digits;
  for (const char c : text) {
    if (c != ' ') digits += c;
  }
  for (std::size_t i = 0; i + 1 < digits.size(); i += 2) {
    bytes.push_back(static_cast<std::byte>(digit(digits[i]) << 4 | digit(digits[i + 1])));
  }
  return bytes;
}

std::string hex(const Bytes& bytes) {
  std::string text;
  for (const std::byte octet : bytes) {
    text += "0123456789abcdef"[std::to_integer<unsigned>(octet) >> 4];
    text += "0123456789abcdef"[std::to_integer<unsigned>(octet) & 15];
  }
  return text;
}

template <class T>
T must(const Result<T, DecodeError>& result) {
  REQUIRE(result.has_value());
  return *result;
}

const ShardId kShard{ShardKind::agent, AgentId{"a1"}};

Task full_task() {
  Task task = make_task("t1");
  task.framework_name.clear();
  task.agent_addresses.clear();
  task.discovery_name = "site";
  task.health = Health::healthy;
  task.addresses.push_back(ip("fd01::2"));
  task.host_ports.push_back(port(31001));
  task.ports[0].container_port = port(8080);
  task.ports[0].vips.push_back({ip("10.9.9.9"), port(53), Protocol::udp});
  task.ports.push_back({.name = "",
                        .protocol = "",
                        .number = port(31001),
                        .discovery = false,
                        .container_port = {},
                        .endpoints = {{ip("fd01::2"), port(31001)}},
                        .vips = {}});
  return task;
}

}  // namespace

TEST_SUITE_BEGIN("cluster/core/records");

TEST_CASE("a malformed task record is refused with its reason") {
  struct Row {
    std::string what;
    std::string hex;
    DecodeError error;
  };
  // 01: the version; then number, length, octets of each field.
  const std::vector<Row> rows{
      {"nothing", "", DecodeError::truncated},
      {"version 0", "00", DecodeError::unsupported_version},
      {"version 2", "02 01 01 61", DecodeError::unsupported_version},
      {"a field cut off", "01 01 02 61", DecodeError::truncated},
      {"a length cut off", "01 01", DecodeError::truncated},
      {"a length of ten octets and more", "01 01 ffffffffffffffffffffff", DecodeError::truncated},
      {"a length near 2^64", "01 01 ffffffffffffffffff01 61", DecodeError::truncated},
      {"field 0", "01 00 00", DecodeError::bad_order},
      {"fields descending", "01 02 01 61 01 01 61", DecodeError::bad_order},
      {"a name twice", "01 01 01 61 01 01 61", DecodeError::bad_order},
      {"a state too long", "01 03 02 0202", DecodeError::bad_value},
      {"an empty state", "01 03 00", DecodeError::bad_value},
      {"an unknown state", "01 03 01 0e", DecodeError::bad_value},
      {"an unknown health", "01 04 01 04", DecodeError::bad_value},
      {"an address of five octets", "01 05 05 0a00000101", DecodeError::bad_value},
      {"half a host port", "01 06 03 79187a", DecodeError::bad_value},
      {"host port 0", "01 06 02 0000", DecodeError::bad_value},
      {"a port without its number", "01 07 03 01 01 61", DecodeError::missing_field},
      {"a port's number 0", "01 07 04 03 02 0000", DecodeError::bad_value},
      {"a port's field cut off", "01 07 03 03 02 00", DecodeError::truncated},
      {"an endpoint without a port", "01 07 0a 03 02 0050 06 04 0a000001", DecodeError::bad_value},
      {"a VIP without a host", "01 07 0a 03 02 0050 07 04 03 02 0050", DecodeError::missing_field},
      {"a VIP without a port", "01 07 09 03 02 0050 07 03 02 01 61", DecodeError::missing_field},
      {"a VIP with name and address",
       "01 07 13 03 02 0050 07 0d 01 04 0a000001 02 01 61 03 02 0050", DecodeError::bad_value},
      {"a VIP of a third protocol", "01 07 10 03 02 0050 07 0a 02 01 61 03 02 0050 04 01 02",
       DecodeError::bad_value},
      {"a VIP's name with a NUL", "01 07 0d 03 02 0050 07 07 02 01 00 03 02 0050",
       DecodeError::bad_value},
  };
  for (const Row& row : rows) {
    CAPTURE(row.what);
    const auto task = decode_task(kShard, record_key(key("t1")), from_hex(row.hex));
    REQUIRE_FALSE(task.has_value());
    CHECK(to_string(task.error()) == to_string(row.error));
  }
}

TEST_CASE("a VIP's policy comes back as it was, in a format that stays what it is") {
  Task task = make_task("t1");
  task.framework_name.clear();
  task.agent_addresses.clear();
  task.ports[0].vips[0].policy = {.spread = VipPolicy::Spread::source_hash,
                                  .locality = VipPolicy::Locality::zone,
                                  .affinity_seconds = 600,
                                  .eject = false,
                                  .slow_start_seconds = 30};
  const Bytes bytes = must(encode(task));
  CHECK(must(decode_task(kShard, record_key(key("t1")), bytes)) == task);
  CHECK(hex(bytes).find("050103060101070800000000000002580801010908000000000000001e") !=
        std::string::npos);
}

TEST_CASE("what a later version may say of a VIP's policy counts as not said") {
  struct Row {
    std::string what;
    std::string field;
    VipPolicy policy;
  };
  for (const Row& row : std::vector<Row>{
           {"a spread of a later version", "05 01 09", {}},
           {"a locality of a later version", "06 01 09", {}},
           {"a field of a later version", "0a 01 09", {}},
           {"all that is known", "05 01 02", {.spread = VipPolicy::Spread::round_robin}}}) {
    CAPTURE(row.what);
    const auto task =
        decode_task(kShard, record_key(key("t1")),
                    from_hex("01 07 10 03 02 0050 07 0a 02 01 61 03 02 0050 " + row.field));
    REQUIRE(task.has_value());
    CHECK(task->ports.at(0).vips.at(0).policy == row.policy);
  }
}

TEST_CASE("keys that cannot be are refused") {
  const Bytes empty = from_hex("01");
  CHECK(decode_task(kShard, {RecordKind::task, "no separator"}, empty).error() ==
        DecodeError::bad_key);
  CHECK(decode_task(kShard, {RecordKind::task, std::string("f\0", 2)}, empty).error() ==
        DecodeError::bad_key);
  CHECK(decode_task(kShard, {RecordKind::task, std::string("f\0t\0x", 5)}, empty).error() ==
        DecodeError::bad_key);
  CHECK(decode_task({ShardKind::vips, {}}, record_key(key("t")), empty).error() ==
        DecodeError::bad_kind);
  CHECK(decode_task({ShardKind::agent, {}}, record_key(key("t")), empty).error() ==
        DecodeError::bad_key);
  CHECK(decode_agent({RecordKind::agent, ""}, empty).error() == DecodeError::bad_key);
  CHECK(
      decode_framework({RecordKind::framework, std::string(kMaxIdBytes + 1, 'f')}, empty).error() ==
      DecodeError::bad_key);
  CHECK(decode_master({RecordKind::master, "10.0.0.1"}, empty).error() == DecodeError::bad_key);
  CHECK(decode_master({RecordKind::master, "10.0.0.1:05050"}, empty).error() ==
        DecodeError::bad_key);
  CHECK(decode_vip({RecordKind::vip, ""}, empty).error() == DecodeError::bad_key);
  CHECK(decode_vip({RecordKind::vip, "a.x"}, from_hex("01 01 10" + std::string(32, '0'))).error() ==
        DecodeError::bad_value);
}

TEST_CASE("what is too long is neither written nor read") {
  const auto fails = [](auto change) {
    Task task = full_task();
    change(task);
    const auto encoded = encode(task);
    return !encoded && encoded.error() == DecodeError::too_long;
  };
  CHECK(fails([](Task& t) { t.name = std::string(kMaxTextBytes + 1, 'x'); }));
  CHECK(fails([](Task& t) { t.addresses.assign(kMaxAddresses + 1, ip("10.0.0.1")); }));
  CHECK(fails([](Task& t) { t.host_ports.assign(kMaxHostPorts + 1, port(1)); }));
  CHECK(fails([](Task& t) { t.ports.assign(kMaxPorts + 1, t.ports[1]); }));
  CHECK(fails([](Task& t) { t.ports[0].vips.assign(kMaxPerPort + 1, t.ports[0].vips[0]); }));
  CHECK(fails([](Task& t) { t.ports[0].name = std::string(kMaxTextBytes + 1, 'x'); }));
  CHECK(fails([](Task& t) {  // each part within its bound, the whole beyond its own
    t.ports.assign(kMaxPorts, t.ports[0]);
    for (TaskPort& one : t.ports) one.name = std::string(400, 'x');
  }));

  Bytes long_name = from_hex("01 01 8120");
  long_name.resize(long_name.size() + kMaxTextBytes + 1, std::byte{'x'});
  CHECK(decode_task(kShard, record_key(key("t")), long_name).error() == DecodeError::too_long);
  CHECK(decode_task(kShard, record_key(key("t")), Bytes(kMaxRecordBytes + 1)).error() ==
        DecodeError::too_long);

  Task unnamed = full_task();
  unnamed.id = TaskId{std::string("a\0b", 3)};
  CHECK(encode(unnamed).error() == DecodeError::bad_key);
}

// A change of these bytes is a change of what nodes of different versions say to each other, and
// of what lies on disks: a new field gets a new number, and nothing else may differ.
TEST_CASE("the format of records stays what it is") {
  const Task task = full_task();
  const auto task_bytes = encode(task);
  REQUIRE(task_bytes.has_value());
  CHECK(hex(*task_bytes) ==
        "01010377656202047369746503010204010205040a0000010510fd010000000000000000000000000002060479"
        "187919073e01046874747002037463700302005005021f9006060a00000179180712020c7765622e6d61726174"
        "686f6e03020050070d01040a09090903020035040101071b030279190401010612fd0100000000000000000000"
        "000000027919");
  CHECK(must(decode_task(kShard, record_key(key_of(task)), *task_bytes)) == task);

  const Agent agent{AgentId{"a1"}, "node1", {ip("10.0.0.1"), ip("fd01::1")}, port(5051)};
  const auto agent_bytes = encode(agent);
  CHECK(hex(*agent_bytes) ==
        "0101056e6f64653102040a0000010210fd010000000000000000000000000001030213bb");
  CHECK(must(decode_agent(record_key(agent.id), *agent_bytes)) == agent);

  const Framework framework{FrameworkId{"f1"}, "marathon", "m1", Endpoint{ip("10.0.0.2"), port(1)}};
  const auto framework_bytes = encode(framework);
  CHECK(hex(*framework_bytes) == "0101086d61726174686f6e02026d3103060a0000020001");
  CHECK(must(decode_framework(record_key(framework.id), *framework_bytes)) == framework);

  const Master master{{ip("fd01::3"), port(5050)}, "m3", true};
  const auto master_bytes = encode(master);
  CHECK(hex(*master_bytes) == "0101026d33020101");
  CHECK(record_key(master.endpoint).id == "[fd01::3]:5050");
  CHECK(must(decode_master(record_key(master.endpoint), *master_bytes)) == master);

  VipRecord vip;
  vip.allocation = {VipName{"web.marathon"}, ip("11.1.2.3"), ip("fd01:c::1")};
  vip.term = 1;
  vip.sequence = 2;
  vip.since_seconds = 1'700'000'000;
  vip.unused_since_seconds = -1;
  const auto vip_bytes = encode(vip);
  CHECK(hex(*vip_bytes) ==
        "0101040b0102030210fd01000c0000000000000000000000010308000000000000000104080000000000000002"
        "0508000000006553f1000608ffffffffffffffff");
  CHECK(must(decode_vip(record_key(vip.allocation.name), *vip_bytes)) == vip);
  vip.former = {ip("11.1.2.4"), ip("11.1.2.5")};
  vip.former_until_seconds = 1'700'000'600;
  const auto disputed = encode(vip);
  CHECK(hex(*disputed) == hex(*vip_bytes) + "07040b01020407040b0102050808000000006553f358");
  CHECK(must(decode_vip(record_key(vip.allocation.name), *disputed)) == vip);

  ByteWriter write;
  encode(write, {kShard, record_key(key("t1")), from_hex("01")});
  encode(write, {{ShardKind::vips, {}}, record_key(VipName{"a.x"}), std::nullopt});
  CHECK(hex({write.bytes().begin(), write.bytes().end()}) ==
        "0402613102056631007431010101030503612e7800");
}

TEST_CASE("fields of a later version are stepped over, alone or repeated, here and inside") {
  const auto task = decode_task(kShard, record_key(key("t1")),
                                from_hex("01 01 01 61 07 0a 03 02 0050 63 00 63 02 abcd "
                                         "6402ffff 6400 e80703010203"));
  REQUIRE(task.has_value());
  CHECK(task->name == "a");
  REQUIRE(task->ports.size() == 1);
  CHECK(task->ports[0].number == port(80));
}

TEST_CASE("a write is read back, or refused, wherever it is cut") {
  ByteWriter out;
  const RecordWrite write{kShard, record_key(key("t1")), must(encode(full_task()))};
  encode(out, write);
  ByteReader whole{out.bytes()};
  CHECK(must(decode_write(whole)) == write);
  CHECK(whole.remaining() == 0);
  for (std::size_t size = 0; size < out.size(); ++size) {
    CAPTURE(size);
    ByteReader cut{out.bytes().first(size)};
    CHECK_FALSE(decode_write(cut).has_value());
  }
  for (const char* bad : {"00 01 01 61 00", "05 01 01 61 00", "01 01 01 61 02", "04 00 01 01 61 00",
                          "01 01 01 61 01 ffffffff0f"}) {
    CAPTURE(std::string{bad});
    const Bytes bytes = from_hex(bad);
    ByteReader reader{bytes};
    CHECK_FALSE(decode_write(reader).has_value());
  }
}

TEST_CASE("a record with octets changed never reads as more than its bounds") {
  for_each_seed(2000, [](std::uint64_t seed) {
    MUSTER_SHOW_SEED(seed);
    Rng rng{seed};
    Bytes bytes = must(encode(full_task()));
    for (std::uint64_t i = 0; i <= rng.below(4); ++i) {
      bytes[rng.below(bytes.size())] = static_cast<std::byte>(rng.below(256));
    }
    const auto task = decode_task(kShard, record_key(key("t1")), bytes);
    if (!task) return;
    const auto again = encode(*task);
    REQUIRE(again.has_value());
    CHECK(must(decode_task(kShard, record_key(key("t1")), *again)) == *task);
  });
}

TEST_SUITE_END();
