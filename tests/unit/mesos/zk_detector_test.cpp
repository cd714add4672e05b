#include "mesos/io/zk_detector.hpp"

#include <doctest/doctest.h>

#include "cluster_text.hpp"
#include "observer_fixture.hpp"
#include "scripted_zookeeper.hpp"

using namespace muster;
using namespace muster::mesos;
using namespace muster::mesos::testing;

namespace {

const std::string kAgent = agent_v1("S0", "slave(1)@10.0.0.1:5051");
const std::string kFramework = framework_v1("F0", "marathon");

Reply streaming(std::string_view tasks = "") {
  return {{stream_head(), chunk(record(subscribed(get_state(tasks, kAgent, kFramework))))}, true};
}

bool contains(const std::string& text, std::string_view part) {
  return text.find(part) != std::string::npos;
}

/// Two masters that only ZooKeeper knows, and an observer that follows it.
class Watched : public Observed {
 public:
  explicit Watched(std::size_t servers = 1) : Observed{2} {
    std::string hosts;
    for (std::size_t i = 0; i < servers; ++i) {
      zookeepers.push_back(std::make_unique<ScriptedZooKeeper>(context));
      hosts += (i > 0 ? ",127.0.0.1:" : "127.0.0.1:") + std::to_string(zookeepers[i]->port());
    }
    options.zookeeper = *ZkUrl::parse("zk://" + hosts + "/mesos");
    options.zookeeper_timeout = Duration{10'000};
    master(0).script = {streaming(task_v1("a", "TASK_RUNNING"))};
    master(1).script = {streaming(task_v1("b", "TASK_RUNNING"))};
  }
  ~Watched() {
    bool joined = false;
    boost::asio::co_spawn(context, stop_servers(), [&](std::exception_ptr) { joined = true; });
    CHECK(until([&] { return joined; }));
  }

  ScriptedZooKeeper& zk(std::size_t index = 0) { return *zookeepers[index]; }
  /// The masters by their index, under growing numbers.
  void announce(const std::vector<std::size_t>& order, int first = 1) {
    std::map<std::string, std::string> nodes{{"log_replicas", ""}};
    for (const std::size_t index : order) {
      char name[40];
      std::snprintf(name, sizeof name, "json.info_%010d", first++);
      nodes[name] = master_info(master(index).port());
    }
    for (const auto& each : zookeepers) each->set(nodes);
  }
  /// The task of the newest snapshot.
  std::string last_snapshot() const {
    for (auto one = seen.rbegin(); one != seen.rend(); ++one) {
      if (one->snapshot) return one->tasks.at(0).id.str();
    }
    return {};
  }
  std::size_t asked(std::size_t index) { return master(index).requests.size(); }
  const std::string& last_error() const { return observer->status().last_error; }
  bool connected() const { return counts("muster_mesos_zookeeper_connected 1"); }

  std::vector<std::unique_ptr<ScriptedZooKeeper>> zookeepers;

 private:
  boost::asio::awaitable<void> stop_servers() {
    for (const auto& each : zookeepers) each->stop();
    for (const auto& each : zookeepers) co_await each->join();
  }
};

}  // namespace

TEST_SUITE_BEGIN("mesos/io/zk_detector");

TEST_CASE("the master of the smallest number is asked, and all are masters") {
  Watched watched;
  watched.announce({1, 0});
  watched.start();
  REQUIRE(watched.until([&] { return !watched.seen.empty(); }));
  CHECK(watched.seen[0].tasks.at(0).id.str() == "b");
  CHECK(watched.asked(0) == 0);
  REQUIRE(watched.seen[0].masters.has_value());
  REQUIRE(watched.seen[0].masters->size() == 2);
  for (const Master& master : *watched.seen[0].masters) {
    CHECK(master.leading == (master.endpoint.port.number() == watched.master(1).port()));
  }
  CHECK(watched.connected());
}

TEST_CASE("another leader is asked at once, and the former one's later events are refused") {
  Watched watched;
  watched.announce({0, 1});
  watched.start();
  REQUIRE(watched.until([&] { return watched.seen.size() == 1; }));
  watched.announce({1}, 2);
  // In the same moment, on a connection that still stands.
  watched.master(0).say(chunk(record(task_updated("a", "TASK_KILLED"))));
  CHECK(watched.seen[0].tasks.at(0).id.str() == "a");
  // What came before the change was known is taken; nothing of it comes after the new leader's.
  REQUIRE(watched.until([&] { return watched.last_snapshot() == "b"; }));
  watched.master(0).say(chunk(record(task_updated("b", "TASK_KILLED"))));
  watched.master(1).say(chunk(record(task_added(task_v1("c", "TASK_RUNNING")))));
  REQUIRE(watched.until(
      [&] { return !watched.seen.back().snapshot && !watched.seen.back().tasks.empty(); }));
  CHECK(watched.seen.back().tasks.at(0).id.str() == "c");
  for (const Observation& observation : watched.seen) {
    for (const TaskGone& gone : observation.tasks_gone) CHECK(gone.key.task.str() != "b");
  }
  CHECK(watched.zk().sessions == 1);  // a watch told, no new connection
}

TEST_CASE("a master that joins or leaves behind the leader disturbs nothing") {
  Watched watched;
  watched.announce({0});
  watched.start();
  REQUIRE(watched.until([&] { return watched.seen.size() == 1; }));
  watched.announce({0, 1});
  REQUIRE(watched.until([&] { return watched.seen.size() == 2; }));
  CHECK_FALSE(watched.seen[1].snapshot);
  REQUIRE(watched.seen[1].masters.has_value());
  CHECK(watched.seen[1].masters->size() == 2);
  CHECK(watched.asked(0) == 1);
  CHECK(watched.asked(1) == 0);
}

TEST_CASE("a node that goes between list and reading means that the list is read again") {
  Watched watched;
  watched.announce({1, 0});
  watched.zk().vanishing = true;
  watched.start();
  REQUIRE(watched.until([&] { return !watched.seen.empty(); }));
  CHECK(watched.seen[0].tasks.at(0).id.str() == "b");
  CHECK(watched.asked(0) == 0);
}

TEST_CASE("while nobody leads the former leader is still followed") {
  Watched watched;
  watched.announce({0});
  watched.start();
  REQUIRE(watched.until([&] { return watched.seen.size() == 1; }));
  watched.announce({});
  REQUIRE(watched.until(
      [&] { return watched.counts("muster_mesos_problems_total{kind=\"zookeeper\"} 1"); }));
  watched.master(0).say(chunk(record(task_added(task_v1("c", "TASK_RUNNING")))));
  REQUIRE(watched.until([&] { return watched.seen.size() == 2; }));
  CHECK(watched.asked(0) == 1);
  watched.announce({1}, 7);
  REQUIRE(watched.until([&] { return watched.last_snapshot() == "b"; }));
}

TEST_CASE("a lost ZooKeeper costs nothing, and is found again") {
  Watched watched{2};
  watched.announce({0});
  watched.start();
  REQUIRE(watched.until([&] { return watched.seen.size() == 1; }));
  for (int i = 0; i < 3; ++i) {
    const int before = watched.zk(0).sessions + watched.zk(1).sessions;
    watched.zk(0).drop();
    watched.zk(1).drop();
    REQUIRE(
        watched.until([&] { return watched.zk(0).sessions + watched.zk(1).sessions > before; }));
    REQUIRE(watched.until([&] { return watched.connected(); }));
  }
  CHECK(watched.asked(0) == 1);  // one stream all the while
  CHECK(watched.observer->status().state == "subscribed");
  watched.announce({1}, 2);
  REQUIRE(watched.until([&] { return watched.last_snapshot() == "b"; }));
}

TEST_CASE("a ZooKeeper that cannot be used is left for the next") {
  Watched watched{2};
  watched.options.connect_timeout = Duration{200};
  watched.options.zookeeper_timeout = Duration{300};
  ScriptedZooKeeper& bad = watched.zk(0);
  std::string what;
  SUBCASE("it says nothing") {
    bad.mute = true;
    what = "cannot connect";
  }
  SUBCASE("it grants no session") {
    bad.refuse_sessions = true;
    what = "grants no session";
  }
  SUBCASE("it says something else") {
    bad.raw = "HTTP/1.1 400 Bad Request\r\n\r\n";
    what = "cannot connect";  // the first octets are a length beyond all bounds
  }
  SUBCASE("it answers with too little") {
    bad.raw = std::string("\0\0\0\x02hi", 6);
    what = "grants no session";
  }
  SUBCASE("it lacks the path") {
    bad.has_path = false;
    bad.session_ms = 300;
    what = "the path is not there";
  }
  CAPTURE(what);
  watched.announce({0});
  if (!bad.has_path) {
    // Which one is asked first is left to chance: let there be no choice.
    watched.zk(1).has_path = false;
    watched.start();
    REQUIRE(watched.until([&] { return contains(watched.last_error(), what); }));
    CHECK(watched.asked(0) == 0);
    return;
  }
  bool first = true;
  watched.zk(1).mute = true;  // until the bad one has had its turn
  watched.start();
  REQUIRE(watched.until([&] {
    if (first && contains(watched.last_error(), what) &&
        contains(watched.last_error(), std::to_string(bad.port()))) {
      first = false;
      watched.zk(1).mute = false;
    }
    return !watched.seen.empty();
  }));
  CHECK_FALSE(first);
}

TEST_CASE("a server that falls silent is left, one that answers pings is kept") {
  Watched watched;
  watched.options.zookeeper_timeout =
      Duration{1'000};  // a machine that stalls as long fails this test
  watched.announce({0});
  watched.start();
  REQUIRE(watched.until([&] { return watched.zk().pings >= 3; }));
  CHECK(watched.zk().sessions == 1);
  watched.zk().mute = true;
  REQUIRE(watched.until([&] { return watched.zk().sessions >= 2; }));
  watched.zk().mute = false;
  REQUIRE(watched.until([&] { return watched.connected(); }));
  CHECK(watched.asked(0) == 1);
}

TEST_CASE("user and password are shown to ZooKeeper, and never said") {
  Watched watched;
  watched.zk().auth = "mesos:hunter2";
  watched.announce({0});
  SUBCASE("the right ones") {
    watched.options.zookeeper->auth = "mesos:hunter2";
    watched.start();
    REQUIRE(watched.until([&] { return !watched.seen.empty(); }));
  }
  SUBCASE("none") {
    watched.start();
    REQUIRE(watched.until([&] { return contains(watched.last_error(), "give no right"); }));
  }
  SUBCASE("others") {
    watched.options.zookeeper->auth = "mesos:hunter3";
    watched.start();
    REQUIRE(watched.until([&] { return contains(watched.last_error(), "give no right"); }));
  }
  SUBCASE("such as are refused at once") {
    watched.options.zookeeper->auth = "no:way";
    watched.start();
    REQUIRE(watched.until([&] { return contains(watched.last_error(), "are refused"); }));
  }
  CHECK(watched.asked(0) == (watched.seen.empty() ? 0 : 1));
  CHECK_FALSE(contains(watched.last_error() + watched.metrics(), "hunter"));
}

TEST_CASE("a leader that cannot be read is not replaced by the next in line") {
  Watched watched;
  watched.zk().set({{"json.info_0000000001", "{}"},
                    {"json.info_0000000002", master_info(watched.master(1).port())}});
  watched.start();
  REQUIRE(watched.until([&] { return contains(watched.last_error(), "not known who leads"); }));
  CHECK(watched.asked(1) == 0);
  // One behind the leader costs only itself.
  watched.zk().set({{"json.info_0000000001", master_info(watched.master(0).port())},
                    {"json.info_0000000002", "junk"}});
  REQUIRE(watched.until([&] { return !watched.seen.empty(); }));
  CHECK(watched.asked(1) == 0);
}

TEST_CASE("a node that is not to ask the master does not ask ZooKeeper either") {
  Watched watched;
  watched.announce({0});
  watched.start();
  REQUIRE(watched.until([&] { return watched.seen.size() == 1; }));
  watched.observer->set_active(false);
  REQUIRE(watched.until([&] { return watched.counts("muster_mesos_zookeeper_connected 0"); }));
  CHECK(watched.observer->status().state == "idle");
  watched.announce({1}, 2);
  watched.observer->set_active(true);
  REQUIRE(watched.until([&] { return watched.last_snapshot() == "b"; }));
  CHECK(watched.zk().sessions == 2);
}

TEST_CASE("it can be stopped at any instant, in the middle of a session too") {
  for (int steps = 0; steps < 40; ++steps) {
    CAPTURE(steps);
    Watched watched;
    watched.options.zookeeper->auth = "mesos:hunter2";
    watched.announce({0, 1});
    watched.start();
    for (int i = 0; i < steps; ++i) watched.context.run_one_for(std::chrono::milliseconds{5});
  }
}

TEST_SUITE_END();
