#include "cluster/core/liveness.hpp"

#include <string>

#include <doctest/doctest.h>

using namespace muster;
using namespace muster::cluster;
using namespace std::chrono_literals;

namespace {

constexpr TimePoint kStart{1000s};

Member member(unsigned n, MemberStatus status) {
  Member out;
  out.id = NodeId{"node-" + std::to_string(n)};
  out.status = status;
  const auto octet = static_cast<std::uint8_t>(n);
  out.endpoints = {{IpAddress{IpAddress::V4{10, 0, 0, octet}}, *Port::from(61420)}};
  return out;
}

struct Members {
  explicit Members(unsigned count) {
    std::vector<Member> all;
    for (unsigned n = 1; n <= count; ++n) all.push_back(member(n, MemberStatus::alive));
    liveness.update(all, kStart);
  }
  void set(unsigned first, unsigned last, MemberStatus status, TimePoint now) {
    for (unsigned n = first; n <= last; ++n) {
      const Member one = member(n, status);
      liveness.update({&one, 1}, now);
    }
  }
  std::size_t down() const { return liveness.down().addresses.size(); }
  Liveness liveness;
};

}  // namespace

TEST_SUITE_BEGIN("cluster/core/liveness");

TEST_CASE("only a dead host takes its tasks away: not a stopped, nor a dead daemon") {
  Members members{5};
  members.set(1, 1, MemberStatus::left, kStart + 1s);
  members.set(2, 2, MemberStatus::daemon_down, kStart + 1s);
  CHECK(members.down() == 0);
  members.set(3, 3, MemberStatus::host_down, kStart + 1s);
  CHECK(members.liveness.down().addresses ==
        std::set<IpAddress>{IpAddress{IpAddress::V4{10, 0, 0, 3}}});
  members.set(3, 3, MemberStatus::alive, kStart + 2s);
  CHECK(members.down() == 0);
}

TEST_CASE("an agent id goes before nothing: both ways of naming the host are given") {
  Members members{4};
  Member dead = member(2, MemberStatus::host_down);
  dead.agent = AgentId{"S2"};
  members.liveness.update({&dead, 1}, kStart);
  CHECK(members.liveness.down().agents == std::set<AgentId>{AgentId{"S2"}});
  // The host was installed anew: another member lives at its address, under its agent's id.
  Member anew = member(9, MemberStatus::alive);
  anew.endpoints = dead.endpoints;
  anew.agent = dead.agent;
  members.liveness.update({&anew, 1}, kStart + 1s);
  CHECK(members.liveness.down().empty());
}

TEST_CASE("one of three acts, a quarter acts, four tenths at once are known and held") {
  Members three{3};
  three.set(1, 1, MemberStatus::host_down, kStart + 1s);
  CHECK(three.down() == 1);
  CHECK(three.liveness.held() == 0);

  Members twenty{20};
  twenty.set(1, 5, MemberStatus::host_down, kStart + 1s);
  CHECK(twenty.down() == 5);

  Members ten{10};
  ten.set(1, 4, MemberStatus::host_down, kStart + 1s);
  CHECK(ten.down() == 0);
  CHECK(ten.liveness.held() == 4);
}

TEST_CASE("exactly a third acts, and so do two of four; one more holds") {
  Members nine{9};
  nine.set(1, 3, MemberStatus::host_down, kStart + 1s);
  CHECK(nine.down() == 3);
  nine.set(4, 4, MemberStatus::host_down, kStart + 2s);
  CHECK(nine.down() == 0);
  Members four{4};
  four.set(1, 2, MemberStatus::host_down, kStart + 1s);
  CHECK(four.down() == 2);
}

TEST_CASE("deaths further apart than the window are no mass death") {
  Members ten{10};
  ten.set(1, 3, MemberStatus::host_down, kStart + 1s);
  ten.set(4, 6, MemberStatus::host_down, kStart + 1s + Liveness::kWindow);
  CHECK(ten.down() == 3);  // three of the seven left died at once: held
  CHECK(ten.liveness.held() == 3);
  Members calm{10};
  calm.set(1, 2, MemberStatus::host_down, kStart + 1s);
  calm.set(3, 4, MemberStatus::host_down, kStart + 1s + Liveness::kWindow);
  CHECK(calm.down() == 4);
}

TEST_CASE("what is held is let go when most of it came back, after the window") {
  Members ten{10};
  ten.set(1, 5, MemberStatus::host_down, kStart + 1s);
  CHECK(ten.liveness.held() == 5);
  ten.set(1, 3, MemberStatus::alive, kStart + 2s);
  CHECK(ten.down() == 0);
  REQUIRE(ten.liveness.next_deadline());
  CHECK(*ten.liveness.next_deadline() == kStart + 1s + Liveness::kWindow);
  ten.liveness.on_timer(*ten.liveness.next_deadline());
  CHECK(ten.down() == 2);
  CHECK(ten.liveness.held() == 0);
  CHECK(*ten.liveness.next_deadline() == kStart + 1s + Liveness::kForget);
}

TEST_CASE("the dead are forgotten after a day: their address may be another host's") {
  Members five{5};
  five.set(1, 1, MemberStatus::host_down, kStart + 1s);
  five.set(2, 2, MemberStatus::left, kStart + 2s);
  five.liveness.on_timer(kStart + 1h);
  REQUIRE(five.liveness.next_deadline());
  CHECK(*five.liveness.next_deadline() == kStart + 1s + Liveness::kForget);
  CHECK(five.down() == 1);
  five.liveness.on_timer(kStart + 1s + Liveness::kForget);
  CHECK(five.down() == 0);
  CHECK(five.liveness.find(NodeId{"node-1"}) == nullptr);
  CHECK(five.liveness.find(NodeId{"node-2"}) != nullptr);
  five.liveness.on_timer(*five.liveness.next_deadline());
  CHECK(five.liveness.find(NodeId{"node-2"}) == nullptr);
  CHECK_FALSE(five.liveness.next_deadline());
  CHECK(five.liveness.find(NodeId{"node-3"}) != nullptr);
}

TEST_CASE("what stays dead in a mass stays held") {
  Members ten{10};
  ten.set(1, 5, MemberStatus::host_down, kStart + 1s);
  REQUIRE(ten.liveness.next_deadline());
  ten.liveness.on_timer(kStart + 7s);
  CHECK(ten.down() == 0);
  ten.liveness.on_timer(kStart + 700s);
  CHECK(ten.liveness.held() == 5);
}

TEST_SUITE_END();
