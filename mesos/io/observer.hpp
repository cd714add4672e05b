#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>

#include "base/endpoint.hpp"
#include "base/observation.hpp"
#include "base/result.hpp"
#include "base/time.hpp"
#include "mesos/core/zk_url.hpp"
#include "mesos/io/master_url.hpp"

namespace boost::asio {
class thread_pool;
}
namespace prometheus {
class Registry;
}

namespace muster::mesos {

struct ObserverOptions {
  enum class Mode : std::uint8_t {
    stream,  // SUBSCRIBE; /state where that is refused
    poll,    // /state only
  };

  std::vector<MasterUrl> masters;  // tried in turn; at least one, or `zookeeper`
  std::optional<ZkUrl> zookeeper;  // where the masters say who they are; `masters` is not used then
  bool zookeeper_https = false;    // those masters are asked by https
  Duration zookeeper_timeout{10'000};  // of its session
  Mode mode = Mode::stream;
  Duration poll_interval{5000};  // at least; a slow master is asked less often
  Access access;
  Duration connect_timeout{5000};
  std::uint64_t seed = 1;  // for jitter

  // Rarely anybody's business; tests shorten them.
  Duration response_timeout{60'000};      // until the head of an answer is there
  std::optional<Duration> silence_limit;  // of a stream; not set: five heartbeats
  Duration backoff_min{250};
  Duration backoff_max{30'000};
  std::size_t max_response_bytes = std::size_t{1} << 30;  // of a record or a /state
};

/// Watches the leading master of a Mesos cluster for as long as it runs, and says what it learns.
///
/// Follows ZooKeeper where it has one, and redirects; subscribes again with a jittered back-off
/// whenever the stream ends, polls where streaming is refused. What it says after a failure is
/// simply the next snapshot; believing a suddenly smaller one or not is up to the cluster layer.
///
/// Credentials go to the masters in the list, or in ZooKeeper, and to those such a one redirects
/// to, never further, and never from https to http. The stream of a master that ZooKeeper says
/// leads no more is left at once: nothing it sent later is taken.
///
/// All on the control executor, but for parsing anything large, which runs on `workers`; those
/// must outlive the run() that uses them. Problems are counted by kind and logged once.
class Observer {
 public:
  using OnObservation = std::function<void(Observation)>;

  Observer(boost::asio::any_io_executor control, boost::asio::thread_pool& workers,
           ObserverOptions options, prometheus::Registry& registry, OnObservation on_observation);
  Observer(const Observer&) = delete;
  Observer& operator=(const Observer&) = delete;
  ~Observer();

  /// Runs until cancelled (terminal cancellation, e.g. TaskGroup::stop()). Once at a time.
  boost::asio::awaitable<void> run();

  /// Whether a master is to be asked at all; true at the start. False ends what is under way.
  void set_active(bool);
  /// Asks anew at once: the next thing said is a complete snapshot.
  void restart();

  /// Asks the leading master once for the addresses of its agents, whether or not it is observed.
  /// The error is one sentence. As cheap for the master as a page of its own; not to be repeated
  /// often. Ends with an error when cancelled; the Observer must outlive it.
  boost::asio::awaitable<Result<std::vector<IpAddress>, std::string>> agents();

  struct Status {
    std::string state;       // "connecting", "subscribed", "polling", "waiting" or "idle"
    std::string master;      // host:port now used; empty while there is none
    std::string last_error;  // one sentence; empty while all is well
    TimePoint last_event{};
    TimePoint last_snapshot{};
    std::uint64_t tasks = 0;
    std::uint64_t agents = 0;
    std::uint64_t frameworks = 0;
  };
  const Status& status() const;

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace muster::mesos
