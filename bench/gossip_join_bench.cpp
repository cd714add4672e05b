#include <algorithm>
#include <array>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <malloc.h>
#include <memory>
#include <string>
#include <sys/resource.h>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>
#include <vector>

#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/udp.hpp>
#include <boost/asio/post.hpp>
#include <prometheus/registry.h>

#include "bench/cluster_tasks.hpp"
#include "cluster/core/cluster.hpp"
#include "gossip/core/gossip.hpp"
#include "gossip/io/node.hpp"

// gossip_join_bench [TASKS [AGENTS [ROUNDS]]]
//
// How long a node that joins needs until it serves everything: one process publishes, another one
// starts and joins, over loopback, sealed; both are what a daemon has of gossip/ and cluster/. Then
// what a member more costs in memory.
using namespace muster;
using namespace std::chrono_literals;

namespace {

constexpr std::size_t kMembers = 1'000;
constexpr std::size_t kInboxSlice = 500;  // the daemon's
constexpr cluster::Cluster::WallTime kWall{std::chrono::seconds{1'700'000'000}};

double milliseconds(std::chrono::nanoseconds took) {
  return std::chrono::duration<double, std::milli>(took).count();
}

double cpu(clockid_t clock) {
  timespec spent{};
  ::clock_gettime(clock, &spent);
  return static_cast<double>(spent.tv_sec) * 1e3 + static_cast<double>(spent.tv_nsec) / 1e6;
}

double heap_megabytes() {
  const struct mallinfo2 info = ::mallinfo2();
  return static_cast<double>(info.uordblks + info.hblkhd) / 1e6;
}

Endpoint free_endpoint() {
  boost::asio::io_context context;
  boost::asio::ip::udp::socket socket{context, {boost::asio::ip::address_v4::loopback(), 0}};
  return {*IpAddress::parse("127.0.0.1"), *Port::from(socket.local_endpoint().port())};
}

/// What the daemon has around a gossip::Node, on one control thread.
struct Host {
  Host(const Endpoint& at, unsigned number, std::vector<Endpoint> join) {
    gossip::NodeOptions options;
    options.listen = at;
    options.join = std::move(join);
    options.id = NodeId{"00000000-0000-4000-8000-00000000000" + std::to_string(number)};
    options.keys = {gossip::Key{1, 2, 3}};
    gossip::NodeCallbacks callbacks;
    callbacks.on_records = [this](std::vector<gossip::RecordWrite> writes) {
      take(std::move(writes));
    };
    auto started = gossip::Node::start(std::move(options), std::move(callbacks),
                                       control.get_executor(), registry);
    if (!started) std::exit(1);
    node = std::move(*started);
  }

  void take(std::vector<gossip::RecordWrite> writes) {
    for (std::size_t from = 0; from < writes.size(); from += kInboxSlice) {
      const TimePoint begun = Clock::now();
      std::vector<cluster::RecordWrite> slice;
      for (std::size_t i = from; i < std::min(writes.size(), from + kInboxSlice); ++i) {
        auto parsed =
            cluster::parse_write(writes[i].shard, writes[i].key, std::move(writes[i].value));
        if (parsed) slice.push_back(std::move(*parsed));
      }
      state.replicate(slice, begun);
      longest = std::max(longest, Clock::now() - begun);
    }
  }

  static cluster::ClusterOptions replicated() {
    cluster::ClusterOptions options;
    options.replicated = true;
    return options;
  }

  boost::asio::io_context control{1};
  boost::asio::executor_work_guard<boost::asio::io_context::executor_type> work{
      control.get_executor()};
  prometheus::Registry registry;
  cluster::Cluster state{replicated()};
  Clock::duration longest{};
  std::unique_ptr<gossip::Node> node;
};

/// In a process of its own, until it is killed. Writes an octet to `ready` once all is published.
[[noreturn]] void publish(const Endpoint& at, std::size_t tasks, std::size_t agents, int ready) {
  Host host{at, 1, {}};
  host.state.lead();
  host.state.begin(std::make_shared<const Observation>(bench::make_snapshot(tasks, agents)),
                   Clock::now(), kWall);
  while (host.state.busy()) host.state.advance(500, Clock::now(), kWall);
  std::vector<gossip::RecordWrite> writes;
  for (auto& write : host.state.take_writes()) {
    writes.push_back(
        {cluster::to_octets(write.shard), cluster::to_octets(write.key), std::move(write.value)});
  }
  host.node->begin_publishing({""});
  host.node->publish(std::move(writes));
  bool done = false;
  host.node->snapshot([&](const auto&) { done = true; });
  while (!done) host.control.run_one_for(10ms);
  if (::write(ready, "!", 1) != 1) std::exit(1);
  for (;;) host.control.run_for(1s);
}

struct Joined {
  double wall = 0;
  double cpu = 0;
  double control_cpu = 0;
  double memory = 0;
  double longest = 0;
};

Joined join(const Endpoint& publisher, std::size_t tasks) {
  Joined joined;
  const double before = heap_megabytes();
  const double cpu_before = cpu(CLOCK_PROCESS_CPUTIME_ID);
  const double control_before = cpu(CLOCK_THREAD_CPUTIME_ID);
  const TimePoint begun = Clock::now();
  Host host{free_endpoint(), 2, {publisher}};
  while (host.state.view().tasks().size() < tasks && Clock::now() - begun < 60s) {
    host.control.run_one_for(10ms);
  }
  joined.wall = milliseconds(Clock::now() - begun);
  joined.cpu = cpu(CLOCK_PROCESS_CPUTIME_ID) - cpu_before;
  joined.control_cpu = cpu(CLOCK_THREAD_CPUTIME_ID) - control_before;
  joined.longest = milliseconds(host.longest);
  host.control.run_for(1s);  // what is on its way is freed
  joined.memory = heap_megabytes() - before;
  host.node->stop();
  return joined;
}

double rounds(std::size_t tasks, std::size_t agents, std::size_t count) {
  std::vector<double> walls;
  for (std::size_t round = 0; round < count; ++round) {
    const Endpoint at = free_endpoint();
    std::array<int, 2> ready{};
    if (::pipe(ready.data()) != 0) std::exit(1);
    const pid_t child = ::fork();
    if (child == 0) publish(at, tasks, agents, ready[1]);
    char octet = 0;
    ::close(ready[1]);
    if (::read(ready[0], &octet, 1) != 1) std::exit(1);
    ::close(ready[0]);
    const Joined joined = join(at, tasks);
    ::kill(child, SIGKILL);
    int status = 0;
    rusage spent{};
    ::wait4(child, &status, 0, &spent);
    walls.push_back(joined.wall);
    std::printf(
        "join: %.0f ms until %zu tasks are in the view; CPU %.0f ms, of it control %.0f ms "
        "(longest slice %.1f ms); heap +%.0f MB\n",
        joined.wall, tasks, joined.cpu, joined.control_cpu, joined.longest, joined.memory);
    std::fflush(stdout);
  }
  std::sort(walls.begin(), walls.end());
  return walls[walls.size() / 2];
}

// The three places that know members: gossip's table, the shell's copy, and liveness.
void members() {
  const double before = heap_megabytes();
  gossip::PlainSealer sealer;
  gossip::GossipOptions options;
  options.self = {1, 1};
  options.profile.endpoints = {free_endpoint()};
  const TimePoint now = Clock::now();
  gossip::Gossip core{options, sealer, Rng{1}, now};
  std::map<gossip::NodeUid, Member> shell;
  cluster::Cluster state{Host::replicated()};
  for (std::size_t i = 1; i <= kMembers; ++i) {
    gossip::Profile profile;
    profile.instance = i;
    profile.endpoints = {{bench::address_of_agent(i), *Port::from(61420)}};
    profile.agent = bench::agent_id(i);
    profile.agent_endpoint = Endpoint{bench::address_of_agent(i), *Port::from(5051)};
    profile.metadata = {
        {"role", "follower"}, {"observer", "auto"}, {"version", "0.1.0"}, {"keys", "1a2b3c4d"}};
    const gossip::MemberRecord record{{{7, i}, 1, 0, MemberStatus::alive},
                                      std::make_shared<const gossip::Profile>(profile)};
    core.preload({&record, 1}, now);
    Member member;
    member.id = record.head.uid.id();
    member.status = MemberStatus::alive;
    member.endpoints = profile.endpoints;
    member.agent = AgentId{profile.agent};
    member.agent_endpoint = profile.agent_endpoint;
    for (const auto& [key, value] : profile.metadata) member.metadata.emplace(key, value);
    shell.emplace(record.head.uid, member);
    state.set_members(std::vector{member}, now);
  }
  std::printf("members: %.2f KB each, %.1f MB for %zu\n",
              (heap_megabytes() - before) * 1e3 / kMembers, heap_megabytes() - before, kMembers);
}

}  // namespace

int main(int argc, char** argv) {
  const auto argument = [&](int at, std::size_t otherwise) {
    return argc > at ? std::strtoul(argv[at], nullptr, 10) : otherwise;
  };
  const std::size_t tasks = argument(1, 100'000);
  const double median = rounds(tasks, argument(2, 1'000), argument(3, 5));
  members();
  std::printf("median %.0f\n", median);
  return 0;
}
