#pragma once

#include <compare>
#include <cstddef>
#include <functional>
#include <string>
#include <utility>

namespace muster {

/// A name for one kind of thing. `Id`s of different kinds neither convert nor compare, so a
/// FrameworkId can never be passed where a TaskId is meant. There is no implicit way in or out.
template <class Tag>
class Id {
 public:
  Id() = default;
  explicit Id(std::string value) noexcept : value_{std::move(value)} {}
  const std::string& str() const noexcept { return value_; }
  bool empty() const noexcept { return value_.empty(); }
  friend auto operator<=>(const Id&, const Id&) = default;

 private:
  std::string value_;
};

using NodeId = Id<struct NodeTag>;
using AgentId = Id<struct AgentTag>;
using FrameworkId = Id<struct FrameworkTag>;
using TaskId = Id<struct TaskTag>;
/// The canonical name of a named VIP, label and framework mangled to DNS labels: `web.marathon`.
/// Its DNS name is this under `l4lb.thisdcos.directory`.
using VipName = Id<struct VipNameTag>;

}  // namespace muster

template <class Tag>
struct std::hash<muster::Id<Tag>> {
  std::size_t operator()(const muster::Id<Tag>& id) const noexcept {
    return std::hash<std::string>{}(id.str());
  }
};
