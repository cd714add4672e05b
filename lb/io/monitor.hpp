#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "base/result.hpp"
#include "lb/io/netlink.hpp"

namespace muster::lb {

/// Hears of changes to our tables and routes that others make, and of the loopback interface, which
/// our routes go by.
///
/// The kernel stamps each notice with the socket that caused it; those of our own sockets are
/// dropped in the kernel by a filter, so that programming 10,000 Vips wakes nobody.
class Monitor {
 public:
  /// The ports of the sockets we change things with: tables from two threads, and routes.
  struct Own {
    std::uint32_t nft;
    std::uint32_t worker_nft;
    std::uint32_t routes;
  };
  /// Routes are ours that carry `route_mark` (routes.hpp).
  static Result<Monitor> open(std::string table, const Own& own, std::uint8_t route_mark,
                              netlink::Source* source = nullptr);
  Monitor(Monitor&& other) noexcept;
  Monitor& operator=(Monitor&&) = delete;
  ~Monitor();

  /// Readable when drain() has something to do.
  int fd() const noexcept { return epoll_; }
  /// True if something of ours was changed, or notices were lost. Bounded: what it leaves makes
  /// fd() readable again.
  bool drain();

  /// Whether drain() has met a change to chains or rules of other tables, or lost notices, since
  /// the last call.
  bool take_others() { return std::exchange(others_, false); }

  /// Stops listening to changes of tables, and begins again. For a large change of our own: the
  /// kernel writes a notice of each element while anyone listens, which takes as long as the
  /// change.
  void pause();
  void resume();
  /// Somebody else may have changed something meanwhile: makes drain() say so.
  void suspect();

 private:
  static constexpr std::size_t kMaxDatagrams = 256;
  Monitor(netlink::Socket nft, netlink::Socket routes, std::string table)
      : nft_{std::move(nft)}, routes_{std::move(routes)}, table_{std::move(table)} {}
  bool drain_nft();
  bool drain_routes();

  netlink::Socket nft_;
  netlink::Socket routes_;
  std::string table_;
  int epoll_ = -1;
  int suspicion_ = -1;  // an eventfd
  bool others_ = false;
};

}  // namespace muster::lb
