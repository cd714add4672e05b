#include "dns/io/counters.hpp"

#include <utility>

namespace muster::dns {
namespace {

constexpr std::array<const char*, WorkerCounters::kTypes> kTypeNames{"A",   "AAAA", "SRV",
                                                                     "PTR", "ANY",  "other"};
constexpr std::array<const char*, WorkerCounters::kOutcomes> kOutcomeNames{
    "noerror", "nodata", "nxdomain", "servfail", "refused", "other"};

std::size_t type_index(std::uint16_t qtype) noexcept {
  switch (qtype) {
    case type::kA:
      return 0;
    case type::kAaaa:
      return 1;
    case type::kSrv:
      return 2;
    case type::kPtr:
      return 3;
    case type::kAny:
      return 4;
    default:
      return 5;
  }
}

std::size_t outcome_index(std::uint16_t code, bool no_data) noexcept {
  switch (code) {
    case rcode::kNoError:
      return no_data ? 1 : 0;
    case rcode::kNxDomain:
      return 2;
    case rcode::kServFail:
      return 3;
    case rcode::kRefused:
      return 4;
    default:
      return 5;
  }
}

prometheus::MetricFamily family(const char* name, const char* help, prometheus::MetricType type) {
  prometheus::MetricFamily out;
  out.name = name;
  out.help = help;
  out.type = type;
  return out;
}

using Labels = std::vector<prometheus::ClientMetric::Label>;

void add_sample(prometheus::MetricFamily& to, Labels labels, std::uint64_t value) {
  prometheus::ClientMetric& metric = to.metric.emplace_back();
  metric.label = std::move(labels);
  if (to.type == prometheus::MetricType::Gauge) {
    metric.gauge.value = static_cast<double>(value);
  } else {
    metric.counter.value = static_cast<double>(value);
  }
}

}  // namespace

void WorkerCounters::count(const Answer& answer, Transport transport) noexcept {
  (transport == Transport::udp ? udp_queries : tcp_queries).add();
  if (answer.kind == Answer::Kind::drop) {
    dropped_invalid.add();
    return;
  }
  if (answer.kind == Answer::Kind::forward) return;  // counted when it is answered
  std::size_t zone = answer.zone;
  if (answer.zone == Answer::kNoZone) zone = kNone;
  if (answer.zone == Answer::kForwardedZone) zone = kForwarded;
  queries[zone][type_index(answer.qtype)][outcome_index(answer.rcode, answer.no_data)].add();
  if (answer.truncated) truncated.add();
}

void WorkerCounters::count_forwarded(std::uint16_t qtype, std::uint16_t rcode) noexcept {
  queries[kForwarded][type_index(qtype)][outcome_index(rcode, false)].add();
}

void WorkerCounters::take(const Forwarder& forwarder) noexcept {
  const Forwarder::Stats& stats = forwarder.stats();
  forward_sent.set(stats.sent);
  forward_coalesced.set(stats.coalesced);
  forward_hedged.set(stats.hedged);
  forward_mismatched.set(stats.mismatched);
  forward_timeouts.set(stats.timeouts);
  forward_refused.set(stats.refused);
  forward_tcp_retries.set(stats.tcp_retries);
  forward_in_flight.set(forwarder.in_flight());
  forward_asked_again.set(stats.asked_again);
  cache_hits.set(stats.cache_hits);
  cache_stale.set(stats.cache_stale);
  cache_prefetched.set(stats.prefetched);
  cache_entries.set(forwarder.cache().size());
  cache_octets.set(forwarder.cache().octets());
}

Counters::Counters(unsigned workers, std::vector<std::string> zones) : zones_{std::move(zones)} {
  zones_.resize(WorkerCounters::kZones);
  zones_[WorkerCounters::kForwarded] = "forwarded";
  zones_[WorkerCounters::kNone] = "none";
  for (unsigned i = 0; i < workers; ++i) workers_.push_back(std::make_unique<WorkerCounters>());
}

std::uint64_t Counters::sum(Tally WorkerCounters::*member) const {
  std::uint64_t total = 0;
  for (const auto& worker : workers_) total += ((*worker).*member).get();
  return total;
}

std::uint64_t Counters::sum(Tally TlsTallies::*member) const {
  std::uint64_t total = 0;
  for (const auto& worker : workers_) total += (worker->tls.*member).get();
  return total;
}

void Counters::collect_tls(std::vector<prometheus::MetricFamily>& out) const {
  constexpr auto kCounter = prometheus::MetricType::Counter;
  // Closed first: what opens in between must not make fewer than none.
  const std::uint64_t closed = sum(&TlsTallies::closed);
  const std::uint64_t resumed = sum(&TlsTallies::resumed);
  const std::uint64_t opened = sum(&TlsTallies::opened);
  auto& open =
      out.emplace_back(family("muster_dns_tls_connections", "TLS connections to upstreams open",
                              prometheus::MetricType::Gauge));
  add_sample(open, {}, opened - closed);
  auto& handshakes = out.emplace_back(family(
      "muster_dns_tls_handshakes_total", "TLS connections made to upstreams, by kind", kCounter));
  add_sample(handshakes, {{"kind", "full"}}, opened - resumed);
  add_sample(handshakes, {{"kind", "resumed"}}, resumed);
  auto& errors = out.emplace_back(
      family("muster_dns_tls_errors_total", "Failures of TLS to upstreams, by cause", kCounter));
  for (std::size_t cause = 0; cause < kStreamFailures; ++cause) {
    std::uint64_t total = 0;
    for (const auto& worker : workers_) total += worker->tls.failures[cause].get();
    add_sample(errors, {{"cause", name_of(static_cast<StreamFailure>(cause))}}, total);
  }
}

prometheus::MetricFamily Counters::queries() const {
  auto out = family("muster_dns_queries_total", "Queries answered, by zone, type and outcome",
                    prometheus::MetricType::Counter);
  for (std::size_t zone = 0; zone < WorkerCounters::kZones; ++zone) {
    for (std::size_t type = 0; type < WorkerCounters::kTypes; ++type) {
      for (std::size_t outcome = 0; outcome < WorkerCounters::kOutcomes; ++outcome) {
        std::uint64_t total = 0;
        for (const auto& worker : workers_) total += worker->queries[zone][type][outcome].get();
        if (total == 0) continue;  // most combinations never happen
        add_sample(out,
                   {{"zone", zones_[zone]},
                    {"type", kTypeNames[type]},
                    {"outcome", kOutcomeNames[outcome]}},
                   total);
      }
    }
  }
  return out;
}

std::vector<prometheus::MetricFamily> Counters::Collect() const {
  constexpr auto kCounter = prometheus::MetricType::Counter;
  constexpr auto kGauge = prometheus::MetricType::Gauge;
  using W = WorkerCounters;
  std::vector<prometheus::MetricFamily> out;
  out.push_back(queries());
  const auto add = [&](const char* name, const char* help, prometheus::MetricType type,
                       Tally W::*member) {
    add_sample(out.emplace_back(family(name, help, type)), {}, sum(member));
  };
  auto& received = out.emplace_back(
      family("muster_dns_received_total", "Messages received, by transport", kCounter));
  add_sample(received, {{"transport", "udp"}}, sum(&W::udp_queries));
  add_sample(received, {{"transport", "tcp"}}, sum(&W::tcp_queries));
  auto& dropped = out.emplace_back(
      family("muster_dns_dropped_total", "Messages dropped unanswered, by reason", kCounter));
  add_sample(dropped, {{"reason", "invalid"}}, sum(&W::dropped_invalid));
  add_sample(dropped, {{"reason", "send"}}, sum(&W::dropped_send));
  add_sample(dropped, {{"reason", "rate_limit"}}, sum(&W::rate_limited));
  add("muster_dns_truncated_total", "Answers cut to fit (TC)", kCounter, &W::truncated);
  add("muster_dns_tcp_connections", "TCP connections open", kGauge, &W::tcp_connections);
  add("muster_dns_tcp_refused_total", "TCP connections over a limit", kCounter, &W::tcp_refused);
  add("muster_dns_tcp_idle_closed_total", "TCP connections closed for idling", kCounter,
      &W::tcp_idle_closed);
  add("muster_dns_forward_sent_total", "Queries sent to upstreams", kCounter, &W::forward_sent);
  add("muster_dns_forward_coalesced_total", "Queries that joined an equal one under way", kCounter,
      &W::forward_coalesced);
  add("muster_dns_forward_hedged_total", "Copies sent because an upstream was slow", kCounter,
      &W::forward_hedged);
  add("muster_dns_forward_mismatched_total", "Replies that did not match a query", kCounter,
      &W::forward_mismatched);
  add("muster_dns_forward_timeouts_total", "Forwarded queries nobody answered in time", kCounter,
      &W::forward_timeouts);
  add("muster_dns_forward_refused_total", "Forwarded queries refused at a limit", kCounter,
      &W::forward_refused);
  add("muster_dns_forward_tcp_retries_total", "Truncated replies asked again over TCP", kCounter,
      &W::forward_tcp_retries);
  add("muster_dns_forward_asked_again_total",
      "Queries asked again because a TLS connection was cut", kCounter, &W::forward_asked_again);
  collect_tls(out);
  add("muster_dns_transfers_total", "Whole zones sent to secondaries", kCounter, &W::transfers);
  add("muster_dns_cache_hits_total", "Forwarded names answered from the cache", kCounter,
      &W::cache_hits);
  add("muster_dns_cache_stale_total", "Old answers given because no upstream answered", kCounter,
      &W::cache_stale);
  add("muster_dns_cache_prefetched_total", "Answers fetched again before they ended", kCounter,
      &W::cache_prefetched);
  add("muster_dns_cache_entries", "Answers in the cache", kGauge, &W::cache_entries);
  add("muster_dns_cache_bytes", "Octets the cache takes", kGauge, &W::cache_octets);
  add("muster_dns_forward_in_flight", "Forwarded queries under way", kGauge, &W::forward_in_flight);
  return out;
}

}  // namespace muster::dns
