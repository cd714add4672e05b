#include "cluster/core/cluster.hpp"

#include <algorithm>
#include <iterator>
#include <limits>
#include <string>
#include <utility>

#include "base/assert.hpp"
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

/// `then` follows `first`; a thing changed by both is changed once.
template <class T, class KeyOf>
void join_changes(std::vector<Change<T>>& first, std::vector<Change<T>> then, KeyOf key_of_one) {
  const auto key = [&](const Change<T>& c) { return key_of_one(c.after ? *c.after : *c.before); };
  std::map<decltype(key(first.front())), std::size_t> places;
  for (std::size_t i = 0; !then.empty() && i < first.size(); ++i) places.emplace(key(first[i]), i);
  for (Change<T>& change : then) {
    const auto known = places.find(key(change));
    if (known == places.end()) {
      first.push_back(std::move(change));
    } else {
      first[known->second].after = std::move(change.after);
    }
  }
}

void join(ClusterDelta& first, ClusterDelta then) {
  join_changes(first.tasks, std::move(then.tasks), [](const Task& t) { return key_of(t); });
  join_changes(first.agents, std::move(then.agents), [](const Agent& a) { return a.id; });
  join_changes(first.frameworks, std::move(then.frameworks),
               [](const Framework& f) { return f.id; });
  join_changes(first.masters, std::move(then.masters), [](const Master& m) { return m.endpoint; });
  join_changes(first.vips, std::move(then.vips), [](const VipAllocation& v) { return v.name; });
  join_changes(first.former_vips, std::move(then.former_vips),
               [](const FormerVip& v) { return v.name; });
  first.complete = then.complete;
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
  unconfirmed_ = Unconfirmed{};
  settled_at_.reset();
  drop_at_.reset();
  claiming_ = false;
  claims_.clear();
  observed_ = false;
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
  unconfirmed_ = Unconfirmed{all_names()};
  claiming_ = observed_;
  return former;
}

std::vector<Unconfirmed::Name> Cluster::all_names() const {
  std::vector<Unconfirmed::Name> names;
  const auto add = [&names](ShardId shard, RecordKey key) {
    names.emplace_back(std::move(shard), std::move(key));
  };
  for (const auto* tasks : {&view_.tasks(), &view_.waiting()}) {
    for (const auto& [key, task] : *tasks) add(shard_of(*task), record_key(key));
  }
  for (const auto& [id, agent] : view_.agents()) add(shard_of(*agent), record_key(id));
  for (const auto& [id, one] : view_.frameworks()) add({ShardKind::frameworks, {}}, record_key(id));
  for (const auto& [at, master] : view_.masters()) add({ShardKind::masters, {}}, record_key(at));
  for (const auto& [name, vip] : view_.vips()) add({ShardKind::vips, {}}, record_key(name));
  return names;
}

ClusterDelta Cluster::replicate(std::span<const RecordWrite> writes, TimePoint now) {
  hear_claims(writes);
  if (!leading()) {
    make_claims(writes);
    // Of one that goes as well: it is settled, and must not be waited for.
    for (const RecordWrite& write : writes) unconfirmed_.confirm(write.shard, write.key);
    ClusterDelta delta = view_.apply(writes);
    watch_completeness(now);
    return finish(std::move(delta));
  }
  std::vector<RecordWrite> news;
  for (const RecordWrite& write : writes) {
    if (write.shard.kind == ShardKind::claims) continue;
    RecordWrite own = view_.read(write.shard, write.key);
    if (own.value == write.value) continue;
    const bool known_kind = write.key.kind <= RecordKind::complete;
    if (!observed_ && write.value && known_kind) {
      news.push_back(write);  // written just before we took over
    } else if (known_kind) {
      writes_.push_back(std::move(own));
    }
  }
  publisher_->adopt_some(news);
  ClusterDelta delta = view_.apply(news);
  if (!heard_claims_.empty()) join(delta, loop_back({}));
  return finish(std::move(delta));
}

// ---- VIP addresses given in vain -------------------------------------------------------------

/// This node published, and somebody else did above it. What `writes` take from the view is what
/// that one does not know of.
void Cluster::make_claims(std::span<const RecordWrite> writes) {
  if (!claiming_) return;
  for (const RecordWrite& write : writes) {
    if (write.shard.kind != ShardKind::vips || claims_.size() >= kMaxClaims) continue;
    const auto own = view_.vip_records().find(VipName{write.key.id});
    if (own == view_.vip_records().end()) continue;
    const auto theirs = write.value ? decode_vip(write.key, *write.value) : VipRecord{};
    if (!theirs || theirs->allocation == own->second.allocation) continue;
    auto value = encode(own->second);
    if (value) claims_.push_back({{ShardKind::claims, {}}, write.key, std::move(*value)});
  }
}

