#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include <boost/asio/awaitable.hpp>

#include "dev/app.hpp"

namespace muster::dev {

/// What one health check result means, as Mesos' health checker sees it.
class HealthState {
 public:
  struct Verdict {
    /// An update to send: every failure, but only the first success after something else.
    bool report = false;
    bool healthy = false;
    bool kill = false;
  };

  explicit HealthState(const AppHealthCheck& check) : check_{check} {}

  /// `age_seconds`: since the task started. Failures before the first success are forgiven within
  /// the grace period: nothing is reported.
  Verdict result(bool passed, double age_seconds) noexcept;

 private:
  AppHealthCheck check_;
  std::optional<bool> last_;
  unsigned failures_ = 0;
};

/// Connects `socket` (non-blocking, made in the task's network; taken over) to 127.0.0.1:`port`
/// and, for HTTP, asks for `path`: true if the port accepts, or the answer is 200 to 399.
/// False after `timeout_seconds`.
boost::asio::awaitable<bool> probe_port(int socket, std::uint16_t port, bool http, std::string path,
                                        double timeout_seconds);

/// As probe_port() with HTTP, but gives the status; 0 if there was none.
boost::asio::awaitable<unsigned> probe_http(int socket, std::uint16_t port, std::string path,
                                            double timeout_seconds);

}  // namespace muster::dev
