#pragma once

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/result.hpp"
#include "lb/core/forward.hpp"
#include "lb/io/driver.hpp"
#include "lb/io/netlink.hpp"

namespace muster::lb {

/// Keeps our rules in the forward chains of other programs' firewalls: see forward::plan(). One
/// thread at a time, always in the same network namespace.
class ForwardAccept {
 public:
  /// `tag`: the name of our table, by which our rules are known.
  explicit ForwardAccept(std::string tag) : tag_{std::move(tag)} {}

  /// Makes the rules exactly these; empty: takes all away. A chain that refuses costs that chain
  /// only. Errors: the firewalls cannot be read.
  Result<ForwardOutcome> keep(const forward::Acceptance& acceptance);

  /// Takes all away; one line for each chain that held some.
  Result<std::vector<std::string>> remove();

 private:
  struct Done {
    std::vector<forward::Table> tables;
    forward::Plan plan;
    std::vector<std::size_t> failed;  // edits, by their index
    std::vector<std::string> refused;
    ErrorCode refusal;
  };
  Result<Done> run(const forward::Acceptance& acceptance);

  std::string tag_;
  std::optional<netlink::Socket> socket_;
};

}  // namespace muster::lb
