#include <map>
#include <string>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include "cluster/core/first_contact.hpp"
#include "cluster/core/vip_address.hpp"
#include "tests/sim/seeds.hpp"
#include "tests/sim/whole.hpp"

// Gossip and cluster/core together: whole nodes, an emulated master, virtual time.
using namespace muster;
using namespace std::chrono_literals;
using namespace muster::testing;

namespace {

/// Two names that prefer one address.
std::pair<std::string, std::string> colliding() {
  std::map<IpAddress, std::string> names;
  for (unsigned i = 0;; ++i) {
    const std::string name = "x" + std::to_string(i) + ".marathon";
    const auto at = cluster::preferred_address(name, cluster::default_vip_range_v4());
    const auto [known, fresh] = names.emplace(at, name);
    if (!fresh) return {known->second, name};
  }
}

}  // namespace

TEST_SUITE_BEGIN("cluster and gossip");

TEST_CASE("one node publishes what all serve, and a change reaches all") {
  gossip::sim::for_seeds(1, 3, [](std::uint64_t seed) {
    MUSTER_SHOW_SEED(seed);
    World master;
    fill(master, 40);
    Whole whole{9, seed};
    whole.reach_of = [&](std::size_t) { return &master; };
    whole.run_for(6s);
    REQUIRE(whole.publishers().size() == 1);
    CHECK(whole.equal(master));
    for (const auto& [i, seat] : whole.seats) CHECK(seat->cluster.status(whole.net.now()).complete);
    master.add("late", "late.marathon", 1);
    master.remove("t7");
    whole.run_for(500ms);
    CHECK(whole.equal(master));
  });
}

namespace {

// Every fourth agent has a muster; nobody is told of another.
void strangers_meet(std::uint64_t seed) {
  MUSTER_SHOW_SEED(seed);
  gossip::sim::NetworkOptions network;
  network.loss_percent = static_cast<std::uint32_t>(seed % 3) * 10;
  gossip::sim::Cluster net{0, seed, network};
  std::vector<Endpoint> agents;
  constexpr std::size_t kNodes = 50;
  for (std::size_t i = 0; i < 4 * kNodes; ++i) agents.push_back(net.node(net.add({})).at);
  std::vector<cluster::FirstContact> contacts;
  for (std::size_t i = 0; i < kNodes; ++i) {
    net.start(4 * i, {});
    contacts.emplace_back(false, Rng{seed * 1000 + i}, net.now());
  }
  std::size_t asked = 0;
  const auto took = net.run_until(
      [&] {
        for (std::size_t i = 0; i < kNodes; ++i) {
          const bool alone = net.node(4 * i).core->members().alive() <= 1;
          if (!contacts[i].due(alone, net.now())) continue;
          ++asked;
          net.set_seeds(4 * i, agents);  // its own among them
        }
        return net.views_equal();
      },
      60s);
  REQUIRE(took);
  MESSAGE(kNodes, " of ", agents.size(), " agents' nodes met after ", took->count(), " ms, ", asked,
          " asked the master");
  CHECK(*took <= 5s);
  CHECK(asked <= kNodes + kNodes / 2);
  CHECK(net.false_deaths() == 0);
}

}  // namespace

TEST_CASE("nodes that know nobody find each other among the agents the master lists") {
  gossip::sim::for_seeds(1, 6, strangers_meet);
}

TEST_CASE("who found others asks no master, and who is alone asks for ever, less and less") {
  const TimePoint start{std::chrono::hours{1}};
  const auto asks = [&](bool known, auto alone) {
    cluster::FirstContact contact{known, Rng{1}, start};
    std::vector<Duration> at;
    for (TimePoint now = start; now < start + 600s; now += 50ms) {
      if (contact.due(alone(now), now)) {
        at.push_back(std::chrono::duration_cast<Duration>(now - start));
      }
    }
    return at;
  };
  const auto ever = [](TimePoint) { return true; };
  const auto fresh = asks(false, ever);
  REQUIRE(fresh.size() > 8);
  CHECK(fresh.size() < 20);
  CHECK(fresh[0] <= cluster::FirstContact::kSpread + 50ms);
  CHECK(fresh.back() - fresh[fresh.size() - 2] >= cluster::FirstContact::kLastGap);
  CHECK(asks(true, ever)[0] >= cluster::FirstContact::kPatience);
  CHECK(asks(false, [](TimePoint) { return false; }).empty());
  // Cut off later: it asks again, soon.
  const auto cut = asks(true, [&](TimePoint now) { return now > start + 300s; });
  REQUIRE_FALSE(cut.empty());
  CHECK(cut[0] <= 304s);
}

