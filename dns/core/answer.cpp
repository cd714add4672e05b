#include "dns/core/answer.hpp"

#include <algorithm>
#include <cstring>

namespace muster::dns {
namespace {

constexpr std::size_t kExtendedErrorSize = 6;  // option code, length, info code (RFC 8914 §2)
constexpr std::size_t kSoaSerialFromEnd = 20;

// Writes into a buffer that has been checked to be large enough.
class Writer {
 public:
  explicit Writer(std::byte* to) noexcept : start_{to}, at_{to} {}

  void u8(std::size_t value) noexcept { *at_++ = static_cast<std::byte>(value & 0xFF); }
  void u16(std::size_t value) noexcept {
    u8(value >> 8);
    u8(value);
  }
  void u32(std::size_t value) noexcept {
    u16(value >> 16);
    u16(value);
  }
  void raw(const void* from, std::size_t size) noexcept {
    std::memcpy(at_, from, size);
    at_ += size;
  }
  std::size_t size() const noexcept { return static_cast<std::size_t>(at_ - start_); }

 private:
  std::byte* start_;
  std::byte* at_;
};

struct Counts {
  std::size_t answers = 0;
  std::size_t authority = 0;
  std::size_t additional = 0;
};

// The header is written last, when it is known what follows it.
void write_header(std::byte* to, const Query& query, std::size_t flags, std::size_t code,
                  const Counts& counts, bool question, bool opt) noexcept {
  Writer out{to};
  out.u16(query.id);
  out.u16(flag::kResponse | flags | (code & flag::kRcodeMask));
  out.u16(question ? 1 : 0);
  out.u16(counts.answers);
  out.u16(counts.authority);
  out.u16(counts.additional + (opt ? 1 : 0));
}

void write_opt(Writer& out, const Query& query, std::size_t code,
               std::uint16_t extended_error) noexcept {
  out.u8(0);
  out.u16(type::kOpt);
  out.u16(kDefaultUdpSize);
  // Extended RCODE, version 0, and DO copied back (RFC 3225 §3).
  out.u8(code >> 4);
  out.u8(0);
  out.u16(query.dnssec_ok ? 0x8000U : 0U);
  if (extended_error == 0) {
    out.u16(0);
    return;
  }
  constexpr std::uint16_t kExtendedErrorOption = 15;
  out.u16(kExtendedErrorSize);
  out.u16(kExtendedErrorOption);
  out.u16(2);
  out.u16(extended_error);
}

const Apex* find_apex(const ZoneTable& table, const Query& query) noexcept {
  const std::string_view name = query.wire();
  for (const Apex& apex : table.apexes) {
    if (!name.ends_with(apex.wire)) continue;
    const std::size_t at = name.size() - apex.wire.size();
    const auto* const end = query.label_at.begin() + query.label_count;
    // A suffix counts only where a label starts: "notmesos." is not below "mesos.".
    if (std::binary_search(query.label_at.begin(), end, static_cast<std::uint8_t>(at))) {
      return &apex;
    }
  }
  return nullptr;
}

const std::byte* find_alias(const ZoneSnapshot& zones, const Query& query,
                            const Apex& apex) noexcept {
  std::array<char, Name::kMaxWireSize + 1 + Query::kPadding> name{};
  const std::size_t kept = query.name_size - apex.wire.size();
  const std::string& target = zones.table().zones[apex.zone].apex;
  if (kept + target.size() > Name::kMaxWireSize) return nullptr;
  std::memcpy(name.data(), query.name.data(), kept);
  std::memcpy(name.data() + kept, target.data(), target.size());
  return zones.find(name.data(), kept + target.size());
}

class Responder {
 public:
  Responder(std::span<const std::byte> message, const Query& query, const ZoneSnapshot& zones,
            const AnswerOptions& options, std::span<std::byte> out) noexcept
      : message_{message},
        query_{query},
        zones_{zones},
        options_{options},
        out_{out.data()},
        writer_{out.data()},
        limit_{limit(query, options, out.size())} {
    flags_ = query.flags & (flag::kRecursionDesired | flag::kCheckingDisabled);
    if (options.recursion_available) flags_ |= flag::kRecursionAvailable;
  }

