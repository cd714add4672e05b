#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>

#include "base/time.hpp"
#include "mesos/core/master_info.hpp"
#include "mesos/core/zk_url.hpp"

namespace muster::mesos {

struct ZkOptions {
  ZkUrl url;
  Duration connect_timeout{5000};    // to find, reach and be let in by one server
  Duration session_timeout{10'000};  // Mesos' own; a silent server is left after two thirds of it
  Duration absent_retry{5000};       // while the path is not there
  Duration backoff_min{250};
  Duration backoff_max{10'000};
  std::uint64_t seed = 1;  // for jitter, and for which server is first
};

/// Follows who of Mesos' masters leads, as they say in ZooKeeper, for as long as it runs.
///
/// Reads only, and keeps nothing in its session: a lost connection is a new session with the next
/// server. While ZooKeeper is away nothing is said, so what was said last stands.
///
/// All on one executor. Memory: one frame, at most zk::kMaxFrame octets.
class ZkDetector {
 public:
  struct Events {
    /// The masters in order; the first leads. Empty: nobody does. Said when it differs from what
    /// was said last.
    std::function<void(std::vector<MasterInfo>)> on_masters;
    /// Connected, with the list read; or not.
    std::function<void(bool)> on_connected;
    /// One sentence, without credentials; each time something goes wrong.
    std::function<void(std::string)> on_error;
  };

  ZkDetector(boost::asio::any_io_executor executor, ZkOptions options, Events events);
  ZkDetector(const ZkDetector&) = delete;
  ZkDetector& operator=(const ZkDetector&) = delete;
  ~ZkDetector();

  /// Until cancelled. Once at a time.
  boost::asio::awaitable<void> run();

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace muster::mesos
