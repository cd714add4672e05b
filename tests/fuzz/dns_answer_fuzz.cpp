#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "dns/core/answer.hpp"
#include "dns/core/catalog.hpp"
#include "dns/core/reply.hpp"
#include "dns/core/text.hpp"
#include "tests/fuzz/dns_cluster.hpp"

namespace {

using namespace muster;
using namespace muster::dns;

std::shared_ptr<const ZoneSnapshot> make_zones(bool complete) {
  return Catalog{{}}.apply(testing::dns_cluster(complete));
}

}  // namespace

// Any message gets an answer that stays within its limit, can be read, and echoes id and
// question; or none.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const auto complete = make_zones(true);
  static const auto partial = make_zones(false);
  const std::vector<std::uint8_t> copy(data, data + size);
  const auto message = std::as_bytes(std::span{copy});
  for (const auto& zones : {complete, partial}) {
    for (const Transport transport : {Transport::udp, Transport::tcp}) {
      const std::size_t room = transport == Transport::udp ? kDefaultUdpSize : kMaxMessageSize;
      std::vector<std::byte> out(room);
      Query query;
      const Answer made = answer(
          message, *zones, {.rotation = static_cast<std::uint32_t>(size), .transport = transport},
          out, query);
      if (made.kind != Answer::Kind::reply) continue;
      if (made.size > room || made.size < kHeaderSize) std::abort();
      const auto reply = std::span{out}.first(made.size);
      const auto shape = walk_reply(reply);
      if (!shape || std::memcmp(reply.data(), message.data(), 2) != 0) std::abort();
      if ((shape->flags & flag::kResponse) == 0) std::abort();
      if (shape->question_end > kHeaderSize && !answers_question(reply, message)) std::abort();
      // A whole line of it, which no name can be: their white space is escaped.
      if (reply_text(reply).find("or is malformed\n") != std::string::npos) std::abort();
    }
  }
  return 0;
}
