#include <cstdint>

#include "gossip/core/link.hpp"
#include "tests/sim/cluster.hpp"

using namespace muster;
using namespace muster::gossip;

// The first octet: is the rest a datagram as it came, or sealed content a key holder made up?
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < 2) return 0;
  sim::CountingSealer sealer{1, Rng{1}};
  Link link{{NodeUid{1, 1}, "c"}, sealer};
  const Endpoint from = *Endpoint::parse("10.0.0.2:61420");
  const TimePoint now{std::chrono::hours{1}};
  const auto bytes = std::as_bytes(std::span{data, size});
  std::vector<Datagram> out;
  if (data[0] % 2 == 0) {
    link.receive(from, bytes.subspan(1), now, out);
    return 0;
  }
  std::vector<std::byte> hello{std::byte{0x11}};
  const std::vector<std::byte> aad = [] {
    std::vector<std::byte> zeros(33);
    zeros[0] = std::byte{1};
    return zeros;
  }();
  sealer.seal(aad, bytes.subspan(1), hello);
  link.receive(from, hello, now, out);
  return 0;
}
