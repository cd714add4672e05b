#include "dns/core/access.hpp"

#include <algorithm>
#include <array>
#include <charconv>

namespace muster::dns {
namespace {

bool bit_of(std::span<const std::uint8_t> octets, unsigned bit) noexcept {
  return (octets[bit / 8] >> (7 - bit % 8) & 1) != 0;
}

// ::ffff:a.b.c.d as a.b.c.d; anything else as it is.
IpAddress unmapped(const IpAddress& address) noexcept {
  if (address.is_v4()) return address;
  const auto octets = address.octets();
  constexpr std::array<std::uint8_t, 12> kMapped{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF};
  if (!std::equal(kMapped.begin(), kMapped.end(), octets.begin())) return address;
  return IpAddress{IpAddress::V4{octets[12], octets[13], octets[14], octets[15]}};
}

}  // namespace

std::optional<Prefix> Prefix::parse(std::string_view text) noexcept {
  const std::size_t slash = text.find('/');
  const auto address = IpAddress::parse(text.substr(0, slash));
  if (!address) return std::nullopt;
  const unsigned all = address->is_v4() ? 32 : 128;
  if (slash == std::string_view::npos) return Prefix{*address, all};
  unsigned bits = 0;
  const std::string_view number = text.substr(slash + 1);
  const auto [end, error] = std::from_chars(number.data(), number.data() + number.size(), bits);
  if (error != std::errc{} || end != number.data() + number.size() || bits > all) {
    return std::nullopt;
  }
  for (unsigned bit = bits; bit < all; ++bit) {
    if (bit_of(address->octets(), bit)) return std::nullopt;
  }
  return Prefix{*address, bits};
}

bool Prefix::contains(const IpAddress& other) const noexcept {
  if (other.family() != address.family()) return false;
  const auto ours = address.octets();
  const auto theirs = other.octets();
  const std::size_t whole = bits / 8;
  if (!std::equal(ours.begin(), ours.begin() + static_cast<std::ptrdiff_t>(whole),
                  theirs.begin())) {
    return false;
  }
  const unsigned rest = bits % 8;
  return rest == 0 || (ours[whole] ^ theirs[whole]) >> (8 - rest) == 0;
}

std::string to_string(const Prefix& prefix) {
  return prefix.address.to_string() + '/' + std::to_string(prefix.bits);
}

bool AccessList::allows(const IpAddress& client) const noexcept {
  const IpAddress address = unmapped(client);
  return std::any_of(prefixes_.begin(), prefixes_.end(),
                     [&](const Prefix& prefix) { return prefix.contains(address); });
}

std::vector<Prefix> private_networks() {
  std::vector<Prefix> out;
  for (const char* const text :
       {"127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10",
        "169.254.0.0/16", "::1/128", "fc00::/7", "fe80::/10"}) {
    out.push_back(*Prefix::parse(text));
  }
  return out;
}

}  // namespace muster::dns
