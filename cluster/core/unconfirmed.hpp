#pragma once

#include <algorithm>
#include <cstddef>
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
      : names_{std::move(names)}, confirmed_(names_.size()), left_{names_.size()} {
    std::sort(names_.begin(), names_.end());
    agents_ =
        static_cast<std::size_t>(std::count_if(names_.begin(), names_.end(), [](const Name& name) {
          return name.second.kind == RecordKind::agent;
        }));
  }
  bool empty() const noexcept { return left_ == 0; }
  /// How many of them are agents.
  std::size_t agents() const noexcept { return agents_; }
  void confirm(const ShardId& shard, const RecordKey& key) {
    if (empty()) return;
    const std::size_t at = find(shard, key);
    if (at == names_.size() || confirmed_[at]) return;
    confirmed_[at] = true;
    --left_;
    if (key.kind == RecordKind::agent) --agents_;
  }
  bool contains(const ShardId& shard, const RecordKey& key) const {
    const std::size_t at = empty() ? names_.size() : find(shard, key);
    return at < names_.size() && !confirmed_[at];
  }
  /// As writes that take them away.
  std::vector<RecordWrite> drop() {
    std::vector<RecordWrite> writes;
    for (std::size_t i = 0; i < names_.size(); ++i) {
      if (!confirmed_[i]) writes.push_back({names_[i].first, names_[i].second, std::nullopt});
    }
    *this = Unconfirmed{};
    return writes;
  }

 private:
  /// Its place; names_.size() if it is not there.
  std::size_t find(const ShardId& shard, const RecordKey& key) const {
    const auto found = std::lower_bound(names_.begin(), names_.end(), Name{shard, key});
    const bool there = found != names_.end() && found->first == shard && found->second == key;
    return there ? static_cast<std::size_t>(found - names_.begin()) : names_.size();
  }

  std::vector<Name> names_;
  std::vector<bool> confirmed_;
  std::size_t left_;
  std::size_t agents_ = 0;
};

}  // namespace muster::cluster
