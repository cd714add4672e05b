#include "lb/io/programmer.hpp"

#include <algorithm>
#include <cerrno>
#include <iterator>
#include <utility>

#include "lb/core/weights.hpp"

namespace muster::lb {
namespace {

const Applied kNothing;

std::set<Endpoint> backends_in(const Applied& applied) {
  std::set<Endpoint> distinct;
  for (const auto& slot : applied.slots) {
    if (slot) distinct.insert(*slot);
  }
  return distinct;
}

std::uint64_t backends_of(const Applied& applied) {
  // A Vip with a slot for each backend, as most are, takes no allocation.
  constexpr std::size_t kFew = 16;
  if (applied.slots.size() > kFew) return backends_in(applied).size();
  std::uint64_t count = 0;
  for (auto slot = applied.slots.begin(); slot != applied.slots.end(); ++slot) {
    if (*slot && std::find(applied.slots.begin(), slot, *slot) == slot) ++count;
  }
  return count;
}

/// Not the fault of what was asked: the same for every Vip, or gone in a moment.
bool is_systemic(const ErrorCode& error) {
  switch (error.value()) {
    case EPERM:
    case EACCES:
    case ENOMEM:
    case ENOBUFS:
    case EAGAIN:
    case EINTR:
    case ETIMEDOUT:
      return true;
    default:
      return false;
  }
}

bool has_affinity(const Applied& applied) {
  return applied.selector && applied.selector->affinity_seconds > 0;
}

void append(std::vector<Command>& to, const std::vector<Command>& from) {
  to.insert(to.end(), from.begin(), from.end());
}

}  // namespace

const Applied& Programmer::applied_of(const Vip& vip) const {
  const auto found = applied_.find(vip);
  return found == applied_.end() ? kNothing : found->second;
}

std::optional<Service> Programmer::wanted(const Vip& vip) const {
  auto desired = table_.desired(vip);
  if (const auto doubt = doubts_.find(vip); doubt != doubts_.end()) {
    const Doubt& found = doubt->second;
    const auto doubted = [&found](const Backend& backend) {
      return found.only_disk.contains(backend.endpoint);
    };
    // Better a doubtful one than none.
    const bool others =
        desired && (!found.only_kernel.empty() ||
                    !std::all_of(desired->backends.begin(), desired->backends.end(), doubted));
    if (others) std::erase_if(desired->backends, doubted);
    return without_loss(vip, applied_of(vip), std::move(desired), &found.only_kernel);
  }
  return complete_ ? desired : without_loss(vip, applied_of(vip), std::move(desired));
}

std::size_t Programmer::adopt(KernelState state) {
  driver_.adopt(state);
  std::set<Vip> different;
  auto old = applied_.begin();
  auto now = state.vips.begin();
  while (old != applied_.end() || now != state.vips.end()) {
    const bool only_old =
        now == state.vips.end() || (old != applied_.end() && old->first < now->first);
    const bool only_now =
        old == applied_.end() || (now != state.vips.end() && now->first < old->first);
    if (only_old) {
      different.insert((old++)->first);
    } else if (only_now) {
      different.insert((now++)->first);
    } else {
      if (!same_shares(old->second, now->second)) different.insert(now->first);
      ++old;
      ++now;
    }
  }
  if (schema_ != state.schema) {
    // Nothing is there of what was refused, nor of what was done.
    if (state.schema == KernelState::Schema::absent) quarantined_.clear();
    const auto all = table_.vips();
    dirty_.insert(all.begin(), all.end());
  }
  schema_ = state.schema;
  applied_ = std::move(state.vips);
  backends_ = 0;
  for (const auto& [vip, applied] : applied_) backends_ += backends_of(applied);
  hairpin_dirty_.insert(applied_hairpin_.begin(), applied_hairpin_.end());
  applied_hairpin_ = std::move(state.hairpin);
  hairpin_dirty_.insert(applied_hairpin_.begin(), applied_hairpin_.end());
  for (const auto& [address, count] : hairpin_wanted_) hairpin_dirty_.insert(address);
  dirty_.insert(different.begin(), different.end());
  knows_ = true;
  return different.size();
}

std::vector<Backend> Programmer::declared(const Vip& vip) const {
  auto service = table_.desired(vip);
  return service ? std::move(service->backends) : std::vector<Backend>{};
}

/// Whoever is not declared as before has been spoken of.
void Programmer::clear_doubts(const Vip& vip) {
  const auto found = doubts_.find(vip);
  if (found == doubts_.end()) return;
  Doubt& doubt = found->second;
  const auto before = std::exchange(doubt.declared, declared(vip));
  std::vector<Backend> changed;
  std::set_symmetric_difference(before.begin(), before.end(), doubt.declared.begin(),
                                doubt.declared.end(), std::back_inserter(changed));
  for (const Backend& backend : changed) {
    doubt.only_kernel.erase(backend.endpoint);
    doubt.only_disk.erase(backend.endpoint);
  }
}

void Programmer::take(std::span<const Vip> vips, bool complete) {
  for (const Vip& vip : vips) {
    dirty_.insert(vip);
    quarantined_.erase(vip);
    clear_doubts(vip);
  }
  if (complete && !complete_) {
    complete_ = true;
    for (const auto& [vip, applied] : applied_) {
      dirty_.insert(vip);
      // Flows may have gone stale while nobody watched.
      if (vip.protocol == Protocol::udp) udp_changed_.insert(vip);
      if (has_affinity(applied)) affinity_changed_.insert(vip);
    }
    for (const auto& address : applied_hairpin_) hairpin_dirty_.insert(address);
  }
}

void Programmer::doubt() {
  for (const auto& [vip, applied] : applied_) {
    Doubt doubt{backends_in(applied), {}, declared(vip)};
    if (doubt.only_kernel.empty()) continue;
    for (const Backend& backend : doubt.declared) {
      if (doubt.only_kernel.erase(backend.endpoint) == 0) doubt.only_disk.insert(backend.endpoint);
    }
    if (doubt.only_kernel.empty() && doubt.only_disk.empty()) continue;
    doubts_.insert_or_assign(vip, std::move(doubt));
  }
}

bool Programmer::trust() {
  const auto doubts = std::exchange(doubts_, {});
  for (const auto& [vip, doubt] : doubts) dirty_.insert(vip);
  return !doubts.empty();
}

void Programmer::retry_quarantined() {
  dirty_.insert(quarantined_.begin(), quarantined_.end());
  quarantined_.clear();
}

void Programmer::note_wish(const Vip& vip, const std::optional<Service>& service) {
  auto& before = hairpin_of_[vip];
  std::vector<IpAddress> after = service ? service->hairpin : std::vector<IpAddress>{};
  if (before != after) {
    for (const IpAddress& address : after) ++hairpin_wanted_[address];
    for (const IpAddress& address : before) {
      const auto count = hairpin_wanted_.find(address);
      if (--count->second == 0) hairpin_wanted_.erase(count);
    }
    hairpin_dirty_.insert(before.begin(), before.end());
    hairpin_dirty_.insert(after.begin(), after.end());
    before = std::move(after);
  }
  if (before.empty()) hairpin_of_.erase(vip);
}

Programmer::Batch Programmer::next_batch() {
  Batch batch;
  std::size_t commands = 0;
  for (std::size_t seen = 0;
       !dirty_.empty() && commands < limits_.step_commands && seen < kStepVips; ++seen) {
    const Vip vip = *dirty_.begin();
    dirty_.erase(dirty_.begin());
    if (quarantined_.contains(vip)) continue;
    const auto service = wanted(vip);
    note_wish(vip, service);
    Plan plan = lb::plan(vip, applied_of(vip), service);
    commands += plan.add.size() + plan.flip.size() + plan.prune.size();
    if (!plan.empty()) batch.push_back({vip, std::move(plan)});
  }
  return batch;
}

bool Programmer::commit(const Transaction& transaction) {
  const auto done = driver_.apply(transaction);
  if (done) return true;
  ++counts_.errors;
  last_code_ = done.error();
  last_error_ = driver_.detail().empty() ? last_code_.message()
                                         : last_code_.message() + ": " + driver_.detail();
  return false;
}

void Programmer::record(const std::vector<Command>& commands) {
  lb::apply(commands, applied_);
}

void Programmer::finish(const Work& work) {
  ++counts_.changes;
  if (work.vip.protocol == Protocol::udp) udp_changed_.insert(work.vip);
}

Programmer::Ran Programmer::run(const Batch& batch, std::size_t from, std::size_t to) {
  Transaction make;
  Transaction prune;
  for (std::size_t i = from; i < to; ++i) {
    append(make.commands, batch[i].plan.add);
    append(make.commands, batch[i].plan.flip);
    append(prune.commands, batch[i].plan.prune);
  }
  if (!make.commands.empty() && !commit(make)) return Ran::nothing;
  for (std::size_t i = from; i < to; ++i) {
    const Applied& before = applied_of(batch[i].vip);
    backends_ -= backends_of(before);
    if (has_affinity(before)) affinity_changed_.insert(batch[i].vip);
  }
  record(make.commands);
  const bool pruned = prune.commands.empty() || commit(prune);
  if (pruned) record(prune.commands);
  for (std::size_t i = from; i < to; ++i) backends_ += backends_of(applied_of(batch[i].vip));
  if (!pruned) return Ran::half;
  for (std::size_t i = from; i < to; ++i) finish(batch[i]);
  return Ran::all;
}

void Programmer::bisect(const Batch& batch, std::size_t from, std::size_t to) {
  if (from == to) return;
  const Ran ran = run(batch, from, to);
  if (ran == Ran::all) return;
  if (ran == Ran::half || is_systemic(last_code_)) {
    knows_ = false;
    return;
  }
  if (to - from == 1) {
    quarantined_.insert(batch[from].vip);
    last_error_ = to_string(batch[from].vip) + ": " + last_error_;
    return;
  }
  const std::size_t middle = from + (to - from) / 2;
  bisect(batch, from, middle);
  bisect(batch, middle, to);
}

bool Programmer::run_hairpin(bool puts) {
  Transaction transaction;
  std::vector<IpAddress> done;
  for (const IpAddress& address : hairpin_dirty_) {
    const bool want = hairpin_wanted_.contains(address);
    const bool there = applied_hairpin_.contains(address);
    if (want == there) {
      done.push_back(address);
    } else if (want && puts) {
      transaction.commands.emplace_back(PutHairpin{address});
    } else if (!want && !puts && complete_) {
      transaction.commands.emplace_back(DropHairpin{address});
    }
    if (transaction.commands.size() >= limits_.step_commands) break;
  }
  for (const IpAddress& address : done) hairpin_dirty_.erase(address);
  if (transaction.commands.empty()) return true;
  if (!commit(transaction)) return false;
  for (const Command& command : transaction.commands) {
    if (const auto* put = std::get_if<PutHairpin>(&command)) {
      applied_hairpin_.insert(put->address);
    } else if (const auto* drop = std::get_if<DropHairpin>(&command)) {
      applied_hairpin_.erase(drop->address);
    }
  }
  return true;
}

Programmer::Outcome Programmer::build_tables() {
  if (!commit({.reset = true})) {
    knows_ = false;
    return Outcome::must_read;
  }
  schema_ = KernelState::Schema::current;
  const auto all = table_.vips();
  dirty_.insert(all.begin(), all.end());
  return Outcome::more;
}

/// Another schema, or ours with parts missing, is serving: one transaction takes it away and puts
/// all we want in its place. That may take a tenth of a second, once.
Programmer::Outcome Programmer::replace_tables() {
  if (!complete_) return Outcome::idle;
  if (limits_.replace_in_steps && table_.size() > kStepVips) return build_tables();
  applied_.clear();
  applied_hairpin_.clear();
  Transaction transaction{.reset = true};
  Batch batch;
  for (const Vip& vip : table_.vips()) {
    if (quarantined_.contains(vip)) continue;
    const auto service = wanted(vip);
    note_wish(vip, service);
    batch.push_back({vip, lb::plan(vip, kNothing, service)});
    append(transaction.commands, batch.back().plan.add);
    append(transaction.commands, batch.back().plan.flip);
  }
  if (!commit(transaction)) {
    // Better a moment without than for ever with the old: build anew, then Vip by Vip.
    return suspicious_ ? build_tables() : (suspicious_ = true, knows_ = false, Outcome::must_read);
  }
  schema_ = KernelState::Schema::current;
  suspicious_ = false;
  record(transaction.commands);
  for (const Work& work : batch) finish(work);
  backends_ = 0;
  for (const auto& [vip, applied] : applied_) backends_ += backends_of(applied);
  dirty_.clear();
  return Outcome::more;
}

Programmer::Outcome Programmer::step() {
  if (!knows_) return Outcome::must_read;
  if (schema_ == KernelState::Schema::absent) return build_tables();
  if (schema_ == KernelState::Schema::other) return replace_tables();

  const Batch batch = next_batch();
  if (!run_hairpin(true)) knows_ = false;
  if (knows_ && suspicious_) {
    bisect(batch, 0, batch.size());
  } else if (knows_ && !batch.empty()) {
    knows_ = run(batch, 0, batch.size()) == Ran::all;
  }
  if (knows_ && dirty_.empty() && !run_hairpin(false)) knows_ = false;
  if (!knows_) {
    for (const Work& work : batch) {
      if (!quarantined_.contains(work.vip)) dirty_.insert(work.vip);
    }
    suspicious_ = true;
    return Outcome::must_read;
  }
  if (!dirty_.empty()) return Outcome::more;
  suspicious_ = false;
  if (quarantined_.empty()) last_error_.clear();
  return Outcome::idle;
}

UdpKeep Programmer::take_udp_changes() {
  UdpKeep keep;
  for (const Vip& vip : std::exchange(udp_changed_, {})) {
    std::set<Endpoint>& backends = keep[vip];
    for (const auto& slot : applied_of(vip).slots) {
      if (slot) backends.insert(*slot);
    }
    const auto desired = table_.desired(vip);
    if (!desired) continue;
    for (const Backend& backend : desired->backends) backends.insert(backend.endpoint);
  }
  return keep;
}

UdpKeep Programmer::take_affinity_changes() {
  UdpKeep keep;
  for (const Vip& vip : std::exchange(affinity_changed_, {})) {
    std::set<Endpoint>& backends = keep[vip];
    for (const auto& slot : applied_of(vip).slots) {
      if (slot) backends.insert(*slot);
    }
  }
  return keep;
}

Programmer::Counts Programmer::take_counts() {
  return std::exchange(counts_, {});
}

}  // namespace muster::lb
