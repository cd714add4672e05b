#include "dns/core/padding.hpp"

#include <cstdint>

#include "dns/core/octets.hpp"
#include "dns/core/types.hpp"

namespace muster::dns {
namespace {

constexpr std::uint16_t kPaddingOption = 12;  // RFC 7830 §3
constexpr std::size_t kOptionHeader = 4;      // code and length

void put16(std::vector<std::byte>& to, std::size_t at, std::size_t value) noexcept {
  to[at] = static_cast<std::byte>(value >> 8);
  to[at + 1] = static_cast<std::byte>(value & 0xFF);
}

}  // namespace

void pad_query(std::vector<std::byte>& query) {
  if (query.size() < kHeaderSize + kOptSize || at16(query, 10) != 1) return;
  const std::size_t length_at = query.size() - 2;
  const std::size_t option = query.size();
  const std::size_t bare = option + kOptionHeader;
  const std::size_t whole = (bare + kPaddedQuery - 1) / kPaddedQuery * kPaddedQuery;
  query.resize(whole);  // zeros, as RFC 7830 §3 has it
  put16(query, option, kPaddingOption);
  put16(query, option + 2, whole - bare);
  put16(query, length_at, whole - option);
}

std::optional<std::vector<std::byte>> without_padding(std::span<const std::byte> reply,
                                                      const ReplyShape& shape) {
  const std::size_t end = shape.opt_at + shape.opt_size;
  if (shape.opt_size <= kOptSize || end != reply.size()) return std::nullopt;
  // The owner is the root in every OPT there is; one that is compressed ends two octets later.
  const std::size_t options = skip_name(reply, shape.opt_at) + 10;
  std::vector<std::byte> out{reply.begin(), reply.begin() + static_cast<std::ptrdiff_t>(options)};
  bool found = false;
  for (std::size_t at = options; at < end;) {
    if (end - at < kOptionHeader) return std::nullopt;
    const std::size_t size = kOptionHeader + at16(reply, at + 2);
    if (end - at < size) return std::nullopt;
    const auto option = reply.subspan(at, size);
    if (at16(reply, at) == kPaddingOption) {
      found = true;
    } else {
      out.insert(out.end(), option.begin(), option.end());
    }
    at += size;
  }
  if (!found) return std::nullopt;
  put16(out, options - 2, out.size() - options);
  return out;
}

}  // namespace muster::dns
