#include "gossip/io/node.hpp"

#include <atomic>
#include <map>
#include <thread>

#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/udp.hpp>
#include <doctest/doctest.h>
#include <prometheus/registry.h>

using namespace muster;
using namespace muster::gossip;
using namespace std::chrono_literals;

namespace {

Endpoint free_endpoint() {
  boost::asio::io_context context;
  boost::asio::ip::udp::socket socket{context, {boost::asio::ip::address_v4::loopback(), 0}};
  return {*IpAddress::parse("127.0.0.1"), *Port::from(socket.local_endpoint().port())};
}

struct Running {
  boost::asio::io_context control;
  prometheus::Registry registry;
  std::map<std::string, std::vector<std::byte>> records;
  std::size_t superseded = 0;
  std::vector<std::string> problems;
  std::unique_ptr<Node> node;
  Endpoint at = free_endpoint();

  void start(std::size_t number, std::vector<Endpoint> join, std::vector<Key> keys) {
    NodeOptions options;
    options.listen = at;
    options.join = std::move(join);
    options.keys = std::move(keys);
    options.id = NodeId{"00000000-0000-4000-8000-00000000000" + std::to_string(number)};
    options.agent = AgentId{"agent-" + std::to_string(number)};
    options.metadata = {{"observer", "auto"}};
    NodeCallbacks callbacks;
    callbacks.on_records = [this](std::vector<RecordWrite> writes) {
      for (auto& write : writes) {
        if (write.value) {
          records[write.shard + "/" + write.key] = *write.value;
        } else {
          records.erase(write.shard + "/" + write.key);
        }
      }
    };
    callbacks.on_superseded = [this] { ++superseded; };
    callbacks.on_problem = [this](std::string problem) { problems.push_back(std::move(problem)); };
    auto started =
        Node::start(std::move(options), std::move(callbacks), control.get_executor(), registry);
    REQUIRE(started.has_value());
    node = std::move(*started);
  }
  std::size_t alive() const {
    std::size_t count = 0;
    for (const Member& member : node->members()) count += member.status == MemberStatus::alive;
    return count;
  }
};

Key key(unsigned char fill) {
  Key k{};
  k.fill(fill);
  return k;
}

// Polls; the limit is for a machine under load, what is measured is elsewhere.
template <class Done>
bool eventually(std::vector<Running*> nodes, Done done) {
  const auto end = Clock::now() + 20s;
  while (Clock::now() < end) {
    for (Running* running : nodes) {
      running->control.restart();
      running->control.poll();
    }
    if (done()) return true;
    std::this_thread::yield();
  }
  return false;
}

}  // namespace

TEST_CASE("a node that could be read or fooled by the network does not start") {
  boost::asio::io_context control;
  prometheus::Registry registry;
  NodeOptions options;
  options.listen = *Endpoint::parse("0.0.0.0:1");
  options.id = NodeId{"00000000-0000-4000-8000-000000000001"};
  CHECK(Node::start(options, {}, control.get_executor(), registry).error() ==
        boost::system::errc::permission_denied);
  options.listen = free_endpoint();
  options.id = NodeId{"not a uuid"};
  CHECK(Node::start(options, {}, control.get_executor(), registry).error() ==
        boost::system::errc::invalid_argument);
}

TEST_CASE("five nodes find each other, see one leave and one stop, and share records") {
  std::vector<std::unique_ptr<Running>> nodes;
  std::vector<Running*> all;
  for (std::size_t i = 0; i < 5; ++i) {
    nodes.push_back(std::make_unique<Running>());
    all.push_back(nodes.back().get());
    nodes[i]->start(i + 1, {nodes[0]->at}, {key(7)});
  }
  REQUIRE(eventually(all, [&] {
    return std::all_of(all.begin(), all.end(), [](const Running* n) { return n->alive() == 5; });
  }));
  nodes[1]->node->begin_publishing({""});
  std::vector<RecordWrite> writes;
  for (int i = 0; i < 2000; ++i) {
    writes.push_back({"agent/" + std::to_string(i % 20), "task-" + std::to_string(i),
                      std::vector<std::byte>(200, static_cast<std::byte>(i & 0xFF))});
  }
  nodes[1]->node->publish(writes);
  CHECK(eventually(all, [&] {
    return std::all_of(all.begin(), all.end(),
                       [](const Running* n) { return n->records.size() == 2000; });
  }));
  nodes[2]->node->begin_publishing({""});
  CHECK(eventually(all, [&] { return nodes[1]->superseded == 1; }));
  nodes[4]->node->stop();
  CHECK(eventually(all, [&] { return nodes[0]->alive() == 4; }));
  const auto members = nodes[0]->node->members();
  CHECK(members.back().status == MemberStatus::left);
  CHECK(members.back().agent == AgentId{"agent-5"});
}

TEST_CASE("keys rotate while the cluster runs, and a wrong one is refused by name") {
  Running a;
  Running b;
  Running stranger;
  a.start(1, {}, {key(1)});
  b.start(2, {a.at}, {key(1)});
  const std::vector<Running*> all{&a, &b};
  REQUIRE(eventually(all, [&] { return a.alive() == 2 && b.alive() == 2; }));
  for (Running* n : all) CHECK(n->node->set_keys({key(1), key(2)}));
  for (Running* n : all) CHECK(n->node->set_keys({key(2), key(1)}));
  for (Running* n : all) CHECK(n->node->set_keys({key(2)}));
  stranger.start(3, {a.at}, {key(1)});
  CHECK(eventually({&a, &b, &stranger},
                   [&] { return !a.problems.empty() && !stranger.problems.empty(); }));
  CHECK(a.alive() == 2);
  CHECK(b.alive() == 2);
  CHECK(stranger.alive() == 1);
}

TEST_CASE("a key is 64 hexadecimal digits and nothing else") {
  CHECK(parse_key("").has_error());
  CHECK(parse_key("abc").has_error());
  CHECK(parse_key(std::string(63, 'a') + "x").has_error());
  CHECK(parse_key(std::string(66, 'a')).has_error());
  const auto parsed = parse_key(" " + std::string(64, 'a') + "\n");
  REQUIRE(parsed.has_value());
  CHECK((*parsed)[31] == 0xAA);
}
