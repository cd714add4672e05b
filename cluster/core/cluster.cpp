#include "cluster/core/cluster.hpp"

#include <algorithm>
#include <iterator>
#include <limits>
#include <string>
#include <utility>

#include "base/assert.hpp"
#include "cluster/core/join_deltas.hpp"
#include "cluster/core/saved_state.hpp"

namespace muster::cluster {
namespace {

constexpr std::size_t kAll = std::numeric_limits<std::size_t>::max();

template <class From>
void append(std::vector<From>& to, std::vector<From> more) {
  if (to.empty()) {
    to = std::move(more);
  } else {
    std::move(more.begin(), more.end(), std::back_inserter(to));
  }
}

PublisherOptions publisher_options(const ClusterOptions& options) {
  return {.hold_down = options.hold_down, .vips = options.vips, .max_tasks = options.max_tasks};
}

}  // namespace

Cluster::Cluster(ClusterOptions options) : options_{options} {
  if (!options_.replicated) publisher_ = std::make_unique<Publisher>(publisher_options(options_));
}

// ---- leading and following -------------------------------------------------------------------

void Cluster::lead() {
  MUSTER_ASSERT(!leading());
  publisher_ = std::make_unique<Publisher>(publisher_options(options_));
  adoption_ = Adoption{};
  // A complete state was heard without them: they are over, unless the snapshot names them. Else
  // nobody has said more than this node knows, and what it knows is what is published.
  const bool heard_all = drop_at_ && last_now_ >= *drop_at_ - kDropUnconfirmed + kSettle;
  if (!heard_all) unconfirmed_ = Unconfirmed{};
  settled_at_.reset();
  drop_at_.reset();
  claiming_ = false;
  claims_.clear();
  observed_ = false;
  abandoned_.clear();
  resigned_.clear();
  next_burial_.reset();
}

std::shared_ptr<void> Cluster::follow() {
  MUSTER_ASSERT(leading() && options_.replicated);
  std::shared_ptr<void> former{publisher_.release(),
                               [](void* p) { delete static_cast<Publisher*>(p); }};
  adoption_.reset();
  waiting_.clear();
  writes_.clear();
  in_work_.reset();
  snapshot_in_work_ = false;
  drop_at_.reset();
  next_burial_.reset();
  wants_snapshot_ = false;
  unconfirmed_ = Unconfirmed{all_names()};
  claiming_ = observed_;
  return former;
}

std::vector<RecordWrite> Cluster::take_writes() {
  return std::exchange(writes_, {});
}

ClusterDelta Cluster::set_members(std::span<const Member> members, TimePoint now) {
  liveness_.update(members, now);
  return finish(view_.set_down(liveness_.down()));
}

// ---- observations ----------------------------------------------------------------------------

ClusterDelta Cluster::observe(const Observation& observation, TimePoint now, WallTime wall) {
  if (leading() && !busy()) {
    start(std::make_shared<const Observation>(observation), now);
    return loop_back(publisher_->step(kAll, now, wall));
  }
  return begin(std::make_shared<const Observation>(observation), now, wall);
}

ClusterDelta Cluster::begin(std::shared_ptr<const Observation> observation, TimePoint now,
                            WallTime wall) {
  ClusterDelta delta;
  delta.complete = complete_;
  if (!leading()) return delta;
  if (observation->snapshot) waiting_.clear();  // it tells all that they would
  waiting_.push_back(std::move(observation));
  if (waiting_.size() > kMaxWaitingObservations) {
    while (busy()) join(delta, advance(kAll, now, wall));
  } else if (!adoption_ && !publisher_->busy()) {
    start_next(now);
  }
  return delta;
}

ClusterDelta Cluster::advance(std::size_t records, TimePoint now, WallTime wall) {
  last_now_ = now;
  if (!leading()) return loop_back({});
  if (adoption_) return loop_back(adopt_slice(records, now, wall));
  if (!publisher_->busy() && !waiting_.empty()) start_next(now);
  return loop_back(publisher_->step(records, now, wall));
}

/// What stands in the view, as writes: for the publisher to know, and for the others' replicas.
std::vector<RecordWrite> Cluster::adopt_slice(std::size_t records, TimePoint now, WallTime wall) {
  std::vector<RecordWrite> known;
  last_now_ = now;
  const auto take = [&](const ShardId& shard, const RecordKey& key) {
    if (key.kind == RecordKind::task && unconfirmed_.contains(shard, key)) return;
    RecordWrite write = view_.read(shard, key);
    if (write.value) known.push_back(std::move(write));
  };
  if (!adoption_->owners) {
    adoption_->owners = true;
    for (const auto& [id, agent] : view_.agents()) take(shard_of(*agent), record_key(id));
    for (const auto& [id, one] : view_.frameworks()) {
      take({ShardKind::frameworks, {}}, record_key(id));
    }
    for (const auto& [at, one] : view_.masters()) take({ShardKind::masters, {}}, record_key(at));
    for (const auto& [name, one] : view_.vips()) take({ShardKind::vips, {}}, record_key(name));
    for (const auto& [key, task] : view_.shadowed()) take(shard_of(*task), record_key(key));
    for (const auto& [id, speaker] : view_.speakers()) {
      publisher_->set_speaker(id, !speaker.resigned, now);
      if (speaker.resigned) resigned_.try_emplace(id);
    }
    next_burial_ = now + Publisher::kHandOver;
  }
  // Those that wait first: one whose agent arrives meanwhile is met again among the others.
  const auto& tasks = adoption_->waiting ? view_.waiting() : view_.tasks();
  auto task = adoption_->from ? tasks.lower_bound(*adoption_->from) : tasks.begin();
  for (; task != tasks.end() && records > 0; ++task, --records) {
    if (!task->second->from_agent) {
      take(shard_of(*task->second), record_key(task->first));
    } else if (!adoption_->waiting) {
      publisher_->told(task->first, task->second.get());
    }
  }
  adoption_->from.reset();
  if (task != tasks.end()) adoption_->from = task->first;
  publisher_->adopt_some(known);
  if (options_.replicated) append(writes_, std::move(known));
  if (adoption_->from || std::exchange(adoption_->waiting, false)) return {};
  adoption_.reset();
  return publisher_->settle(now, wall);
}

bool Cluster::busy() const noexcept {
  return leading() && (adoption_ || publisher_->busy() || !waiting_.empty());
}

void Cluster::start(std::shared_ptr<const Observation> observation, TimePoint now) {
  last_now_ = now;
  in_work_ = std::move(observation);
  snapshot_in_work_ = snapshot_in_work_ || in_work_->snapshot;
  publisher_->begin(in_work_.get(), now);
}

void Cluster::start_next(TimePoint now) {
  auto next = std::move(waiting_.front());
  waiting_.pop_front();
  start(std::move(next), now);
}

ClusterDelta Cluster::on_timer(TimePoint now, WallTime wall) {
  last_now_ = now;
  liveness_.on_timer(now);
  ClusterDelta delta = view_.set_down(liveness_.down());
  if (own_) {
    join(delta, write_own(own_->on_timer(now, wall)));
    take_back(now);
  }
  if (!unconfirmed_tasks_.empty()) join(delta, apply(drop_heard_tasks(now)));
  std::vector<RecordWrite> writes;
  if (leading()) {
    if (!adoption_) writes = publisher_->on_timer(now, wall);
    if (may_drop_tasks() && !drop_at_) drop_at_ = now + Publisher::kHandOver;
    if (drop_at_ && now >= *drop_at_) {
      drop_at_.reset();
      join(delta, apply(drop_unconfirmed_tasks()));
    }
    if (next_burial_ && now >= *next_burial_) join(delta, bury_abandoned(now));
  } else {
    if (settled_at_ && now >= *settled_at_) {
      settled_at_.reset();
      complete_ = true;
    }
    if (drop_at_ && now >= *drop_at_) {
      drop_at_.reset();
      writes = unconfirmed_.drop();
      make_claims(writes);
      claiming_ = false;
      append(writes, drop_unconfirmed_tasks());
    }
  }
  join(delta, loop_back(std::move(writes)));
  return delta;
}

std::optional<TimePoint> Cluster::next_deadline() const {
  std::optional<TimePoint> first = liveness_.next_deadline();
  const auto consider = [&first](std::optional<TimePoint> deadline) {
    if (deadline && (!first || *deadline < *first)) first = deadline;
  };
  consider(settled_at_);
  consider(drop_at_);
  if (own_) consider(own_->next_deadline());
  consider(take_back_at_);
  for (const auto& [agent, waiting] : unconfirmed_tasks_) consider(waiting.drop_at);
  if (leading()) consider(next_burial_);
  if (wants_snapshot_) consider(asked_anew_ ? *asked_anew_ + kAskAnew : last_now_);
  if (may_drop_tasks() && !drop_at_) consider(last_now_);
  if (leading() && !adoption_) consider(publisher_->next_deadline());
  return first;
}

/// The seam: what this node writes goes to its own view, and to the others by take_writes().
ClusterDelta Cluster::loop_back(std::vector<RecordWrite> writes) {
  if (leading() && !adoption_ && !publisher_->busy()) {
    observed_ = observed_ || snapshot_in_work_;
    if (std::exchange(snapshot_in_work_, false)) {
      for (auto& [id, taken] : resigned_) taken = taken.value_or(last_now_);
    }
    if (publisher_->take_lost_told()) wants_snapshot_ = true;
    in_work_.reset();
    // A snapshot taken while the master recovers lacks what has not come back: not yet complete.
    if (observed_ && !publisher_->recovering()) complete_ = true;
    if (observed_ && waiting_.empty() && !heard_claims_.empty()) append(writes, settle_claims());
  }
  if (leading() && !unconfirmed_.empty()) append(writes, drop_unnamed(writes));
  ClusterDelta delta = apply(writes);
  if (leading() && options_.replicated) {
    mark_complete(writes);
    append(writes_, std::move(writes));
  }
  return finish(std::move(delta));
}

/// Of what was not adopted (lead()): what the first snapshot has not named either.
std::vector<RecordWrite> Cluster::drop_unnamed(std::span<const RecordWrite> named) {
  for (const RecordWrite& write : named) unconfirmed_.confirm(write.shard, write.key);
  if (!observed_) return {};
  auto gone = unconfirmed_.drop();
  std::erase_if(gone, [](const RecordWrite& write) { return write.key.kind != RecordKind::task; });
  return gone;
}

void Cluster::mark_complete(std::vector<RecordWrite>& writes) {
  if (!complete_ || !observed_ || busy()) return;
  const CompleteRecord now{view_.agents().size(), view_.speakers().size()};
  if (view_.complete_record() == now) return;
  auto encoded = encode(now);
  if (!encoded) return;
  writes.push_back({{ShardKind::masters, {}}, complete_key(), std::move(*encoded)});
  view_.apply({&writes.back(), 1});
}

ClusterDelta Cluster::finish(ClusterDelta delta) {
  delta.complete = complete_;
  return delta;
}

// ---- the saved state -------------------------------------------------------------------------

std::vector<std::byte> Cluster::save() const {
  SaveJob job;
  job.collect(*this, kAll);
  return job.write();
}

Result<ClusterDelta, DecodeError> Cluster::restore(std::span<const std::byte> bytes, TimePoint now,
                                                   WallTime wall) {
  MUSTER_ASSERT(!observed_ && !busy());
  auto loaded = read_state(bytes);
  if (!loaded) return loaded.error();
  if (loaded->unreadable > 0) {
    problems_.push_back({"record", "the saved state",
                         std::to_string(loaded->unreadable) + " records could not be read"});
  }
  complete_ = complete_ || loaded->complete;
  std::map<AgentId, std::vector<Unconfirmed::Name>> of_agents;
  for (const RecordWrite& write : loaded->writes) {
    if (write.shard.kind == ShardKind::agent_tasks) {
      of_agents[write.shard.agent].emplace_back(write.shard, write.key);
    }
  }
  for (auto& [agent, names] : of_agents) {
    unconfirmed_tasks_[agent] = {Unconfirmed{std::move(names)}, std::nullopt};
  }
  last_now_ = now;
  if (leading()) {
    append(loaded->writes, publisher_->adopt(loaded->writes, now, wall));
    return loop_back(std::move(loaded->writes));
  }
  ClusterDelta delta = finish(view_.apply(loaded->writes));
  std::vector<Unconfirmed::Name> names;
  names.reserve(loaded->writes.size());
  for (auto& [shard, key, value] : loaded->writes) {
    if (shard.kind == ShardKind::agent_tasks) continue;
    if (key.kind == RecordKind::agent && !view_.agent(AgentId{key.id})) continue;  // not readable
    names.emplace_back(std::move(shard), std::move(key));
  }
  unconfirmed_ = Unconfirmed{std::move(names)};
  return delta;
}

const ClusterView& Cluster::view() const noexcept {
  return view_;
}

Cluster::Status Cluster::status(TimePoint) const {
  Status status;
  status.complete = complete_;
  status.observed = observed_;
  status.waiting_tasks = view_.waiting().size();
  status.speakers = view_.speakers().size();
  if (own_) {
    status.own_agent = own_->agent();
    status.own_tasks = own_->tasks();
    status.own_held = own_->held();
    status.held_tasks = own_->held();
    status.held_since = own_->held_since();
  }
  if (!leading()) return status;
  status.recovering = publisher_->recovering();
  status.held_tasks += publisher_->held_tasks().size();
  status.held_agents = publisher_->held_agents().size();
  status.held_frameworks = publisher_->held_frameworks().size();
  for (const auto since : {publisher_->held_tasks().since(), publisher_->held_agents().since(),
                           publisher_->held_frameworks().since()}) {
    if (since && (!status.held_since || *since < *status.held_since)) status.held_since = since;
  }
  return status;
}

std::vector<Problem> Cluster::take_problems() {
  std::vector<Problem> all = std::exchange(problems_, {});
  append(all, view_.take_problems());
  if (leading()) append(all, publisher_->take_problems());
  if (own_) append(all, own_->take_problems());
  return all;
}

}  // namespace muster::cluster
