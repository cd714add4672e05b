#include "mesos/core/json_scan.hpp"

#include <cstring>

namespace muster::mesos {

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

void JsonScan::skip_nested() noexcept {
  std::size_t depth = 0;
  while (at_ < end_) {
    const char c = *at_;
    if (c == '"') {
      skip_string();
      continue;
    }
    ++at_;
    // '{' 0x7B, '}' 0x7D, '[' 0x5B, ']' 0x5D: one bit apart by kind, so one test finds all four.
    if ((c & 0xD9) != 0x59) continue;
    if (c == '{' || c == '[') {
      ++depth;
    } else if ((c == '}' || c == ']') && --depth == 0) {
      return;
    }
  }
  fail();
}

void JsonScan::skip_scalar() noexcept {
  const char* const begin = at_;
  while (at_ < end_ && std::strchr(",]} \n\r\t", *at_) == nullptr) ++at_;
  // strchr finds the terminating zero too, so a zero octet ends a scalar as it should.
  if (at_ == begin) fail();
}

}  // namespace muster::mesos
