#pragma once

#include <cstddef>
#include <deque>
#include <optional>
#include <string>
#include <utility>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/as_tuple.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>

namespace muster::mesos {

/// Between the coroutine that empties the socket and the one that parses: a master buffers without
/// limit for a slow reader (MESOS-7748), so the waiting is done here. Bounded in octets and in
/// records; what is too much ends the stream, and the next snapshot makes up for it.
class RecordQueue {
 public:
  static constexpr std::size_t kMaxOctets = std::size_t{256} << 20;
  static constexpr std::size_t kMaxRecords = 500'000;

  explicit RecordQueue(const boost::asio::any_io_executor& executor)
      : changed_{executor, boost::asio::steady_timer::time_point::max()} {}

  /// False if it does not fit. A single record always does, whatever its size.
  bool push(std::string record) {
    if (!records_.empty() &&
        (octets_ + record.size() > kMaxOctets || records_.size() >= kMaxRecords)) {
      return false;
    }
    octets_ += record.size();
    records_.push_back(std::move(record));
    changed_.cancel();
    return true;
  }

  /// Nothing more will come, because of `reason`.
  void end(std::string reason) {
    end_ = std::move(reason);
    changed_.cancel();
  }

  /// The next record; nothing once the stream has ended and all is taken.
  boost::asio::awaitable<std::optional<std::string>> pop() {
    while (records_.empty()) {
      if (end_) co_return std::nullopt;
      co_await changed_.async_wait(boost::asio::as_tuple(boost::asio::use_awaitable));
    }
    std::string record = std::move(records_.front());
    records_.pop_front();
    octets_ -= record.size();
    co_return record;
  }

  const std::string& reason() const { return *end_; }

 private:
  boost::asio::steady_timer changed_;  // cancelled to wake the reader; never expires
  std::deque<std::string> records_;
  std::size_t octets_ = 0;
  std::optional<std::string> end_;
};

}  // namespace muster::mesos
