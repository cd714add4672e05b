#pragma once

#include <string>
#include <string_view>

namespace muster {

/// Appends `value` to `out` as a JSON string with its quotation marks (RFC 8259 §7). `value` must
/// be UTF-8; it is not looked at.
inline void append_json_string(std::string& out, std::string_view value) {
  constexpr std::string_view kDigits = "0123456789abcdef";
  out += '"';
  for (const char c : value) {
    const auto octet = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
    } else if (c == '\n') {
      out += "\\n";
    } else if (c == '\t') {
      out += "\\t";
    } else if (octet < 0x20) {
      out += "\\u00";
      out += kDigits[octet >> 4];
      out += kDigits[octet & 15];
    } else {
      out += c;
    }
  }
  out += '"';
}

}  // namespace muster
