#pragma once

#include <memory>
#include <set>
#include <string>
#include <vector>

#include "tests/scenarios/lb_fixture.hpp"

namespace muster::lb {

/// Backend `i` of web.marathon:80, 10.2.0.i:8080 and, of the first two, fd00:2::i.
inline Task with_policy(int i, const VipPolicy& policy, Protocol protocol = Protocol::tcp) {
  VipLabel label = named("web.marathon", 80, protocol);
  label.policy = policy;
  const std::string number = std::to_string(i);
  Task made = task(number, {label}, {"10.2.0." + number + ":8080"});
  if (i <= 2) made.ports[0].endpoints.push_back(at("[fd00:2::" + number + "]:8080"));
  return made;
}

/// All four of them answer.
inline std::vector<std::unique_ptr<NameServer>> serve_all(const Topology& net) {
  std::vector<std::unique_ptr<NameServer>> servers;
  for (int i = 1; i <= 4; ++i) {
    servers.push_back(net.serve("10.2.0." + std::to_string(i) + ":8080"));
    if (i <= 2) servers.push_back(net.serve("[fd00:2::" + std::to_string(i) + "]:8080"));
  }
  return servers;
}

/// Everybody who answered one of `count` connections.
inline std::set<std::string> answers(const Netns& from, const char* to, int count) {
  return from.run([&] {
    std::set<std::string> names;
    for (int i = 0; i < count; ++i) names.insert(ask_tcp(at(to)));
    return names;
  });
}

}  // namespace muster::lb
