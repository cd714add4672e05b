#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <set>
#include <span>
#include <vector>

#include "dns/core/types.hpp"
#include "dns/core/upstream_stream.hpp"

// What an upstream says on a stream. The first octet is how much is read at a time and how many
// questions wait, with ids from 0 up; every third one is given up before.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace muster;
  using namespace muster::dns;
  if (size == 0) return 0;
  const std::vector<std::uint8_t> copy(data + 1, data + size);
  const auto input = std::as_bytes(std::span{copy});
  const std::size_t chunk = 1 + data[0] % 64;
  const TimePoint now{};
  UpstreamStream stream;
  const std::vector<std::byte> query(kHeaderSize);
  std::set<std::uint64_t> waiting;
  stream.opening(now);
  stream.opened(now);
  for (std::uint16_t id = 0; id < data[0]; ++id) {
    stream.ask(now, id + 1U, id, query);
    if (id % 3 == 2) {
      stream.abandon(id + 1U);
    } else {
      waiting.insert(id + 1U);
    }
  }
  std::uint64_t strays = 0;
  const auto take = [&](std::uint64_t exchange, std::uint16_t id,
                        std::span<const std::byte> reply) {
    if (exchange != id + 1U || reply.size() < kHeaderSize) std::abort();
    const bool good = reply[2] != std::byte{0};
    if (good && waiting.erase(exchange) != 1) std::abort();
    return good;
  };
  bool sane = true;
  for (std::size_t at = 0; at < input.size() && sane; at += chunk) {
    sane =
        stream.received(now, input.subspan(at, std::min(chunk, input.size() - at)), take, strays);
  }
  if (!sane && strays == 0) std::abort();
  if (sane && strays > UpstreamStream::kMaxStray) std::abort();
  // All that were not answered are there, each once.
  const auto left = stream.closed(now, !sane);
  if (!std::equal(left.begin(), left.end(), waiting.begin(), waiting.end())) std::abort();
  if (stream.wanted() || stream.next_deadline()) std::abort();
  return 0;
}
