#pragma once

#include <cstddef>
#include <map>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "lb/core/netns.hpp"

namespace muster::lb::netns {

/// Namespaces that are served at most: each holds some descriptors and a copy of the table.
inline constexpr std::size_t kMaxServed = 256;
/// Files that are not served, as far as they are named; the rest is counted.
inline constexpr std::size_t kMaxNamed = 256;

/// Which of what was found is to be served.
struct Choice {
  struct Refused {
    std::uint16_t folder = 0;
    std::string name = {};  // empty: the folder itself
    Verdict verdict = Verdict::failed;
    friend auto operator<=>(const Refused&, const Refused&) = default;
  };
  std::map<Identity, Request> serve;  // and the file that leads there
  std::vector<Refused> refused;       // kMaxNamed at most
  std::size_t more_refused = 0;
  std::size_t twice = 0;   // files that lead to one that another has led to
  std::size_t beyond = 0;  // files that were not looked at, and namespaces there is no room for
  friend bool operator==(const Choice&, const Choice&) = default;
};

/// `found` as a look brought it. Who is served already stays, and what is named twice is served
/// once; the others come by folder and name, as many as there is room for. A folder that is not
/// there is no refusal.
Choice choose(std::span<const Answer> found, const std::set<Identity>& served,
              std::size_t most = kMaxServed);

}  // namespace muster::lb::netns
