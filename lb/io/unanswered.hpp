#pragma once

#include <cstddef>
#include <vector>

#include "base/result.hpp"
#include "lb/io/driver.hpp"
#include "lb/io/netlink.hpp"

namespace muster::lb {

/// Hears of translated tcp connections that ended without one packet in answer: conntrack's notices
/// of entries that go. With SYN failover that is when the client repeats its SYN.
///
/// The kernel writes a notice of every flow's end while anybody listens, 1.5 µs each; a filter on
/// the socket lets only the unanswered ones through to us. What is lost in a flood is lost: there
/// are enough then.
class UnansweredWatch {
 public:
  /// Of the namespace of the calling thread, or `source`'s. Errors: what the kernel said; it may
  /// lack ctnetlink.
  static Result<UnansweredWatch> open(netlink::Source* source = nullptr);

  int fd() const noexcept { return socket_.fd(); }
  /// What there is. Bounded: what it leaves keeps fd() readable.
  std::vector<Unanswered> drain();

 private:
  static constexpr std::size_t kMaxDatagrams = 256;
  explicit UnansweredWatch(netlink::Socket socket) : socket_{std::move(socket)} {}

  netlink::Socket socket_;
};

}  // namespace muster::lb