TEST_CASE("a publisher that dies is replaced, and no VIP address changes") {
  gossip::sim::for_seeds(1, 3, [](std::uint64_t seed) {
    MUSTER_SHOW_SEED(seed);
    World master;
    fill(master, 20);
    Whole whole{7, seed};
    whole.reach_of = [&](std::size_t) { return &master; };
    whole.run_for(6s);
    REQUIRE(whole.publishers().size() == 1);
    const auto first = whole.publishers().front();
    const auto before = whole.seats.at(first)->cluster.view().vip_records();
    whole.kill(first);
    master.add("later", "app0.marathon", 2);
    whole.run_for(3s);
    REQUIRE(whole.publishers().size() == 1);
    CHECK(whole.equal(master));
    CHECK(whole.seats.begin()->second->cluster.view().vip_records() == before);
    whole.restart(first);
    whole.run_for(6s);
    CHECK(whole.publishers().size() == 1);
    CHECK(whole.equal(master));
  });
}

TEST_CASE("both halves of a partition publish; after the heal there is one publisher, one view") {
  gossip::sim::for_seeds(1, 2, [](std::uint64_t seed) {
    MUSTER_SHOW_SEED(seed);
    World left;
    fill(left, 20);
    Whole whole{8, seed};
    whole.net.check_false_deaths = false;
    whole.reach_of = [&](std::size_t) { return &left; };
    whole.run_for(6s);
    World right = left;
    whole.net.cut([](std::size_t a, std::size_t b) { return (a < 4) != (b < 4); });
    whole.reach_of = [&](std::size_t i) { return i < 4 ? &left : &right; };
    whole.run_for(8s);
    CHECK(whole.publishers().size() == 2);
    left.add("l", "left.marathon", 0);
    right.add("r", "right.marathon", 1);
    right.remove("t3");
    whole.run_for(2s);
    // The network is whole again, and so is what the masters say.
    whole.net.heal();
    left.add("r", "right.marathon", 1);
    left.remove("t3");
    whole.reach_of = [&](std::size_t) { return &left; };
    whole.run_for(25s);
    CHECK(whole.publishers().size() == 1);
    CHECK(whole.equal(left));
  });
}

TEST_CASE("at a heal the older allocation of an address wins, whichever half publishes on") {
  const auto [one, other] = colliding();
  const auto preferred = cluster::preferred_address(one, cluster::default_vip_range_v4());
  for (const bool left_first : {false, true}) {
    CAPTURE(left_first);
    World left;
    fill(left, 8);
    Whole whole{8, 1};
    whole.net.check_false_deaths = false;
    whole.reach_of = [&](std::size_t) { return &left; };
    whole.run_for(6s);
    World right = left;
    whole.net.cut([](std::size_t a, std::size_t b) { return (a < 4) != (b < 4); });
    whole.reach_of = [&](std::size_t i) { return i < 4 ? &left : &right; };
    whole.run_for(8s);
    (left_first ? left : right).add("old", one, 0);
    whole.run_for(3s);
    (left_first ? right : left).add("young", other, 1);
    whole.run_for(2s);
    whole.net.heal();
    left.add("old", one, 0);
    left.add("young", other, 1);
    whole.reach_of = [&](std::size_t) { return &left; };
    whole.run_for(25s);
    CHECK(whole.publishers().size() == 1);
    CHECK(whole.equal(left));
    const auto& records = whole.seats.begin()->second->cluster.view().vip_records();
    CHECK(records.at(VipName{one}).allocation.v4 == preferred);
    const auto& loser = records.at(VipName{other});
    CHECK(loser.allocation.v4 != preferred);
    CHECK(loser.former == std::vector<IpAddress>{preferred});
    // Nothing of the dispute is left behind.
    for (const auto& [id, shard] : whole.net.node(0).core->shards().shards()) {
      if (id.front() == static_cast<char>(cluster::ShardKind::claims)) CHECK(shard.records.empty());
    }
  }
}

TEST_CASE("while no master answers nothing is lost, whoever publishes") {
  gossip::sim::for_seeds(1, 2, [](std::uint64_t seed) {
    MUSTER_SHOW_SEED(seed);
    World master;
    fill(master, 20);
    bool gone = false;
    Whole whole{6, seed};
    whole.reach_of = [&](std::size_t) { return gone ? nullptr : &master; };
    whole.run_for(6s);
    gone = true;
    whole.kill(whole.publishers().front());
    whole.run_for(20s);
    CHECK(whole.equal(master));
    gone = false;
    master.add("new", "new.marathon", 3);
    whole.run_for(10s);
    CHECK(whole.publishers().size() == 1);
    CHECK(whole.equal(master));
  });
}

