#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <span>

#include "dns/core/name.hpp"

// A name from the wire survives its way through text and back, wherever in a message it lies.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace muster;
  using dns::Name;
  const auto message = std::as_bytes(std::span{data, size});
  for (std::size_t at = 0; at < std::min<std::size_t>(size, 4); ++at) {
    ByteReader reader{message.subspan(at)};
    const auto name = Name::decode(message, reader);
    if (!name) continue;
    const auto again = Name::parse(name->to_string());
    if (!again || *again != *name) std::abort();
    if (name->wire().size() > Name::kMaxWireSize || !name->is_within(*Name::parse("."))) {
      std::abort();
    }
  }
  const auto text = Name::parse({reinterpret_cast<const char*>(data), size});
  if (!text) return 0;
  const auto again = Name::parse(text->to_string());
  if (!again || *again != *text) std::abort();
  return 0;
}
