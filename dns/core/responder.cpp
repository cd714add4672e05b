#include "dns/core/responder.hpp"

#include <algorithm>
#include <array>
#include <cstring>

namespace muster::dns {
namespace {

constexpr std::size_t kSoaSerialFromEnd = 20;
constexpr std::size_t kPaddedName = Name::kMaxWireSize + 1 + Query::kPadding;
constexpr int kMaxChain = 8;  // CNAMEs after another; a loop is longer
constexpr std::size_t kFixedSize = 12;

// The apex that `name` is at or below; `label_at` tells where its labels start. A suffix counts
// only there: "notmesos." is not below "mesos.".
const Apex* find_apex(const ZoneTable& table, std::string_view name,
                      std::span<const std::uint8_t> label_at) noexcept {
  for (const Apex& apex : table.apexes) {
    if (!name.ends_with(apex.wire)) continue;
    const std::size_t at = name.size() - apex.wire.size();
    if (std::binary_search(label_at.begin(), label_at.end(), static_cast<std::uint8_t>(at))) {
      return &apex;
    }
  }
  return nullptr;
}

const std::byte* find_alias(const ZoneSnapshot& zones, std::string_view wire,
                            const Apex& apex) noexcept {
  std::array<char, kPaddedName> name{};
  const std::size_t kept = wire.size() - apex.wire.size();
  const std::string& target = zones.table().zones[apex.zone].apex;
  if (kept + target.size() > Name::kMaxWireSize) return nullptr;
  std::memcpy(name.data(), wire.data(), kept);
  std::memcpy(name.data() + kept, target.data(), target.size());
  return zones.find(name.data(), kept + target.size());
}

}  // namespace

Responder::Responder(std::span<const std::byte> message, const Query& query,
                     const ZoneSnapshot& zones, const AnswerOptions& options, const OptContent& opt,
                     std::span<std::byte> out) noexcept
    : query_{query},
      zones_{zones},
      options_{options},
      opt_{opt},
      out_{out.data()},
      writer_{out.data()},
      limit_{limit(query, options, out.size())} {
  flags_ = query.flags & (flag::kRecursionDesired | flag::kCheckingDisabled);
  if (options.recursion_available) flags_ |= flag::kRecursionAvailable;
  // The header is overwritten by finish().
  writer_.raw(message.data(), query.question_end);
}

Answer Responder::respond() noexcept {
  answer_.kind = Answer::Kind::reply;
  answer_.qtype = query_.qtype;
  if (query_.qclass != kClassIn) return finish(rcode::kRefused);
  const Place place = place_of_question();
  const bool wants_zone = query_.qtype == type::kAxfr || query_.qtype == type::kIxfr;
  if (wants_zone) return transfer(place);
  if (place.zone == Answer::kNoZone) return forward();
  answer_.zone = place.zone;
  const Zone& zone = zones_.table().zones[place.zone];
  const bool at_apex = place.apex_size == query_.name_size && !zone.partial;
  if (at_apex && query_.qtype == type::kSoa) return soa(zone);
  if (place.node != nullptr) {
    const NodeView node{place.node};
    if (positive(node, place.alias)) return finish(rcode::kNoError);
    // A CNAME is all there is at its name.
    if (node.set_count() == 1 && node.set(0).type == type::kCname) return chase(place);
  }
  if (zone.partial) return forward();
  return negative(place, kHeaderSize, query_.name_size);
}

std::size_t Responder::limit(const Query& query, const AnswerOptions& options,
                             std::size_t room) noexcept {
  if (options.transport == Transport::tcp) return std::min(room, kMaxMessageSize);
  if (!query.edns) return std::min(room, kMinUdpSize);
  const std::size_t offered = std::max<std::size_t>(query.udp_size, kMinUdpSize);
  return std::min({room, offered, std::max(options.max_udp_size, kMinUdpSize)});
}

std::size_t Responder::room() const noexcept {
  const std::size_t used = writer_.size() + (query_.edns ? opt_.size() : 0);
  return limit_ > used ? limit_ - used : 0;
}

// A hit knows its zone; only a miss has to search for one.
Responder::Place Responder::place_of_question() const noexcept {
  Place place;
  place.node = zones_.find(query_.name.data(), query_.name_size);
  if (place.node != nullptr) {
    place.zone = NodeView{place.node}.zone();
    place.apex_size = zones_.table().zones[place.zone].apex.size();
    return place;
  }
  const std::span<const std::uint8_t> labels{query_.label_at.data(), query_.label_count};
  const Apex* const apex = find_apex(zones_.table(), query_.wire(), labels);
  if (apex == nullptr || apex->zone == Apex::kForward) return place;
  place.zone = apex->zone;
  place.apex_size = apex->wire.size();
  place.alias = apex->alias;
  if (apex->alias) place.node = find_alias(zones_, query_.wire(), *apex);
  return place;
}

// The same for a name that is not the question.
Responder::Place Responder::place_of(std::string_view wire) const noexcept {
  Place place;
  std::array<char, kPaddedName> name{};
  std::memcpy(name.data(), wire.data(), wire.size());
  place.node = zones_.find(name.data(), wire.size());
  if (place.node != nullptr) {
    place.zone = NodeView{place.node}.zone();
    place.apex_size = zones_.table().zones[place.zone].apex.size();
    return place;
  }
  std::array<std::uint8_t, Query::kMaxLabels> labels{};
  std::size_t count = 0;
  for (std::size_t at = 0; wire[at] != '\0' && count < labels.size();
       at += static_cast<std::size_t>(static_cast<unsigned char>(wire[at])) + 1) {
    labels[count++] = static_cast<std::uint8_t>(at);
  }
  const Apex* const apex = find_apex(zones_.table(), wire, {labels.data(), count});
  if (apex == nullptr || apex->zone == Apex::kForward) return place;
  place.zone = apex->zone;
  place.apex_size = apex->wire.size();
  place.alias = apex->alias;
  if (apex->alias) place.node = find_alias(zones_, wire, *apex);
  return place;
}

Answer Responder::forward() noexcept {
  answer_.kind = Answer::Kind::forward;
  answer_.zone = Answer::kNoZone;
  return answer_;
}

// Whole zones only, under their own name, and by IXFR too (RFC 1995 §2 lets us send all of it).
Answer Responder::transfer(const Place& place) noexcept {
  if (place.zone == Answer::kNoZone || place.alias || place.apex_size != query_.name_size ||
      zones_.table().zones[place.zone].partial) {
    return finish(rcode::kRefused);
  }
  answer_.kind = Answer::Kind::transfer;
  answer_.zone = place.zone;
  return answer_;
}

bool Responder::positive(NodeView node, bool alias) noexcept {
  for (std::size_t i = 0; i < node.set_count(); ++i) {
    const RenderedSet set = node.set(i);
    // ANY gets one RRset, whichever is first (RFC 8482 §4.1).
    if (set.type != query_.qtype && query_.qtype != type::kAny) continue;
    write_set(node, set, alias);
    return true;
  }
  return false;
}

void Responder::write_set(NodeView node, const RenderedSet& set, bool alias) noexcept {
  flags_ |= flag::kAuthoritative;
  const std::size_t first = options_.rotation % set.count;
  const std::size_t split = node.offset(set, first);
  const std::byte* const data = node.answers(set);
  if (set.answers_size > room()) {
    write_some(node, set, first, kHeaderSize);
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

// As many as fit, from the rotation's start on: clients without TCP (old musl) use these. `owner`
// is where in the message the records' owner stands.
void Responder::write_some(NodeView node, const RenderedSet& set, std::size_t first,
                           std::size_t owner) noexcept {
  const std::byte* const data = node.answers(set);
  for (std::size_t i = 0; i < set.count; ++i) {
    const std::size_t index = first + i < set.count ? first + i : first + i - set.count;
    const std::size_t at = node.offset(set, index);
    const std::size_t size = node.offset(set, index + 1) - at;
    if (size > room()) {
      flags_ |= flag::kTruncated;
      answer_.truncated = true;
      return;
    }
    writer_.u16(0xC000 | owner);
    writer_.raw(data + at + 2, size - 2);
    ++counts_.answers;
  }
}

// Follows CNAMEs through our zones (RFC 1034 §4.3.2). One that leads out of them is all there is
// to say: whoever wants its addresses asks for them.
Answer Responder::chase(Place place) noexcept {
  flags_ |= flag::kAuthoritative;
  std::size_t owner = kHeaderSize;
  for (int step = 0; step < kMaxChain; ++step) {
    const NodeView node{place.node};
    const RenderedSet cname = node.set(0);
    write_some(node, cname, 0, owner);
    if (answer_.truncated) return finish(rcode::kNoError);
    const std::size_t size = cname.answers_size - kFixedSize;
    const std::string_view target{reinterpret_cast<const char*>(node.answers(cname)) + kFixedSize,
                                  size};
    owner = writer_.size() - size;
    place = place_of(target);
    if (place.zone == Answer::kNoZone) return finish(rcode::kNoError);
    if (place.node == nullptr) return negative(place, owner, size);
    const NodeView next{place.node};
    for (std::size_t i = 0; i < next.set_count(); ++i) {
      const RenderedSet set = next.set(i);
      if (set.type != query_.qtype) continue;
      write_some(next, set, options_.rotation % set.count, owner);
      return finish(rcode::kNoError);
    }
    const bool further = next.set_count() == 1 && next.set(0).type == type::kCname;
    if (!further) return negative(place, owner, size);
  }
  writer_ = MessageWriter{out_, query_.question_end};
  counts_ = {};
  return finish(rcode::kServFail);
}

void Responder::write_soa(const std::string& record, std::size_t owner) noexcept {
  writer_.u16(0xC000 | owner);
  writer_.raw(record.data(), record.size() - kSoaSerialFromEnd);
  writer_.u32(zones_.serial());
  writer_.raw(record.data() + record.size() - (kSoaSerialFromEnd - 4), kSoaSerialFromEnd - 4);
}

Answer Responder::soa(const Zone& zone) noexcept {
  flags_ |= flag::kAuthoritative;
  write_soa(zone.soa, kHeaderSize);
  counts_.answers = 1;
  return finish(rcode::kNoError);
}

// The name stands at `name_at` of the message: the question, or what a CNAME led to.
Answer Responder::negative(const Place& place, std::size_t name_at,
                           std::size_t name_size) noexcept {
  const Zone& zone = zones_.table().zones[place.zone];
  if (zone.partial) return finish(rcode::kNoError);
  if (!zones_.complete() && !zone.fixed) {
    // What is missing may only not have arrived yet. Saying NXDOMAIN would be believed.
    return finish(rcode::kServFail, ede::kNotReady);
  }
  flags_ |= flag::kAuthoritative;
  const bool exists = place.node != nullptr || place.apex_size == name_size;
  answer_.no_data = exists;
  // Its owner is the zone's apex, which is the end of the name.
  if (zone.negative_soa.size() + 2 <= room()) {
    write_soa(zone.negative_soa, name_at + name_size - place.apex_size);
    counts_.authority = 1;
  }
  return finish(exists ? rcode::kNoError : rcode::kNxDomain);
}

Answer Responder::finish(std::uint16_t code, std::uint16_t extended_error) noexcept {
  if (query_.edns) write_opt(writer_, query_, code, extended_error, opt_);
  write_header(out_, query_, flags_, code, counts_, true, query_.edns);
  answer_.rcode = code;
  answer_.size = writer_.size();
  return answer_;
}

}  // namespace muster::dns
