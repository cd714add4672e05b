#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "base/assert.hpp"
#include "lb/core/netns.hpp"

using namespace muster::lb::netns;

// What a daemon says to muster-netns, what it answers, and what is in a file. The first octet says
// which.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < 1) return 0;
  const std::span<const std::uint8_t> bytes{data + 1, size - 1};
  const auto same = [bytes](const auto& encoded) {
    return std::equal(encoded.begin(), encoded.end(), bytes.begin(), bytes.end());
  };
  switch (data[0] % 3) {
    case 0:
      if (const auto request = decode_request(bytes)) {
        MUSTER_ASSERT(same(encode(*request)));
        const bool opens = request->kind == Request::Kind::open;
        MUSTER_ASSERT(opens ? is_file_name(request->name) : request->name.empty());
      }
      return 0;
    case 1:
      if (const auto answer = decode_answer(bytes)) MUSTER_ASSERT(same(encode(*answer)));
      return 0;
    default: {
      const auto path = path_in({reinterpret_cast<const char*>(bytes.data()), bytes.size()});
      if (!path) return 0;
      MUSTER_ASSERT(path->starts_with('/') && path->size() <= kMaxPath);
      MUSTER_ASSERT(path->find('\0') == std::string::npos);
      return 0;
    }
  }
}
