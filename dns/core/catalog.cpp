#include "dns/core/catalog.hpp"

#include <algorithm>
#include <cstring>
#include <iterator>
#include <new>
#include <span>
#include <string_view>
#include <unordered_set>

#include "base/assert.hpp"
#include "dns/core/render.hpp"
#include "dns/core/text.hpp"

namespace muster::dns {

/// A record and how many contributions it has, in one allocation with its data behind it: there are
/// many of them.
struct Catalog::Stored {
  Entry* target = nullptr;  // of an SRV record whose target is in our zones
  std::uint32_t count = 1;
  std::uint16_t type = 0;
  std::uint16_t size = 0;

  using Ptr = std::unique_ptr<Stored, Free>;

  static Ptr make(const Record& record, Entry* target) {
    MUSTER_ASSERT(record.data.size() <= 0xFFFF);  // RDLENGTH
    void* const place = ::operator new(sizeof(Stored) + record.data.size());
    auto* const made = new (place) Stored;
    made->target = target;
    made->type = record.type;
    made->size = static_cast<std::uint16_t>(record.data.size());
    std::memcpy(made + 1, record.data.data(), record.data.size());
    return Ptr{made};
  }
  std::string_view data() const noexcept { return {reinterpret_cast<const char*>(this + 1), size}; }
};

/// A name that has records, or a descendant or referrer that has; the name lies behind it.
struct Catalog::Entry {
  std::uint64_t hash = 0;
  Entry* parent = nullptr;  // none for an apex and in partial zones
  std::uint8_t zone = 0;
  std::uint8_t name_size = 0;
  bool pinned = false;   // an apex
  bool exists = false;   // has records, or a descendant that has: is in the snapshot
  bool touched = false;  // is in touched_
  bool addresses_changed = false;
  std::uint32_t children = 0;       // entries below
  std::uint32_t live_children = 0;  // of these, how many exist
  // In order of (type, data). By pointer, so that a set of ten thousand moves fast.
  std::vector<Stored::Ptr> records;
  std::vector<Entry*> referrers;  // owners of SRV records that point here; one for each

