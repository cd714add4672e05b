#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <vector>

#include "base/assert.hpp"

namespace muster {

/// Values under numbers that are given once only, so that one who comes late with an old number
/// finds nothing. Their room is used again together with what it holds (a vector's capacity, say):
/// what comes and goes all the time allocates nothing. Addresses stay while a value is in use.
/// One thread.
template <class T>
class Slab {
  static constexpr unsigned kIndexBits = 24;

 public:
  using Id = std::uint64_t;
  static constexpr std::size_t kMaxSize = std::size_t{1} << kIndexBits;

  /// `idle`: when the last value goes, room for more than this many is given back.
  explicit Slab(std::size_t idle) : idle_{idle} {}

  struct Added {
    Id id;
    T& value;  // as the one before it in this place was left, or value-initialised
  };
  /// There must be fewer than kMaxSize.
  Added add() {
    if (free_.empty()) {
      MUSTER_ASSERT(places_.size() < kMaxSize);
      free_.push_back(static_cast<std::uint32_t>(places_.size()));
      places_.emplace_back();
    }
    const std::uint32_t index = free_.back();
    free_.pop_back();
    Place& place = places_[index];
    place.id = ++serial_ << kIndexBits | index;
    ++size_;
    return {place.id, place.value};
  }

  /// Null: it is gone.
  T* find(Id id) noexcept {
    const std::size_t index = id & (kMaxSize - 1);
    if (id == 0 || index >= places_.size() || places_[index].id != id) return nullptr;
    return &places_[index].value;
  }

  /// The caller has emptied what the next one must not find. Nothing happens if it is gone.
  void drop(Id id) {
    if (find(id) == nullptr) return;
    const std::size_t index = id & (kMaxSize - 1);
    places_[index].id = 0;
    free_.push_back(static_cast<std::uint32_t>(index));
    if (--size_ > 0 || places_.size() <= idle_) return;
    places_.clear();
    places_.shrink_to_fit();
    free_ = {};
  }

  std::size_t size() const noexcept { return size_; }
  bool empty() const noexcept { return size_ == 0; }

 private:
  struct Place {
    Id id = 0;  // 0: free
    T value{};
  };
  std::size_t idle_;
  std::deque<Place> places_;
  std::vector<std::uint32_t> free_;
  std::size_t size_ = 0;
  std::uint64_t serial_ = 0;
};

}  // namespace muster
