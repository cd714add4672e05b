#include "dev/dns_query.hpp"

#include <algorithm>

namespace muster::dev {

namespace {

constexpr std::size_t kMaxNameservers = 3;  // glibc's MAXNS
constexpr std::uint16_t kTypeA = 1;
constexpr std::uint16_t kTypeAaaa = 28;
constexpr std::uint16_t kClassIn = 1;

void put16(std::string& out, unsigned value) {
  out += static_cast<char>(value >> 8 & 0xff);
  out += static_cast<char>(value & 0xff);
}

std::uint16_t type_of(Family family) {
  return family == Family::v4 ? kTypeA : kTypeAaaa;
}

/// A cursor over a packet that stops at its end for good.
class Cursor {
 public:
  explicit Cursor(std::span<const std::uint8_t> packet) : rest_{packet} {}
  bool good() const noexcept { return good_; }

  unsigned u16() {
    const auto octets = take(2);
    return octets.size() == 2 ? octets[0] * 256U + octets[1] : 0U;
  }

  std::span<const std::uint8_t> take(std::size_t count) {
    if (!good_ || rest_.size() < count) {
      good_ = false;
      return {};
    }
    const auto out = rest_.first(count);
    rest_ = rest_.subspan(count);
    return out;
  }

  /// Past a name, without following where it points: what it says does not matter here.
  void skip_name() {
    while (good_) {
      const auto length = take(1);
      if (!good_ || length[0] == 0) return;
      if (length[0] >= 0xc0) {
        take(1);
        return;
      }
      take(length[0]);
    }
  }

 private:
  std::span<const std::uint8_t> rest_;
  bool good_ = true;
};

}  // namespace

std::string dns_query(std::uint16_t id, std::string_view name, Family family) {
  std::string out;
  put16(out, id);
  put16(out, 0x0100);  // recursion desired
  put16(out, 1);
  put16(out, 0);
  put16(out, 0);
  put16(out, 0);
  if (name.ends_with('.')) name.remove_suffix(1);
  if (name.empty() || name.size() > 253) return {};
  while (!name.empty()) {
    const std::size_t dot = std::min(name.find('.'), name.size());
    if (dot == 0 || dot > 63 || dot + 1 == name.size()) return {};
    out += static_cast<char>(dot);
    out += name.substr(0, dot);
    name.remove_prefix(std::min(dot + 1, name.size()));
  }
  out += '\0';
  put16(out, type_of(family));
  put16(out, kClassIn);
  return out;
}

std::optional<DnsAnswer> parse_dns_answer(std::span<const std::uint8_t> packet, std::uint16_t id,
                                          Family family) {
  Cursor in{packet};
  const unsigned got_id = in.u16();
  const unsigned flags = in.u16();
  const unsigned questions = in.u16();
  const unsigned answers = in.u16();
  in.take(4);
  if (!in.good() || got_id != id || (flags & 0x8000) == 0) return std::nullopt;
  for (unsigned i = 0; i < questions && in.good(); ++i) {
    in.skip_name();
    in.take(4);
  }
  DnsAnswer out{.rcode = flags & 15, .addresses = {}};
  for (unsigned i = 0; i < answers && in.good(); ++i) {
    in.skip_name();
    const unsigned type = in.u16();
    const unsigned in_class = in.u16();
    in.take(4);
    const auto data = in.take(in.u16());
    if (!in.good() || in_class != kClassIn || type != type_of(family)) continue;
    if (type == kTypeA && data.size() == 4) {
      IpAddress::V4 octets;
      std::copy(data.begin(), data.end(), octets.begin());
      out.addresses.emplace_back(octets);
    } else if (type == kTypeAaaa && data.size() == 16) {
      IpAddress::V6 octets;
      std::copy(data.begin(), data.end(), octets.begin());
      out.addresses.emplace_back(octets);
    }
  }
  if (!in.good()) return std::nullopt;
  return out;
}

std::vector<IpAddress> nameservers(std::string_view text) {
  std::vector<IpAddress> out;
  while (!text.empty()) {
    const std::size_t end = std::min(text.find('\n'), text.size());
    std::string_view line = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    constexpr std::string_view kKeyword = "nameserver";
    if (!line.starts_with(kKeyword)) continue;
    line.remove_prefix(kKeyword.size());
    const std::size_t from = line.find_first_not_of(" \t");
    if (from == 0 || from == std::string_view::npos) continue;
    line = line.substr(from);
    line = line.substr(0, line.find_first_of(" \t\r#;"));
    if (const auto address = IpAddress::parse(line); address && out.size() < kMaxNameservers) {
      out.push_back(*address);
    }
  }
  if (out.empty()) out.push_back(*IpAddress::parse("127.0.0.1"));
  return out;
}

}  // namespace muster::dev