  static EntryPtr make(std::string_view name, std::uint64_t hash) {
    MUSTER_ASSERT(name.size() <= Name::kMaxWireSize);
    auto* const made = new (::operator new(sizeof(Entry) + name.size())) Entry;
    made->hash = hash;
    made->name_size = static_cast<std::uint8_t>(name.size());
    std::memcpy(static_cast<void*>(made + 1), name.data(), name.size());
    return EntryPtr{made};
  }
  std::string_view name() const noexcept {
    return {reinterpret_cast<const char*>(this + 1), name_size};
  }
};

std::size_t Catalog::Hash::operator()(const EntryPtr& entry) const noexcept {
  return entry->hash;
}

bool Catalog::Equal::operator()(std::string_view name, const EntryPtr& entry) const noexcept {
  return entry->name() == name;
}

namespace {

std::string_view parent_of(std::string_view wire) {
  return wire.substr(static_cast<std::size_t>(static_cast<unsigned char>(wire[0])) + 1);
}

auto place_of(auto& records, const Record& record) {
  return std::lower_bound(records.begin(), records.end(), record,
                          [](const auto& stored, const Record& wanted) {
                            if (stored->type != wanted.type) return stored->type < wanted.type;
                            return stored->data() < std::string_view{wanted.data};
                          });
}

bool is_at(const auto& records, auto place, const Record& record) {
  return place != records.end() && (*place)->type == record.type && (*place)->data() == record.data;
}

template <class T>
bool take_slice(const std::vector<T>& all, std::size_t& from, std::size_t& count, auto visit) {
  if (from >= all.size()) {
    from -= all.size();
    return count > 0;
  }
  const std::size_t take = std::min(count, all.size() - from);
  for (std::size_t i = 0; i < take; ++i) visit(all[from + i]);
  count -= take;
  from = 0;
  return count > 0;
}

}  // namespace

Catalog::Catalog(CatalogOptions options)
    : options_{std::move(options)},
      entries_{0, Hash{options_.hash_seed}},
      serial_{options_.first_serial} {
  make_zones();
  snapshot_ = std::make_shared<const ZoneSnapshot>(table_, options_.hash_seed, serial_);
  for (const Zone& zone : table_->zones) {
    if (zone.partial) continue;
    Entry* const apex = entry(zone.apex);
    apex->pinned = true;
    came(*apex);
  }
  add_fixed_records();
  publish(false);
}

Catalog::~Catalog() = default;

std::shared_ptr<const ZoneSnapshot> Catalog::apply(const ClusterDelta& delta) {
  stage(delta, 0, changes_in(delta));
  return publish(snapshot_->complete() || delta.complete);
}

std::size_t Catalog::changes_in(const ClusterDelta& delta) noexcept {
  return delta.tasks.size() + delta.agents.size() + delta.frameworks.size() + delta.masters.size() +
         delta.vips.size();
}

void Catalog::stage(const ClusterDelta& delta, std::size_t from, std::size_t count) {
  using Log = std::vector<Problem>*;
  const Log log = &problems_;
  // Only what is new is complained about: what goes was complained about when it came.
  const auto exchange = [&](const auto& change, const auto& records_of) {
    replace(change.before ? records_of(*change.before, Log{}) : std::vector<Record>{},
            change.after ? records_of(*change.after, log) : std::vector<Record>{});
    if (problems_.size() > kMaxProblems) problems_.resize(kMaxProblems);
  };
  const Suffixes& under = suffixes_;
  const auto task = [&](const Task& value, Log to) { return task_records(value, under, to); };
  const auto agent = [&](const Agent& value, Log) { return agent_records(value, under); };
  const auto framework = [&](const Framework& value, Log) {
    return framework_records(value, under);
  };
  const auto vip = [&](const VipAllocation& value, Log to) {
    return vip_records(value, under, to);
  };
  if (!take_slice(delta.tasks, from, count, [&](const auto& c) { exchange(c, task); })) return;
  if (!take_slice(delta.agents, from, count, [&](const auto& c) { exchange(c, agent); })) return;
  if (!take_slice(delta.frameworks, from, count, [&](const auto& c) { exchange(c, framework); })) {
    return;
  }
  const std::set<Master> before = masters_;
  const bool more = take_slice(delta.masters, from, count, [&](const Change<Master>& change) {
    if (change.before) masters_.erase(*change.before);
    if (change.after) masters_.insert(*change.after);
  });
  if (before != masters_) replace(master_records(before, under), master_records(masters_, under));
  if (more) take_slice(delta.vips, from, count, [&](const auto& c) { exchange(c, vip); });
}

void Catalog::replace(const std::vector<Record>& before, const std::vector<Record>& after) {
  auto gone = before.begin();
  auto come = after.begin();
  while (gone != before.end() || come != after.end()) {
    if (come == after.end() || (gone != before.end() && *gone < *come)) {
      remove(*gone++);
    } else if (gone == before.end() || *come < *gone) {
      add(*come++);
    } else {
      ++gone;
      ++come;
    }
  }
}

std::optional<std::uint8_t> Catalog::zone_of(std::string_view wire) const noexcept {
  for (std::string_view suffix = wire; suffix.size() > 1; suffix = parent_of(suffix)) {
    for (const Apex& apex : table_->apexes) {
      if (apex.alias || apex.wire != suffix) continue;
      if (apex.zone == Apex::kForward) return std::nullopt;
      return apex.zone;
    }
  }
  return std::nullopt;
}

Catalog::Entry* Catalog::find(std::string_view owner) const noexcept {
  const auto found = entries_.find(owner);
  return found == entries_.end() ? nullptr : found->get();
}

Catalog::Entry* Catalog::entry(std::string_view owner) {
  if (Entry* const known = find(owner); known != nullptr) return known;
  const auto zone = zone_of(owner);
  if (!zone || entries_.size() >= kMaxNames) return nullptr;
  Entry& fresh = **entries_.insert(Entry::make(owner, name_hash(options_.hash_seed, owner))).first;
  fresh.zone = *zone;
  const Zone& in = table_->zones[*zone];
  if (!in.partial && owner != in.apex) {
    // May be null at the bound only; then the ancestors are missing, and the name still works.
    fresh.parent = entry(parent_of(owner));
    if (fresh.parent != nullptr) ++fresh.parent->children;
  }
  return &fresh;
}

void Catalog::touch(Entry& entry) {
  if (entry.touched) return;
  entry.touched = true;
  touched_.push_back(&entry);
}

// An empty non-terminal is a name too: without it a resolver that trusts NXDOMAIN (RFC 8020)
// loses everything below.
void Catalog::came(Entry& entry) {
  for (Entry* at = &entry; at != nullptr && !at->exists; at = at->parent) {
    at->exists = true;
    touch(*at);
    if (at->parent != nullptr) ++at->parent->live_children;
  }
}

void Catalog::went(Entry& entry) {
  for (Entry* at = &entry; at != nullptr; at = at->parent) {
    if (!at->exists || at->pinned || !at->records.empty() || at->live_children > 0) return;
    at->exists = false;
    touch(*at);
    if (at->parent != nullptr) --at->parent->live_children;
  }
}

void Catalog::add(const Record& record) {
  Entry* const owner = entry(record.owner);
  if (owner == nullptr) return;
  const auto place = place_of(owner->records, record);
  if (is_at(owner->records, place, record)) {
    ++(*place)->count;
    return;
  }
  Entry* const target = record.type == type::kSrv ? entry(srv_target(record.data)) : nullptr;
  if (target != nullptr) target->referrers.push_back(owner);
  owner->records.insert(place, Stored::make(record, target));
  ++records_;
  if (record.type == type::kA || record.type == type::kAaaa) owner->addresses_changed = true;
  touch(*owner);
  came(*owner);
}

void Catalog::remove(const Record& record) {
  Entry* const found = find(record.owner);
  if (found == nullptr) return;  // at the bound: it was never taken in
  Entry& owner = *found;
  const auto place = place_of(owner.records, record);
  if (!is_at(owner.records, place, record) || --(*place)->count > 0) return;
  if (Entry* const target = (*place)->target; target != nullptr) {
    target->referrers.erase(std::find(target->referrers.begin(), target->referrers.end(), &owner));
    touch(*target);  // publish() forgets it if this was all that kept it
  }
  owner.records.erase(place);
  --records_;
  if (record.type == type::kA || record.type == type::kAaaa) owner.addresses_changed = true;
  touch(owner);
  went(owner);
}

void Catalog::forget_if_unused(Entry* entry) {
  while (entry != nullptr && !entry->touched && !entry->pinned && entry->records.empty() &&
         entry->children == 0 && entry->referrers.empty()) {
    Entry* const parent = entry->parent;
    if (parent != nullptr) --parent->children;
    entries_.erase(entries_.find(entry->name()));
    entry = parent;
  }
}

// The additional section of an SRV answer holds its targets' addresses.
void Catalog::touch_referrers() {
  for (std::size_t i = 0; i < touched_.size(); ++i) {
    if (!std::exchange(touched_[i]->addresses_changed, false)) continue;
    for (Entry* const referrer : touched_[i]->referrers) touch(*referrer);
  }
}

NodePtr Catalog::render(const Entry& entry) const {
  std::vector<RRset> sets;
  std::size_t set_size = 0;
  std::unordered_set<const Entry*> seen;  // targets in the additional section
  for (const auto& record : entry.records) {
    // A CNAME stands alone (RFC 2181 §10.1); what the cluster says goes before it.
    if (record->type == type::kCname && entry.records.size() > 1) continue;
    if (sets.empty() || sets.back().type != record->type) {
      sets.emplace_back().type = record->type;
      set_size = 0;
    }
    set_size += record->size;
    if (set_size > kMaxSetSize) continue;  // would be cut anyway
    RRset& set = sets.back();
    set.data.push_back(record->data());
    if (record->target == nullptr || !seen.insert(record->target).second) continue;
    TargetAddresses& additional = set.additional.emplace_back();
    additional.name = record->target->name();
    for (const auto& at : record->target->records) {
      if (at->type == type::kA || at->type == type::kAaaa) {
        additional.addresses.push_back(at->data());
      }
    }
  }
  return render_node(entry.name(), entry.zone, options_.ttl_seconds, sets);
}

std::shared_ptr<const ZoneSnapshot> Catalog::publish(bool complete) {
  complete = complete || snapshot_->complete();
  touch_referrers();
  if (touched_.empty() && complete == snapshot_->complete()) return snapshot_;
  std::vector<ZoneSnapshot::Update> updates;
  updates.reserve(touched_.size());
  for (Entry* const entry : touched_) {
    updates.push_back({entry->name(), entry->exists ? render(*entry) : nullptr});
  }
  snapshot_ = snapshot_->with(updates, ++serial_, complete);

  // Only what does not exist can be forgotten. By name: an earlier turn may have taken it along.
  std::vector<std::string> unused;
  for (Entry* const entry : std::exchange(touched_, {})) {
    entry->touched = false;
    if (!entry->exists) unused.emplace_back(entry->name());
  }
  for (const std::string& name : unused) forget_if_unused(find(name));
  return snapshot_;
}

std::vector<RecordView> Catalog::list(std::size_t limit) const {
  std::vector<const Entry*> sorted;
  for (const EntryPtr& entry : entries_) sorted.push_back(entry.get());
  std::ranges::sort(sorted, [](const Entry* a, const Entry* b) { return a->name() < b->name(); });
  std::vector<RecordView> out;
  for (const Entry* entry : sorted) {
    for (const auto& record : entry->records) {
      if (out.size() >= limit) return out;
      out.push_back(
          {wire_text(entry->name()), type_text(record->type),
           data_text(record->type, std::as_bytes(std::span{record->data()}), 0, record->size)});
    }
  }
  return out;
}

}  // namespace muster::dns
