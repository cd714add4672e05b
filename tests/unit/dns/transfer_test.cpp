#include "dns/core/transfer.hpp"

#include <set>

#include "dns_support.hpp"

using namespace muster;
using namespace muster::dns;
using namespace muster::dns::testing;

TEST_SUITE_BEGIN("dns/transfer");

namespace {

struct Received {
  std::size_t messages = 0;
  std::vector<ReplyRecord> records;
};

Received transfer(const std::shared_ptr<const ZoneSnapshot>& zones, std::string_view apex,
                  std::uint16_t qtype = type::kAxfr) {
  const Bytes message = make_query(name(apex), qtype, {.id = 77});
  Bytes out(kMaxMessageSize);
  Query query;
  const Answer made = answer(message, *zones, {.transport = Transport::tcp}, out, query);
  REQUIRE(made.kind == Answer::Kind::transfer);
  Transfer sender{zones, made.zone, message, query};
  Received all;
  for (Bytes next = sender.next(); !next.empty(); next = sender.next()) {
    const auto reply = parse_reply(next);
    REQUIRE(reply.has_value());
    CHECK(reply->id == 77);
    CHECK(reply->authoritative());
    CHECK(next.size() < 20'000);
    ++all.messages;
    all.records.insert(all.records.end(), reply->records.begin(), reply->records.end());
  }
  return all;
}

}  // namespace

TEST_CASE("a transfer is the zone between two SOA records, as the catalog lists it") {
  Catalog catalog{{.node_addresses = {ip("10.0.0.5")}}};
  ClusterDelta delta = complete_delta();
  for (int i = 0; i < 300; ++i) {
    Task task = make_task("web." + std::to_string(i), "app" + std::to_string(i / 3));
    task.host_ports = {port(31000)};
    delta.tasks.push_back(came(task));
  }
  const auto zones = catalog.apply(delta);
  for (const std::uint16_t qtype : {type::kAxfr, type::kIxfr}) {
    const Received got = transfer(zones, "mesos", qtype);
    CHECK(got.messages > 1);
    REQUIRE(got.records.size() > 2);
    CHECK(got.records.front().type == type::kSoa);
    CHECK(got.records.back().type == type::kSoa);
    CHECK(got.records.front().data == got.records.back().data);
    std::multiset<RecordView> sent;
    for (const ReplyRecord& record : got.records) {
      if (record.type == type::kSoa) continue;
      sent.insert({record.owner, type_text(record.type), record.data});
    }
    std::multiset<RecordView> expected;
    for (const RecordView& record : catalog.list(100'000)) {
      if (record.name.ends_with(".mesos.") || record.name == "mesos.") expected.insert(record);
    }
    CHECK(sent == expected);
  }
}

TEST_CASE("what is no zone of ours has no transfer") {
  Catalog catalog{{}};
  const auto zones = catalog.apply(complete_delta());
  for (const char* const owner : {"x.mesos", "mesos.thisdcos.directory", "in-addr.arpa",
                                  "example.com", "1.0.0.127.in-addr.arpa"}) {
    CAPTURE(std::string{owner});
    const Reply reply = ask(*zones, owner, type::kAxfr);
    CHECK(reply.rcode == rcode::kRefused);
    CHECK(reply.records.empty());
  }
}

TEST_CASE("an IXFR query over UDP gets the SOA record alone") {
  Catalog catalog{{.first_serial = 10}};
  const auto zones = catalog.apply(complete_delta());
  const Bytes message = make_query(name("mesos"), type::kIxfr, {.id = 5});
  Bytes out(kDefaultUdpSize);
  Query query;
  REQUIRE(answer(message, *zones, {}, out, query).kind == Answer::Kind::transfer);
  const Answer made = soa_answer(message, *zones, {}, out, query);
  const auto reply = parse_reply(std::span{out}.first(made.size));
  REQUIRE(reply.has_value());
  CHECK(reply->qtype == type::kIxfr);
  REQUIRE(reply->records.size() == 1);
  CHECK(reply->records[0].type == type::kSoa);
}

TEST_CASE("a NOTIFY message names the zone and asks for its SOA") {
  const Bytes message = make_notify(name("mesos").wire(), 0x1234);
  CHECK(message ==
        bytes_of(std::string_view{"\x12\x34\x24\0\0\1\0\0\0\0\0\0\5mesos\0\0\6\0\1", 23}));
}

TEST_SUITE_END();
