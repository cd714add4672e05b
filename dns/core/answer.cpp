#include "dns/core/answer.hpp"

#include <algorithm>

#include "dns/core/message_writer.hpp"
#include "dns/core/responder.hpp"

namespace muster::dns {
namespace {

Answer bare(const Query& query, std::size_t flags, std::uint16_t code,
            std::span<std::byte> out) noexcept {
  Answer answer;
  answer.kind = Answer::Kind::reply;
  answer.rcode = code;
  answer.size = kHeaderSize;
  write_header(out.data(), query, flags, code, {}, false, false);
  return answer;
}

std::size_t copied_flags(const Query& query, bool recursion_available) noexcept {
  const unsigned copied = query.flags & (flag::kRecursionDesired | flag::kCheckingDisabled);
  return copied | (recursion_available ? flag::kRecursionAvailable : 0U);
}

// A reply without records; the question is repeated if there was one.
std::size_t write_empty(std::span<const std::byte> message, const Query& query, std::uint16_t code,
                        std::uint16_t extended_error, std::size_t flags, const OptContent& opt,
                        std::span<std::byte> out) noexcept {
  MessageWriter writer{out.data()};
  const bool question = query.question_end > kHeaderSize;
  writer.raw(message.data(), question ? query.question_end : kHeaderSize);
  if (query.edns) write_opt(writer, query, code, extended_error, opt);
  write_header(out.data(), query, flags, code, {}, question, query.edns);
  return writer.size();
}

// The client's cookie back, with a server cookie: its own while it is fresh, else a new one. True
// if the one it sent is good.
bool take_cookie(std::span<const std::byte> message, const Query& query,
                 const AnswerOptions& options, OptContent& opt) noexcept {
  if (options.cookies == nullptr || query.cookie_size == 0) return false;
  const auto client = message.subspan(query.cookie_at, Cookies::kClientSize);
  const auto server = message.subspan(query.cookie_at + Cookies::kClientSize,
                                      query.cookie_size - Cookies::kClientSize);
  const bool valid = options.cookies->valid(client, server, options.client, options.now);
  std::copy(client.begin(), client.end(), opt.cookie.begin());
  auto* const place = opt.cookie.data() + Cookies::kClientSize;
  // RFC 9018 §4.3: renewed once it is half an hour old.
  const auto stamp = [&] {
    std::uint32_t made = 0;
    for (std::size_t i = 4; i < 8; ++i) made = made << 8 | std::to_integer<unsigned>(server[i]);
    return made;
  };
  if (valid && options.now - stamp() < Cookies::kRenewAge) {
    std::copy(server.begin(), server.end(), place);
  } else {
    const auto fresh = options.cookies->make(client, options.client, options.now);
    std::copy(fresh.begin(), fresh.end(), place);
  }
  opt.has_cookie = true;
  return valid;
}

}  // namespace

Answer answer(std::span<const std::byte> message, const ZoneSnapshot& zones,
              const AnswerOptions& options, std::span<std::byte> out, Query& query) noexcept {
  const QueryVerdict verdict = parse_query(message, query);
  return answer(message, query, verdict, zones, options, out);
}

Answer answer(std::span<const std::byte> message, const Query& query, QueryVerdict verdict,
              const ZoneSnapshot& zones, const AnswerOptions& options,
              std::span<std::byte> out) noexcept {
  if (out.size() < kMinUdpSize || verdict == QueryVerdict::drop) return {};
  OptContent opt;
  const bool cookie_valid = take_cookie(message, query, options, opt);
  if (options.transport == Transport::tcp && query.keepalive) opt.keepalive = options.tcp_keepalive;
  Answer made;
  made.kind = Answer::Kind::reply;
  made.qtype = query.qtype;
  switch (verdict) {
    case QueryVerdict::drop:
      break;
    case QueryVerdict::not_implemented:
      // Flags mean what the opcode says they mean, so none is copied but the opcode itself.
      return bare(query, query.flags & flag::kOpcodeMask, rcode::kNotImp, out);
    case QueryVerdict::malformed:
      return bare(query, query.flags & flag::kRecursionDesired, rcode::kFormErr, out);
    case QueryVerdict::bad_version:
    case QueryVerdict::not_auth:
      made.rcode = verdict == QueryVerdict::bad_version ? rcode::kBadVers : rcode::kNotAuth;
      break;
    case QueryVerdict::cookie_only:
      break;
    case QueryVerdict::ok:
      made = Responder{message, query, zones, options, opt, out}.respond();
      made.cookie_valid = cookie_valid;
      return made;
  }
  made.size = write_empty(message, query, made.rcode, 0,
                          copied_flags(query, options.recursion_available), opt, out);
  made.cookie_valid = cookie_valid;
  return made;
}

std::size_t empty_reply(std::span<const std::byte> message, const Query& query, std::uint16_t code,
                        std::uint16_t extended_error, bool recursion_available,
                        std::span<std::byte> out) noexcept {
  return write_empty(message, query, code, extended_error, copied_flags(query, recursion_available),
                     {}, out);
}

Answer soa_answer(std::span<const std::byte> message, const ZoneSnapshot& zones,
                  const AnswerOptions& options, std::span<std::byte> out,
                  const Query& query) noexcept {
  Query serial_wanted = query;
  serial_wanted.qtype = type::kSoa;
  return Responder{message, serial_wanted, zones, options, {}, out}.respond();
}

std::size_t make_slip(std::span<std::byte> reply, const Query& query) noexcept {
  const bool question = query.question_end > kHeaderSize;
  MessageWriter writer{reply.data(), question ? query.question_end : kHeaderSize};
  if (query.edns) write_opt(writer, query, rcode::kNoError, 0, {});
  write_header(reply.data(), query, copied_flags(query, false) | flag::kTruncated, rcode::kNoError,
               {}, question, query.edns);
  return writer.size();
}

}  // namespace muster::dns
