#pragma once

#include <compare>
#include <cstddef>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "base/cluster_delta.hpp"
#include "base/observation.hpp"
#include "base/task.hpp"
#include "lb/core/outliers.hpp"
#include "lb/core/select.hpp"
#include "lb/core/service.hpp"
#include "lb/core/slow_start.hpp"

namespace muster::lb {

/// The Vips this node should serve, kept up to date by deltas: the cost is what changed.
///
/// A Vip is there while a task declares it; a named one also needs an address from `vips`. It is
/// there even if no task of it is fit, so that it refuses at once rather than hangs. Where an
/// address is claimed twice, whoever wrote the address out comes before a name, and names go by
/// the alphabet; backends of different declarations never mix.
class VipTable {
 public:
  /// More Vips than the address plan of any cluster has; what comes on top is left out.
  static constexpr std::size_t kMaxVips = 100'000;
  /// One slot each is the least a backend can have (slots.hpp).
  static constexpr std::size_t kMaxBackends = 8192;
  /// Problems kept until take_problems(); the rest is only not reported.
  static constexpr std::size_t kMaxProblems = 256;

  explicit VipTable(Policy policy = Policy::random) : policy_{policy} {}

  /// The addresses of this node. A task whose agent has one of them runs here: it is served at
  /// its container's own address where there is one, and needs care when it dials itself.
  /// Call before the first apply(). The node's zone is that of the agent with such an address.
  void set_node(std::vector<IpAddress> addresses);

  /// Takes in what changed; returns the Vips whose Service may differ now, sorted. Up to and with
  /// the first `complete` delta backends count as known for long; those that come after `now`
  /// start slowly where their Vip's policy says so.
  std::vector<Vip> apply(const ClusterDelta& delta, TimePoint now = {});

  /// A tcp connection through `vip` to `backend` was left unanswered; true if the Service may
  /// differ now. Vips whose policy is not to eject, and backends that are not theirs, do not count.
  bool failed(const Vip& vip, const Endpoint& backend, TimePoint now);
  /// Backends whose rest is over by `now` take part again, and those that start slowly get more;
  /// returns their Vips.
  std::vector<Vip> advance(TimePoint now);
  /// When advance() will have something; none: for the time being it will not.
  std::optional<TimePoint> next() const;
  const Outliers& outliers() const noexcept { return outliers_; }
  const SlowStart& slow_start() const noexcept { return slow_start_; }

  /// What `vip` should be; none: nobody declares it.
  std::optional<Service> desired(const Vip& vip) const;
  /// The same once all of its backends have warmed up: with the weights that were declared.
  std::optional<Service> warmed_up(const Vip& vip) const;

  /// As desired(vip)->name, but cheap; empty: nobody declares it.
  std::string name_of(const Vip& vip) const;

  std::vector<Vip> vips() const;
  std::size_t size() const noexcept { return owners_.size(); }

  std::vector<Problem> take_problems();

 private:
  struct Contribution {
    std::vector<Backend> backends;
    std::vector<IpAddress> hairpin;
    VipPolicy policy;
    std::string zone;  // of the agent
    bool local = false;
    bool host_down = false;
    friend auto operator<=>(const Contribution&, const Contribution&) = default;
  };
  using Contributions = std::map<VipLabel, Contribution>;
  /// The keys are those of tasks_, where they are kept once.
  struct ByKey {
    bool operator()(const TaskKey* a, const TaskKey* b) const { return *a < *b; }
  };
  using ByTask = std::map<const TaskKey*, Contribution, ByKey>;
  using Declared = std::map<VipLabel, ByTask>;

  Contributions contributions_of(const Task& task) const;
  bool is_local(const Task& task) const;
  Candidates candidates_of(const Vip& vip, const ByTask& tasks) const;
  Distance distance_of(const Contribution& contribution) const;
  static VipPolicy policy_of(const ByTask& tasks);
  const ByTask& tasks_of(const Vip& vip) const;
  Policy spread_of(const VipPolicy& policy) const;
  Policy policy_for(const Vip& vip, const VipPolicy& policy) const;
  void note_starts(const std::set<Vip>& touched, TimePoint now);
  void apply_agent(const Change<Agent>& change, std::set<Vip>& touched);
  void apply_task(const Change<Task>& change, std::set<Vip>& touched);
  void apply_allocation(const Change<VipAllocation>& change, std::set<Vip>& touched);
  void apply_former(const Change<FormerVip>& change, std::set<Vip>& touched);
  template <class Update>
  void relabel(const VipName& name, std::set<Vip>& touched, Update update);
  std::vector<Vip> vips_of(const VipLabel& label) const;
  bool is_former(const VipLabel& label, const Vip& vip) const;
  void own(const VipLabel& label, std::set<Vip>& touched);
  void disown(const VipLabel& label, std::set<Vip>& touched);
  void problem(Problem found);

  Policy policy_;
  std::set<IpAddress> node_;
  AgentId node_agent_;
  std::string node_zone_;
  std::map<VipName, VipAllocation> allocations_;
  std::map<VipName, std::vector<IpAddress>> former_;
  /// Without their policies: those are no part of what names a Vip. Never holds an empty inner map.
  /// Labels of one name are neighbours.
  Declared declared_;
  /// What each task declares; never nothing.
  std::map<TaskKey, std::vector<Declared::iterator>> tasks_;
  Outliers outliers_;
  SlowStart slow_start_;
  bool complete_ = false;  // the first whole state has been taken in
  /// Vip -> the declarations that resolve to it; never an empty set. First those whose address
  /// it is (false), then those whose it was.
  std::map<Vip, std::set<std::pair<bool, VipLabel>>> owners_;
  std::vector<Problem> problems_;
};

}  // namespace muster::lb
