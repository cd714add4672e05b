#include "lb/io/connections.hpp"

#include <algorithm>
#include <optional>
#include <tuple>
#include <utility>

#include <prometheus/client_metric.h>
#include <prometheus/metric_family.h>
#include <prometheus/metric_type.h>

namespace muster::lb {

namespace {

bool ahead(const SlotCount& a, const SlotCount& b) {
  return std::tie(a.vip, a.index) < std::tie(b.vip, b.index);
}

std::uint64_t count_in(const ConnectionTotals& totals, const Vip& vip, const Endpoint& backend) {
  const auto backends = totals.find(vip);
  if (backends == totals.end()) return 0;
  const auto count = backends->second.find(backend);
  return count == backends->second.end() ? 0 : count->second;
}

/// Less than before: it began anew.
std::uint64_t grown(std::uint64_t then, std::uint64_t now) {
  return now >= then ? now - then : now;
}

}  // namespace

ConnectionTotals ConnectionGrowth::update(std::vector<SlotCount> counts) {
  std::sort(counts.begin(), counts.end(), [](const SlotCount& a, const SlotCount& b) {
    return ahead(a, b) || (!ahead(b, a) && a.connections > b.connections);
  });
  ConnectionTotals growth;
  std::vector<Seen> seen;
  auto before = seen_.begin();
  const auto pass = [&](const SlotCount* until) {
    for (; before != seen_.end() && (until == nullptr || ahead(before->slot, *until)); ++before) {
      if (!before->missed) seen.push_back({before->slot, true});
    }
  };
  for (const SlotCount& slot : counts) {
    if (!seen.empty() && !seen.back().missed && !ahead(seen.back().slot, slot)) continue;  // twice
    pass(&slot);
    std::uint64_t then = 0;
    if (before != seen_.end() && !ahead(slot, before->slot)) {
      if (before->slot.backend == slot.backend) then = before->slot.connections;
      ++before;
    }
    const std::uint64_t more = grown(then, slot.connections);
    if (more > 0) growth[slot.vip][slot.backend] += more;
    seen.push_back({slot, false});
  }
  pass(nullptr);
  seen_ = std::move(seen);
  return growth;
}

void ConnectionCounter::add(const ConnectionTotals& growth) {
  for (const auto& [vip, backends] : growth) {
    for (const auto& [backend, count] : backends) totals_[vip][backend] += count;
  }
}

std::shared_ptr<const ConnectionTotals> ConnectionCounter::update(const KernelState& state) {
  decltype(seen_) seen;
  ConnectionTotals totals;
  decltype(seen_backends_) seen_backends;
  for (const auto& [vip, backends] : state.backend_connections) {
    auto& total = totals[vip];
    for (const auto& [backend, now] : backends) {
      total[backend] =
          count_in(totals_, vip, backend) + grown(count_in(seen_backends_, vip, backend), now);
    }
    seen_backends.emplace_hint(seen_backends.end(), vip, backends);
  }
  for (const auto& [vip, applied] : state.vips) {
    if (state.backend_connections.contains(vip)) continue;
    const auto counts = state.connections.find(vip);
    const auto before = seen_.find(vip);
    const auto sums = totals_.find(vip);
    auto& slots = seen[vip];
    auto& total = totals[vip];
    for (std::size_t i = 0; i < applied.slots.size(); ++i) {
      if (!applied.slots[i] || counts == state.connections.end()) continue;
      const Endpoint& backend = *applied.slots[i];
      const std::uint64_t now = i < counts->second.size() ? counts->second[i] : 0;
      std::uint64_t then = 0;
      if (before != seen_.end() && i < before->second.size() && before->second[i] &&
          before->second[i]->backend == backend) {
        then = before->second[i]->count;
      }
      const auto [entry, fresh] = total.try_emplace(backend, 0);
      if (fresh && sums != totals_.end()) {
        const auto sum = sums->second.find(backend);
        if (sum != sums->second.end()) entry->second = sum->second;
      }
      entry->second += grown(then, now);
      slots.resize(i + 1);
      slots[i] = Slot{backend, now};
    }
  }
  seen_ = std::move(seen);
  seen_backends_ = std::move(seen_backends);
  totals_ = std::move(totals);
  return std::make_shared<const ConnectionTotals>(totals_);
}

void ConnectionMetrics::publish(std::shared_ptr<const ConnectionTotals> totals,
                                std::shared_ptr<const std::map<Vip, std::string>> names) {
  const std::scoped_lock lock{mutex_};
  totals_.swap(totals);
  names_.swap(names);
}

namespace {

prometheus::MetricFamily counters(const char* name, const char* help) {
  prometheus::MetricFamily family;
  family.name = name;
  family.help = help;
  family.type = prometheus::MetricType::Counter;
  return family;
}

/// One series more, or, if there are `most`, so much more of the rest.
struct Series {
  prometheus::MetricFamily& family;
  std::size_t most;
  std::uint64_t rest = 0;

  void add(std::vector<prometheus::ClientMetric::Label> labels, std::uint64_t count) {
    if (family.metric.size() >= most) {
      rest += count;
      return;
    }
    prometheus::ClientMetric metric;
    metric.label = std::move(labels);
    metric.counter.value = static_cast<double>(count);
    family.metric.push_back(std::move(metric));
  }
  void finish(std::vector<prometheus::ClientMetric::Label> labels) {
    if (rest == 0) return;
    ++most;
    add(std::move(labels), std::exchange(rest, 0));
  }
};

}  // namespace

std::vector<prometheus::MetricFamily> ConnectionMetrics::Collect() const {
  note_look();
  std::shared_ptr<const ConnectionTotals> totals;
  std::shared_ptr<const std::map<Vip, std::string>> names;
  {
    const std::scoped_lock lock{mutex_};
    totals = totals_;
    names = names_;
  }
  std::vector<prometheus::MetricFamily> both{
      counters("muster_lb_vip_connections_total",
               "New connections through a VIP from this node, as last read from the kernel"),
      counters("muster_lb_backend_connections_total",
               "The same to each backend of a VIP, while it is one")};
  if (!totals) return both;
  Series by_vip{both[0], kMaxSeries};
  Series by_backend{both[1], kMaxBackendSeries};
  for (const auto& [vip, backends] : *totals) {
    const std::string text = to_string(vip);
    const auto known = names ? names->find(vip) : std::map<Vip, std::string>::const_iterator{};
    const std::string name = names && known != names->end() ? known->second : std::string{};
    std::uint64_t sum = 0;
    for (const auto& [backend, count] : backends) {
      sum += count;
      by_backend.add({{"vip", text}, {"name", name}, {"backend", to_string(backend)}}, count);
    }
    by_vip.add({{"vip", text}, {"name", name}}, sum);
  }
  by_vip.finish({{"vip", "other"}, {"name", ""}});
  by_backend.finish({{"vip", "other"}, {"name", ""}, {"backend", "other"}});
  return both;
}

}  // namespace muster::lb
