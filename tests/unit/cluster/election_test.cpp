#include "cluster/core/election.hpp"

#include <algorithm>
#include <map>
#include <memory>
#include <set>
#include <string>

#include <doctest/doctest.h>

using namespace muster;
using namespace muster::cluster;
using namespace std::chrono_literals;

namespace {

constexpr TimePoint kStart{1000s};

/// Nodes that hear of each other at once.
class Room {
 public:
  explicit Room(unsigned count) {
    for (unsigned n = 0; n < count; ++n) add();
  }
  NodeId add(const std::string& observer = "auto") {
    const NodeId id{"node-" + std::to_string(nodes_.size())};
    Member member;
    member.id = id;
    member.metadata[std::string{kObserverKey}] = observer;
    members_.push_back(member);
    nodes_.emplace(id, Election{id, observer != "no", false, now_});
    return id;
  }
  /// Everybody decides, again and again, until nothing changes.
  void settle() {
    for (bool changed = true; changed;) {
      changed = false;
      for (auto& [id, election] : nodes_) {
        Member& self = member(id);
        if (self.status != MemberStatus::alive) continue;
        const bool reach = !unreached_.contains(id);
        const std::string role{to_string(election.decide(members_, reach, now_))};
        const bool looks = election.role() != Role::follower;
        std::map<std::string, std::string> said = self.metadata;
        said[std::string{kRoleKey}] = role;
        said[std::string{kReachKey}] = looks && !reach ? "no" : "yes";
        changed = changed || said != self.metadata;
        self.metadata = said;
      }
    }
  }
  void pass(Duration time) {
    for (Duration gone{0}; gone < time; gone += 500ms) {
      now_ += 500ms;
      settle();
    }
  }
  std::vector<NodeId> with(Role role) const {
    std::vector<NodeId> found;
    for (const auto& [id, election] : nodes_) {
      const bool alive = std::any_of(members_.begin(), members_.end(), [&](const auto& m) {
        return m.id == id && m.status == MemberStatus::alive;
      });
      if (alive && election.role() == role) found.push_back(id);
    }
    return found;
  }
  NodeId publisher() const {
    const auto found = with(Role::publisher);
    REQUIRE(found.size() == 1);
    return found.front();
  }
  void kill(const NodeId& id) { member(id).status = MemberStatus::daemon_down; }
  void cut_from_masters(const NodeId& id) { unreached_.insert(id); }
  Election& at(const NodeId& id) { return nodes_.at(id); }

 private:
  Member& member(const NodeId& id) {
    return *std::find_if(members_.begin(), members_.end(),
                         [&](const auto& m) { return m.id == id; });
  }
  TimePoint now_ = kStart;
  std::map<NodeId, Election> nodes_;
  std::vector<Member> members_;
  std::set<NodeId> unreached_;
};

}  // namespace

TEST_SUITE_BEGIN("cluster/core/election");

TEST_CASE("a node alone observes for itself, at once; one that waits for others does so shortly") {
  Election alone{NodeId{"a"}, true, true, kStart};
  CHECK(alone.decide({}, true, kStart) == Role::publisher);
  Election waiting{NodeId{"a"}, true, false, kStart};
  CHECK(waiting.decide({}, true, kStart) == Role::follower);
  REQUIRE(waiting.next_deadline());
  CHECK(waiting.decide({}, true, *waiting.next_deadline()) == Role::publisher);
}

TEST_CASE("nobody who may not observe is elected, even if nobody else is there") {
  Election refused{NodeId{"a"}, false, true, kStart};
  CHECK(refused.decide({}, true, kStart) == Role::follower);
  Room room{0};
  room.add("no");
  room.add("no");
  const NodeId able = room.add();
  room.pass(3s);
  CHECK(room.publisher() == able);
}

TEST_CASE("a cluster has one publisher and one standby, whatever its size") {
  for (const unsigned size : {2U, 3U, 30U}) {
    Room room{size};
    room.pass(3s);
    CHECK(room.with(Role::publisher).size() == 1);
    CHECK(room.with(Role::standby).size() == 1);
  }
}

TEST_CASE("who joins displaces nobody") {
  Room room{3};
  room.pass(3s);
  const NodeId publisher = room.publisher();
  const auto standby = room.with(Role::standby);
  for (int i = 0; i < 30; ++i) room.add();
  room.pass(5s);
  CHECK(room.publisher() == publisher);
  CHECK(room.with(Role::standby) == standby);
}

TEST_CASE("the standby takes over from a publisher that died, and another stands by") {
  Room room{5};
  room.pass(3s);
  const NodeId standby = room.with(Role::standby).front();
  room.kill(room.publisher());
  room.settle();
  CHECK(room.publisher() == standby);
  CHECK(room.with(Role::standby).size() == 1);
}

TEST_CASE("a publisher without a stream gives way to a standby that has one, not at once") {
  Room room{5};
  room.pass(3s);
  const NodeId publisher = room.publisher();
  const NodeId standby = room.with(Role::standby).front();
  room.cut_from_masters(publisher);
  room.pass(Election::kPatience - 1s);
  CHECK(room.publisher() == publisher);
  room.pass(2s);
  CHECK(room.publisher() == standby);
}

TEST_CASE("where nobody reaches a master, nothing changes hands") {
  Room room{4};
  room.pass(3s);
  const NodeId publisher = room.publisher();
  for (int i = 0; i < 4; ++i) room.cut_from_masters(NodeId{"node-" + std::to_string(i)});
  room.pass(60s);
  CHECK(room.publisher() == publisher);
}

TEST_CASE("publishers that die one after the other are not replaced without end") {
  Room room{12};
  room.pass(3s);
  unsigned elected = 1;
  for (int i = 0; i < 8; ++i) {
    const auto publishing = room.with(Role::publisher);
    if (publishing.empty()) break;
    room.kill(publishing.front());
    room.pass(500ms);
    elected += room.with(Role::publisher).empty() ? 0U : 1U;
  }
  CHECK(elected == Election::kBurst);
  room.pass(Election::kPause);
  CHECK(room.with(Role::publisher).size() == 1);
}

TEST_CASE("who is superseded does not strike back before it has heard who did it") {
  Election election{NodeId{"a"}, true, true, kStart};
  REQUIRE(election.decide({}, true, kStart) == Role::publisher);
  election.superseded();
  CHECK(election.decide({}, true, kStart + 1s) == Role::follower);
  Member other;
  other.id = NodeId{"b"};
  other.metadata[std::string{kRoleKey}] = "publisher";
  const std::vector<Member> members{other};
  CHECK(election.decide(members, true, kStart + 2s) != Role::publisher);
  CHECK(election.decide(members, true, kStart + 60s) == Role::standby);
}

TEST_SUITE_END();
