#include "base/label.hpp"

#include <algorithm>
#include <cstddef>

namespace muster {
namespace {

constexpr std::size_t kMaxRfc1123 = 63;
constexpr std::size_t kMaxRfc952 = 24;

std::string mapped(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (const char c : text) {
    if ((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9')) {
      out += c;
    } else if (c >= 'A' && c <= 'Z') {
      out += static_cast<char>(c - 'A' + 'a');
    } else if (c == '-' || c == '_' || c == '.') {
      out += '-';
    }
  }
  return out;
}

void strip_trailing_dashes(std::string& text) {
  while (!text.empty() && text.back() == '-') text.pop_back();
}

std::string cut(std::string text, std::string_view not_leading, std::size_t max) {
  text.erase(0, std::min(text.find_first_not_of(not_leading), text.size()));
  std::string tail = text.size() > max ? text.substr(max) : std::string{};
  text.resize(std::min(text.size(), max));
  strip_trailing_dashes(text);
  tail.erase(0, std::min(tail.find_first_not_of('-'), tail.size()));
  if (text.size() < max) text.append(tail, 0, max - text.size());
  strip_trailing_dashes(text);
  return text;
}

}  // namespace

std::string dns_label(std::string_view text) {
  return cut(mapped(text), "-", kMaxRfc1123);
}

std::string dns_label_rfc952(std::string_view text) {
  return cut(mapped(text), "-0123456789", kMaxRfc952);
}

std::string domain_fragment(std::string_view text) {
  std::string out;
  for (std::size_t at = 0; at <= text.size();) {
    const std::size_t dot = std::min(text.find('.', at), text.size());
    const std::string label = dns_label(text.substr(at, dot - at));
    if (!label.empty()) {
      if (!out.empty()) out += '.';
      out += label;
    }
    at = dot + 1;
  }
  return out;
}

}  // namespace muster
