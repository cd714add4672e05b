#include "base/member.hpp"

#include <algorithm>
#include <string>
#include <vector>

#include <doctest/doctest.h>

using namespace muster;

namespace {

Member member(const char* id, MemberStatus status, std::uint32_t epoch, const char* at) {
  return {.id = NodeId{id},
          .status = status,
          .epoch = epoch,
          .endpoints = {*Endpoint::parse(at)},
          .agent = {},
          .agent_endpoint = {},
          .metadata = {}};
}

}  // namespace

TEST_CASE("who is not alive is listed until a living member of a later epoch has its address") {
  using enum MemberStatus;
  struct Row {
    const char* what;
    Member former;
    Member latter;
    bool listed;
  };
  const Row rows[] = {
      {"its daemon is down, a new identity lives there",
       member("a", daemon_down, 10, "10.0.0.1:61420"), member("b", alive, 20, "10.0.0.1:61420"),
       false},
      {"its host was down, another was given its address",
       member("a", host_down, 10, "10.0.0.1:61420"), member("b", alive, 20, "10.0.0.1:61420"),
       false},
      {"it said goodbye", member("a", left, 10, "10.0.0.1:61420"),
       member("b", alive, 20, "10.0.0.1:61420"), false},
      {"who lives there started before it", member("a", daemon_down, 20, "10.0.0.1:61420"),
       member("b", alive, 10, "10.0.0.1:61420"), true},
      {"started in the same second", member("a", daemon_down, 20, "10.0.0.1:61420"),
       member("b", alive, 20, "10.0.0.1:61420"), true},
      {"the new one is not alive either", member("a", daemon_down, 10, "10.0.0.1:61420"),
       member("b", daemon_down, 20, "10.0.0.1:61420"), true},
      {"another port of the same host", member("a", daemon_down, 10, "10.0.0.1:61420"),
       member("b", alive, 20, "10.0.0.1:61421"), true},
      {"another host", member("a", daemon_down, 10, "10.0.0.1:61420"),
       member("b", alive, 20, "10.0.0.2:61420"), true},
      {"both live, whatever that is", member("a", alive, 10, "10.0.0.1:61420"),
       member("b", alive, 20, "10.0.0.1:61420"), true},
  };
  for (const Row& row : rows) {
    CAPTURE(row.what);
    for (const bool swapped : {false, true}) {
      std::vector<Member> members{row.former, member("c", alive, 5, "10.0.0.9:61420"), row.latter};
      if (swapped) std::reverse(members.begin(), members.end());
      erase_replaced(members);
      CHECK(members.size() == (row.listed ? 3 : 2));
      const auto has = [&](const char* id) {
        return std::any_of(members.begin(), members.end(),
                           [&](const Member& one) { return one.id == NodeId{id}; });
      };
      CHECK(has("a") == row.listed);
      CHECK(has("b"));
      CHECK(has("c"));
    }
  }
}
