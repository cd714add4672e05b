// A DNS server of ours with a cluster of its own making, for bench/run dns: dns::Server as `muster
// agent` makes it, with its shipped defaults, and nothing else of the daemon. One worker.
//
//   dns_bench_server ADDRESS:PORT APPS [--cpu N] [--no-cache] [--upstream UPSTREAM]
//                    [--upstream-ca FILE]
//
// APPS applications of four tasks each: appN.marathon.mesos has four addresses, and
// _appN._tcp.marathon.mesos four SRV records with targets of their own. Prints "ready" with its
// figures, then takes lines: "storm N" changes N tasks one after another as fast as they are taken;
// "change" changes one and says how long it took until a client that asks all the time saw it.

#include <algorithm>
#include <arpa/inet.h>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <iostream>
#include <malloc.h>
#include <netinet/in.h>
#include <pthread.h>
#include <sched.h>
#include <string>
#include <sys/socket.h>
#include <thread>
#include <unistd.h>
#include <vector>

#include <boost/asio/io_context.hpp>
#include <prometheus/registry.h>

#include "base/rng.hpp"
#include "bench/dns_tasks.hpp"
#include "dns/io/server.hpp"
#include "dns/io/sockets.hpp"

namespace {

using namespace muster;
using namespace muster::dns;
using bench::task_of;

constexpr int kInstances = 4;
constexpr int kRevisions = 40;

struct Arguments {
  Endpoint listen{IpAddress{IpAddress::V4{127, 0, 0, 1}}, *Port::from(5301)};
  int apps = 0;
  int cpu = -1;
  bool cache = true;
  std::vector<Upstream> upstreams;
  std::string upstream_ca_file{};
};

[[noreturn]] void usage() {
  std::fprintf(stderr, "dns_bench_server: see the head of bench/dns_server.cpp\n");
  std::exit(2);
}

Arguments parse(int argc, char** argv) {
  Arguments out;
  if (argc < 3) usage();
  const auto listen = Endpoint::parse(argv[1]);
  if (!listen) usage();
  out.listen = *listen;
  out.apps = std::atoi(argv[2]);
  for (int i = 3; i < argc; ++i) {
    const std::string_view key = argv[i];
    if (key == "--no-cache") {
      out.cache = false;
    } else if (key == "--cpu" && i + 1 < argc) {
      out.cpu = std::atoi(argv[++i]);
    } else if (key == "--upstream" && i + 1 < argc) {
      const auto upstream = Upstream::parse(argv[++i]);
      if (!upstream) usage();
      out.upstreams.push_back(*upstream);
    } else if (key == "--upstream-ca" && i + 1 < argc) {
      out.upstream_ca_file = argv[++i];
    } else {
      usage();
    }
  }
  return out;
}

double ms_since(TimePoint start) {
  return std::chrono::duration<double, std::milli>(Clock::now() - start).count();
}

// Changes tasks of the cluster one by one, as the control thread of the daemon would.
class Changes {
 public:
  Changes(Server& server, int apps) : server_{server}, revisions_(static_cast<std::size_t>(apps)) {}

  int one() {
    const int app = static_cast<int>(rng_.below(revisions_.size()));
    int& revision = revisions_[static_cast<std::size_t>(app)];
    ClusterDelta delta;
    delta.complete = true;
    const int next = (revision + 1) % kRevisions;
    delta.tasks.push_back({std::make_shared<const Task>(task_of(app, 1, revision)),
                           std::make_shared<const Task>(task_of(app, 1, next))});
    revision = next;
    changed_ = delta.tasks[0].after->addresses[0];
    server_.apply(delta);
    return app;
  }
  IpAddress changed() const { return changed_; }

