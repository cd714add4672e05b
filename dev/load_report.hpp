#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace muster::dev {

enum class LoadFailure : std::uint8_t {
  dns,          // no address for the name
  refused,      // connection refused: nobody listens, or the VIP has no backend
  unreachable,  // no route, host or network unreachable
  reset,        // connection reset
  closed,       // the other end closed before the answer was whole
  timed_out,
  status,  // an HTTP answer that is not 200
  other,
  not_sent,  // too many requests were under way already: this machine is the bottleneck
};

/// What became of one request.
struct LoadResult {
  double at_seconds = 0;  // since the start of the run, when it was due
  double latency_ms = 0;  // from when it was due to the whole answer
  double dns_ms = 0;
  std::optional<LoadFailure> failure;
  /// TCP: the handshake was done. A failure after that happened to a request some instance had
  /// accepted: "already inside".
  bool connected = false;
  std::string task{};    // who answered
  std::string remote{};  // "11.0.0.1:80"
  std::uint16_t local_port = 0;
  double wall_seconds = 0;  // since 1970
};

/// Adds up the results of a run.
class LoadReport {
 public:
  /// Failures shown one by one; the rest are counted.
  static constexpr std::size_t kShownFailures = 20;

  void add(LoadResult result);
  /// For a person, several lines.
  std::string text() const;
  /// One object, one line. `rate` and `seconds` are what was asked for.
  std::string json(double rate, double seconds) const;
  bool all_answered() const noexcept { return failed_before_ + failed_after_ == 0; }

 private:
  double percentile(double part) const;

  std::uint64_t sent_ = 0;
  std::uint64_t answered_ = 0;
  std::uint64_t failed_before_ = 0;
  std::uint64_t failed_after_ = 0;
  std::map<LoadFailure, std::uint64_t> kinds_before_;
  std::map<LoadFailure, std::uint64_t> kinds_after_;
  std::map<std::string, std::uint64_t> tasks_;
  std::vector<float> latencies_ms_;  // of answers
  double dns_ms_ = 0;
  std::vector<LoadResult> first_failures_;
};

}  // namespace muster::dev
