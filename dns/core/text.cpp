#include "dns/core/text.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <cstring>
#include <utility>

#include "base/byte_reader.hpp"
#include "base/endpoint.hpp"
#include "dns/core/name.hpp"
#include "dns/core/types.hpp"

namespace muster::dns {
namespace {

using Bytes = std::span<const std::byte>;

constexpr std::array<std::pair<std::uint16_t, std::string_view>, 17> kTypes{{
    {type::kA, "A"},
    {type::kNs, "NS"},
    {type::kCname, "CNAME"},
    {type::kSoa, "SOA"},
    {type::kPtr, "PTR"},
    {type::kMx, "MX"},
    {type::kTxt, "TXT"},
    {type::kAaaa, "AAAA"},
    {type::kSrv, "SRV"},
    {type::kOpt, "OPT"},
    {type::kTkey, "TKEY"},
    {type::kTsig, "TSIG"},
    {type::kIxfr, "IXFR"},
    {type::kAxfr, "AXFR"},
    {type::kAny, "ANY"},
    {43, "DS"},
    {65, "HTTPS"},
}};

constexpr std::array<std::string_view, 12> kRcodes{"NOERROR", "FORMERR", "SERVFAIL", "NXDOMAIN",
                                                   "NOTIMP",  "REFUSED", "YXDOMAIN", "YXRRSET",
                                                   "NXRRSET", "NOTAUTH", "NOTZONE",  "DSOTYPENI"};

std::string hex(Bytes bytes) {
  constexpr std::string_view kDigits = "0123456789abcdef";
  std::string out;
  for (const std::byte octet : bytes) {
    out += kDigits[std::to_integer<std::size_t>(octet >> 4)];
    out += kDigits[std::to_integer<std::size_t>(octet & std::byte{15})];
  }
  return out;
}

std::string unknown_data(Bytes data) {
  return "\\# " + std::to_string(data.size()) + (data.empty() ? "" : " " + hex(data));
}

std::string quoted(Bytes text) {
  std::string out = "\"";
  for (const std::byte octet : text) {
    const auto value = std::to_integer<unsigned char>(octet);
    if (value == '"' || value == '\\') out += '\\';
    if (value >= 0x20 && value < 0x7F) {
      out += static_cast<char>(value);
    } else {
      out += '\\';
      out += static_cast<char>('0' + value / 100);
      out += static_cast<char>('0' + value / 10 % 10);
      out += static_cast<char>('0' + value % 10);
    }
  }
  return out + '"';
}

// Reads names and numbers out of RDATA; ok() stays false once something was wrong.
class DataReader {
 public:
  DataReader(Bytes message, std::size_t at, std::size_t size)
      : message_{message.first(at + size)}, reader_{message_.subspan(at)} {}

  std::string name() {
    const auto name = Name::decode(message_, reader_);
    if (!name) reader_.fail();
    return name ? name->to_string() : std::string{};
  }
  std::string u16() { return std::to_string(reader_.u16()); }
  std::string u32() { return std::to_string(reader_.u32()); }
  Bytes take(std::size_t count) { return reader_.take(count); }
  std::uint8_t u8() { return reader_.u8(); }
  std::size_t remaining() const { return reader_.remaining(); }
  bool ok() const { return reader_.ok() && reader_.remaining() == 0; }

 private:
  Bytes message_;
  ByteReader reader_;
};

std::string address_text(DataReader& in, bool v4) {
  IpAddress::V6 octets{};
  const Bytes taken = in.take(v4 ? 4 : 16);
  for (std::size_t i = 0; i < taken.size(); ++i)
    octets[i] = std::to_integer<std::uint8_t>(taken[i]);
  if (!v4) return IpAddress{octets}.to_string();
  return IpAddress{IpAddress::V4{octets[0], octets[1], octets[2], octets[3]}}.to_string();
}

std::string known_data(std::uint16_t rtype, DataReader& in) {
  std::string out;
  switch (rtype) {
    case type::kA:
    case type::kAaaa:
      return address_text(in, rtype == type::kA);
    case type::kNs:
    case type::kCname:
    case type::kPtr:
      return in.name();
    case type::kMx:
      out = in.u16();
      return out + ' ' + in.name();
    case type::kSrv:
      for (int i = 0; i < 3; ++i) out += in.u16() + ' ';
      return out + in.name();
    case type::kSoa:
      out = in.name();
      out += ' ' + in.name();
      for (int i = 0; i < 5; ++i) out += ' ' + in.u32();
      return out;
    case type::kTxt:
      while (in.remaining() > 0) out += (out.empty() ? "" : " ") + quoted(in.take(in.u8()));
      return out;
    default:
      in.take(in.remaining() + 1);  // fails: the caller falls back to RFC 3597 form
      return out;
  }
}

class ReplyPrinter {
 public:
  explicit ReplyPrinter(Bytes message) : message_{message}, reader_{message} {}

  std::string print() && {
    const std::uint16_t id = reader_.u16();
    const std::uint16_t flags = reader_.u16();
    std::array<std::uint16_t, 4> counts{};
    for (std::uint16_t& count : counts) count = reader_.u16();
    if (!reader_.ok()) return ";; the reply is shorter than a header\n";
    code_ = flags & flag::kRcodeMask;
    bool whole = true;
    for (unsigned i = 0; whole && i < counts[0]; ++i) whole = question();
    constexpr std::array<std::string_view, 3> kSections{"ANSWER", "AUTHORITY", "ADDITIONAL"};
    for (std::size_t section = 0; whole && section < kSections.size(); ++section) {
      std::string lines;
      for (unsigned i = 0; whole && i < counts[section + 1]; ++i) whole = record(lines);
      if (!lines.empty())
        body_ += "\n;; " + std::string{kSections[section]} + " SECTION:\n" + lines;
    }
    return header(id, flags, counts) + edns_ + body_ +
           (whole ? "" : "\n;; the reply ends in the middle of a record, or is malformed\n");
  }

