#pragma once

#include <cstdint>
#include <optional>
#include <set>

namespace muster::dev {

/// The host ports of one node, as its Mesos agent offers them.
/// Hands out the next free one after the last, round the range, so that a port is not given to
/// another task while clients still have connections to the one that died there.
class PortPool {
 public:
  static constexpr std::uint16_t kFirst = 31000;  // what a Mesos agent offers by default
  static constexpr std::uint16_t kLast = 32000;

  /// The next free port of the range, or nothing if all are taken.
  std::optional<std::uint16_t> take();
  /// Exactly this one (it may lie outside of the range); false if it is taken.
  bool take(std::uint16_t port);
  void give_back(std::uint16_t port);

 private:
  std::set<std::uint16_t> taken_;
  std::uint16_t next_ = kFirst;
};

}  // namespace muster::dev
