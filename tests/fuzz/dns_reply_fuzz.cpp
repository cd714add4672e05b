#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <span>
#include <vector>

#include "dns/core/forwarder.hpp"
#include "dns/core/reply.hpp"
#include "dns/core/text.hpp"

namespace {

using namespace muster;
using namespace muster::dns;

// Whatever comes: exactly one answer, and one that can be read.
void answer_with(std::span<const std::byte> reply, std::span<const std::byte> question,
                 const Query& query, bool tls) {
  Upstream upstream{Endpoint{IpAddress{IpAddress::V4{192, 0, 2, 1}}, *Port::from(53)}};
  upstream.tls = tls;
  Forwarder forwarder{{.upstreams = {upstream}, .zone_upstreams = {}}};
  Forwarder::Actions actions;
  const TimePoint now{};
  forwarder.ask(now, question, query, Transport::udp, 1, actions);
  const auto send = actions.sends.front();
  if ((send.transport == Transport::tls) != tls) std::abort();
  forwarder.on_reply(now, send.exchange, send.upstream, send.transport, 0, reply, actions);
  if (actions.sends.size() > 1 && actions.sends.back().transport == Transport::tcp) {
    if (tls) std::abort();
    forwarder.on_reply(now, send.exchange, send.upstream, Transport::tcp, 0, reply, actions);
  }
  forwarder.on_time(now + std::chrono::seconds{10}, actions);
  if (actions.replies.size() != 1 || forwarder.in_flight() != 0) std::abort();
  if (!walk_reply(actions.replies[0].reply)) std::abort();
}

}  // namespace

// An upstream says anything at all to a question of ours. The input is the reply from the end of
// its question on, after four octets for flags and answer count; and, raw, the whole of it.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::vector<std::uint8_t> copy(data, data + std::min<std::size_t>(size, 65'000));
  const auto input = std::as_bytes(std::span{copy});
  if (const auto shape = walk_reply(input)) {
    if (shape->question_end > input.size()) std::abort();
    if (shape->opt_at + shape->opt_size > input.size()) std::abort();
    for (const std::size_t at : shape->ttl_offsets) {
      if (at + 4 > input.size()) std::abort();
    }
  }
  (void)reply_text(input);

  const auto question = make_query(*Name::parse("www.example.com"), type::kA, {.id = 7});
  Query query;
  if (parse_query(question, query) != QueryVerdict::ok) std::abort();
  std::vector<std::byte> reply(question.begin(), question.begin() + query.question_end);
  reply[0] = reply[1] = std::byte{0};
  for (std::size_t i = 0; i < 4 && i < input.size(); ++i) reply[i < 2 ? 2 + i : 4 + i] = input[i];
  if (input.size() > 4) reply.insert(reply.end(), input.begin() + 4, input.end());
  answer_with(reply, question, query, false);
  answer_with(reply, question, query, true);
  return 0;
}
