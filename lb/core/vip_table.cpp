#include "lb/core/vip_table.hpp"

#include <algorithm>
#include <iterator>
#include <string>
#include <utility>

#include "base/assert.hpp"

namespace muster::lb {
namespace {

bool contains(const std::vector<IpAddress>& addresses, const IpAddress& address) {
  return std::find(addresses.begin(), addresses.end(), address) != addresses.end();
}

/// On its own node a port published on the agent's address is reached at the container itself:
/// whoever publishes it there does so with a translation of his own, and a connection can be
/// translated only once.
Endpoint local_endpoint(const Task& task, const TaskPort& port, const Endpoint& endpoint) {
  if (!port.container_port || !contains(task.agent_addresses, endpoint.address)) return endpoint;
  for (const IpAddress& address : task.addresses) {
    const bool own = !contains(task.agent_addresses, address) && address.is_unicast();
    if (own && address.family() == endpoint.address.family() && !address.is_loopback()) {
      return {address, *port.container_port};
    }
  }
  return endpoint;
}

}  // namespace

std::string_view to_string(Policy policy) noexcept {
  switch (policy) {
    case Policy::random:
      return "random";
    case Policy::round_robin:
      return "round_robin";
    case Policy::source_hash:
      return "source_hash";
  }
  return "unknown";
}

std::uint32_t affinity_step(std::uint32_t seconds) noexcept {
  if (seconds == 0) return 0;
  const auto step = std::lower_bound(kAffinitySeconds.begin(), kAffinitySeconds.end(), seconds);
  return step == kAffinitySeconds.end() ? kAffinitySeconds.back() : *step;
}

void VipTable::set_node(std::vector<IpAddress> addresses) {
  MUSTER_ASSERT(tasks_.empty());
  node_ = {addresses.begin(), addresses.end()};
}

bool VipTable::is_local(const Task& task) const {
  return std::any_of(task.agent_addresses.begin(), task.agent_addresses.end(),
                     [this](const IpAddress& address) { return node_.contains(address); });
}

VipTable::Contributions VipTable::contributions_of(const Task& task) const {
  Contributions found;
  const std::optional<std::uint16_t> weight = backend_weight(task);
  const bool local = is_local(task);
  for (const TaskPort& port : task.ports) {
    for (VipLabel label : port.vips) {
      const VipPolicy policy = std::exchange(label.policy, {});
      Contribution& contribution = found[label];
      contribution.policy = policy;
      contribution.zone = task.agent_zone;
      contribution.local = local;
      contribution.host_down = task.host_down;
      if (!weight) continue;
      for (const Endpoint& declared : port.endpoints) {
        if (!declared.address.is_unicast()) continue;
        const Endpoint endpoint = local ? local_endpoint(task, port, declared) : declared;
        contribution.backends.push_back({endpoint, *weight});
        if (local && !node_.contains(endpoint.address)) {
          contribution.hairpin.push_back(endpoint.address);
        }
      }
    }
  }
  return found;
}

std::vector<Vip> VipTable::vips_of(const VipLabel& label) const {
  std::vector<Vip> found;
  if (const auto* address = std::get_if<IpAddress>(&label.host)) {
    // A loopback Vip would need route_localnet, which opens 127/8 to the network.
    if (address->is_unicast() && !address->is_loopback()) {
      found.push_back({label.protocol, {*address, label.port}});
    }
    return found;
  }
  const VipName& name = std::get<VipName>(label.host);
  if (const auto allocation = allocations_.find(name); allocation != allocations_.end()) {
    for (const auto& address : {allocation->second.v4, allocation->second.v6}) {
      if (address) found.push_back({label.protocol, {*address, label.port}});
    }
  }
  if (const auto former = former_.find(name); former != former_.end()) {
    for (const IpAddress& address : former->second) {
      found.push_back({label.protocol, {address, label.port}});
    }
  }
  return found;
}

bool VipTable::is_former(const VipLabel& label, const Vip& vip) const {
  const auto* name = std::get_if<VipName>(&label.host);
  if (name == nullptr || !former_.contains(*name)) return false;
  const auto now = allocations_.find(*name);
  const IpAddress& at = vip.endpoint.address;
  return now == allocations_.end() || (now->second.v4 != at && now->second.v6 != at);
}

void VipTable::own(const VipLabel& label, std::set<Vip>& touched) {
  for (const Vip& vip : vips_of(label)) {
    if (owners_.size() >= kMaxVips && !owners_.contains(vip)) {
      problem({"vip_limit", to_string(vip),
               "left out: there are " + std::to_string(kMaxVips) + " VIPs already"});
      continue;
    }
    auto& owners = owners_[vip];
    const bool former = is_former(label, vip);
    owners.emplace(former, label);
    if (owners.size() > 1 && !former && !std::next(owners.begin())->first) {
      problem({"vip_conflict", to_string(vip),
               "claimed by more than one declaration; only the first of them is served"});
    }
    touched.insert(vip);
  }
}

void VipTable::disown(const VipLabel& label, std::set<Vip>& touched) {
  for (const Vip& vip : vips_of(label)) {
    const auto owned = owners_.find(vip);
    if (owned == owners_.end()) continue;
    owned->second.erase({is_former(label, vip), label});
    if (owned->second.empty()) owners_.erase(owned);
    touched.insert(vip);
  }
}

void VipTable::apply_task(const Change<Task>& change, std::set<Vip>& touched) {
  if (!change.before && !change.after) return;
  const TaskKey key = key_of(change.after ? *change.after : *change.before);
  Contributions after = change.after ? contributions_of(*change.after) : Contributions{};
  if (after.empty() && !tasks_.contains(key)) return;
  const auto task = tasks_.try_emplace(key).first;
  std::vector<Declared::iterator>& declares = task->second;
  const auto touch = [&](const VipLabel& label) {
    for (const Vip& vip : vips_of(label)) touched.insert(vip);
  };

  for (auto each = declares.begin(); each != declares.end();) {
    const Declared::iterator declared = *each;
    if (after.contains(declared->first)) {
      ++each;
      continue;
    }
    each = declares.erase(each);
    declared->second.erase(&task->first);
    if (declared->second.empty()) {
      disown(declared->first, touched);
      declared_.erase(declared);
    } else {
      touch(declared->first);
    }
  }
  for (auto& [label, contribution] : after) {
    const auto declared = declared_.try_emplace(label).first;
    const auto [at, fresh] = declared->second.try_emplace(&task->first);
    if (!fresh && at->second == contribution) continue;
    at->second = std::move(contribution);
    if (fresh) declares.push_back(declared);
    if (fresh && declared->second.size() == 1) {
      own(label, touched);
    } else {
      touch(label);
    }
  }
  if (declares.empty()) tasks_.erase(task);
}

void VipTable::apply_allocation(const Change<VipAllocation>& change, std::set<Vip>& touched) {
  if (!change.before && !change.after) return;
  const VipName name = change.after ? change.after->name : change.before->name;
  relabel(name, touched, [&] {
    if (change.after) {
      allocations_.insert_or_assign(name, *change.after);
    } else {
      allocations_.erase(name);
    }
  });
}

void VipTable::apply_former(const Change<FormerVip>& change, std::set<Vip>& touched) {
  if (!change.before && !change.after) return;
  const VipName name = change.after ? change.after->name : change.before->name;
  relabel(name, touched, [&] {
    if (change.after) {
      former_.insert_or_assign(name, change.after->addresses);
    } else {
      former_.erase(name);
    }
  });
}

template <class Update>
void VipTable::relabel(const VipName& name, std::set<Vip>& touched, Update update) {
  std::vector<VipLabel> labels;
  for (auto at = declared_.lower_bound({name, *Port::from(1), Protocol::tcp});
       at != declared_.end() && at->first.host == decltype(VipLabel::host){name}; ++at) {
    labels.push_back(at->first);
  }
  for (const VipLabel& label : labels) disown(label, touched);
  update();
  for (const VipLabel& label : labels) own(label, touched);
}

std::vector<Vip> VipTable::apply(const ClusterDelta& delta, TimePoint now) {
  std::set<Vip> touched;
  for (const auto& change : delta.agents) apply_agent(change, touched);
  for (const auto& change : delta.vips) apply_allocation(change, touched);
  for (const auto& change : delta.former_vips) apply_former(change, touched);
  for (const auto& change : delta.tasks) apply_task(change, touched);
  note_starts(touched, now);
  complete_ = complete_ || delta.complete;
  return {touched.begin(), touched.end()};
}

/// Not by hash: clients would move with every step, and nodes that learn of a backend at different
/// times would not agree.
void VipTable::note_starts(const std::set<Vip>& touched, TimePoint now) {
  for (const Vip& vip : touched) {
    if (!owners_.contains(vip)) {
      slow_start_.forget(vip);
      continue;
    }
    const ByTask& tasks = tasks_of(vip);
    const VipPolicy policy = policy_of(tasks);
    if (policy.slow_start_seconds == 0 || policy_for(vip, policy) == Policy::source_hash) {
      slow_start_.forget(vip);
      continue;
    }
    std::set<Endpoint> usable;
    for (const auto& [endpoint, candidate] : candidates_of(vip, tasks)) {
      if (candidate.weight > 0 && !candidate.host_down) usable.insert(endpoint);
    }
    slow_start_.update(vip, usable, std::chrono::seconds{policy.slow_start_seconds}, now,
                       !complete_);
  }
}

std::vector<Vip> VipTable::advance(TimePoint now) {
  std::vector<Vip> all = outliers_.advance(now);
  const std::vector<Vip> warmer = slow_start_.advance(now);
  all.insert(all.end(), warmer.begin(), warmer.end());
  return all;
}

std::optional<TimePoint> VipTable::next() const {
  const auto rested = outliers_.next();
  const auto warmer = slow_start_.next();
  if (rested && warmer) return std::min(*rested, *warmer);
  return rested ? rested : warmer;
}

/// Whoever is on an agent that is this node's tells this node's zone.
void VipTable::apply_agent(const Change<Agent>& change, std::set<Vip>& touched) {
  const bool ours =
      change.after &&
      std::any_of(change.after->addresses.begin(), change.after->addresses.end(),
                  [this](const IpAddress& address) { return node_.contains(address); });
  const bool was_ours = change.before && change.before->id == node_agent_;
  if (!ours && !was_ours) return;
  node_agent_ = ours ? change.after->id : AgentId{};
  std::string zone = ours ? change.after->zone : std::string{};
  if (zone == node_zone_) return;
  node_zone_ = std::move(zone);
  for (const auto& [vip, owners] : owners_) {
    if (policy_of(tasks_of(vip)).locality != VipPolicy::Locality::none) touched.insert(vip);
  }
}

Distance VipTable::distance_of(const Contribution& contribution) const {
  if (contribution.local) return Distance::node;
  const bool same = !node_zone_.empty() && contribution.zone == node_zone_;
  return same ? Distance::zone : Distance::far;
}

/// What most of its tasks say; of equally many the lesser, so that all nodes agree.
VipPolicy VipTable::policy_of(const ByTask& tasks) {
  std::map<VipPolicy, std::size_t> votes;
  for (const auto& [task, contribution] : tasks) ++votes[contribution.policy];
  const auto most = std::max_element(
      votes.begin(), votes.end(), [](const auto& a, const auto& b) { return a.second < b.second; });
  return most == votes.end() ? VipPolicy{} : most->first;
}

const VipTable::ByTask& VipTable::tasks_of(const Vip& vip) const {
  const auto declared = declared_.find(owners_.at(vip).begin()->second);
  MUSTER_ASSERT(declared != declared_.end());
  return declared->second;
}

Candidates VipTable::candidates_of(const Vip& vip, const ByTask& tasks) const {
  const Family family = vip.endpoint.address.family();
  Candidates merged;
  for (const auto& [task, contribution] : tasks) {
    for (const Backend& backend : contribution.backends) {
      if (backend.endpoint.address.family() != family || backend.endpoint == vip.endpoint) continue;
      if (merged.size() >= kMaxBackends && !merged.contains(backend.endpoint)) continue;
      const Candidate one{backend.weight, distance_of(contribution), contribution.host_down};
      const auto [entry, fresh] = merged.try_emplace(backend.endpoint, one);
      // Of two tasks at one endpoint the one that is better off speaks.
      const auto worth = [](const Candidate& c) {
        return std::pair{c.host_down ? 0 : 1, c.weight};
      };
      if (!fresh && worth(entry->second) < worth(one)) entry->second = one;
    }
  }
  return merged;
}

Policy VipTable::spread_of(const VipPolicy& policy) const {
  switch (policy.spread) {
    case VipPolicy::Spread::unset:
      return policy_;
    case VipPolicy::Spread::random:
      return Policy::random;
    case VipPolicy::Spread::round_robin:
      return Policy::round_robin;
    case VipPolicy::Spread::source_hash:
      return Policy::source_hash;
  }
  return policy_;
}

/// nft does not remember IPv6 clients (nft_schema.cpp); by hash they stay, too.
Policy VipTable::policy_for(const Vip& vip, const VipPolicy& policy) const {
  const bool remembered = policy.affinity_seconds > 0 && vip.endpoint.address.is_v6();
  return remembered ? Policy::source_hash : spread_of(policy);
}

std::optional<Service> VipTable::desired(const Vip& vip) const {
  auto service = warmed_up(vip);
  if (service) slow_start_.weigh(vip, service->backends);
  return service;
}

std::optional<Service> VipTable::warmed_up(const Vip& vip) const {
  if (!owners_.contains(vip)) return std::nullopt;
  const ByTask& tasks = tasks_of(vip);
  const VipPolicy policy = policy_of(tasks);
  Service service{.vip = vip,
                  .name = name_of(vip),
                  .policy = policy_for(vip, policy),
                  .affinity_seconds = affinity_step(policy.affinity_seconds)};
  const bool ejects = policy.eject && vip.protocol == Protocol::tcp;
  service.backends = select(candidates_of(vip, tasks), policy.locality,
                            ejects ? outliers_.resting(vip) : std::map<Endpoint, TimePoint>{});
  std::set<IpAddress> hairpin;
  for (const auto& [task, contribution] : tasks) {
    for (const IpAddress& address : contribution.hairpin) {
      if (address.family() == vip.endpoint.address.family()) hairpin.insert(address);
    }
  }
  service.hairpin.assign(hairpin.begin(), hairpin.end());
  return service;
}

bool VipTable::failed(const Vip& vip, const Endpoint& backend, TimePoint now) {
  if (vip.protocol != Protocol::tcp || !owners_.contains(vip)) return false;
  const ByTask& tasks = tasks_of(vip);
  if (!policy_of(tasks).eject) return false;
  std::vector<Endpoint> usable;
  for (const auto& [endpoint, candidate] : candidates_of(vip, tasks)) {
    if (candidate.weight > 0 && !candidate.host_down) usable.push_back(endpoint);
  }
  if (!std::binary_search(usable.begin(), usable.end(), backend)) return false;
  return outliers_.failed(vip, backend, usable, now);
}

std::string VipTable::name_of(const Vip& vip) const {
  const auto owned = owners_.find(vip);
  if (owned == owners_.end()) return {};
  const auto* name = std::get_if<VipName>(&owned->second.begin()->second.host);
  return name != nullptr ? name->str() : to_string(vip.endpoint);
}

std::vector<Vip> VipTable::vips() const {
  std::vector<Vip> all;
  all.reserve(owners_.size());
  for (const auto& [vip, labels] : owners_) all.push_back(vip);
  return all;
}

void VipTable::problem(Problem found) {
  if (problems_.size() < kMaxProblems) problems_.push_back(std::move(found));
}

std::vector<Problem> VipTable::take_problems() {
  return std::exchange(problems_, {});
}

}  // namespace muster::lb