  Answer respond() noexcept {
    answer_.kind = Answer::Kind::reply;
    answer_.qtype = query_.qtype;
    begin();
    const bool transfer = query_.qtype == type::kAxfr || query_.qtype == type::kIxfr;
    if (query_.qclass != kClassIn || transfer) return finish(rcode::kRefused);

    // A hit knows its zone; only a miss has to search for one.
    const std::byte* node = zones_.find(query_.name.data(), query_.name_size);
    std::size_t apex_size = 0;
    bool alias = false;
    if (node != nullptr) {
      answer_.zone = NodeView{node}.zone();
      apex_size = zones_.table().zones[answer_.zone].apex.size();
    } else {
      const Apex* const apex = find_apex(zones_.table(), query_);
      if (apex == nullptr || apex->zone == Apex::kForward) return forward();
      alias = apex->alias;
      answer_.zone = apex->zone;
      apex_size = apex->wire.size();
      if (alias) node = find_alias(zones_, query_, *apex);
    }
    const Zone& zone = zones_.table().zones[answer_.zone];
    const bool at_apex = apex_size == query_.name_size && !zone.partial;
    if (at_apex && query_.qtype == type::kSoa) return soa(zone);
    if (node != nullptr && positive(NodeView{node}, alias)) return finish(rcode::kNoError);
    if (zone.partial) return forward();
    return negative(zone, apex_size, node != nullptr);
  }

 private:
  static std::size_t limit(const Query& query, const AnswerOptions& options,
                           std::size_t room) noexcept {
    if (options.transport == Transport::tcp) return std::min(room, kMaxMessageSize);
    if (!query.edns) return std::min(room, kMinUdpSize);
    const std::size_t offered = std::max<std::size_t>(query.udp_size, kMinUdpSize);
    return std::min({room, offered, std::max(options.max_udp_size, kMinUdpSize)});
  }

  void begin() noexcept {
    writer_ = Writer{out_};
    writer_.raw(message_.data(), kHeaderSize);  // overwritten by finish()
    writer_.raw(message_.data() + kHeaderSize, query_.question_end - kHeaderSize);
  }

  std::size_t room() const noexcept {
    const std::size_t used = writer_.size() + (query_.edns ? kOptSize : 0);
    return limit_ > used ? limit_ - used : 0;
  }

  Answer forward() noexcept {
    answer_.kind = Answer::Kind::forward;
    answer_.zone = Answer::kNoZone;
    return answer_;
  }

  bool positive(NodeView node, bool alias) noexcept {
    for (std::size_t i = 0; i < node.set_count(); ++i) {
      const RenderedSet set = node.set(i);
      // ANY gets one RRset, whichever is first (RFC 8482 §4.1).
      if (set.type != query_.qtype && query_.qtype != type::kAny) continue;
      write_set(node, set, alias);
      return true;
    }
    return false;
  }

  void write_set(NodeView node, const RenderedSet& set, bool alias) noexcept {
    flags_ |= flag::kAuthoritative;
    const std::size_t first = options_.rotation % set.count;
    const std::size_t split = node.offset(set, first);
    const std::byte* const data = node.answers(set);
    if (set.answers_size > room()) {
      write_some(node, set, first);
      return;
    }
    writer_.raw(data + split, set.answers_size - split);
    writer_.raw(data, split);
    counts_.answers = set.count;
    // Its owners are compressed against the canonical name: under an alias they would say
    // something else. Additional records are a courtesy (RFC 2181 §9): they go without TC.
    if (alias || set.additional_count == 0 || set.additional_size > room()) return;
    writer_.raw(node.additional(set), set.additional_size);
    counts_.additional = set.additional_count;
  }

  // As many as fit, from the rotation's start on: clients without TCP (old musl) use these.
  void write_some(NodeView node, const RenderedSet& set, std::size_t first) noexcept {
    const std::byte* const data = node.answers(set);
    for (std::size_t i = 0; i < set.count; ++i) {
      const std::size_t index = first + i < set.count ? first + i : first + i - set.count;
      const std::size_t at = node.offset(set, index);
      const std::size_t size = node.offset(set, index + 1) - at;
      if (size > room()) break;
      writer_.raw(data + at, size);
      ++counts_.answers;
    }
    flags_ |= flag::kTruncated;
    answer_.truncated = true;
  }

