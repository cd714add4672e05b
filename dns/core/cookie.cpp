#include "dns/core/cookie.hpp"

#include <algorithm>
#include <bit>
#include <cstring>

namespace muster::dns {
namespace {

constexpr std::size_t kMaxAddress = 16;
constexpr std::size_t kHashAt = 8;  // version, three reserved octets, four of time, then the hash
constexpr std::size_t kTimeAt = 4;

std::uint64_t little64(const std::byte* at) noexcept {
  std::uint64_t out = 0;
  for (unsigned i = 8; i > 0; --i) out = out << 8 | std::to_integer<std::uint64_t>(at[i - 1]);
  return out;
}

struct Sip {
  std::uint64_t v0, v1, v2, v3;
  void round() noexcept {
    v0 += v1;
    v1 = std::rotl(v1, 13) ^ v0;
    v0 = std::rotl(v0, 32);
    v2 += v3;
    v3 = std::rotl(v3, 16) ^ v2;
    v0 += v3;
    v3 = std::rotl(v3, 21) ^ v0;
    v2 += v1;
    v1 = std::rotl(v1, 17) ^ v2;
    v2 = std::rotl(v2, 32);
  }
  void take(std::uint64_t word) noexcept {
    v3 ^= word;
    round();
    round();
    v0 ^= word;
  }
};

// Client cookie, then the server cookie up to its hash, then the address (RFC 9018 §4.4).
std::uint64_t hash_of(const Cookies::Secret& secret, std::span<const std::byte> client,
                      std::span<const std::byte> head, std::span<const std::byte> address) {
  std::array<std::byte, Cookies::kClientSize + kHashAt + kMaxAddress> data{};
  auto end = std::copy(client.begin(), client.end(), data.begin());
  end = std::copy(head.begin(), head.end(), end);
  end = std::copy_n(address.begin(), std::min(address.size(), kMaxAddress), end);
  return siphash24(secret, {data.begin(), end});
}

void put_little64(std::byte* to, std::uint64_t value) noexcept {
  for (unsigned i = 0; i < 8; ++i) to[i] = static_cast<std::byte>(value >> (8 * i) & 0xFF);
}

}  // namespace

std::uint64_t siphash24(const Cookies::Secret& key, std::span<const std::byte> data) noexcept {
  const std::uint64_t k0 = little64(key.data());
  const std::uint64_t k1 = little64(key.data() + 8);
  Sip state{k0 ^ 0x736F6D6570736575ULL, k1 ^ 0x646F72616E646F6DULL, k0 ^ 0x6C7967656E657261ULL,
            k1 ^ 0x7465646279746573ULL};
  std::size_t at = 0;
  for (; at + 8 <= data.size(); at += 8) state.take(little64(data.data() + at));
  std::array<std::byte, 8> last{};
  std::copy(data.begin() + static_cast<std::ptrdiff_t>(at), data.end(), last.begin());
  last[7] = static_cast<std::byte>(data.size() & 0xFF);
  state.take(little64(last.data()));
  state.v2 ^= 0xFF;
  for (int i = 0; i < 4; ++i) state.round();
  return state.v0 ^ state.v1 ^ state.v2 ^ state.v3;
}

std::array<std::byte, Cookies::kServerSize> Cookies::make(std::span<const std::byte> client,
                                                          std::span<const std::byte> address,
                                                          std::uint32_t now) const noexcept {
  std::array<std::byte, kServerSize> out{};
  out[0] = std::byte{1};
  for (unsigned i = 0; i < 4; ++i) {
    out[kTimeAt + i] = static_cast<std::byte>(now >> (24 - 8 * i) & 0xFF);
  }
  const std::uint64_t hash = hash_of(secret_, client, std::span{out}.first(kHashAt), address);
  put_little64(out.data() + kHashAt, hash);
  return out;
}

bool Cookies::valid(std::span<const std::byte> client, std::span<const std::byte> server,
                    std::span<const std::byte> address, std::uint32_t now) const noexcept {
  if (server.size() != kServerSize || server[0] != std::byte{1}) return false;
  std::uint32_t made = 0;
  for (unsigned i = 0; i < 4; ++i) {
    made = made << 8 | std::to_integer<std::uint32_t>(server[kTimeAt + i]);
  }
  // Serial number arithmetic (RFC 1982), as RFC 9018 §4.3 wants it.
  const auto age = static_cast<std::int32_t>(now - made);
  if (age > static_cast<std::int32_t>(kMaxAge) || age < -static_cast<std::int32_t>(kMaxAhead)) {
    return false;
  }
  std::array<std::byte, 8> expected{};
  put_little64(expected.data(), hash_of(secret_, client, server.first(kHashAt), address));
  std::byte difference{0};  // no early exit: the time taken must not tell how much was right
  for (std::size_t i = 0; i < expected.size(); ++i) difference |= expected[i] ^ server[kHashAt + i];
  return difference == std::byte{0};
}

}  // namespace muster::dns
