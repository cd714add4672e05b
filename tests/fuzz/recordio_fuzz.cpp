#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/assert.hpp"
#include "mesos/core/recordio.hpp"

using namespace muster::mesos;

namespace {

constexpr std::size_t kMaxRecord = 4096;

std::vector<std::string> decode(std::string_view bytes, std::size_t piece, bool& failed) {
  RecordIoDecoder decoder{kMaxRecord};
  std::vector<std::string> out;
  for (std::size_t at = 0; at < bytes.size(); at += piece) {
    decoder.feed(bytes.substr(at, piece));
    while (auto record = decoder.next()) {
      MUSTER_ASSERT(record->size() <= kMaxRecord);
      out.push_back(std::move(*record));
    }
  }
  failed = decoder.error().has_value();
  return out;
}

}  // namespace

// However the bytes are cut, the records and the verdict are the same. The first octet says how.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < 1) return 0;
  const std::size_t piece = data[0] % 16U + 1;
  const std::string_view bytes{reinterpret_cast<const char*>(data) + 1, size - 1};
  bool failed_whole = false;
  bool failed_cut = false;
  const auto whole = decode(bytes, bytes.size() + 1, failed_whole);
  const auto cut = decode(bytes, piece, failed_cut);
  MUSTER_ASSERT(whole == cut);
  MUSTER_ASSERT(failed_whole == failed_cut);
  return 0;
}
