#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>

#include "base/endpoint.hpp"
#include "base/observation.hpp"
#include "base/time.hpp"
#include "mesos/io/master_url.hpp"

namespace boost::asio {
class thread_pool;
}
namespace prometheus {
class Registry;
}

namespace muster::mesos {

struct AgentPollerOptions {
  MasterUrl agent;                // where the agent's API is
  std::optional<IpAddress> at{};  // the agent's address, should it not tell it itself
  Access access{};
  std::uint64_t seed = 1;  // for jitter

  // Rarely anybody's business; tests shorten them.
  Duration changing{250};  // between two questions, while answers differ
  Duration idle{1'000};    // at most, while they do not
  Duration backoff_max{10'000};
  Duration connect_timeout{5'000};
  Duration response_timeout{30'000};
  std::size_t max_response_bytes = std::size_t{64} << 20;
};

/// Asks one Mesos agent, again and again, what runs on it, and says what has changed: each
/// Observation is a complete snapshot of that agent, and of nothing else.
///
/// An agent has no event stream (agent.proto knows no SUBSCRIBE), so it is polled: `changing` apart
/// while answers differ, up to `idle` while they do not. `/state` is asked because it tells all in
/// one answer; the operator API (GET_STATE and GET_AGENT) where that is refused. An agent that
/// does not answer, that recovers (503) or that has no id yet teaches nothing: nothing is said.
///
/// Credentials go to that agent alone; redirects are not followed. All on the control executor,
/// but for parsing, which runs on `workers`; those must outlive the run() that uses them.
/// Problems are counted by kind and logged once.
class AgentPoller {
 public:
  using OnObservation = std::function<void(Observation)>;

  AgentPoller(boost::asio::any_io_executor control, boost::asio::thread_pool& workers,
              AgentPollerOptions options, prometheus::Registry& registry,
              OnObservation on_observation);
  AgentPoller(const AgentPoller&) = delete;
  AgentPoller& operator=(const AgentPoller&) = delete;
  ~AgentPoller();

  /// Runs until cancelled (terminal cancellation, e.g. TaskGroup::stop()). Once at a time.
  boost::asio::awaitable<void> run();

  struct Status {
    std::string state;       // "connecting", "polling" or "waiting"
    std::string agent;       // host:port
    AgentId id;              // as it told last; empty: not yet
    std::string last_error;  // one sentence; empty while all is well
    TimePoint last_answer{};
    TimePoint last_change{};
    std::uint64_t tasks = 0;
  };
  const Status& status() const;

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace muster::mesos
