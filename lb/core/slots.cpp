#include "lb/core/slots.hpp"

#include <algorithm>
#include <array>
#include <map>
#include <numeric>
#include <tuple>

#include "base/assert.hpp"

namespace muster::lb {
namespace {

constexpr std::array<std::uint32_t, 5> kLargeClasses{512, 1024, 2048, 4096, 8192};

constexpr auto kSizeClasses = [] {
  std::array<std::uint32_t, kMaxExactSlots + kLargeClasses.size()> all{};
  for (std::uint32_t i = 0; i < kMaxExactSlots; ++i) all[i] = i + 1;
  for (std::size_t i = 0; i < kLargeClasses.size(); ++i) all[kMaxExactSlots + i] = kLargeClasses[i];
  return all;
}();

/// The backends that take new connections, with their weights reduced to lowest terms.
struct Shares {
  std::vector<Endpoint> endpoints;
  std::vector<std::uint64_t> weights;
  std::uint64_t total = 0;
};

Shares shares_of(std::span<const Backend> backends) {
  Shares shares;
  std::uint64_t divisor = 0;
  for (const Backend& backend : backends) {
    if (backend.weight == 0 || shares.endpoints.size() >= kMaxSlots) continue;
    shares.endpoints.push_back(backend.endpoint);
    shares.weights.push_back(backend.weight);
    divisor = std::gcd(divisor, std::uint64_t{backend.weight});
  }
  for (std::uint64_t& weight : shares.weights) {
    weight /= divisor;
    shares.total += weight;
  }
  return shares;
}

std::uint32_t slot_count(const Shares& shares) {
  if (shares.total <= kMaxExactSlots) return static_cast<std::uint32_t>(shares.total);
  const std::uint64_t least = *std::min_element(shares.weights.begin(), shares.weights.end());
  for (const std::uint32_t size : kLargeClasses) {
    if (size * least >= kSlotsPerBackend * shares.total) return size;
  }
  return kMaxSlots;
}

/// How many slots each backend gets, in the order of `shares`: its share rounded down, and what
/// is left over to those that hold one more already, then to the largest remainders.
std::vector<std::uint32_t> quotas(const Shares& shares, std::uint32_t size,
                                  const std::vector<std::uint32_t>& held) {
  const std::size_t count = shares.endpoints.size();
  std::vector<std::uint32_t> quota(count);
  std::vector<std::tuple<bool, std::uint64_t, std::size_t>> order;
  std::int64_t left = size;
  for (std::size_t i = 0; i < count; ++i) {
    const std::uint64_t scaled = shares.weights[i] * size;
    quota[i] = static_cast<std::uint32_t>(scaled / shares.total);
    if (quota[i] == 0) {
      quota[i] = 1;
    } else if (scaled % shares.total != 0) {
      order.emplace_back(held[i] <= quota[i], shares.total - scaled % shares.total, i);
    }
    left -= quota[i];
  }
  std::sort(order.begin(), order.end());
  for (const auto& [fresh, missing, i] : order) {
    if (left <= 0) break;
    ++quota[i];
    --left;
  }
  while (left < 0) {  // the guaranteed single slots were taken from nobody yet
    --*std::max_element(quota.begin(), quota.end());
    ++left;
  }
  return quota;
}

/// Each endpoint as often as it still lacks slots, spread evenly.
std::vector<std::size_t> interleaved(const std::vector<std::uint32_t>& lacking) {
  struct Turn {
    std::uint64_t numerator;  // of the position (2k + 1) / (2n): compared without rounding
    std::uint64_t denominator;
    std::size_t owner;
  };
  std::vector<Turn> turns;
  for (std::size_t i = 0; i < lacking.size(); ++i) {
    for (std::uint64_t k = 0; k < lacking[i]; ++k) {
      turns.push_back({2 * k + 1, std::uint64_t{2} * lacking[i], i});
    }
  }
  std::sort(turns.begin(), turns.end(), [](const Turn& a, const Turn& b) {
    const std::uint64_t left = a.numerator * b.denominator;
    const std::uint64_t right = b.numerator * a.denominator;
    return std::tie(left, a.owner) < std::tie(right, b.owner);
  });
  std::vector<std::size_t> owners;
  owners.reserve(turns.size());
  for (const Turn& turn : turns) owners.push_back(turn.owner);
  return owners;
}

/// FNV-1a, then the finalizer of MurmurHash3: equal on every machine, and every bit counts.
std::uint64_t hash_of(const Endpoint& endpoint) {
  std::uint64_t hash = 0xCBF29CE484222325ULL;
  const auto take = [&hash](std::uint8_t octet) { hash = (hash ^ octet) * 0x100000001B3ULL; };
  for (const std::uint8_t octet : endpoint.address.octets()) take(octet);
  take(static_cast<std::uint8_t>(endpoint.port.number() >> 8));
  take(static_cast<std::uint8_t>(endpoint.port.number() & 0xFF));
  hash = (hash ^ (hash >> 33)) * 0xFF51AFD7ED558CCDULL;
  hash = (hash ^ (hash >> 33)) * 0xC4CEB9FE1A85EC53ULL;
  return hash ^ (hash >> 33);
}

/// A backend's order of preference among `size` slots, a power of two: an odd stride meets all.
class Preference {
 public:
  Preference(const Endpoint& endpoint, std::uint32_t size) : size_{size} {
    const std::uint64_t hash = hash_of(endpoint);
    next_ = static_cast<std::uint32_t>(hash % size);
    stride_ = static_cast<std::uint32_t>((hash >> 32) % size) | 1U;
  }
  std::uint32_t next() {
    const std::uint32_t slot = next_;
    next_ = (next_ + stride_) % size_;
    return slot;
  }

