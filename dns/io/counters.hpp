#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include <prometheus/collectable.h>
#include <prometheus/metric_family.h>

#include "dns/core/answer.hpp"
#include "dns/core/forwarder.hpp"
#include "dns/core/upstream_stream.hpp"

namespace muster::dns {

/// A counter with one writing thread: no locked instruction for a query.
class Tally {
 public:
  void add(std::uint64_t count = 1) noexcept {
    value_.store(value_.load(std::memory_order_relaxed) + count, std::memory_order_relaxed);
  }
  void set(std::uint64_t value) noexcept { value_.store(value, std::memory_order_relaxed); }
  std::uint64_t get() const noexcept { return value_.load(std::memory_order_relaxed); }

 private:
  std::atomic<std::uint64_t> value_{0};
};

/// Of a worker's TLS connections to upstreams.
struct TlsTallies {
  std::array<Tally, kStreamFailures> failures;  // by StreamFailure
  Tally opened, closed;                         // connections, once the handshake was done
  Tally resumed;                                // of those opened, with less of a handshake

  void failed(StreamFailure failure, std::uint64_t count = 1) noexcept {
    failures[static_cast<std::size_t>(failure)].add(count);
  }
};

/// What one worker counts. Written by that worker, read by whoever collects.
struct alignas(64) WorkerCounters {
  static constexpr std::size_t kZones = ZoneTable::kMaxZones + 2;  // then forwarded, then none
  static constexpr std::size_t kForwarded = ZoneTable::kMaxZones;
  static constexpr std::size_t kNone = ZoneTable::kMaxZones + 1;
  static constexpr std::size_t kTypes = 6;
  static constexpr std::size_t kOutcomes = 6;

  std::array<std::array<std::array<Tally, kOutcomes>, kTypes>, kZones> queries;
  Tally udp_queries, tcp_queries;
  Tally truncated;
  Tally dropped_invalid;  // not a query: too short, too long, or a response
  Tally dropped_send;     // the kernel had no room for the reply
  Tally rate_limited;     // over the limit: dropped, or sent to TCP
  Tally transfers;
  Tally cache_hits, cache_stale, cache_prefetched, cache_entries, cache_octets;
  Tally tcp_connections;  // open now
  Tally tcp_refused;      // over a bound
  Tally tcp_idle_closed;
  Tally forward_sent, forward_coalesced, forward_hedged, forward_mismatched;
  Tally forward_timeouts, forward_refused, forward_tcp_retries, forward_in_flight;
  Tally forward_asked_again;
  TlsTallies tls;

  void count(const Answer& answer, Transport transport) noexcept;
  void count_forwarded(std::uint16_t qtype, std::uint16_t rcode) noexcept;
  void take(const Forwarder& forwarder) noexcept;
};

/// Sums the workers' counters when a scrape asks. Outlives the server that made it.
class Counters : public prometheus::Collectable {
 public:
  Counters(unsigned workers, std::vector<std::string> zones);
  WorkerCounters& of_worker(unsigned index) { return *workers_[index]; }
  std::vector<prometheus::MetricFamily> Collect() const override;  // NOLINT: prometheus' name

 private:
  prometheus::MetricFamily queries() const;
  void collect_tls(std::vector<prometheus::MetricFamily>& out) const;
  std::uint64_t sum(Tally WorkerCounters::*member) const;
  std::uint64_t sum(Tally TlsTallies::*member) const;

  std::vector<std::unique_ptr<WorkerCounters>> workers_;
  std::vector<std::string> zones_;
};

}  // namespace muster::dns
