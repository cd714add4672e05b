#include "base/endpoint.hpp"

#include <algorithm>
#include <charconv>

#include "base/assert.hpp"

namespace muster {
namespace {

constexpr std::size_t kGroups = 8;  // RFC 4291 §2.2: eight groups of 16 bits

std::optional<IpAddress::V4> parse_v4(std::string_view text) noexcept {
  IpAddress::V4 octets{};
  const char* cursor = text.data();
  const char* const end = text.data() + text.size();
  for (std::size_t i = 0; i < octets.size(); ++i) {
    if (i > 0) {
      if (cursor == end || *cursor != '.') return std::nullopt;
      ++cursor;
    }
    const char* const start = cursor;
    const auto [next, error] = std::from_chars(start, end, octets[i]);
    if (error != std::errc{}) return std::nullopt;
    // "010" is octal to some resolvers and decimal to others; refuse to pick a side.
    if (next - start > 1 && *start == '0') return std::nullopt;
    cursor = next;
  }
  if (cursor != end) return std::nullopt;
  return octets;
}

// One run of groups, on one side of "::". Returns how many groups it wrote, nothing on bad text.
std::optional<std::size_t> parse_groups(std::string_view text, bool v4_tail_allowed,
                                        std::array<std::uint16_t, kGroups>& groups) noexcept {
  std::size_t count = 0;
  if (text.empty()) return count;
  for (;;) {
    const std::size_t colon = text.find(':');
    const std::string_view part = text.substr(0, colon);
    const bool last = colon == std::string_view::npos;
    if (last && v4_tail_allowed && part.find('.') != std::string_view::npos) {
      const auto tail = parse_v4(part);
      if (!tail || count + 2 > kGroups) return std::nullopt;
      groups[count++] = static_cast<std::uint16_t>((*tail)[0] << 8 | (*tail)[1]);
      groups[count++] = static_cast<std::uint16_t>((*tail)[2] << 8 | (*tail)[3]);
      return count;
    }
    if (part.empty() || part.size() > 4 || count == kGroups) return std::nullopt;
    std::uint16_t value = 0;
    const auto [next, error] = std::from_chars(part.data(), part.data() + part.size(), value, 16);
    if (error != std::errc{} || next != part.data() + part.size()) return std::nullopt;
    groups[count++] = value;
    if (last) return count;
    text.remove_prefix(colon + 1);
  }
}

std::optional<IpAddress::V6> parse_v6(std::string_view text) noexcept {
  std::array<std::uint16_t, kGroups> head{};
  std::array<std::uint16_t, kGroups> tail{};
  std::optional<std::size_t> head_count;
  std::optional<std::size_t> tail_count = 0;
  const std::size_t gap = text.find("::");
  if (gap == std::string_view::npos) {
    head_count = parse_groups(text, true, head);
    if (head_count != kGroups) return std::nullopt;
  } else {
    head_count = parse_groups(text.substr(0, gap), false, head);
    tail_count = parse_groups(text.substr(gap + 2), true, tail);
    if (!head_count || !tail_count || *head_count + *tail_count >= kGroups) return std::nullopt;
  }
  std::copy_n(tail.begin(), *tail_count,
              head.begin() + static_cast<std::ptrdiff_t>(kGroups - *tail_count));
  IpAddress::V6 octets{};
  for (std::size_t i = 0; i < kGroups; ++i) {
    octets[2 * i] = static_cast<std::uint8_t>(head[i] >> 8);
    octets[2 * i + 1] = static_cast<std::uint8_t>(head[i] & 0xFF);
  }
  return octets;
}

// RFC 5952 §4: lower case, no leading zeros, "::" for the first longest run of two or more zeros.
std::string v6_text(const IpAddress::V6& octets) {
  std::array<unsigned, kGroups> groups{};
  for (std::size_t i = 0; i < kGroups; ++i) {
    groups[i] = static_cast<unsigned>(octets[2 * i] << 8 | octets[2 * i + 1]);
  }
  std::size_t best = kGroups;
  std::size_t best_length = 1;
  for (std::size_t i = 0; i < kGroups;) {
    std::size_t end = i;
    while (end < kGroups && groups[end] == 0) ++end;
    if (end - i > best_length) {
      best = i;
      best_length = end - i;
    }
    i = std::max(end, i + 1);
  }
  std::string text;
  std::array<char, 4> digits{};
  for (std::size_t i = 0; i < kGroups;) {
    if (i == best) {
      text += "::";
      i += best_length;
      continue;
    }
    if (!text.empty() && text.back() != ':') text += ':';
    const auto [end, error] =
        std::to_chars(digits.data(), digits.data() + digits.size(), groups[i], 16);
    text.append(digits.data(), end);
    ++i;
  }
  return text;
}

}  // namespace

std::string_view to_string(Protocol protocol) noexcept {
  return protocol == Protocol::tcp ? "tcp" : "udp";
}

std::optional<Port> Port::parse(std::string_view text) noexcept {
  std::uint32_t number = 0;
  const char* const end = text.data() + text.size();
  const auto [next, error] = std::from_chars(text.data(), end, number);
  if (error != std::errc{} || next != end) return std::nullopt;
  return from(number);
}

std::optional<IpAddress> IpAddress::parse(std::string_view text) noexcept {
  if (text.find(':') != std::string_view::npos) {
    if (const auto octets = parse_v6(text)) return IpAddress{*octets};
    return std::nullopt;
  }
  if (const auto octets = parse_v4(text)) return IpAddress{*octets};
  return std::nullopt;
}

IpAddress::V4 IpAddress::v4() const noexcept {
  MUSTER_ASSERT(is_v4());
  return {octets_[0], octets_[1], octets_[2], octets_[3]};
}

const IpAddress::V6& IpAddress::v6() const noexcept {
  MUSTER_ASSERT(is_v6());
  return octets_;
}

bool IpAddress::is_loopback() const noexcept {
  if (is_v4()) return octets_[0] == 127;
  static constexpr V6 kLoopback{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1};
  return octets_ == kLoopback;
}

bool IpAddress::is_unspecified() const noexcept {
  return octets_ == V6{};
}

bool IpAddress::is_link_local() const noexcept {
  if (is_v4()) return octets_[0] == 169 && octets_[1] == 254;
  return octets_[0] == 0xFE && (octets_[1] & 0xC0) == 0x80;
}

bool IpAddress::is_multicast() const noexcept {
  return is_v4() ? (octets_[0] & 0xF0) == 0xE0 : octets_[0] == 0xFF;
}

bool IpAddress::is_unicast() const noexcept {
  if (is_unspecified() || is_multicast()) return false;
  if (is_v6()) return !is_link_local();
  return !(octets_[0] == 255 && octets_[1] == 255 && octets_[2] == 255 && octets_[3] == 255);
}

std::string IpAddress::to_string() const {
  if (is_v6()) return v6_text(octets_);
  std::string text;
  for (const std::uint8_t octet : octets()) {
    if (!text.empty()) text += '.';
    text += std::to_string(octet);
  }
  return text;
}

std::optional<Endpoint> Endpoint::parse(std::string_view text) noexcept {
  const std::size_t colon = text.rfind(':');
  if (colon == std::string_view::npos) return std::nullopt;
  std::string_view host = text.substr(0, colon);
  const bool bracketed = host.size() >= 2 && host.front() == '[' && host.back() == ']';
  if (bracketed) host = host.substr(1, host.size() - 2);
  const auto address = IpAddress::parse(host);
  const auto port = Port::parse(text.substr(colon + 1));
  if (!address || !port || address->is_v6() != bracketed) return std::nullopt;
  return Endpoint{*address, *port};
}

std::string to_string(const Endpoint& endpoint) {
  const std::string address = endpoint.address.to_string();
  const std::string port = std::to_string(endpoint.port.number());
  return endpoint.address.is_v6() ? '[' + address + "]:" + port : address + ':' + port;
}

std::string to_string(const Vip& vip) {
  return std::string{to_string(vip.protocol)} + '/' + to_string(vip.endpoint);
}

}  // namespace muster
