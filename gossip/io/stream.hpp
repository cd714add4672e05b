#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include <boost/asio/awaitable.hpp>
#include <boost/asio/ip/tcp.hpp>

#include "base/io/async.hpp"
#include "base/result.hpp"
#include "gossip/core/link.hpp"

namespace muster::gossip {

/// Success with nothing to say. Not bool: a Result of that cannot be told from its error.
struct Done {};

/// A TCP connection that carries sealed frames. Both sides echo a number the other has just
/// drawn, as Link does; both numbers, the direction and a counter stand in the associated data
/// of every frame, so none can be repeated, dropped, moved or reflected.
///
/// Every wait is bounded; an error means: close.
class SealedStream {
 public:
  static constexpr Duration kPatience{10'000};

  SealedStream(boost::asio::ip::tcp::socket socket, Sealer& sealer)
      : socket_{std::move(socket)}, sealer_{sealer} {}

  /// Errors: those of the socket; timed_out; bad_message (a wrong key, or no member).
  boost::asio::awaitable<Result<Done>> connect(boost::asio::ip::tcp::endpoint to);
  boost::asio::awaitable<Result<Done>> accept();
  boost::asio::awaitable<Result<Done>> write(std::vector<std::byte> frame);
  boost::asio::awaitable<Result<std::vector<std::byte>>> read();
  void close() noexcept;

 private:
  boost::asio::awaitable<Result<Done>> send_box(std::vector<std::byte> box);
  boost::asio::awaitable<Result<std::vector<std::byte>>> receive_box();
  std::vector<std::byte> associated(bool from_client, std::uint64_t counter) const;

  boost::asio::ip::tcp::socket socket_;
  Sealer& sealer_;
  bool client_ = false;
  std::uint64_t client_nonce_ = 0;
  std::uint64_t server_nonce_ = 0;
  std::uint64_t sent_ = 0;
  std::uint64_t received_ = 0;
};

}  // namespace muster::gossip
