#pragma once

// Private to observer*.cpp.

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>

#include "base/assert.hpp"
#include "base/io/resolver.hpp"
#include "base/rng.hpp"
#include "mesos/core/master_state.hpp"
#include "mesos/io/either.hpp"
#include "mesos/io/http_ask.hpp"
#include "mesos/io/http_session.hpp"
#include "mesos/io/observer.hpp"
#include "mesos/io/observer_metrics.hpp"
#include "mesos/io/record_queue.hpp"
#include "mesos/io/redirect.hpp"
#include "mesos/io/zk_detector.hpp"

namespace muster::mesos {
namespace asio = boost::asio;

inline constexpr auto kToken = asio::as_tuple(asio::use_awaitable);
inline constexpr std::size_t kReadSize = std::size_t{64} * 1024;
inline constexpr double kDefaultHeartbeatSeconds = 15;

/// Why asking one master came to an end.
struct Ending {
  std::string error{};  // one sentence; empty: nothing is wrong, ask again
  bool learnt = false;  // a snapshot came from it
};

class Observer::Impl {
 public:
  Impl(asio::any_io_executor control, asio::thread_pool& workers, ObserverOptions options,
       prometheus::Registry& registry, OnObservation on_observation)
      : control_{std::move(control)},
        workers_{workers},
        options_{std::move(options)},
        on_observation_{std::move(on_observation)},
        metrics_{registry},
        resolver_{control_},
        asker_{control_,
               workers_,
               options_.access,
               {options_.connect_timeout, options_.response_timeout},
               metrics_},
        resolve_now_{control_, asio::steady_timer::time_point::max()},
        change_{control_, asio::steady_timer::time_point::max()},
        rng_{options_.seed},
        targets_{options_.masters} {
    MUSTER_ASSERT(options_.zookeeper || !options_.masters.empty());
    if (options_.zookeeper) follow_zookeeper();
    status_.state = "waiting";
  }

  asio::awaitable<void> run();

  asio::awaitable<Result<std::vector<IpAddress>, std::string>> agents();

  const Status& status() const { return status_; }

  void set_active(bool active) {
    if (active == active_) return;
    active_ = active;
    change_.cancel();
  }
  void restart() {
    restart_ = true;
    change_.cancel();
  }

 private:
  struct Opened {
    HttpSession session;
    HttpHead head;
    Target target;
  };

  asio::awaitable<void> watch_masters();
  asio::awaitable<void> visit_next(Ending& ending);
  asio::awaitable<void> until_changed();
  asio::awaitable<Ending> visit(Target target);
  asio::awaitable<Result<Opened, std::string>> open(Target target, HttpRequest request);
  asio::awaitable<Result<Opened, std::string>> open_once(Target target, HttpRequest request);
  asio::awaitable<std::string> refusal(Opened opened);
  asio::awaitable<Ending> stream(Opened opened);
  asio::awaitable<void> read_records(HttpSession& session, RecordQueue& queue);
  asio::awaitable<void> take_records(MasterUrl url, std::optional<Endpoint> peer,
                                     RecordQueue& queue, Ending& ending);
  asio::awaitable<bool> take_record(std::string record, std::optional<Endpoint> peer, MasterUrl url,
                                    Ending& ending);
  asio::awaitable<Ending> poll(Target target, std::optional<TimePoint> until);
  asio::awaitable<Ending> poll_once(Target target);
  void take_polled(Opened& opened, Snapshot& snapshot, std::size_t octets);
  asio::awaitable<std::string> read_body(Opened& opened, std::string& body);
  asio::awaitable<void> resolve_names();
  asio::awaitable<void> watch_zookeeper();
  asio::awaitable<void> until_inactive();
  asio::awaitable<void> until_named();
  asio::awaitable<Result<std::vector<IpAddress>, std::string>> agents_of(Target target);

  void follow_zookeeper();
  void take_masters(std::vector<MasterInfo> masters);
  /// What comes now is of a master that is asked no more.
  bool leaving() const noexcept { return restart_ || !active_; }
  std::string authorization(const Target& target) const;
  void publish(Observation observation);
  void take_snapshot(Snapshot& snapshot, std::size_t octets);
  void retire(Snapshot snapshot);
  std::vector<Master> all_masters(std::optional<Master> leader) const;
  void show(std::string_view state, const std::string& master);
  void fail(const std::string& error);
  void note_arrival();
  Duration backoff();
  Duration silence_limit() const;

  asio::any_io_executor control_;
  asio::thread_pool& workers_;
  const ObserverOptions options_;
  OnObservation on_observation_;
  ObserverMetrics metrics_;
  Resolver resolver_;
  Asker asker_;
  asio::steady_timer resolve_now_;  // cancelled to wake resolve_names()
  asio::steady_timer change_;       // cancelled when active_ or restart_ has changed
  bool active_ = true;
  bool restart_ = false;
  bool asking_ = false;  // for agents: ZooKeeper is needed as well
  bool names_are_new_ = false;
  Rng rng_;
  MasterState state_;
  Status status_;
  Targets targets_;
  std::optional<ZkDetector> detector_;
  std::map<std::string, std::vector<IpAddress>> master_addresses_;  // of names in the list
  std::optional<Master> leader_;
  std::vector<Master> masters_;  // as last published
  double heartbeat_seconds_ = kDefaultHeartbeatSeconds;
  std::size_t rounds_ = 0;  // of the whole list, without success
  int not_found_ = 0;
  std::optional<TimePoint> forced_;
  std::optional<Fingerprint> polled_;  // the state last taken, while the same master is polled
};

}  // namespace muster::mesos
