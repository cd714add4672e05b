#include "lb/io/nft_notes.hpp"

namespace muster::lb::nft {
namespace {

std::vector<std::uint8_t> payload_note(std::uint32_t header, std::uint32_t field) {
  constexpr std::uint32_t kPayload = 7;
  Notes where;
  where.number(0, header).number(1, field);
  return Notes{}.number(0, kPayload).note(1, where.bytes()).bytes();
}

std::vector<std::uint8_t> concat_note(const std::vector<std::vector<std::uint8_t>>& parts) {
  constexpr std::uint32_t kConcat = 13;
  Notes inner;
  std::uint8_t place = 0;
  for (const auto& part : parts) inner.note(place++, part);
  return Notes{}.number(0, kConcat).note(1, inner.bytes()).bytes();
}

}  // namespace

std::vector<std::uint8_t> slots_notes(Family family, Protocol protocol) {
  constexpr std::uint32_t kNumgen = 23;
  const auto address = family == Family::v4 ? payload_note(12, 12) : payload_note(13, 9);
  const auto port = payload_note(protocol == Protocol::tcp ? 8 : 6, 2);
  Notes inc_mod_2;
  inc_mod_2.number(0, 0).number(1, 2).number(2, 0);
  const auto numgen = Notes{}.number(0, kNumgen).note(1, inc_mod_2.bytes()).bytes();
  return Notes{}
      .number(0, 0)
      .number(1, 0)
      .note(3, concat_note({address, port, numgen}))
      .note(4, concat_note({address, port}))
      .bytes();
}

}  // namespace muster::lb::nft
