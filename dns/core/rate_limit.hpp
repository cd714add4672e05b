#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "base/endpoint.hpp"
#include "base/time.hpp"

namespace muster::dns {

/// Limits the replies a client network (/24, or /56 of IPv6) gets over UDP, where a sender's
/// address may be forged and the replies somebody else's burden. One per worker; one thread.
///
/// A fixed table: networks that fall on one place share it, which can only make it stricter.
class RateLimit {
 public:
  static constexpr std::size_t kPlaces = 8192;

  enum class Verdict : std::uint8_t {
    pass,
    slip,  // every second of those over the limit: answer with TC, a real client comes over TCP
    drop,
  };

  /// `per_second` replies a second and network, a second's worth at once; 0: no limit. `seed`
  /// spreads networks over the table.
  RateLimit(unsigned per_second, std::uint64_t seed);

  bool enabled() const noexcept { return per_second_ != 0; }
  Verdict take(const IpAddress& client, TimePoint now) noexcept;

 private:
  struct Place {
    TimePoint filled{};
    std::uint32_t tokens = 0;
    bool slipped = false;
  };
  unsigned per_second_;
  std::uint64_t seed_;
  std::vector<Place> places_;
};

}  // namespace muster::dns
