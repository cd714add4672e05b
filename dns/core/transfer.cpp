#include "dns/core/transfer.hpp"

#include <utility>

#include "dns/core/types.hpp"

namespace muster::dns {
namespace {

constexpr std::size_t kSoaSerialFromEnd = 20;

void put16(std::vector<std::byte>& out, std::size_t value) {
  out.push_back(static_cast<std::byte>(value >> 8 & 0xFF));
  out.push_back(static_cast<std::byte>(value & 0xFF));
}

void put(std::vector<std::byte>& out, std::string_view octets) {
  const auto bytes = std::as_bytes(std::span{octets});
  out.insert(out.end(), bytes.begin(), bytes.end());
}

}  // namespace

Transfer::Transfer(std::shared_ptr<const ZoneSnapshot> zones, std::uint8_t zone,
                   std::span<const std::byte> message, const Query& query)
    : zones_{std::move(zones)},
      zone_{zone},
      id_{query.id},
      flags_{static_cast<std::uint16_t>(flag::kResponse | flag::kAuthoritative |
                                        (query.flags & flag::kRecursionDesired))},
      question_{message.begin() + kHeaderSize, message.begin() + query.question_end} {}

std::vector<std::byte> Transfer::next() {
  std::vector<std::byte> out;
  if (ended_) return out;
  out.reserve(kMessageSize + 1024);
  std::size_t records = 0;
  for (const std::size_t word : {std::size_t{id_}, std::size_t{flags_}}) put16(out, word);
  for (const std::size_t word : {1U, 0U, 0U, 0U}) put16(out, word);
  out.insert(out.end(), question_.begin(), question_.end());
  if (!std::exchange(begun_, true)) {
    put_soa(out);
    ++records;
  }
  while (out.size() < kMessageSize) {
    if (waiting_.empty()) refill();
    if (waiting_.empty()) {
      put_soa(out);
      ++records;
      ended_ = true;
      break;
    }
    put_record(out, waiting_.back());
    waiting_.pop_back();
    ++records;
  }
  out[6] = static_cast<std::byte>(records >> 8 & 0xFF);
  out[7] = static_cast<std::byte>(records & 0xFF);
  return out;
}

// Takes the zone's records of the next parts, until there are some.
void Transfer::refill() {
  while (waiting_.empty() && part_ < zones_->parts()) {
    zones_->for_each_in(part_++, [this](NodeView node) {
      if (node.zone() != zone_) return;
      for (std::size_t set = 0; set < node.set_count(); ++set) {
        for (std::size_t record = 0; record < node.set(set).count; ++record) {
          waiting_.push_back(
              {node.data(), static_cast<std::uint8_t>(set), static_cast<std::uint16_t>(record)});
        }
      }
    });
  }
}

void Transfer::put_soa(std::vector<std::byte>& out) const {
  const std::string& soa = zones_->table().zones[zone_].soa;
  put16(out, 0xC000 | kHeaderSize);
  put(out, std::string_view{soa}.substr(0, soa.size() - kSoaSerialFromEnd));
  put16(out, zones_->serial() >> 16);
  put16(out, zones_->serial() & 0xFFFF);
  put(out, std::string_view{soa}.substr(soa.size() - (kSoaSerialFromEnd - 4)));
}

// The owner is what it has above the apex, then a pointer to the question, which is the apex.
void Transfer::put_record(std::vector<std::byte>& out, const Place& place) const {
  const NodeView node{place.node};
  const RenderedSet set = node.set(place.set);
  const std::string_view name = node.name();
  put(out, name.substr(0, name.size() - zones_->table().zones[zone_].apex.size()));
  put16(out, 0xC000 | kHeaderSize);
  const std::size_t at = node.offset(set, place.record);
  const std::byte* const from = node.answers(set);
  out.insert(out.end(), from + at + 2, from + node.offset(set, std::size_t{place.record} + 1));
}

std::vector<std::byte> make_notify(std::string_view apex, std::uint16_t id) {
  std::vector<std::byte> out;
  put16(out, id);
  put16(out, opcode::kNotify << 11 | flag::kAuthoritative);
  for (const std::size_t word : {1U, 0U, 0U, 0U}) put16(out, word);
  put(out, apex);
  put16(out, type::kSoa);
  put16(out, kClassIn);
  return out;
}

}  // namespace muster::dns