  void write_soa(const std::string& record, std::size_t owner) noexcept {
    writer_.u16(0xC000 | owner);
    writer_.raw(record.data(), record.size() - kSoaSerialFromEnd);
    writer_.u32(zones_.serial());
    writer_.raw(record.data() + record.size() - (kSoaSerialFromEnd - 4), kSoaSerialFromEnd - 4);
  }

  Answer soa(const Zone& zone) noexcept {
    flags_ |= flag::kAuthoritative;
    write_soa(zone.soa, kHeaderSize);
    counts_.answers = 1;
    return finish(rcode::kNoError);
  }

  Answer negative(const Zone& zone, std::size_t apex_size, bool exists) noexcept {
    if (!zones_.complete() && !zone.fixed) {
      // What is missing may only not have arrived yet. Saying NXDOMAIN would be believed.
      return finish(rcode::kServFail, ede::kNotReady);
    }
    flags_ |= flag::kAuthoritative;
    answer_.no_data = exists;
    // Its owner is the zone's apex, which is the end of the question.
    write_soa(zone.negative_soa, kHeaderSize + query_.name_size - apex_size);
    counts_.authority = 1;
    return finish(exists || apex_size == query_.name_size ? rcode::kNoError : rcode::kNxDomain);
  }

  Answer finish(std::uint16_t code, std::uint16_t extended_error = 0) noexcept {
    if (query_.edns) write_opt(writer_, query_, code, extended_error);
    write_header(out_, query_, flags_, code, counts_, true, query_.edns);
    answer_.rcode = code;
    answer_.size = writer_.size();
    return answer_;
  }

  std::span<const std::byte> message_;
  const Query& query_;
  const ZoneSnapshot& zones_;
  const AnswerOptions& options_;
  std::byte* out_;
  Writer writer_;
  std::size_t limit_;
  std::size_t flags_ = 0;
  Counts counts_;
  Answer answer_;
};

Answer bare(const Query& query, std::size_t flags, std::uint16_t code,
            std::span<std::byte> out) noexcept {
  Answer answer;
  answer.kind = Answer::Kind::reply;
  answer.rcode = code;
  answer.size = kHeaderSize;
  write_header(out.data(), query, flags, code, {}, false, false);
  return answer;
}

}  // namespace

Answer answer(std::span<const std::byte> message, const ZoneSnapshot& zones,
              const AnswerOptions& options, std::span<std::byte> out, Query& query) noexcept {
  const QueryVerdict verdict = parse_query(message, query);
  if (out.size() < kMinUdpSize) return {};
  switch (verdict) {
    case QueryVerdict::drop:
      return {};
    case QueryVerdict::not_implemented:
      // Flags mean what the opcode says they mean, so none is copied but the opcode itself.
      return bare(query, query.flags & flag::kOpcodeMask, rcode::kNotImp, out);
    case QueryVerdict::malformed:
      return bare(query, query.flags & flag::kRecursionDesired, rcode::kFormErr, out);
    case QueryVerdict::bad_version:
    case QueryVerdict::not_auth: {
      Answer refused;
      refused.kind = Answer::Kind::reply;
      refused.qtype = query.qtype;
      refused.rcode = verdict == QueryVerdict::bad_version ? rcode::kBadVers : rcode::kNotAuth;
      refused.size =
          empty_reply(message, query, refused.rcode, 0, options.recursion_available, out);
      return refused;
    }
    case QueryVerdict::ok:
      break;
  }
  return Responder{message, query, zones, options, out}.respond();
}

std::size_t empty_reply(std::span<const std::byte> message, const Query& query, std::uint16_t code,
                        std::uint16_t extended_error, bool recursion_available,
                        std::span<std::byte> out) noexcept {
  Writer writer{out.data()};
  writer.raw(message.data(), kHeaderSize);
  writer.raw(message.data() + kHeaderSize, query.question_end - kHeaderSize);
  if (query.edns) write_opt(writer, query, code, extended_error);
  const unsigned copied = query.flags & (flag::kRecursionDesired | flag::kCheckingDisabled);
  const unsigned flags = copied | (recursion_available ? flag::kRecursionAvailable : 0U);
  write_header(out.data(), query, flags, code, {}, true, query.edns);
  return writer.size();
}

}  // namespace muster::dns
