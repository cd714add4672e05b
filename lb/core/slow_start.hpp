#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <tuple>
#include <vector>

#include "base/endpoint.hpp"
#include "base/time.hpp"

namespace muster::lb {

/// Backends that have just begun to take connections, and which part of their share they get until
/// they have warmed up.
///
/// A share is compared with the others': where all of a Vip have begun together, each has its
/// whole one. Times are rounded up to whole seconds, so that backends which began in one second
/// change together: a Vip changes at most once a second, and three times for each that begins.
class SlowStart {
 public:
  /// An eighth, a quarter, half of it; each for a third of the time.
  static constexpr std::array<std::uint16_t, 3> kEighths{1, 2, 4};
  static constexpr std::uint16_t kWhole = 8;
  static constexpr Duration kGrid{1000};
  /// Backends that are starting, over all Vips; those on top have their whole share at once.
  static constexpr std::size_t kMaxStarting = 20'000;

  /// Those that may take connections of `vip` from now on. Who was not among them the last time
  /// begins, and has warmed up after `span`; with `warm` it has already.
  void update(const Vip& vip, const std::set<Endpoint>& usable, Duration span, TimePoint now,
              bool warm);
  /// Nothing of it starts slowly.
  void forget(const Vip& vip);

  /// Vips whose shares differ from those before `now`.
  std::vector<Vip> advance(TimePoint now);
  /// When advance() will have something; none: nobody is starting.
  std::optional<TimePoint> next() const;

  /// Weighs the backends that take connections by how warm they are.
  void weigh(const Vip& vip, std::vector<Backend>& backends) const;
  std::set<Endpoint> starting(const Vip& vip) const;
  std::size_t starting() const noexcept { return due_.size(); }

 private:
  struct Warmth {
    std::size_t step = kEighths.size();  // beyond the last: warm
    TimePoint since = {};
    Duration span = {};
  };
  using Due = std::tuple<TimePoint, Vip, Endpoint>;

  static TimePoint end_of(const Warmth& warmth);
  void drop(const Vip& vip, const Endpoint& endpoint, const Warmth& warmth);

  std::map<Vip, std::map<Endpoint, Warmth>> vips_;
  std::set<Due> due_;  // the next step of each that is starting
};

}  // namespace muster::lb
