#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

namespace muster {

/// A cursor over untrusted bytes, in network byte order.
///
/// Errors stick: after the first short read every further read returns zero or an empty span
/// and ok() stays false. A parser can therefore read straight through a structure and ask ok()
/// once, before it believes anything it has read.
class ByteReader {
 public:
  explicit ByteReader(std::span<const std::byte> bytes) noexcept : rest_{bytes} {}

  bool ok() const noexcept { return ok_; }
  std::size_t remaining() const noexcept { return rest_.size(); }

  std::uint8_t u8() noexcept {
    const auto octet = take(1);
    return octet.empty() ? std::uint8_t{0} : std::to_integer<std::uint8_t>(octet[0]);
  }

  std::uint16_t u16() noexcept {
    const std::uint32_t high = u8();
    return static_cast<std::uint16_t>((high << 8) | u8());
  }

  std::uint32_t u32() noexcept {
    const std::uint32_t high = u16();
    return (high << 16) | u16();
  }

  std::uint64_t u64() noexcept {
    const std::uint64_t high = u32();
    return (high << 32) | u32();
  }

  /// Unsigned LEB128, at most ten octets; a longer or overflowing one is an error.
  std::uint64_t varint() noexcept {
    std::uint64_t value = 0;
    for (unsigned shift = 0; shift < 64; shift += 7) {
      const std::uint8_t octet = u8();
      const std::uint64_t bits = octet & 0x7FU;
      if (shift == 63 && bits > 1) break;
      value |= bits << shift;
      if ((octet & 0x80U) == 0) return ok_ ? value : 0;
    }
    fail();
    return 0;
  }

  /// A varint length and that many octets; the view borrows from the bytes being read.
  std::string_view text() noexcept {
    const std::uint64_t size = varint();
    if (size > rest_.size()) {
      fail();
      return {};
    }
    const auto octets = take(static_cast<std::size_t>(size));
    return {reinterpret_cast<const char*>(octets.data()), octets.size()};
  }

  /// Marks what has been read as wrong; for a caller that finds the meaning impossible.
  void fail() noexcept {
    rest_ = {};
    ok_ = false;
  }

  std::span<const std::byte> take(std::size_t count) noexcept {
    if (count > rest_.size()) {
      fail();
      return {};
    }
    const auto taken = rest_.first(count);
    rest_ = rest_.subspan(count);
    return taken;
  }

 private:
  std::span<const std::byte> rest_;
  bool ok_ = true;
};

}  // namespace muster