 private:
  Server& server_;
  std::vector<int> revisions_;
  IpAddress changed_{IpAddress::V4{}};
  Rng rng_{7};
};

// Asks for one name until `wanted` is among the answers; how long that took, in ms.
double seen_after(const Endpoint& server, int app, const IpAddress& wanted, TimePoint start) {
  const FileDescriptor fd{socket(AF_INET, SOCK_DGRAM, 0)};
  const SocketAddress to = to_socket_address(server.address, server.port);
  if (connect(fd.get(), to.get(), to.size) != 0) std::abort();
  const auto query = make_query(*Name::parse("app" + std::to_string(app) + ".marathon.mesos"),
                                type::kA, {.id = 1});
  std::vector<char> reply(kMaxMessageSize);
  const auto octets = wanted.octets();
  const std::string_view needle{reinterpret_cast<const char*>(octets.data()), octets.size()};
  for (;;) {
    if (send(fd.get(), query.data(), query.size(), 0) < 0) std::abort();
    const ssize_t size = recv(fd.get(), reply.data(), reply.size(), 0);
    if (size <= 0) std::abort();
    const std::string_view got{reply.data(), static_cast<std::size_t>(size)};
    if (got.find(needle) != std::string_view::npos) return ms_since(start);
  }
}

void serve_commands(boost::asio::io_context& control, Server& server, const Arguments& arguments) {
  Changes changes{server, arguments.apps};
  std::string line;
  while (std::getline(std::cin, line)) {
    if (line == "change") {
      // Apart from the last publication, so that it does not wait for a batch.
      std::this_thread::sleep_for(2 * Server::kBatch);
      const TimePoint start = Clock::now();
      const int app = changes.one();
      const double applied = ms_since(start);
      const double seen = seen_after(server.bound()[0], app, changes.changed(), start);
      std::printf("changed %.4f %.4f\n", applied, seen);
    } else if (line.starts_with("storm ")) {
      const int count = std::atoi(line.c_str() + 6);
      const TimePoint start = Clock::now();
      for (int i = 0; i < count; ++i) {
        changes.one();
        control.restart();
        control.poll();
      }
      std::this_thread::sleep_for(Server::kBatch);
      control.restart();
      control.poll();
      const double took = ms_since(start);
      std::printf("stormed %d %.3f %u\n", count, took, server.status().serial);
    }
    std::fflush(stdout);
  }
}

}  // namespace

int main(int argc, char** argv) {
  const Arguments arguments = parse(argc, argv);
  boost::asio::io_context control;
  prometheus::Registry registry;
  ServerOptions options;
  options.listen = {arguments.listen};
  options.upstreams = arguments.upstreams;
  options.upstream_ca_file = arguments.upstream_ca_file;
  options.transfer_to = {*Prefix::parse("127.0.0.0/8")};  // the peers serve the same zone
  if (!arguments.cache) options.cache_octets = 0;
  Server server{control.get_executor(), control.get_executor(), options, registry};
  cpu_set_t before;
  sched_getaffinity(0, sizeof before, &before);
  if (arguments.cpu >= 0) {
    // The worker inherits it; this thread goes back to where it was.
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(static_cast<std::size_t>(arguments.cpu), &one);
    sched_setaffinity(0, sizeof one, &one);
  }
  if (!server.start()) {
    std::fprintf(stderr, "dns_bench_server: %s\n", server.status().last_error.c_str());
    return 1;
  }
  sched_setaffinity(0, sizeof before, &before);
  const TimePoint start = Clock::now();
  {
    ClusterDelta first;
    first.complete = true;
    for (int app = 0; app < arguments.apps; ++app) {
      for (int instance = 0; instance < kInstances; ++instance) {
        first.tasks.push_back({nullptr, std::make_shared<const Task>(task_of(app, instance, 0))});
      }
    }
    server.apply(first);
    control.run();
  }
  malloc_trim(0);  // the daemon shares its tasks with who else has them: they are not counted here
  std::printf("ready %llu names %llu records %.1f ms\n",
              static_cast<unsigned long long>(server.status().names),
              static_cast<unsigned long long>(server.status().records), ms_since(start));
  std::fflush(stdout);
  serve_commands(control, server, arguments);
  server.stop();
  return 0;
}
