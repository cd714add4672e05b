#include <csignal>
#include <cstdio>
#include <fcntl.h>
#include <filesystem>
#include <netinet/in.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <doctest/doctest.h>

#include "cluster_text.hpp"
#include "observer_fixture.hpp"
#include "scripted_zookeeper.hpp"
#include "tests/support/test_certificates.hpp"

// Against Debian's own `zookeeper`: what the scripted one in zk_detector_test.cpp cannot vouch for.

using namespace muster;
using namespace muster::mesos;
using namespace muster::mesos::testing;
using muster::testing::TestFolder;

namespace {

constexpr const char* kJava = "/usr/bin/java";
constexpr const char* kJar = "/usr/share/java/zookeeper.jar";
constexpr std::chrono::seconds kPatience{120};  // Java on a busy machine
const bool kMissing = !std::filesystem::exists(kJava) || !std::filesystem::exists(kJar);

Reply streaming(std::string_view task) {
  return {
      {stream_head(), chunk(record(subscribed(get_state(task_v1(task, "TASK_RUNNING"),
                                                        agent_v1("S0", "slave(1)@10.0.0.1:5051"),
                                                        framework_v1("F0", "marathon")))))},
      true};
}

bool contains(const std::string& text, std::string_view part) {
  return text.find(part) != std::string::npos;
}

std::uint16_t free_port() {
  boost::asio::io_context context;
  return boost::asio::ip::tcp::acceptor{context, {boost::asio::ip::address_v4::loopback(), 0}}
      .local_endpoint()
      .port();
}

/// A Java program of ZooKeeper's, killed with this object.
class Java {
 public:
  Java(const std::vector<std::string>& arguments, const std::string& log) {
    int in[2];
    REQUIRE(::pipe2(in, O_CLOEXEC) == 0);
    std::vector<std::string> words{kJava,
                                   "-Xmx128m",
                                   "-XX:+UseSerialGC",
                                   "-XX:TieredStopAtLevel=1",
                                   "-cp",
                                   std::string{kJar} + ":/usr/share/java/slf4j-nop.jar"};
    words.insert(words.end(), arguments.begin(), arguments.end());
    std::vector<char*> argv;
    for (std::string& word : words) argv.push_back(word.data());
    argv.push_back(nullptr);
    posix_spawn_file_actions_t files;
    posix_spawn_file_actions_init(&files);
    posix_spawn_file_actions_adddup2(&files, in[0], 0);
    posix_spawn_file_actions_addopen(&files, 1, log.c_str(), O_CREAT | O_WRONLY | O_APPEND, 0600);
    posix_spawn_file_actions_adddup2(&files, 1, 2);
    CHECK(::posix_spawn(&pid_, kJava, &files, nullptr, argv.data(), environ) == 0);
    posix_spawn_file_actions_destroy(&files);
    ::close(in[0]);
    in_ = in[1];
  }
  Java(const Java&) = delete;
  Java& operator=(const Java&) = delete;
  ~Java() {
    ::close(in_);
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
  }

  void type(const std::string& line) const {
    CHECK(::write(in_, (line + "\n").data(), line.size() + 1) ==
          static_cast<ssize_t>(line.size() + 1));
  }

 private:
  pid_t pid_ = -1;
  int in_ = -1;
};

/// The server, and sessions of masters to be.
class RealZooKeeper {
 public:
  RealZooKeeper() {
    config_ = folder_.put("zoo.cfg",
                          "tickTime=500\ndataDir=" + (folder_.path() / "data").string() +
                              "\nclientPortAddress=127.0.0.1\nclientPort=" + std::to_string(port_) +
                              "\nadmin.enableServer=false\nmaxClientCnxns=0\n");
    start();
  }
  void start() {
    server_ = std::make_unique<Java>(
        std::vector<std::string>{"org.apache.zookeeper.server.ZooKeeperServerMain", config_},
        (folder_.path() / "server.log").string());
  }
  void kill() { server_.reset(); }
  /// A session of its own that types these lines; it lasts as long as the object. As Mesos does,
  /// masters let nobody but who knows their password read.
  std::unique_ptr<Java> session(const std::vector<std::string>& lines) const {
    auto out = std::make_unique<Java>(
        std::vector<std::string>{"org.apache.zookeeper.ZooKeeperMain", "-waitforconnection",
                                 "-timeout", "4000", "-server",
                                 "127.0.0.1:" + std::to_string(port_)},
        (folder_.path() / "sessions.log").string());
    out->type("addauth digest mesos:hunter2");
    for (const std::string& line : lines) out->type(line);
    return out;
  }
  std::unique_ptr<Java> master(std::uint16_t port) const {
    return session(
        {"create -e -s /mesos/json.info_ " + master_info(port) + " auth:mesos:hunter2:cdrwa"});
  }
  std::uint16_t port() const { return port_; }

