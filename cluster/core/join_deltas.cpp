#include "cluster/core/join_deltas.hpp"

#include <map>
#include <utility>
#include <vector>

namespace muster::cluster {
namespace {

template <class T, class KeyOf>
void join_changes(std::vector<Change<T>>& first, std::vector<Change<T>> then, KeyOf key_of_one) {
  if (then.empty()) return;
  const auto key = [&](const Change<T>& c) { return key_of_one(c.after ? *c.after : *c.before); };
  std::map<decltype(key(first.front())), std::size_t> places;
  for (std::size_t i = 0; i < first.size(); ++i) places.emplace(key(first[i]), i);
  for (Change<T>& change : then) {
    const auto known = places.find(key(change));
    if (known == places.end()) {
      first.push_back(std::move(change));
    } else {
      first[known->second].after = std::move(change.after);
    }
  }
  // What came and went, or went and came back, has not changed.
  std::erase_if(first, [](const Change<T>& c) {
    return c.before == c.after || (c.before && c.after && *c.before == *c.after);
  });
}

}  // namespace

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

}  // namespace muster::cluster
