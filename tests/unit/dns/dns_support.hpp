#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <doctest/doctest.h>

#include "base/byte_reader.hpp"
#include "base/cluster_delta.hpp"
#include "dns/core/answer.hpp"
#include "dns/core/catalog.hpp"
#include "dns/core/text.hpp"

namespace muster::dns::testing {

using Bytes = std::vector<std::byte>;

inline Bytes bytes_of(std::string_view text) {
  const auto octets = std::as_bytes(std::span{text});
  return {octets.begin(), octets.end()};
}

inline IpAddress ip(std::string_view text) {
  const auto address = IpAddress::parse(text);
  REQUIRE(address.has_value());
  return *address;
}

inline Port port(std::uint64_t number) {
  const auto checked = Port::from(number);
  REQUIRE(checked.has_value());
  return *checked;
}

inline Name name(std::string_view text) {
  const auto parsed = Name::parse(text);
  REQUIRE(parsed.has_value());
  return *parsed;
}

struct ReplyRecord {
  int section;  // 1 answer, 2 authority, 3 additional
  std::string owner;
  std::uint16_t type;
  std::uint16_t rclass;
  std::uint32_t ttl;
  std::string data;
};

/// A reply taken apart by code that answer() does not share.
struct Reply {
  std::uint16_t id = 0;
  std::uint16_t flags = 0;
  std::uint16_t rcode = 0;
  std::size_t questions = 0;
  std::string question;  // as spelt in the packet
  std::uint16_t qtype = 0;
  bool edns = false;
  std::uint16_t udp_size = 0;
  std::optional<std::uint16_t> extended_error;
  std::vector<ReplyRecord> records;
  std::size_t size = 0;

  bool truncated() const { return (flags & flag::kTruncated) != 0; }
  bool authoritative() const { return (flags & flag::kAuthoritative) != 0; }

  std::vector<std::string> data(int section) const {
    std::vector<std::string> out;
    for (const ReplyRecord& record : records) {
      if (record.section == section) out.push_back(record.data);
    }
    return out;
  }
};

inline std::optional<Reply> parse_reply(std::span<const std::byte> message) {
  ByteReader in{message};
  Reply reply;
  reply.size = message.size();
  reply.id = in.u16();
  reply.flags = in.u16();
  reply.rcode = reply.flags & flag::kRcodeMask;
  reply.questions = in.u16();
  std::array<std::uint16_t, 3> counts{};
  for (auto& count : counts) count = in.u16();
  if (!in.ok() || reply.questions > 1) return std::nullopt;
  if (reply.questions == 1) {
    const std::size_t start = message.size() - in.remaining();
    if (!Name::decode(message, in)) return std::nullopt;
    const std::size_t end = message.size() - in.remaining();
    for (std::size_t i = start; i < end; ++i) reply.question += static_cast<char>(message[i]);
    reply.qtype = in.u16();
    in.u16();
  }
  for (int section = 1; section <= 3; ++section) {
    for (unsigned i = 0; i < counts[static_cast<std::size_t>(section - 1)]; ++i) {
      const auto owner = Name::decode(message, in);
      ReplyRecord record{section, owner ? owner->to_string() : "", in.u16(), in.u16(), in.u32(),
                         {}};
      const std::size_t size = in.u16();
      const std::size_t at = message.size() - in.remaining();
      in.take(size);
      if (!owner || !in.ok()) return std::nullopt;
      if (record.type == type::kOpt) {
        if (reply.edns) return std::nullopt;
        reply.edns = true;
        reply.udp_size = record.rclass;
        reply.rcode = static_cast<std::uint16_t>(reply.rcode | (record.ttl >> 24) << 4);
        ByteReader options{message.subspan(at, size)};
        if (size >= 6 && options.u16() == 15 && options.u16() == 2) {
          reply.extended_error = options.u16();
        }
        continue;
      }
      record.data = data_text(record.type, message, at, size);
      reply.records.push_back(record);
    }
  }
  if (in.remaining() != 0) return std::nullopt;
  return reply;
}

inline Task make_task(std::string_view id, std::string_view task_name) {
  Task task;
  task.id = TaskId{std::string{id}};
  task.framework_id = FrameworkId{"fw-1"};
  task.framework_name = "marathon";
  task.agent_id = AgentId{"30257977-0153-499d-a5b0-35afd842ef4d-S0"};
  task.name = std::string{task_name};
  task.state = TaskState::running;
  task.agent_addresses = {ip("10.0.0.5")};
  task.addresses = {ip("10.0.0.5")};
  return task;
}

template <class T>
Change<T> came(T value) {
  return {nullptr, std::make_shared<const T>(std::move(value))};
}
template <class T>
Change<T> went(T value) {
  return {std::make_shared<const T>(std::move(value)), nullptr};
}
template <class T>
Change<T> became(T before, T after) {
  return {std::make_shared<const T>(std::move(before)),
          std::make_shared<const T>(std::move(after))};
}

inline ClusterDelta complete_delta() {
  ClusterDelta delta;
  delta.complete = true;
  return delta;
}

/// Asks a snapshot as a client with EDNS would; fails the test if the reply does not parse.
inline Reply ask(const ZoneSnapshot& zones, std::string_view owner, std::uint16_t qtype,
                 AnswerOptions options = {}, QueryOptions query_options = {.id = 4711}) {
  const Bytes message = make_query(name(owner), qtype, query_options);
  Bytes out(kMaxMessageSize);
  Query query;
  const Answer result = answer(message, zones, options, out, query);
  REQUIRE(result.kind == Answer::Kind::reply);
  const auto reply = parse_reply(std::span{out}.first(result.size));
  REQUIRE(reply.has_value());
  CHECK(reply->id == query_options.id);
  return *reply;
}

}  // namespace muster::dns::testing