namespace {

/// What a busy day brings, at random, and after each bout everybody agrees with the master again.
class Churn {
 public:
  explicit Churn(std::uint64_t seed) : rng_{seed}, whole_{4, seed} {
    whole_.net.check_false_deaths = false;
    fill(master_, 12);
    whole_.reach_of = [this](std::size_t i) {
      return master_away_ || cut_ == i ? nullptr : &master_;
    };
    run(Duration{6'000});
  }

  void bout() {
    for (std::uint64_t deeds = 1 + rng_.below(8); deeds > 0; --deeds) {
      deed();
      run(Duration{rng_.below(1'500)});
    }
    come_back();
    wait(kAgreement, [this] { return agreed(); });
    CHECK_MESSAGE(agreed(), said_);
    // What the master's absence and failovers have left in doubt is held for ten minutes at most.
    wait(kHold, [this] { return whole_.equal(master_); });
    CHECK_MESSAGE(whole_.equal(master_), said_);
  }
  const std::string& said() const { return said_; }

 private:
  static constexpr Duration kAgreement{30'000};
  static constexpr Duration kHold = std::chrono::minutes{11};

  template <class Condition>
  void wait(Duration limit, Condition condition) {
    for (Duration waited{0}; waited < limit && !condition(); waited += Duration{500}) {
      run(Duration{500});
    }
  }
  /// All views are one.
  bool agreed() const {
    const auto& first = whole_.seats.begin()->second->cluster.view();
    return std::all_of(whole_.seats.begin(), whole_.seats.end(), [&](const auto& seat) {
      const auto& view = seat.second->cluster.view();
      return view.vip_records() == first.vip_records() && view.waiting().empty() &&
             std::equal(view.tasks().begin(), view.tasks().end(), first.tasks().begin(),
                        first.tasks().end(), [](const auto& a, const auto& b) {
                          return a.first == b.first && *a.second == *b.second;
                        });
    });
  }

  void run(Duration time) {
    // The state is written some seconds after it changed.
    for (; time > Duration{0}; time -= Duration{500}) {
      whole_.run_for(std::min<Duration>(time, Duration{500}));
      for (auto& [i, seat] : whole_.seats) {
        if (rng_.chance(25)) disk_[i] = seat->cluster.save();
      }
      if (back_at_ && whole_.net.now() >= *back_at_) come_back();
    }
  }
  void say(const std::string& what) { said_ += what + "; "; }

  void deed() {
    const std::size_t node = rng_.below(4);
    switch (rng_.below(8)) {
      case 0:
      case 1:
        return scale();
      case 2:
        say("kill " + std::to_string(node));
        whole_.kill(node);
        if (rng_.chance(50)) whole_.run_for(Duration{rng_.below(1'000)});
        return whole_.restart(node, disk_[node]);
      case 3:
        if (cut_) return;
        say("cut " + std::to_string(node));
        cut_ = node;
        whole_.net.cut([node](std::size_t a, std::size_t b) { return a == node || b == node; });
        return away();
      case 4:
      case 5:
        say("pause " + std::to_string(node));
        return whole_.net.pause(node, Duration{100 + rng_.below(4'000)});
      case 6:
        say("master away");
        master_away_ = true;
        return away();
      default:
        say("failover");
        master_.recovering = true;
        master_.agents = {static_cast<unsigned>(node)};
        ++master_.changes;
        return away();
    }
  }
  void away() { back_at_ = whole_.net.now() + Duration{100 + rng_.below(5'000)}; }
  void come_back() {
    back_at_.reset();
    cut_.reset();
    whole_.net.heal();
    master_away_ = false;
    master_.recovering = false;
    master_.agents = {0, 1, 2, 3};
    ++master_.changes;
  }
  void scale() {
    say("scale");
    for (std::uint64_t n = 1 + rng_.below(3); n > 0; --n) {
      if (rng_.chance(50) && master_.tasks.size() > 4) {
        auto task = master_.tasks.begin();
        std::advance(task, static_cast<std::ptrdiff_t>(rng_.below(master_.tasks.size())));
        master_.remove(task->first.task.str());
      } else if (master_.tasks.size() < 20) {
        const auto number = std::to_string(next_++);
        master_.add("n" + number, "app" + std::to_string(rng_.below(6)) + ".marathon",
                    static_cast<unsigned>(rng_.below(4)));
      }
    }
  }

  Rng rng_;
  World master_;
  Whole whole_;
  std::map<std::size_t, std::vector<std::byte>> disk_;
  std::optional<std::size_t> cut_;
  bool master_away_ = false;
  std::optional<TimePoint> back_at_;
  std::uint64_t next_ = 0;
  std::string said_;
};

}  // namespace

TEST_CASE("whatever comes and goes at random, everybody agrees with the master again") {
  gossip::sim::for_seeds(1, 20, [](std::uint64_t seed) {
    MUSTER_SHOW_SEED(seed);
    Churn churn{seed};
    for (int i = 0; i < 6; ++i) churn.bout();
  });
}

TEST_SUITE_END();
