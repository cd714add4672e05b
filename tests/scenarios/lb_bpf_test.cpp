#include <arpa/inet.h>
#include <atomic>
#include <csignal>
#include <filesystem>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <thread>

#include <doctest/doctest.h>

#include "lb/io/bpf_pins.hpp"
#include "tests/scenarios/lb_fixture.hpp"
#ifdef MUSTER_HAS_BPF
#include "lb/io/bpf_table.hpp"
#endif

/// What the bpf driver does beyond what all drivers do.
namespace muster::lb {
namespace {

#define MUSTER_NEEDS_BPF()                                      \
  do {                                                          \
    MUSTER_NEEDS_NETNS();                                       \
    if (const auto missing = bpf_missing(); !missing.empty()) { \
      MESSAGE("SKIPPED: " << missing);                          \
      return;                                                   \
    }                                                           \
  } while (false)

BalancerOptions in_room() {
  BalancerOptions options;
  options.reconcile_interval = Duration{100};
  return options;
}

Task web(int i, const std::string& vip = "11.0.0.1") {
  return task(vip + std::to_string(i), {literal(vip, 80)},
              {"10.2.0." + std::to_string(i) + ":8080"});
}

/// How many flows to the VIP range were translated: none if bpf has done it.
std::string translated(const Netns& netns) {
  return netns.shell("conntrack -L 2>/dev/null | grep -c 'dst=11\\.' || true");
}

sockaddr_in v4(const std::string& text) {
  const Endpoint endpoint = at(text);
  sockaddr_in out{};
  out.sin_family = AF_INET;
  out.sin_port = htons(endpoint.port.number());
  ::inet_pton(AF_INET, endpoint.address.to_string().c_str(), &out.sin_addr);
  return out;
}
sockaddr_in6 v6(const std::string& address, std::uint16_t port) {
  sockaddr_in6 out{};
  out.sin6_family = AF_INET6;
  out.sin6_port = htons(port);
  ::inet_pton(AF_INET6, address.c_str(), &out.sin6_addr);
  return out;
}

/// Sends from a socket that is not connected; who answered, and where from.
template <class Address>
std::string ask_unconnected(int fd, const Address& to) {
  const timeval limit{.tv_sec = 5, .tv_usec = 0};
  ::setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
  ::sendto(fd, "?", 1, 0, reinterpret_cast<const sockaddr*>(&to), sizeof to);
  char buffer[256];
  Address from{};
  socklen_t size = sizeof from;
  const ssize_t got =
      ::recvfrom(fd, buffer, sizeof buffer, 0, reinterpret_cast<sockaddr*>(&from), &size);
  if (got < 0) return std::strerror(errno);
  const bool from_vip = std::memcmp(&from, &to, sizeof from) == 0;
  return std::string{buffer, static_cast<std::size_t>(got)} + (from_vip ? "" : " from elsewhere");
}

TEST_CASE("on bpf the node's own connections are translated before there is a packet") {
  MUSTER_NEEDS_BPF();
  Topology net;
  const auto one = net.serve("10.2.0.1:8080");
  const auto two = net.serve("[fd00:2::1]:8080");
  Node node{net.node, in_room(), "bpf"};
  node.allocate(allocation("web.marathon", "11.0.0.1", "fd01:c::1"));
  node.add(task("1", {named("web.marathon", 80)}, {"10.2.0.1:8080", "[fd00:2::1]:8080"}));
  net.node.run([] {
    for (const char* to : {"11.0.0.1:80", "[fd01:c::1]:80"}) {
      CAPTURE(to);
      CHECK(ask_tcp(at(to)).ends_with(":8080"));
      const Attempt attempt = connect_tcp(at(to));
      REQUIRE(attempt.error == 0);
      CHECK(attempt.socket->peer() == at(to));  // the address that was dialled
    }
    // An IPv4 VIP by an IPv6 socket.
    const Socket mapped{::socket(AF_INET6, SOCK_STREAM, 0)};
    const auto to = v6("::ffff:11.0.0.1", 80);
    CHECK(::connect(mapped.fd(), reinterpret_cast<const sockaddr*>(&to), sizeof to) == 0);
    sockaddr_in6 peer{};
    socklen_t size = sizeof peer;
    ::getpeername(mapped.fd(), reinterpret_cast<sockaddr*>(&peer), &size);
    CHECK(std::memcmp(&peer, &to, sizeof to) == 0);
  });
  CHECK(translated(net.node) == "0\n");
  // A container has a namespace of its own: it is nftables'.
  net.client.run([] { CHECK(ask_tcp(at("11.0.0.1:80")) == "10.2.0.1:8080"); });
  CHECK(translated(net.node) == "1\n");
  CHECK(eventually([&] {  // both are counted
    const auto vips = node.call([](Balancer& balancer) { return balancer.vips(); });
    return vips.at(0).backends.at(0).connections + vips.at(1).backends.at(0).connections == 6;
  }));
}

TEST_CASE("on bpf udp clients, connected or not, are answered by the VIP") {
  MUSTER_NEEDS_BPF();
  Topology net;
  const auto one = net.serve("10.2.0.1:5353");
  const auto two = net.serve("[fd00:2::1]:5353");
  Node node{net.node, in_room(), "bpf"};
  node.allocate(allocation("dns.marathon", "11.0.0.1", "fd01:c::1"));
  node.add(
      task("1", {named("dns.marathon", 53, Protocol::udp)}, {"10.2.0.1:5353", "[fd00:2::1]:5353"}));
  net.node.run([] {
    CHECK(ask_udp(at("11.0.0.1:53")) == "10.2.0.1:5353");
    CHECK(ask_udp(at("[fd01:c::1]:53")) == "[fd00:2::1]:5353");
    const Socket four{::socket(AF_INET, SOCK_DGRAM, 0)};
    CHECK(ask_unconnected(four.fd(), v4("11.0.0.1:53")) == "10.2.0.1:5353");
    CHECK(ask_unconnected(four.fd(), v4("10.2.0.1:5353")) == "10.2.0.1:5353 from elsewhere");
    const Socket six{::socket(AF_INET6, SOCK_DGRAM, 0)};
    CHECK(ask_unconnected(six.fd(), v6("fd01:c::1", 53)) == "[fd00:2::1]:5353");
    CHECK(ask_unconnected(six.fd(), v6("::ffff:11.0.0.1", 53)) == "10.2.0.1:5353");
  });
  CHECK(translated(net.node) == "0\n");
}

TEST_CASE("on bpf a udp socket that is connected to a backend that left is ended at once") {
  MUSTER_NEEDS_BPF();
  Topology net;
  const auto one = net.serve("10.2.0.1:53");
  const auto two = net.serve("10.2.0.2:53");
  Node node{net.node, in_room(), "bpf"};
  const Task first = task("1", {literal("11.0.0.1", 53, Protocol::udp)}, {"10.2.0.1:53"});
  const Task second = task("2", {literal("11.0.0.1", 53, Protocol::udp)}, {"10.2.0.2:53"});
  node.add(first);
  const Socket connected = net.node.run([] { return connect_udp(at("11.0.0.1:53")); });
  const Socket other = net.node.run([] { return connect_udp(at("10.2.0.1:53")); });
  const Socket loose = net.node.run([] { return Socket{::socket(AF_INET, SOCK_DGRAM, 0)}; });
  CHECK(ask(connected) == "10.2.0.1:53");
  CHECK(ask(other) == "10.2.0.1:53");
  CHECK(ask_unconnected(loose.fd(), v4("11.0.0.1:53")) == "10.2.0.1:53");
  node.add(second);
  CHECK(ask(connected) == "10.2.0.1:53");  // stays where it is while it can
  node.remove(first);
  CHECK(eventually([&] { return ::send(connected.fd(), "?", 1, MSG_NOSIGNAL) < 0; }));
  CHECK(ask(other) == "10.2.0.1:53");  // that one was not balanced
  CHECK(ask_unconnected(loose.fd(), v4("11.0.0.1:53")) == "10.2.0.2:53");
  net.node.run([] { CHECK(ask_udp(at("11.0.0.1:53")) == "10.2.0.2:53"); });
}

TEST_CASE("on bpf a VIP with a backend that does not answer is nftables' for a while") {
  MUSTER_NEEDS_BPF();
  Topology net;
  const auto alive = net.serve("10.2.0.1:8080");
  net.backends.shell(
      "nft 'table ip dead { chain in { type filter hook input priority 0; "
      "ip daddr 10.2.0.2 drop; }; }'");
  BalancerOptions options = in_room();
  options.reconcile_interval = Duration{30000};
  Node node{net.node, options, "bpf"};
  node.add(web(1));
  node.add(web(2));
  net.node.run([&] {
    // The first that meets the dead one waits in vain; the kernel knows after a second.
    int unlucky = 0;
    for (int i = 0; i < 64 && unlucky == 0; ++i) {
      unlucky += connect_tcp(at("11.0.0.1:80"), std::chrono::milliseconds{1500}).error != 0 ? 1 : 0;
    }
    CHECK(unlucky == 1);
    const std::string before = translated(net.node);
    for (int i = 0; i < 6; ++i) {
      CHECK(ask_tcp(at("11.0.0.1:80"), std::chrono::seconds{15}) == "10.2.0.1:8080");
    }
    CHECK(translated(net.node) != before);
  });
  // Once it is without the dead one, it is clean.
  node.remove(web(2));
  net.node.shell("conntrack -F 2>/dev/null");
  net.node.run([] { CHECK(ask_tcp(at("11.0.0.1:80")) == "10.2.0.1:8080"); });
  CHECK(translated(net.node) == "0\n");
}

TEST_CASE("on bpf a policy that the programs do not have is left to nftables") {
  MUSTER_NEEDS_BPF();
  Topology net;
  const auto one = net.serve("10.2.0.1:8080");
  BalancerOptions options = in_room();
  options.policy = Policy::round_robin;
  Node node{net.node, options, "bpf"};
  node.add(web(1));
  net.node.run([] { CHECK(ask_tcp(at("11.0.0.1:80")) == "10.2.0.1:8080"); });
  CHECK(translated(net.node) == "1\n");
}

TEST_CASE("bpf and nft follow one another without a failed connection, and a restart adopts") {
  MUSTER_NEEDS_BPF();
  Topology net;
  const auto one = net.serve("10.2.0.1:8080");
  const auto everything = [] { return Node::delta_of({added(web(1))}); };
  const std::string folder = net.node.run([] { return *bpf::pin_folder("muster"); });
  const auto pins = [&folder] {
    std::map<std::string, std::filesystem::file_time_type> found;
    std::error_code error;
    for (const auto& entry : std::filesystem::directory_iterator{folder, error}) {
      found[entry.path().filename()] = entry.last_write_time();
    }
    return found;
  };
  std::atomic<bool> stop = false;
  std::atomic<long> good = 0;
  std::atomic<long> bad = 0;
  {
    Node node{net.node, in_room(), "nft"};
    node.apply(everything());
  }
  std::thread load{[&] {
    net.node.enter();
    while (!stop) ++(connect_tcp(at("11.0.0.1:80")).error == 0 ? good : bad);
  }};
  const auto some_more = [&good] {
    const long before = good;
    return eventually([&] { return good > before + 50; });
  };
  std::map<std::string, std::filesystem::file_time_type> before;
  for (const std::string name : {"bpf", "bpf", "nft", "bpf"}) {
    CAPTURE(name);
    Node node{net.node, in_room(), name};
    node.apply(everything());
    CHECK(some_more());
    if (name == "nft") {
      CHECK(eventually([&] { return pins().empty(); }));
    } else {
      CHECK_FALSE(pins().empty());
      if (!before.empty()) CHECK(pins() == before);
    }
    before = pins();
    CHECK(some_more());
    CHECK(node.status().driver == name);
    CHECK(node.status().healthy);
  }
  stop = true;
  load.join();
  CHECK(bad == 0);
  net.node.run([] {
    const auto removed = cleanup();
    REQUIRE(removed.has_value());
    CHECK(removed->at(0).starts_with("BPF programs and maps in "));
  });
  CHECK(pins().empty());
}

#ifdef MUSTER_HAS_BPF
TEST_CASE("on bpf what somebody else does to the maps is found by the next comparison") {
  MUSTER_NEEDS_BPF();
  Topology net;
  const auto one = net.serve("10.2.0.1:8080");
  Node node{net.node, in_room(), "bpf"};
  node.add(web(1));
  node.add(web(3, "11.0.0.3"));
  std::string detail;
  const auto maps =
      net.node.run([&] { return bpf::attach("muster", testing::BpfRoom::get().cgroup(), detail); });
  REQUIRE_MESSAGE(maps.has_value(), detail);
  const auto right = *bpf::read(*maps);
  CHECK(right.balanced.size() == 2);
  const std::vector<bpf::Writes> harms{
      {.puts = {}, .balance = {}, .leave = {tcp("11.0.0.1:80")}, .drops = {}},
      {.puts = {}, .balance = {}, .leave = {}, .drops = {{tcp("11.0.0.3:80"), 0}}},
      {.puts = {{tcp("11.0.0.1:80"), 0, at("10.9.9.9:9")}},
       .balance = {},
       .leave = {},
       .drops = {}},
      {.puts = {{tcp("11.7.7.7:80"), 0, at("10.9.9.9:9")}},
       .balance = {{tcp("11.7.7.7:80"), 1}},
       .leave = {},
       .drops = {}}};
  for (const bpf::Writes& harm : harms) {
    CHECK(bpf::write(*maps, harm).empty());
    CHECK(eventually([&] {
      const auto now = bpf::read(*maps);
      return now && now->balanced == right.balanced && now->slots == right.slots;
    }));
  }
  CHECK(node.status().healthy);
}
#endif

TEST_CASE("what driver bpf lacks is said in plain words") {
  MUSTER_NEEDS_NETNS();
  const Netns netns;
  DriverConfig config;
  config.range_v4 = Prefix::parse("11.0.0.0/8");
  config.bpf_cgroup = "/nowhere/at/all";
  const auto findings = netns.run([&] { return check_driver("bpf", config); });
  REQUIRE_FALSE(findings.empty());
  CHECK(findings[0].level == Finding::Level::missing);
  MESSAGE(findings[0].what << " -> " << findings[0].remedy);
  const bool known = findings[0].what.find("/nowhere/at/all") != std::string::npos ||
                     findings[0].what.find("BPF file system") != std::string::npos ||
                     findings[0].what.find("without driver bpf") != std::string::npos;
  CHECK(known);
  CHECK(netns.shell("nft list tables").empty());
}

}  // namespace
}  // namespace muster::lb
