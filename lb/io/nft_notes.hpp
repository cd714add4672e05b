#pragma once

#include <cstdint>
#include <vector>

#include "base/endpoint.hpp"

namespace muster::lb::nft {

/// nft's notes beside a table or set: nested (type, length, value) octets. The kernel keeps them
/// unread; without them nft could not read back what it prints of a map whose key holds a slot
/// number.
class Notes {
 public:
  Notes& note(std::uint8_t type, const std::vector<std::uint8_t>& value) {
    bytes_.push_back(type);
    bytes_.push_back(static_cast<std::uint8_t>(value.size()));
    bytes_.insert(bytes_.end(), value.begin(), value.end());
    return *this;
  }
  Notes& number(std::uint8_t type, std::uint32_t value) {
    const auto* data = reinterpret_cast<const std::uint8_t*>(&value);
    return note(type, {data, data + sizeof value});
  }
  const std::vector<std::uint8_t>& bytes() const { return bytes_; }

 private:
  std::vector<std::uint8_t> bytes_;
};

/// typeof ip daddr . tcp dport . numgen inc mod 2 : ip daddr . tcp dport
std::vector<std::uint8_t> slots_notes(Family family, Protocol protocol);

}  // namespace muster::lb::nft
