#include "dns/core/rate_limit.hpp"

#include <algorithm>

namespace muster::dns {

RateLimit::RateLimit(unsigned per_second, std::uint64_t seed)
    : per_second_{per_second}, seed_{seed}, places_(per_second != 0 ? kPlaces : 0) {}

RateLimit::Verdict RateLimit::take(const IpAddress& client, TimePoint now) noexcept {
  if (per_second_ == 0) return Verdict::pass;
  const std::size_t kept = client.is_v4() ? 3 : 7;
  std::uint64_t hash = seed_;
  for (const std::uint8_t octet : client.octets().first(kept)) {
    hash = (hash ^ octet) * 0x9E3779B97F4A7C15ULL;
    hash ^= hash >> 29;
  }
  Place& place = places_[hash % places_.size()];
  const auto since = std::chrono::duration_cast<std::chrono::milliseconds>(now - place.filled);
  if (place.filled == TimePoint{} || since >= std::chrono::seconds{1}) {
    place.tokens = per_second_;
    place.filled = now;
  } else {
    const auto earned =
        static_cast<std::uint32_t>(static_cast<std::uint64_t>(since.count()) * per_second_ / 1000);
    if (earned > 0) {
      place.tokens = std::min(per_second_, place.tokens + earned);
      place.filled = now;
    }
  }
  if (place.tokens > 0) {
    --place.tokens;
    return Verdict::pass;
  }
  place.slipped = !place.slipped;
  return place.slipped ? Verdict::slip : Verdict::drop;
}

}  // namespace muster::dns