 private:
  TestFolder folder_;
  const std::uint16_t port_ = free_port();
  std::string config_;
  std::unique_ptr<Java> server_;
};

}  // namespace

TEST_SUITE_BEGIN("a real ZooKeeper");

TEST_CASE("digest, order, a leader that dies, and a server that does" * doctest::skip(kMissing)) {
  RealZooKeeper zookeeper;
  Observed observed{2};
  observed.master(0).script = {streaming("a")};
  observed.master(1).script = {streaming("b")};
  ObserverOptions& options = observed.options;
  const std::string host = "@127.0.0.1:" + std::to_string(zookeeper.port()) + "/mesos";
  options.zookeeper = *ZkUrl::parse("zk://mesos:wrong" + host);
  observed.start();
  const Observer::Status& refused = observed.observer->status();
  // Once the server is there it has nothing yet.
  REQUIRE_MESSAGE(
      observed.until([&] { return contains(refused.last_error, "path is not there"); }, kPatience),
      refused.last_error);
  const auto setup = zookeeper.session({"create /mesos {} auth:mesos:hunter2:cdrwa",
                                        "create /mesos/log_replicas {} auth:mesos:hunter2:cdrwa"});
  REQUIRE_MESSAGE(
      observed.until([&] { return contains(refused.last_error, "give no right"); }, kPatience),
      refused.last_error);
  CHECK(observed.master(0).requests.empty());
  observed.observer->set_active(false);

  options.zookeeper = *ZkUrl::parse("zk://mesos:hunter2" + host);
  observed.start();
  const Observer::Status& status = observed.observer->status();
  REQUIRE(
      observed.until([&] { return contains(status.last_error, "no master leads"); }, kPatience));
  auto leader = zookeeper.master(observed.master(0).port());
  REQUIRE_MESSAGE(observed.until([&] { return observed.seen.size() == 1; }, kPatience),
                  status.last_error);
  CHECK(observed.seen[0].tasks.at(0).id.str() == "a");
  auto second = zookeeper.master(observed.master(1).port());
  REQUIRE(observed.until([&] { return observed.seen.size() == 2; }, kPatience));
  REQUIRE(observed.seen[1].masters.has_value());
  CHECK(observed.seen[1].masters->size() == 2);
  CHECK(observed.master(1).requests.empty());

  // The server dies: the stream stands, and once the server is back it is asked again.
  zookeeper.kill();
  REQUIRE(observed.until([&] { return observed.counts("muster_mesos_zookeeper_connected 0"); },
                         kPatience));
  CHECK(status.state == "subscribed");
  zookeeper.start();
  REQUIRE(observed.until([&] { return observed.counts("muster_mesos_zookeeper_connected 1"); },
                         kPatience));
  CHECK(observed.master(0).requests.size() == 1);

  // The leader's process dies without a word: its session, and so its node, ends by itself. The
  // old stream says something at the end, too late.
  const std::size_t before = observed.seen.size();
  leader.reset();
  REQUIRE(observed.until([&] { return !observed.master(1).requests.empty(); }, kPatience));
  observed.master(0).say(chunk(record(task_updated("a", "TASK_KILLED"))));
  REQUIRE(observed.until(
      [&] { return observed.seen.size() > before && observed.seen.back().snapshot; }, kPatience));
  CHECK(observed.seen.back().tasks.at(0).id.str() == "b");
  CHECK_FALSE(contains(observed.metrics(), "hunter2"));
}

TEST_CASE("without a ZooKeeper that is said" * doctest::skip(!kMissing)) {
  std::puts("SKIPPED: Debian's packages zookeeper and default-jre-headless are not installed");
}

TEST_SUITE_END();
