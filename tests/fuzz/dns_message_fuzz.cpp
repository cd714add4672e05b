#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <span>
#include <vector>

#include "dns/core/name.hpp"
#include "dns/core/query.hpp"

// What the query parser takes for a query is one: its fields are those of the message, and the
// strict, slow decoder reads the same name.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace muster;
  using namespace muster::dns;
  // On the heap and exactly as long, so that a read beyond the end is seen.
  const std::vector<std::uint8_t> copy(data, data + size);
  const auto message = std::as_bytes(std::span{copy});
  Query query;
  const QueryVerdict verdict = parse_query(message, query);
  if (size < kHeaderSize && verdict != QueryVerdict::drop) std::abort();
  if (verdict != QueryVerdict::ok) return 0;
  ByteReader reader{message.subspan(kHeaderSize)};
  const auto name = Name::decode(message, reader);
  if (!name || name->wire() != query.wire()) std::abort();
  if (reader.u16() != query.qtype || reader.u16() != query.qclass) std::abort();
  if (query.question_end != size - reader.remaining()) std::abort();
  for (std::size_t i = 0; i < Query::kPadding; ++i) {
    if (query.name[query.name_size + i] != '\0') std::abort();
  }
  return 0;
}
