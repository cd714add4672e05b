// What the Balancer says of its Vips: what is declared, beside what the kernel has of it.

#include <algorithm>
#include <utility>
#include <vector>

#include "lb/io/balancer_impl.hpp"

namespace muster::lb {
namespace {

/// Who gets new connections, sorted.
std::vector<Endpoint> taking(const AppliedTable& table, const Vip& vip) {
  std::vector<Endpoint> found;
  const auto applied = table.find(vip);
  if (applied == table.end() || !applied->second.selector) return found;
  const FoundSlots& slots = applied->second.slots;
  for (std::size_t i = 0; i < applied->second.selector->size && i < slots.size(); ++i) {
    if (slots[i]) found.push_back(*slots[i]);
  }
  std::sort(found.begin(), found.end());
  found.erase(std::unique(found.begin(), found.end()), found.end());
  return found;
}

}  // namespace

Balancer::VipStatus Balancer::Impl::vip_status(const Vip& vip) const {
  const VipTable& table = shared_.table;
  const Programmer& programmer = host_->programmer();
  VipStatus status{.name = table.name_of(vip),
                   .vip = vip,
                   .backends = {},
                   .quarantined = programmer.is_quarantined(vip)};
  const auto resting = table.outliers().resting(vip);
  const auto starting = table.slow_start().starting(vip);
  const auto service = table.warmed_up(vip);
  std::vector<Endpoint> in_kernel = taking(programmer.applied(), vip);
  for (const Backend& backend : service ? service->backends : std::vector<Backend>{}) {
    const auto found = std::lower_bound(in_kernel.begin(), in_kernel.end(), backend.endpoint);
    const bool takes = found != in_kernel.end() && *found == backend.endpoint;
    if (takes) in_kernel.erase(found);
    const std::uint16_t weight = takes ? std::max<std::uint16_t>(backend.weight, 1) : 0;
    status.backends.push_back({.endpoint = backend.endpoint,
                               .weight = weight,
                               .rests = resting.contains(backend.endpoint),
                               .starts = starting.contains(backend.endpoint),
                               .pending = weight != backend.weight});
  }
  for (const Endpoint& endpoint : in_kernel) {
    status.backends.push_back({.endpoint = endpoint, .weight = 1, .pending = true});
  }
  return status;
}

std::vector<Balancer::VipStatus> Balancer::Impl::vips() {
  if (!std::exchange(counters_wanted_, true)) wake_.cancel();
  connections_->note_look();
  std::vector<Vip> known = shared_.table.vips();
  const auto declared = static_cast<std::ptrdiff_t>(known.size());
  for (const auto& [vip, applied] : host_->programmer().applied()) {
    if (applied.selector && !std::binary_search(known.begin(), known.begin() + declared, vip)) {
      known.push_back(vip);
    }
  }
  std::vector<VipStatus> all;
  all.reserve(known.size());
  for (const Vip& vip : known) {
    VipStatus& status = all.emplace_back(vip_status(vip));
    if (!totals_) continue;
    const auto counts = totals_->find(vip);
    if (counts == totals_->end()) continue;
    for (VipStatus::B& backend : status.backends) {
      const auto count = counts->second.find(backend.endpoint);
      if (count != counts->second.end()) backend.connections = count->second;
    }
  }
  return all;
}

}  // namespace muster::lb
