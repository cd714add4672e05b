#pragma once

#include <algorithm>
#include <cstddef>
#include <functional>
#include <iterator>
#include <string>
#include <tuple>
#include <unordered_set>
#include <utility>
#include <vector>

#include "cluster/core/records.hpp"

namespace muster::cluster {

/// Records that a node serves though nobody who publishes has confirmed them: from its disk, or
/// its own when another took over. What is still among them once a complete state is known, goes.
class Unconfirmed {
 public:
  using Name = std::pair<ShardId, RecordKey>;

  explicit Unconfirmed(std::vector<Name> names = {})
      : names_{std::make_move_iterator(names.begin()), std::make_move_iterator(names.end())},
        agents_{static_cast<std::size_t>(std::count_if(names_.begin(), names_.end(), is_agent))} {}
  bool empty() const noexcept { return names_.empty(); }
  /// How many of them are agents.
  std::size_t agents() const noexcept { return agents_; }
  void confirm(const ShardId& shard, const RecordKey& key) {
    if (empty()) return;
    const auto found = names_.find({shard, key});
    if (found == names_.end()) return;
    if (is_agent(*found)) --agents_;
    names_.erase(found);
  }
  bool contains(const ShardId& shard, const RecordKey& key) const {
    return !empty() && names_.contains({shard, key});
  }
  /// As writes that take them away, in their order.
  std::vector<RecordWrite> drop() {
    std::vector<RecordWrite> writes;
    writes.reserve(names_.size());
    for (const auto& [shard, key] : names_) writes.push_back({shard, key, std::nullopt});
    std::sort(writes.begin(), writes.end(), [](const RecordWrite& a, const RecordWrite& b) {
      return std::tie(a.shard, a.key) < std::tie(b.shard, b.key);
    });
    *this = Unconfirmed{};
    return writes;
  }

 private:
  // Most have ids that begin alike, so to look for one in an order would cost more.
  struct Hash {
    std::size_t operator()(const Name& name) const noexcept {
      return std::hash<std::string>{}(name.second.id) ^ static_cast<std::size_t>(name.second.kind);
    }
  };
  static bool is_agent(const Name& name) noexcept { return name.second.kind == RecordKind::agent; }

  std::unordered_set<Name, Hash> names_;
  std::size_t agents_ = 0;
};

}  // namespace muster::cluster