std::vector<RecordWrite> Cluster::take_claims() {
  return std::exchange(claims_, {});
}

/// All nodes keep them: who publishes next may be any.
void Cluster::hear_claims(std::span<const RecordWrite> writes) {
  for (const RecordWrite& write : writes) {
    if (write.shard.kind != ShardKind::claims) continue;
    if (!write.value) {
      heard_claims_.erase({write.shard, write.key});
    } else if (heard_claims_.size() < kMaxClaims) {
      heard_claims_.insert_or_assign({write.shard, write.key}, *write.value);
    }
  }
}

std::vector<RecordWrite> Cluster::settle_claims() {
  std::vector<RecordWrite> heard;
  for (auto& [name, value] : std::exchange(heard_claims_, {})) {
    heard.push_back({name.first, name.second, std::move(value)});
  }
  auto writes = publisher_->claim(heard);
  for (RecordWrite& claim : heard) {
    claim.value.reset();
    writes_.push_back(std::move(claim));
  }
  return writes;
}

void Cluster::watch_completeness(TimePoint now) {
  const auto& wanted = view_.complete_record();
  if (!wanted || view_.agents().size() < unconfirmed_.agents() + wanted->agents) return;
  if (!complete_ && !settled_at_) settled_at_ = now + kSettle;
  if (!unconfirmed_.empty() && !drop_at_) drop_at_ = now + kDropUnconfirmed;
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
  if (!leading()) return loop_back({});
  if (adoption_) return loop_back(adopt_slice(records, now, wall));
  if (!publisher_->busy() && !waiting_.empty()) start_next(now);
  return loop_back(publisher_->step(records, now, wall));
}

/// What stands in the view, as writes: for the publisher to know, and for the others' replicas.
std::vector<RecordWrite> Cluster::adopt_slice(std::size_t records, TimePoint now, WallTime wall) {
  std::vector<RecordWrite> known;
  const auto take = [&](const ShardId& shard, const RecordKey& key) {
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
  }
  // Those that wait first: one whose agent arrives meanwhile is met again among the others.
  const auto& tasks = adoption_->waiting ? view_.waiting() : view_.tasks();
  auto task = adoption_->from ? tasks.lower_bound(*adoption_->from) : tasks.begin();
  for (; task != tasks.end() && records > 0; ++task, --records) {
    take(shard_of(*task->second), record_key(task->first));
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
  liveness_.on_timer(now);
  ClusterDelta delta = view_.set_down(liveness_.down());
  std::vector<RecordWrite> writes;
  if (leading()) {
    if (!adoption_) writes = publisher_->on_timer(now, wall);
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
  if (leading() && !adoption_) consider(publisher_->next_deadline());
  return first;
}

/// The seam: what this node writes goes to its own view, and to the others by take_writes().
ClusterDelta Cluster::loop_back(std::vector<RecordWrite> writes) {
  if (leading() && !adoption_ && !publisher_->busy()) {
    observed_ = observed_ || snapshot_in_work_;
    snapshot_in_work_ = false;
    in_work_.reset();
    // A snapshot taken while the master recovers lacks what has not come back: not yet complete.
    if (observed_ && !publisher_->recovering()) complete_ = true;
    if (observed_ && waiting_.empty() && !heard_claims_.empty()) append(writes, settle_claims());
  }
  ClusterDelta delta = view_.apply(writes);
  if (leading() && options_.replicated) {
    mark_complete(writes);
    append(writes_, std::move(writes));
  }
  return finish(std::move(delta));
}

void Cluster::mark_complete(std::vector<RecordWrite>& writes) {
  if (!complete_ || !observed_ || busy()) return;
  const CompleteRecord now{view_.agents().size()};
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
  if (leading()) {
    append(loaded->writes, publisher_->adopt(loaded->writes, now, wall));
    return loop_back(std::move(loaded->writes));
  }
  ClusterDelta delta = finish(view_.apply(loaded->writes));
  unconfirmed_ = Unconfirmed{all_names()};
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
  if (!leading()) return status;
  status.recovering = publisher_->recovering();
  status.held_tasks = publisher_->held_tasks().size();
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
  return all;
}

}  // namespace muster::cluster
