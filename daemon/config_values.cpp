#include "daemon/config_values.hpp"

#include <cctype>
#include <charconv>
#include <sstream>

#include "base/parse_endpoint.hpp"

namespace muster::daemon {

bool is_zone_name(std::string_view text) {
  if (!text.empty() && text.back() == '.') text.remove_suffix(1);
  if (text.empty() || text.size() > 253) return false;
  std::istringstream in{std::string{text}};
  for (std::string label; std::getline(in, label, '.');) {
    if (label.empty() || label.size() > 63) return false;
    for (const char c : label) {
      if (std::isalnum(static_cast<unsigned char>(c)) == 0 && c != '-' && c != '_') return false;
    }
  }
  return text.back() != '.';
}

bool is_prefix(const std::string& text) {
  const std::size_t slash = text.find('/');
  const auto address = IpAddress::parse(text.substr(0, slash));
  if (!address || slash == std::string::npos) return address.has_value();
  unsigned bits = 0;
  const char* const from = text.data() + slash + 1;
  const char* const end = text.data() + text.size();
  const auto [next, error] = std::from_chars(from, end, bits);
  return error == std::errc{} && next == end && from != end &&
         bits <= (address->is_v4() ? 32U : 128U);
}

bool is_join(std::string& text, std::uint16_t default_port) {
  if (const auto endpoint = parse_endpoint(text, default_port)) {
    text = to_string(*endpoint);
    return endpoint->address.is_unicast();
  }
  const std::size_t colon = text.rfind(':');
  if (colon == std::string::npos) {
    if (!is_zone_name(text)) return false;
    text += ':' + std::to_string(default_port);
    return true;
  }
  const std::string port = text.substr(colon + 1);
  unsigned number = 0;
  const auto [end, error] = std::from_chars(port.data(), port.data() + port.size(), number);
  return error == std::errc{} && end == port.data() + port.size() && Port::from(number) &&
         is_zone_name(text.substr(0, colon));
}

}  // namespace muster::daemon
