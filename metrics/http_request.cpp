#include "metrics/http_request.hpp"

#include <algorithm>
#include <charconv>

namespace muster::metrics {
namespace {

constexpr std::string_view kScheme = "http://";

std::optional<std::string> percent_decode(std::string_view text, bool plus_is_space) {
  std::string decoded;
  decoded.reserve(text.size());
  for (std::size_t i = 0; i < text.size(); ++i) {
    char c = text[i];
    if (c == '%') {
      unsigned value = 0;
      const char* const digits = text.data() + i + 1;
      if (text.size() - i < 3) return std::nullopt;
      const auto [end, error] = std::from_chars(digits, digits + 2, value, 16);
      if (error != std::errc{} || end != digits + 2) return std::nullopt;
      c = static_cast<char>(static_cast<unsigned char>(value));
      i += 2;
    } else if (c == '+' && plus_is_space) {
      c = ' ';
    }
    const auto octet = static_cast<unsigned char>(c);
    if (octet < 0x20 || octet == 0x7F) return std::nullopt;
    decoded += c;
  }
  return decoded;
}

// RFC 3986 §5.2.4, but a ".." above the root is an error rather than nothing.
std::optional<std::string> normalise(std::string_view path) {
  std::vector<std::string_view> segments;
  while (!path.empty()) {
    path.remove_prefix(1);  // the '/'
    const std::string_view segment = path.substr(0, path.find('/'));
    path.remove_prefix(segment.size());
    if (segment.empty() || segment == ".") continue;
    if (segment != "..") {
      segments.push_back(segment);
    } else if (segments.empty()) {
      return std::nullopt;
    } else {
      segments.pop_back();
    }
  }
  std::string normal;
  for (const std::string_view segment : segments) normal.append("/").append(segment);
  return normal.empty() ? "/" : normal;
}

bool parse_query(std::string_view text, std::map<std::string, std::string>& query) {
  std::size_t count = 0;
  while (!text.empty()) {
    const std::string_view pair = text.substr(0, text.find('&'));
    text.remove_prefix(std::min(pair.size() + 1, text.size()));
    if (pair.empty()) continue;
    if (++count > kMaxQueryParameters) return false;
    const std::size_t equals = std::min(pair.find('='), pair.size());
    auto key = percent_decode(pair.substr(0, equals), true);
    auto value = percent_decode(pair.substr(std::min(equals + 1, pair.size())), true);
    if (!key || !value) return false;
    query.try_emplace(std::move(*key), std::move(*value));
  }
  return true;
}

char lower(char c) {
  return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
}

bool starts_with_scheme(std::string_view target) {
  return target.size() > kScheme.size() &&
         std::equal(kScheme.begin(), kScheme.end(), target.begin(),
                    [](char a, char b) { return a == lower(b); });
}

}  // namespace

std::optional<Target> parse_target(std::string_view target) {
  Target parsed;
  if (starts_with_scheme(target)) {
    target.remove_prefix(kScheme.size());
    const std::size_t end = std::min(target.find_first_of("/?#"), target.size());
    parsed.authority = std::string{target.substr(0, end)};
    target.remove_prefix(end);
    if (host_of(parsed.authority).empty()) return std::nullopt;
  } else if (target.empty() || target.front() != '/') {
    return std::nullopt;
  }
  target = target.substr(0, target.find('#'));
  const std::size_t mark = std::min(target.find('?'), target.size());
  const auto decoded = percent_decode(target.substr(0, mark), false);
  if (!decoded) return std::nullopt;
  auto path = normalise(*decoded);
  if (!path) return std::nullopt;
  parsed.request.path = std::move(*path);
  const std::string_view query = target.substr(std::min(mark + 1, target.size()));
  if (!parse_query(query, parsed.request.query)) return std::nullopt;
  return parsed;
}

std::string host_of(std::string_view header) {
  std::string_view host = header;
  const std::size_t bracket = header.find(']');
  const bool literal = !header.empty() && header.front() == '[';
  if (literal && bracket == std::string_view::npos) return {};
  const std::size_t colon = header.find(':', literal ? bracket : 0);
  if (colon != std::string_view::npos) {
    host = header.substr(0, colon);
    const std::string_view port = header.substr(colon + 1);
    if (!port.empty() && !Port::parse(port)) return {};
  }
  if (literal) {
    if (host.size() != bracket + 1) return {};
    const auto address = IpAddress::parse(host.substr(1, host.size() - 2));
    return address && address->is_v6() ? '[' + address->to_string() + ']' : std::string{};
  }
  if (!host.empty() && host.back() == '.') host.remove_suffix(1);
  std::string lowered;
  for (const char c : host) {
    const char l = lower(c);
    const bool fine =
        (l >= 'a' && l <= 'z') || (l >= '0' && l <= '9') || l == '-' || l == '.' || l == '_';
    if (!fine) return {};
    lowered += l;
  }
  return lowered;
}

bool is_own_host(std::string_view host, const std::vector<IpAddress>& addresses,
                 const std::vector<std::string>& names) {
  if (host.empty()) return false;
  if (host == "localhost" || host == "127.0.0.1" || host == "[::1]") return true;
  const bool literal = host.front() == '[';
  const auto address = IpAddress::parse(literal ? host.substr(1, host.size() - 2) : host);
  if (address && std::find(addresses.begin(), addresses.end(), *address) != addresses.end()) {
    return true;
  }
  return std::any_of(names.begin(), names.end(), [host](const std::string& name) {
    if (name.starts_with('.')) return host.size() > name.size() && host.ends_with(host_of(name));
    // A bare IPv6 address in the configuration means the same as one in brackets.
    return host_of(name) == host || (host.front() == '[' && host_of('[' + name + ']') == host);
  });
}

}  // namespace muster::metrics
