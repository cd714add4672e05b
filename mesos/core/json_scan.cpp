#include "mesos/core/json_scan.hpp"

#include <bit>
#include <cstdint>
#include <cstring>

#ifdef __SSE2__
#include <emmintrin.h>
#endif

namespace muster::mesos {
namespace {

constexpr std::size_t kBlock = 64;

/// Which of 64 octets are what, one bit each.
struct Marks {
  std::uint64_t quotes = 0, backslashes = 0, opening = 0, closing = 0;
};

#ifdef __SSE2__
Marks marks_of(const char* at) noexcept {
  Marks out;
  for (unsigned i = 0; i < kBlock; i += 16) {
    const __m128i octets = _mm_loadu_si128(reinterpret_cast<const __m128i*>(at + i));
    const auto where = [i](__m128i in, char what) {
      const int found = _mm_movemask_epi8(_mm_cmpeq_epi8(in, _mm_set1_epi8(what)));
      return static_cast<std::uint64_t>(static_cast<unsigned>(found)) << i;
    };
    // '[' and '{', ']' and '}' differ in this bit alone.
    const __m128i folded = _mm_or_si128(octets, _mm_set1_epi8(0x20));
    out.quotes |= where(octets, '"');
    out.backslashes |= where(octets, '\\');
    out.opening |= where(folded, '{');
    out.closing |= where(folded, '}');
  }
  return out;
}
#else
Marks marks_of(const char* at) noexcept {
  Marks out;
  for (unsigned i = 0; i < kBlock; ++i) {
    const std::uint64_t bit = std::uint64_t{1} << i;
    if (at[i] == '"') out.quotes |= bit;
    if (at[i] == '\\') out.backslashes |= bit;
    if (at[i] == '[' || at[i] == '{') out.opening |= bit;
    if (at[i] == ']' || at[i] == '}') out.closing |= bit;
  }
  return out;
}
#endif

/// Each bit of the result is the parity of all bits up to it: set from an opening quote up to the
/// octet before the closing one (Langdale and Lemire, "Parsing Gigabytes of JSON per Second",
/// §3.1).
std::uint64_t inside(std::uint64_t quotes) noexcept {
  for (unsigned by = 1; by < kBlock; by *= 2) quotes ^= quotes << by;
  return quotes;
}

}  // namespace

std::string_view JsonScan::skip() noexcept {
  const char first = peek();
  const char* const begin = at_;
  if (first == '"') {
    skip_string();
  } else if (first == '{' || first == '[') {
    skip_nested();
  } else {
    skip_scalar();
  }
  if (!ok_) return {};
  return {begin, static_cast<std::size_t>(at_ - begin)};
}

std::string_view JsonScan::read_key() noexcept {
  if (peek() != '"') {
    fail();
    return {};
  }
  const char* const begin = at_ + 1;
  skip_string();
  if (!ok_) return {};
  const std::string_view key{begin, static_cast<std::size_t>(at_ - 1 - begin)};
  expect(':');
  return key;
}

void JsonScan::skip_string() noexcept {
  const char* const begin = at_ + 1;
  const char* search = begin;
  for (;;) {
    const void* const found = std::memchr(search, '"', static_cast<std::size_t>(end_ - search));
    if (found == nullptr) return fail();
    const char* const quote = static_cast<const char*>(found);
    const char* first_backslash = quote;
    while (first_backslash > begin && first_backslash[-1] == '\\') --first_backslash;
    search = quote + 1;
    if ((quote - first_backslash) % 2 == 0) break;
  }
  at_ = search;
}

// Whole blocks at once, where nothing is escaped.
void JsonScan::skip_nested() noexcept {
  Nesting nesting;
  while (static_cast<std::size_t>(end_ - at_) >= kBlock) {
    const Marks marks = marks_of(at_);
    if (nesting.escaped || marks.backslashes != 0) {
      if (step(nesting, at_ + kBlock)) return;
      continue;
    }
    const std::uint64_t text = inside(marks.quotes) ^ (nesting.quoted ? ~std::uint64_t{0} : 0);
    const std::uint64_t opening = marks.opening & ~text;
    std::uint64_t closing = marks.closing & ~text;
    // The value ends where as many were closed as were opened.
    std::size_t closed = 0;
    for (; closing != 0; closing &= closing - 1) {
      const auto at = static_cast<unsigned>(std::countr_zero(closing));
      const std::uint64_t before = opening & ((std::uint64_t{1} << at) - 1);
      if (++closed == nesting.depth + static_cast<std::size_t>(std::popcount(before))) {
        at_ += at + 1;
        return;
      }
    }
    nesting.depth += static_cast<std::size_t>(std::popcount(opening)) - closed;
    nesting.quoted = (text >> (kBlock - 1)) != 0;
    at_ += kBlock;
  }
  if (!step(nesting, end_)) fail();
}

// Octet by octet; true if the value ended before `until`.
bool JsonScan::step(Nesting& nesting, const char* until) noexcept {
  while (at_ < until) {
    const char c = *at_++;
    if (nesting.quoted) {
      if (nesting.escaped) {
        nesting.escaped = false;
      } else if (c == '\\') {
        nesting.escaped = true;
      } else if (c == '"') {
        nesting.quoted = false;
      }
    } else if (c == '"') {
      nesting.quoted = true;
    } else if (c == '{' || c == '[') {
      ++nesting.depth;
    } else if ((c == '}' || c == ']') && --nesting.depth == 0) {
      return true;
    }
  }
  return false;
}

void JsonScan::skip_scalar() noexcept {
  const char* const begin = at_;
  while (at_ < end_ && std::strchr(",]} \n\r\t", *at_) == nullptr) ++at_;
  // strchr finds the terminating zero too, so a zero octet ends a scalar as it should.
  if (at_ == begin) fail();
}

}  // namespace muster::mesos
