#include "dns/core/task_hash.hpp"

#include <bit>
#include <cstddef>

namespace muster::dns {
namespace {

constexpr std::string_view kAlphabet = "ybndrfg8ejkmcpqxot1uwisza345h769";
constexpr std::size_t kBlock = 64;
using State = std::array<std::uint32_t, 5>;

void take_block(State& state, const std::array<std::uint8_t, kBlock>& block) {
  std::array<std::uint32_t, 80> words{};
  for (std::size_t i = 0; i < 16; ++i) {
    words[i] = static_cast<std::uint32_t>(block[4 * i]) << 24 |
               static_cast<std::uint32_t>(block[4 * i + 1]) << 16 |
               static_cast<std::uint32_t>(block[4 * i + 2]) << 8 | block[4 * i + 3];
  }
  for (std::size_t i = 16; i < words.size(); ++i) {
    words[i] = std::rotl(words[i - 3] ^ words[i - 8] ^ words[i - 14] ^ words[i - 16], 1);
  }
  auto [a, b, c, d, e] = state;
  for (std::size_t i = 0; i < words.size(); ++i) {
    std::uint32_t mixed = b ^ c ^ d;
    std::uint32_t constant = i < 40 ? 0x6ED9EBA1 : 0xCA62C1D6;
    if (i < 20) {
      mixed = (b & c) | (~b & d);
      constant = 0x5A827999;
    } else if (i >= 40 && i < 60) {
      mixed = (b & c) | (b & d) | (c & d);
      constant = 0x8F1BBCDC;
    }
    const std::uint32_t next = std::rotl(a, 5) + mixed + e + constant + words[i];
    e = d;
    d = c;
    c = std::rotl(b, 30);
    b = a;
    a = next;
  }
  state = {state[0] + a, state[1] + b, state[2] + c, state[3] + d, state[4] + e};
}

}  // namespace

std::array<std::uint8_t, 20> sha1(std::string_view text) {
  State state{0x67452301, 0xEFCDAB89, 0x98BADCFE, 0x10325476, 0xC3D2E1F0};
  std::string padded{text};
  padded += '\x80';
  while (padded.size() % kBlock != kBlock - 8) padded += '\0';
  const std::uint64_t bits = std::uint64_t{text.size()} * 8;
  for (unsigned shift = 64; shift > 0;) {
    shift -= 8;
    padded += static_cast<char>((bits >> shift) & 0xFF);
  }
  std::array<std::uint8_t, kBlock> block{};
  for (std::size_t at = 0; at < padded.size(); at += kBlock) {
    for (std::size_t i = 0; i < kBlock; ++i) block[i] = static_cast<std::uint8_t>(padded[at + i]);
    take_block(state, block);
  }
  std::array<std::uint8_t, 20> digest{};
  for (std::size_t i = 0; i < digest.size(); ++i) {
    digest[i] = static_cast<std::uint8_t>(state[i / 4] >> (24 - 8 * (i % 4)));
  }
  return digest;
}

std::string task_hash(std::string_view task_id) {
  const auto digest = sha1(task_id);
  // Five letters are 25 bits: the first four octets hold them.
  const std::uint32_t head = static_cast<std::uint32_t>(digest[0]) << 24 |
                             static_cast<std::uint32_t>(digest[1]) << 16 |
                             static_cast<std::uint32_t>(digest[2]) << 8 | digest[3];
  std::string text;
  for (unsigned i = 0; i < 5; ++i) text += kAlphabet[(head >> (27 - 5 * i)) & 31];
  return text;
}

}  // namespace muster::dns
