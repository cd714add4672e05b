#include "dns/core/upstream.hpp"

#include "base/parse_endpoint.hpp"
#include "dns/core/name.hpp"

namespace muster::dns {
namespace {

constexpr std::string_view kTlsScheme = "tls://";
constexpr std::uint16_t kDnsPort = 53;
constexpr std::uint16_t kTlsPort = 853;  // RFC 7858 §3.1

// Letters, digits, hyphens and underscores: what a certificate's name may be made of.
std::optional<std::string> parse_host(std::string_view text) {
  std::string out;
  if (!text.empty() && text.back() == '.') text.remove_suffix(1);
  for (const char c : text) {
    const bool upper = c >= 'A' && c <= 'Z';
    const bool known = upper || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' ||
                       c == '_' || c == '.';
    if (!known) return std::nullopt;
    out += upper ? static_cast<char>(c - 'A' + 'a') : c;
  }
  if (out.empty() || !Name::parse(out) || IpAddress::parse(out)) return std::nullopt;
  return out;
}

}  // namespace

std::optional<Upstream> Upstream::parse(std::string_view text) {
  if (!text.starts_with(kTlsScheme)) {
    const auto endpoint = parse_endpoint(text, kDnsPort);
    return endpoint ? std::optional{Upstream{*endpoint}} : std::nullopt;
  }
  text.remove_prefix(kTlsScheme.size());
  const std::size_t sign = text.find('#');
  std::string_view address = text.substr(0, sign);
  // As a URL has it. Without the brackets there may be no port either.
  if (address.starts_with('[') && address.ends_with(']')) {
    address = address.substr(1, address.size() - 2);
    if (const auto inner = IpAddress::parse(address); !inner || inner->is_v4()) return std::nullopt;
  }
  const auto endpoint = parse_endpoint(address, kTlsPort);
  if (!endpoint) return std::nullopt;
  Upstream out{*endpoint};
  out.tls = true;
  if (sign == std::string_view::npos) return out;
  auto host = parse_host(text.substr(sign + 1));
  if (!host) return std::nullopt;
  out.name = std::move(*host);
  return out;
}

std::string to_string(const Upstream& upstream) {
  if (!upstream.tls) return to_string(upstream.endpoint);
  std::string out{kTlsScheme};
  out += to_string(upstream.endpoint);
  if (!upstream.name.empty()) out += '#' + upstream.name;
  return out;
}

}  // namespace muster::dns
