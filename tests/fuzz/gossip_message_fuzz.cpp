#include <cstdint>
#include <cstdlib>

#include "gossip/core/message.hpp"

using namespace muster::gossip;

// What decodes, encodes to something that decodes to the same octets.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto first = decode(std::as_bytes(std::span{data, size}));
  if (!first) return 0;
  const auto once = encode(*first);
  const auto second = decode(once);
  if (!second || encode(*second) != once) std::abort();
  return 0;
}