 private:
  std::string header(std::uint16_t id, std::uint16_t flags,
                     const std::array<std::uint16_t, 4>& counts) const {
    std::string out =
        ";; status: " + rcode_text(code_) + ", id: " + std::to_string(id) + "\n;; flags:";
    constexpr std::array<std::pair<std::uint16_t, std::string_view>, 7> kFlags{
        {{flag::kResponse, " qr"},
         {flag::kAuthoritative, " aa"},
         {flag::kTruncated, " tc"},
         {flag::kRecursionDesired, " rd"},
         {flag::kRecursionAvailable, " ra"},
         {0x0020, " ad"},
         {flag::kCheckingDisabled, " cd"}}};
    for (const auto& [bit, text] : kFlags) {
      if ((flags & bit) != 0) out += text;
    }
    constexpr std::array<std::string_view, 4> kCounts{
        "; QUERY: ", ", ANSWER: ", ", AUTHORITY: ", ", ADDITIONAL: "};
    for (std::size_t i = 0; i < counts.size(); ++i) {
      out += std::string{kCounts[i]} + std::to_string(counts[i]);
    }
    return out + '\n';
  }

  bool question() {
    const auto name = Name::decode(message_, reader_);
    const std::uint16_t qtype = reader_.u16();
    const std::uint16_t qclass = reader_.u16();
    if (!name || !reader_.ok()) return false;
    body_ += "\n;; QUESTION SECTION:\n;" + name->to_string() + "\t" + class_text(qclass) + '\t' +
             type_text(qtype) + '\n';
    return true;
  }

  bool record(std::string& lines) {
    const auto name = Name::decode(message_, reader_);
    const std::uint16_t rtype = reader_.u16();
    const std::uint16_t rclass = reader_.u16();
    const std::uint32_t ttl = reader_.u32();
    const std::size_t size = reader_.u16();
    const std::size_t at = message_.size() - reader_.remaining();
    reader_.take(size);
    if (!name || !reader_.ok()) return false;
    if (rtype == type::kOpt) {
      opt(rclass, ttl, message_.subspan(at, size));
      return true;
    }
    lines += name->to_string() + '\t' + std::to_string(ttl) + '\t' + class_text(rclass) + '\t' +
             type_text(rtype) + '\t' + data_text(rtype, message_, at, size) + '\n';
    return true;
  }

  void opt(std::uint16_t udp_size, std::uint32_t ttl, Bytes options) {
    code_ = static_cast<std::uint16_t>(code_ | (ttl >> 24) << 4);
    edns_ += ";; EDNS: version " + std::to_string(ttl >> 16 & 0xFF) +
             ((ttl & 0x8000) != 0 ? ", do" : "") + ", udp " + std::to_string(udp_size) + '\n';
    ByteReader in{options};
    while (in.ok() && in.remaining() > 0) {
      const std::uint16_t code = in.u16();
      const Bytes value = in.take(in.u16());
      if (!in.ok()) return;
      constexpr std::uint16_t kExtendedError = 15;  // RFC 8914 §2
      if (code != kExtendedError || value.size() < 2) continue;
      ByteReader error{value};
      edns_ += ";; extended error " + std::to_string(error.u16());
      edns_ += value.size() > 2 ? ": " + quoted(value.subspan(2)) + '\n' : std::string{"\n"};
    }
  }

  static std::string class_text(std::uint16_t number) {
    return number == kClassIn ? "IN" : "CLASS" + std::to_string(number);
  }

  Bytes message_;
  ByteReader reader_;
  std::uint16_t code_ = 0;
  std::string edns_;
  std::string body_;
};

}  // namespace

std::string type_text(std::uint16_t number) {
  for (const auto& [known, text] : kTypes) {
    if (known == number) return std::string{text};
  }
  return "TYPE" + std::to_string(number);
}

std::optional<std::uint16_t> parse_type(std::string_view text) noexcept {
  const auto same = [](std::string_view a, std::string_view b) {
    return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](char x, char y) {
      return (x >= 'a' && x <= 'z' ? static_cast<char>(x - 'a' + 'A') : x) == y;
    });
  };
  for (const auto& [number, known] : kTypes) {
    if (same(text, known)) return number;
  }
  if (text.size() < 5 || !same(text.substr(0, 4), "TYPE")) return std::nullopt;
  std::uint16_t number = 0;
  const char* const end = text.data() + text.size();
  const auto [next, error] = std::from_chars(text.data() + 4, end, number);
  if (error != std::errc{} || next != end) return std::nullopt;
  return number;
}

std::string rcode_text(std::uint16_t code) {
  if (code == rcode::kBadVers) return "BADVERS";
  if (code < kRcodes.size()) return std::string{kRcodes[code]};
  return "RCODE" + std::to_string(code);
}

std::string wire_text(std::string_view wire) {
  ByteReader reader{std::as_bytes(std::span{wire})};
  const auto name = Name::decode(std::as_bytes(std::span{wire}), reader);
  return name ? name->to_string() : std::string{};
}

std::string data_text(std::uint16_t rtype, Bytes message, std::size_t at, std::size_t size) {
  DataReader in{message, at, size};
  std::string text = known_data(rtype, in);
  return in.ok() ? text : unknown_data(message.subspan(at, size));
}

std::string reply_text(Bytes message) {
  return ReplyPrinter{message}.print();
}

}  // namespace muster::dns
