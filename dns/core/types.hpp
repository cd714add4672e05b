#pragma once

#include <cstddef>
#include <cstdint>

namespace muster::dns {

/// Numbers of the protocol. Not enums: any 16 bits may arrive, and unknown ones are legal
/// (RFC 3597), so a closed set would be a lie.
namespace type {
inline constexpr std::uint16_t kA = 1;
inline constexpr std::uint16_t kNs = 2;
inline constexpr std::uint16_t kCname = 5;
inline constexpr std::uint16_t kSoa = 6;
inline constexpr std::uint16_t kPtr = 12;
inline constexpr std::uint16_t kMx = 15;
inline constexpr std::uint16_t kTxt = 16;
inline constexpr std::uint16_t kAaaa = 28;
inline constexpr std::uint16_t kSrv = 33;
inline constexpr std::uint16_t kOpt = 41;
inline constexpr std::uint16_t kTkey = 249;
inline constexpr std::uint16_t kTsig = 250;
inline constexpr std::uint16_t kIxfr = 251;
inline constexpr std::uint16_t kAxfr = 252;
inline constexpr std::uint16_t kAny = 255;
}  // namespace type

inline constexpr std::uint16_t kClassIn = 1;

namespace rcode {
inline constexpr std::uint16_t kNoError = 0;
inline constexpr std::uint16_t kFormErr = 1;
inline constexpr std::uint16_t kServFail = 2;
inline constexpr std::uint16_t kNxDomain = 3;
inline constexpr std::uint16_t kNotImp = 4;
inline constexpr std::uint16_t kRefused = 5;
inline constexpr std::uint16_t kNotAuth = 9;
inline constexpr std::uint16_t kBadVers = 16;  // needs EDNS: the upper bits travel in OPT
}  // namespace rcode

/// Extended DNS errors (RFC 8914 §4).
namespace ede {
inline constexpr std::uint16_t kStale = 3;
inline constexpr std::uint16_t kCachedError = 13;
inline constexpr std::uint16_t kNotReady = 14;
inline constexpr std::uint16_t kProhibited = 18;
inline constexpr std::uint16_t kNoReachableAuthority = 22;
inline constexpr std::uint16_t kNetworkError = 23;
}  // namespace ede

namespace opcode {
inline constexpr std::uint16_t kNotify = 4;
}  // namespace opcode

/// Bits of the second 16-bit word of the header (RFC 1035 §4.1.1, RFC 4035 §3.2).
namespace flag {
inline constexpr std::uint16_t kResponse = 0x8000;
inline constexpr std::uint16_t kOpcodeMask = 0x7800;
inline constexpr std::uint16_t kAuthoritative = 0x0400;
inline constexpr std::uint16_t kTruncated = 0x0200;
inline constexpr std::uint16_t kRecursionDesired = 0x0100;
inline constexpr std::uint16_t kRecursionAvailable = 0x0080;
inline constexpr std::uint16_t kAuthenticData = 0x0020;
inline constexpr std::uint16_t kCheckingDisabled = 0x0010;
inline constexpr std::uint16_t kRcodeMask = 0x000F;
}  // namespace flag

inline constexpr std::size_t kHeaderSize = 12;        // RFC 1035 §4.1.1
inline constexpr std::size_t kMinUdpSize = 512;       // RFC 1035 §4.2.1, RFC 6891 §6.2.5
inline constexpr std::size_t kDefaultUdpSize = 1232;  // DNS flag day 2020: fits every path MTU
inline constexpr std::size_t kMaxMessageSize = 65535;
inline constexpr std::size_t kOptSize = 11;  // an OPT record without options (RFC 6891 §6.1.2)

enum class Transport : std::uint8_t { udp, tcp, tls };  // tls: to upstreams only

}  // namespace muster::dns
