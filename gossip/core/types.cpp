#include "gossip/core/types.hpp"

namespace muster::gossip {
namespace {

std::optional<std::uint64_t> hex_digit(char c) noexcept {
  if (c >= '0' && c <= '9') return static_cast<std::uint64_t>(c - '0');
  if (c >= 'a' && c <= 'f') return static_cast<std::uint64_t>(c - 'a' + 10);
  if (c >= 'A' && c <= 'F') return static_cast<std::uint64_t>(c - 'A' + 10);
  return std::nullopt;
}

constexpr bool dash_at(std::size_t i) noexcept {
  return i == 8 || i == 13 || i == 18 || i == 23;
}

}  // namespace

std::optional<NodeUid> NodeUid::parse(std::string_view text) noexcept {
  if (text.size() != 36) return std::nullopt;
  NodeUid uid;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (dash_at(i)) {
      if (text[i] != '-') return std::nullopt;
      continue;
    }
    const auto digit = hex_digit(text[i]);
    if (!digit) return std::nullopt;
    uid.high = (uid.high << 4) | (uid.low >> 60);
    uid.low = (uid.low << 4) | *digit;
  }
  if (uid.is_nil()) return std::nullopt;
  return uid;
}

std::string NodeUid::to_string() const {
  constexpr std::string_view kDigits = "0123456789abcdef";
  std::string text;
  text.reserve(36);
  unsigned nibble = 0;
  while (text.size() < 36) {
    if (dash_at(text.size())) text.push_back('-');
    const std::uint64_t word = nibble < 16 ? high : low;
    text.push_back(kDigits[(word >> (60 - 4 * (nibble % 16))) & 0xF]);
    ++nibble;
  }
  return text;
}

}  // namespace muster::gossip
