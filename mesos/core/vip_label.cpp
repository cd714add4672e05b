#include "mesos/core/vip_label.hpp"

#include <algorithm>
#include <charconv>
#include <optional>
#include <utility>

#include "base/label.hpp"

namespace muster::mesos {
namespace {

// 253 octets of a DNS name (RFC 1035 §2.3.4, as text) less room for the zone behind it, which is
// configurable; DC/OS's ".l4lb.thisdcos.directory" takes 24.
constexpr std::size_t kMaxVipName = 190;

bool is_dialable(const IpAddress& address) noexcept {
  return address.is_unicast() && !address.is_loopback();
}

}  // namespace

std::string_view to_string(VipLabelError error) noexcept {
  switch (error) {
    case VipLabelError::no_port:
      return "what follows the last ':' must be a port, 1 to 65535";
    case VipLabelError::bad_address:
      return "the address must be one that clients can dial: unicast and not loopback";
    case VipLabelError::empty_name:
      return "nothing of the name, or of the framework's, is left as a DNS label";
    case VipLabelError::too_long:
      return "the value, or the DNS name it gives, is too long";
  }
  return "unknown";
}

Result<VipLabel, VipLabelError> parse_vip_value(std::string_view value, Protocol protocol,
                                                std::string_view framework_name) {
  if (value.size() > kMaxVipValue) return VipLabelError::too_long;
  const std::size_t colon = value.rfind(':');
  if (colon == std::string_view::npos) return VipLabelError::no_port;
  const auto port = Port::parse(value.substr(colon + 1));
  if (!port) return VipLabelError::no_port;

  const std::string_view host = value.substr(0, colon);
  const bool bracketed = host.starts_with('[') && host.ends_with(']');
  const auto address = IpAddress::parse(bracketed ? host.substr(1, host.size() - 2) : host);
  if (bracketed && (!address || address->is_v4())) return VipLabelError::bad_address;
  if (address) {
    if (!is_dialable(*address)) return VipLabelError::bad_address;
    return VipLabel{*address, *port, protocol};
  }
  std::string name = domain_fragment(host);
  const std::string framework = domain_fragment(framework_name);
  if (name.empty() || framework.empty()) return VipLabelError::empty_name;
  name += '.';
  name += framework;
  if (name.size() > kMaxVipName) return VipLabelError::too_long;
  return VipLabel{VipName{std::move(name)}, *port, protocol};
}

namespace {

constexpr std::string_view kPolicyKey = "_policy";

bool is_separator(char c) noexcept {
  return c == ',' || c == ' ' || c == '\t';
}

/// `90s`, `10m`, `3h`: 1 s to `most` seconds.
std::optional<std::uint32_t> parse_seconds(std::string_view text, std::uint32_t most) noexcept {
  if (text.size() < 2) return std::nullopt;
  const char unit = text.back();
  const std::uint64_t factor = unit == 's' ? 1 : unit == 'm' ? 60 : unit == 'h' ? 3600 : 0;
  std::uint64_t count = 0;
  const char* const end = text.data() + text.size() - 1;
  const auto parsed = std::from_chars(text.data(), end, count);
  if (factor == 0 || parsed.ec != std::errc{} || parsed.ptr != end || count == 0)
    return std::nullopt;
  if (count > most / factor) return std::nullopt;
  return static_cast<std::uint32_t>(count * factor);
}

bool take_policy_word(std::string_view word, VipPolicy& policy) {
  using Spread = VipPolicy::Spread;
  using Locality = VipPolicy::Locality;
  constexpr std::string_view kAffinity = "affinity=";
  constexpr std::string_view kSlowStart = "slow_start=";
  if (word == "random") {
    policy.spread = Spread::random;
  } else if (word == "round_robin") {
    policy.spread = Spread::round_robin;
  } else if (word == "source_hash") {
    policy.spread = Spread::source_hash;
  } else if (word == "locality=none") {
    policy.locality = Locality::none;
  } else if (word == "locality=zone") {
    policy.locality = Locality::zone;
  } else if (word == "locality=node") {
    policy.locality = Locality::node;
  } else if (word == "eject=on" || word == "eject=off") {
    policy.eject = word == "eject=on";
  } else if (word.starts_with(kAffinity)) {
    const auto seconds =
        parse_seconds(word.substr(kAffinity.size()), VipPolicy::kMaxAffinitySeconds);
    if (seconds) policy.affinity_seconds = *seconds;
    return seconds.has_value();
  } else if (word.starts_with(kSlowStart)) {
    const auto seconds =
        parse_seconds(word.substr(kSlowStart.size()), VipPolicy::kMaxSlowStartSeconds);
    if (seconds) policy.slow_start_seconds = *seconds;
    return seconds.has_value();
  } else {
    return false;
  }
  return true;
}

}  // namespace

VipPolicy parse_vip_policy(std::string_view value, std::vector<std::string>& bad) {
  VipPolicy policy;
  if (value.size() > kMaxVipValue) {
    bad.emplace_back(value.substr(0, kMaxVipValue));
    return policy;
  }
  for (std::size_t at = 0; at < value.size();) {
    if (is_separator(value[at])) {
      ++at;
      continue;
    }
    std::size_t end = at;
    while (end < value.size() && !is_separator(value[end])) ++end;
    const std::string_view word = value.substr(at, end - at);
    if (!take_policy_word(word, policy)) bad.emplace_back(word);
    at = end;
  }
  return policy;
}

bool is_policy_key(std::string_view key) noexcept {
  if (!is_vip_key(key) || key.size() < kPolicyKey.size()) return false;
  const std::string_view end = key.substr(key.size() - kPolicyKey.size());
  return std::equal(end.begin(), end.end(), kPolicyKey.begin(),
                    [](char a, char b) { return a == b || a == (b == '_' ? b : b - 'a' + 'A'); });
}

std::string_view vip_key_of(std::string_view policy_key) noexcept {
  return policy_key.substr(0, policy_key.size() - kPolicyKey.size());
}

bool is_vip_key(std::string_view key) noexcept {
  return key.starts_with("VIP") || key.starts_with("vip");
}

std::vector<Protocol> vip_protocols(std::string_view lower_cased) {
  bool tcp = false;
  bool udp = false;
  for (std::size_t at = 0; at < lower_cased.size();) {
    const std::size_t comma = std::min(lower_cased.find(',', at), lower_cased.size());
    std::string_view part = lower_cased.substr(at, comma - at);
    while (part.starts_with(' ')) part.remove_prefix(1);
    while (part.ends_with(' ')) part.remove_suffix(1);
    if (part == "udp") udp = true;
    if (!part.empty() && part != "udp") tcp = true;
    at = comma + 1;
  }
  std::vector<Protocol> out;
  if (tcp || !udp) out.push_back(Protocol::tcp);
  if (udp) out.push_back(Protocol::udp);
  return out;
}

}  // namespace muster::mesos
