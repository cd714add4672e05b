#include "cluster/core/vip_address.hpp"

#include <algorithm>
#include <bit>
#include <limits>

namespace muster::cluster {
namespace {

constexpr std::uint32_t kGoldenRatio = 0x9E3779B9U;
/// Where Erlang starts for a binary, modulo 2^32.
constexpr std::uint32_t kBinary = 13U * kGoldenRatio;

__extension__ using U128 = unsigned __int128;

U128 number_of(const IpAddress& address) noexcept {
  U128 number = 0;
  for (const std::uint8_t octet : address.octets()) number = (number << 8) | octet;
  return number;
}

template <class Octets>
IpAddress address_of(U128 number) noexcept {
  Octets octets{};
  for (auto octet = octets.rbegin(); octet != octets.rend(); ++octet) {
    *octet = static_cast<std::uint8_t>(number & 0xFF);
    number >>= 8;
  }
  return IpAddress{octets};
}

IpAddress address_of(U128 number, Family family) noexcept {
  return family == Family::v4 ? address_of<IpAddress::V4>(number)
                              : address_of<IpAddress::V6>(number);
}

/// A big-endian number of any length, modulo `range` (not zero): long division, bit by bit, so
/// that a range of nearly 2^128 needs no wider arithmetic.
U128 modulo(std::span<const std::uint8_t> number, U128 range) noexcept {
  U128 rest = 0;
  for (const std::uint8_t octet : number) {
    for (int shift = 7; shift >= 0; --shift) {
      const bool carry = (rest >> 127) != 0;
      rest = (rest << 1) | ((octet >> shift) & 1U);
      if (carry || rest >= range) rest -= range;
    }
  }
  return rest;
}

void mix(std::uint32_t& a, std::uint32_t& b, std::uint32_t& c) noexcept {
  a = (a - b - c) ^ (c >> 13);
  b = (b - c - a) ^ (a << 8);
  c = (c - a - b) ^ (b >> 13);
  a = (a - b - c) ^ (c >> 12);
  b = (b - c - a) ^ (a << 16);
  c = (c - a - b) ^ (b >> 5);
  a = (a - b - c) ^ (c >> 3);
  b = (b - c - a) ^ (a << 10);
  c = (c - a - b) ^ (b >> 15);
}

/// Up to four octets, least significant first.
std::uint32_t little_endian(std::string_view octets) noexcept {
  std::uint32_t word = 0;
  for (std::size_t i = 0; i < std::min<std::size_t>(octets.size(), 4); ++i) {
    word |= std::uint32_t{static_cast<std::uint8_t>(octets[i])} << (8 * i);
  }
  return word;
}

using Sha1State = std::array<std::uint32_t, 5>;

// RFC 3174 §6.1, method 1.
void sha1_block(Sha1State& state, std::span<const std::uint8_t, 64> block) noexcept {
  std::array<std::uint32_t, 80> w{};
  for (std::size_t t = 0; t < 16; ++t) {
    for (std::size_t i = 0; i < 4; ++i) w[t] = (w[t] << 8) | block[4 * t + i];
  }
  for (std::size_t t = 16; t < 80; ++t) {
    w[t] = std::rotl(w[t - 3] ^ w[t - 8] ^ w[t - 14] ^ w[t - 16], 1);
  }
  auto [a, b, c, d, e] = state;
  for (std::size_t t = 0; t < 80; ++t) {
    std::uint32_t f = b ^ c ^ d;
    std::uint32_t k = t < 40 ? 0x6ED9EBA1U : 0xCA62C1D6U;
    if (t < 20) {
      f = (b & c) | (~b & d);
      k = 0x5A827999U;
    } else if (t >= 40 && t < 60) {
      f = (b & c) | (b & d) | (c & d);
      k = 0x8F1BBCDCU;
    }
    const std::uint32_t next = std::rotl(a, 5) + f + e + w[t] + k;
    e = d;
    d = c;
    c = std::rotl(b, 30);
    b = a;
    a = next;
  }
  state = {state[0] + a, state[1] + b, state[2] + c, state[3] + d, state[4] + e};
}

}  // namespace

std::optional<AddressRange> AddressRange::from(const IpAddress& first,
                                               const IpAddress& last) noexcept {
  if (first.family() != last.family() || last < first) return std::nullopt;
  return AddressRange{first, last};
}

bool AddressRange::contains(const IpAddress& address) const noexcept {
  return address.family() == first.family() && first <= address && address <= last;
}

AddressRange default_vip_range_v4() noexcept {
  return {IpAddress{IpAddress::V4{11, 0, 0, 0}}, IpAddress{IpAddress::V4{11, 255, 255, 255}}};
}

AddressRange default_vip_range_v6() noexcept {
  IpAddress::V6 first{0xFD, 0x01, 0, 0x0C};
  IpAddress::V6 last = first;
  std::fill(last.begin() + 8, last.end(), std::uint8_t{0xFF});
  return {IpAddress{first}, IpAddress{last}};
}

IpAddress preferred_address(std::string_view name, const AddressRange& range) noexcept {
  const U128 first = number_of(range.first);
  const U128 size = number_of(range.last) - first;
  if (size == 0) return range.first;
  U128 offset = 0;
  if (range.first.is_v4()) {
    offset = phash2(name) % size;
  } else {
    offset = modulo(sha1(name), size);
  }
  return address_of(first + offset, range.first.family());
}

IpAddress next_address(const IpAddress& address, const AddressRange& range) noexcept {
  if (address == range.last) return range.first;
  return address_of(number_of(address) + 1, address.family());
}

std::uint32_t phash2(std::string_view bytes) noexcept {
  const auto size = static_cast<std::uint32_t>(
      std::min<std::size_t>(bytes.size(), std::numeric_limits<std::uint32_t>::max()));
  std::uint32_t a = kGoldenRatio;
  std::uint32_t b = kGoldenRatio;
  std::uint32_t c = kBinary;
  for (; bytes.size() >= 12; bytes.remove_prefix(12)) {
    a += little_endian(bytes);
    b += little_endian(bytes.substr(4));
    c += little_endian(bytes.substr(8));
    mix(a, b, c);
  }
  a += little_endian(bytes);
  if (bytes.size() > 4) b += little_endian(bytes.substr(4));
  // The lowest octet of c is the length's place.
  if (bytes.size() > 8) c += little_endian(bytes.substr(8)) << 8;
  c += size;
  mix(a, b, c);
  return c;
}

std::array<std::uint8_t, 20> sha1(std::string_view bytes) noexcept {
  Sha1State state{0x67452301U, 0xEFCDAB89U, 0x98BADCFEU, 0x10325476U, 0xC3D2E1F0U};
  const std::uint64_t bits = std::uint64_t{bytes.size()} * 8;
  std::array<std::uint8_t, 64> block{};
  const auto fill = [&block, &bytes] {
    block.fill(0);
    const std::size_t size = std::min(bytes.size(), block.size());
    std::transform(bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(size), block.begin(),
                   [](char c) { return static_cast<std::uint8_t>(c); });
    bytes.remove_prefix(size);
    return size;
  };
  while (bytes.size() >= block.size()) {
    fill();
    sha1_block(state, block);
  }
  const std::size_t rest = fill();
  block[rest] = 0x80;
  if (rest >= block.size() - 8) {
    sha1_block(state, block);
    block.fill(0);
  }
  for (std::size_t i = 0; i < 8; ++i) {
    block[block.size() - 1 - i] = static_cast<std::uint8_t>(bits >> (8 * i));
  }
  sha1_block(state, block);
  std::array<std::uint8_t, 20> digest{};
  for (std::size_t i = 0; i < digest.size(); ++i) {
    digest[i] = static_cast<std::uint8_t>(state[i / 4] >> (24 - 8 * (i % 4)));
  }
  return digest;
}

}  // namespace muster::cluster