 private:
  std::uint32_t size_;
  std::uint32_t next_;
  std::uint32_t stride_;
};

constexpr std::size_t kNobody = static_cast<std::size_t>(-1);

std::size_t owner_of(const Shares& shares, const std::optional<Endpoint>& slot) {
  if (!slot) return kNobody;
  const auto at = std::lower_bound(shares.endpoints.begin(), shares.endpoints.end(), *slot);
  if (at == shares.endpoints.end() || *at != *slot) return kNobody;
  return static_cast<std::size_t>(at - shares.endpoints.begin());
}

}  // namespace

std::span<const std::uint32_t> size_classes() noexcept {
  return kSizeClasses;
}

bool is_size_class(std::uint32_t size) noexcept {
  return std::binary_search(kSizeClasses.begin(), kSizeClasses.end(), size);
}

std::uint32_t slot_count(std::span<const Backend> backends) {
  return slot_count(shares_of(backends));
}

Slots fit_slots(const FoundSlots& previous, std::span<const Backend> backends) {
  const Shares shares = shares_of(backends);
  const std::uint32_t size = slot_count(shares);
  std::vector<std::size_t> owners(size, kNobody);
  std::vector<std::uint32_t> held(shares.endpoints.size());
  for (std::size_t i = 0; i < size && i < previous.size(); ++i) {
    owners[i] = owner_of(shares, previous[i]);
    if (owners[i] != kNobody) ++held[owners[i]];
  }

  std::vector<std::uint32_t> lacking = quotas(shares, size, held);
  for (std::size_t& owner : owners) {
    if (owner == kNobody) continue;
    if (lacking[owner] > 0) {
      --lacking[owner];
    } else {
      owner = kNobody;
    }
  }
  const std::vector<std::size_t> fill = interleaved(lacking);
  auto next = fill.begin();
  Slots slots;
  slots.reserve(size);
  for (std::size_t& owner : owners) {
    if (owner == kNobody) {
      MUSTER_ASSERT(next != fill.end());
      owner = *next++;
    }
    slots.push_back(shares.endpoints[owner]);
  }
  return slots;
}

Slots stable_slots(std::span<const Backend> backends) {
  const Shares shares = shares_of(backends);
  const std::size_t count = shares.endpoints.size();
  if (count <= 1) return Slots(shares.endpoints);
  const std::uint32_t size = std::max(slot_count(shares), kLeastStableSlots);
  std::vector<Preference> preferences;
  preferences.reserve(count);
  for (const Endpoint& endpoint : shares.endpoints) preferences.emplace_back(endpoint, size);
  std::vector<std::size_t> owners(size, kNobody);
  for (const std::size_t owner :
       interleaved(quotas(shares, size, std::vector<std::uint32_t>(count)))) {
    std::uint32_t slot = preferences[owner].next();
    while (owners[slot] != kNobody) slot = preferences[owner].next();
    owners[slot] = owner;
  }
  Slots slots;
  slots.reserve(size);
  for (const std::size_t owner : owners) slots.push_back(shares.endpoints[owner]);
  return slots;
}

}  // namespace muster::lb
