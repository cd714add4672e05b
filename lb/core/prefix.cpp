#include "lb/core/prefix.hpp"

#include <charconv>
#include <system_error>

namespace muster::lb {

std::optional<Prefix> Prefix::parse(std::string_view text) {
  const std::size_t slash = text.find('/');
  if (slash == std::string_view::npos) return std::nullopt;
  const auto address = IpAddress::parse(text.substr(0, slash));
  const std::string_view digits = text.substr(slash + 1);
  unsigned length = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), length);
  const bool whole = error == std::errc{} && end == digits.data() + digits.size();
  // Length 0 would make us the guard of the whole internet.
  if (!address || !whole || length == 0 || length > address->octets().size() * 8) {
    return std::nullopt;
  }
  for (unsigned bit = length; bit < address->octets().size() * 8; ++bit) {
    if ((address->octets()[bit / 8] & (0x80U >> (bit % 8))) != 0) return std::nullopt;
  }
  return Prefix{*address, static_cast<std::uint8_t>(length)};
}

Prefix Prefix::whole(const IpAddress& address) {
  return {address, static_cast<std::uint8_t>(address.octets().size() * 8)};
}

bool Prefix::contains(const IpAddress& other) const noexcept {
  if (address.family() != other.family()) return false;
  const auto left = address.octets();
  const auto right = other.octets();
  for (std::size_t bit = 0; bit < length; ++bit) {
    if (((left[bit / 8] ^ right[bit / 8]) & (0x80U >> (bit % 8))) != 0) return false;
  }
  return true;
}

IpAddress Prefix::last() const noexcept {
  const auto fill = [this](auto octets) {
    for (std::size_t bit = length; bit < octets.size() * 8; ++bit) {
      octets[bit / 8] = static_cast<std::uint8_t>(octets[bit / 8] | (0x80U >> (bit % 8)));
    }
    return IpAddress{octets};
  };
  return address.is_v4() ? fill(address.v4()) : fill(address.v6());
}

std::string Prefix::to_string() const {
  return address.to_string() + "/" + std::to_string(length);
}

}  // namespace muster::lb
