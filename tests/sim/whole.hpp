#pragma once

#include <algorithm>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include "cluster/core/participant.hpp"
#include "tests/sim/cluster.hpp"
#include "tests/unit/cluster/samples.hpp"

/// Whole nodes, gossip and cluster/core together, with emulated masters and agents and virtual
/// time.
namespace muster::testing {

using namespace std::chrono_literals;
using cluster::Participant;
using cluster::Steps;

/// The tasks there are. Every node that can reach it is told at once.
struct World {
  std::map<TaskKey, Task> tasks;
  std::set<unsigned> agents{0, 1, 2, 3};
  bool recovering = false;
  std::uint64_t changes = 0;
  std::map<TaskKey, AgentId> ended;

  void add(const std::string& id, const std::string& vip, unsigned agent) {
    Task task = testing::make_task(id, "a" + std::to_string(agent));
    task.ports[0].vips = {{VipName{vip}, testing::port(80), Protocol::tcp}};
    tasks.insert_or_assign(key_of(task), task);
    ++changes;
  }
  void remove(const std::string& id) {
    const auto task = tasks.find(testing::key(id));
    if (task == tasks.end()) return;
    ended.insert_or_assign(task->first, task->second.agent_id);
    tasks.erase(task);
    ++changes;
  }
  Observation snapshot() const {
    Observation all;
    all.snapshot = true;
    all.recovering = recovering;
    all.frameworks = {testing::make_framework("f1")};
    for (const unsigned agent : agents) {
      all.agents.push_back(testing::make_agent("a" + std::to_string(agent)));
    }
    for (const auto& [key, task] : tasks) {
      if (knows(task)) all.tasks.push_back(task);
    }
    return all;
  }
  bool knows(const Task& task) const {
    return agents.contains(static_cast<unsigned>(std::stoul(task.agent_id.str().substr(1))));
  }
  /// What the agent of this number says of itself. It remembers what ended.
  Observation of_agent(unsigned agent) const {
    const AgentId id{"a" + std::to_string(agent)};
    Observation all;
    all.snapshot = true;
    all.frameworks = {testing::make_framework("f1")};
    all.agents = {testing::make_agent(id.str())};
    for (const auto& [key, task] : tasks) {
      if (task.agent_id == id) all.tasks.push_back(task);
    }
    for (const auto& [key, where] : ended) {
      if (where == id) all.tasks_gone.push_back({key, GoneReason::terminal});
    }
    return all;
  }
};

inline Member member_of(const gossip::MemberTable::Entry& entry) {
  Member member;
  member.id = entry.uid.id();
  member.status = entry.status;
  member.endpoints = entry.profile->endpoints;
  for (const auto& [key, value] : entry.profile->metadata) member.metadata.emplace(key, value);
  return member;
}

struct Seat {
  Seat(const NodeId& id, bool speaks, TimePoint now)
      : cluster{options(speaks)}, participant{cluster, id, "auto", false, {}, now} {
    cluster.set_self(id);
  }
  static cluster::ClusterOptions options(bool speaks) {
    cluster::ClusterOptions options;
    options.replicated = true;
    options.speaks = speaks;
    return options;
  }
  cluster::Cluster cluster;
  Participant participant;
  std::optional<Observation> told;  // what its agent said last
  TimePoint next_poll{};
  std::size_t lost = 0;  // of the node's lost shards
  bool observing = false;
  bool anew = false;
  std::uint64_t seen = 0;  // of World::changes
  std::uint64_t superseded = 0;
  std::vector<cluster::RecordWrite> inbox;
};

class Whole {
 public:
  /// What the agent beside a node answers; nothing: it does not.
  using AgentOf = std::function<std::optional<Observation>(std::size_t)>;

  Whole(std::size_t nodes, std::uint64_t seed, AgentOf agents = nullptr)
      : net{nodes, seed, network(seed)}, agent_of{std::move(agents)} {
    net.on_record = [this](std::size_t at, const gossip::RecordWrite& write) {
      auto parsed = cluster::parse_write(write.shard, write.key, write.value);
      REQUIRE(parsed.has_value());
      if (seats.contains(at)) seats.at(at)->inbox.push_back(std::move(*parsed));
    };
    for (std::size_t i = 0; i < nodes; ++i) boot(i);
    net.start_cold(200ms);
  }
  void boot(std::size_t i) {
    const bool speaks = agent_of != nullptr && !silent.contains(i);
    seats.insert_or_assign(i, std::make_unique<Seat>(net.node(i).uid.id(), speaks, net.now()));
    seats.at(i)->lost = net.node(i).lost.size();
  }
  void kill(std::size_t i) {
    net.kill(i);
    seats.erase(i);
  }
  /// With `disk`, what Cluster::save() gave.
  void restart(std::size_t i, const std::vector<std::byte>& disk = {}) {
    boot(i);
    if (!disk.empty()) REQUIRE(seats.at(i)->cluster.restore(disk, net.now(), wall()).has_value());
    net.restart(i);
  }
  void run_for(Duration time) {
    for (Duration gone{0}; gone < time; gone += 20ms) {
      net.run_for(20ms);
      for (auto& [i, seat] : seats) {
        const bool paused = net.node(i).paused_until > net.now();
        if (net.node(i).running() && !paused) turn(i, *seat);
      }
      if (after_turn) after_turn();
    }
  }
  std::vector<std::size_t> publishers() const {
    std::vector<std::size_t> found;
    for (const auto& [i, seat] : seats) {
      if (seat->cluster.leading()) found.push_back(i);
    }
    return found;
  }
  /// Everybody serves what the master says, at the same addresses.
  bool equal(const World& master) const {
    const auto& first = seats.begin()->second->cluster.view();
    return std::all_of(seats.begin(), seats.end(), [&](const auto& entry) {
      const auto& view = entry.second->cluster.view();
      return view.tasks().size() == master.tasks.size() &&
             view.vip_records() == first.vip_records() &&
             std::all_of(master.tasks.begin(), master.tasks.end(), [&](const auto& task) {
               const auto seen = view.task(task.first);
               return seen && seen->ports == task.second.ports;
             });
    });
  }

  gossip::sim::Cluster net;
  std::map<std::size_t, std::unique_ptr<Seat>> seats;
  std::function<World*(std::size_t)> reach_of;  // null: none within reach
  AgentOf agent_of;                             // null: nobody asks agents
  std::set<std::size_t> silent;                 // nodes that leave it to the master, once booted
  std::function<void()> after_turn;             // every 20 ms

 private:
  static gossip::sim::NetworkOptions network(std::uint64_t seed) {
    gossip::sim::NetworkOptions network;
    network.loss_percent = static_cast<std::uint32_t>(seed % 3) * 5;
    return network;
  }
  cluster::Cluster::WallTime wall() const {
    return cluster::Cluster::WallTime{
        std::chrono::duration_cast<std::chrono::seconds>(net.now().time_since_epoch())};
  }
  static std::vector<gossip::RecordWrite> octets(const std::vector<cluster::RecordWrite>& from) {
    std::vector<gossip::RecordWrite> writes;
    for (const auto& write : from) {
      writes.push_back(
          {cluster::to_octets(write.shard), cluster::to_octets(write.key), write.value});
    }
    return writes;
  }
  void turn(std::size_t i, Seat& seat) {
    const TimePoint now = net.now();
    const auto& table = net.node(i).core->members();
    std::vector<Member> members;
    for (const auto& entry : table.entries()) members.push_back(member_of(entry));
    seat.cluster.set_members(members, now);
    seat.cluster.replicate(std::exchange(seat.inbox, {}), now);
    World* const at = reach_of(i);
    const bool reach = seat.observing && at != nullptr;
    if (net.node(i).superseded > seat.superseded) {
      seat.superseded = net.node(i).superseded;
      perform(i, seat, seat.participant.superseded(members, reach, now));
    }
    perform(i, seat, seat.participant.decide(members, reach, now));
    if (reach && (seat.anew || seat.seen != at->changes)) {
      seat.anew = false;
      seat.seen = at->changes;
      auto snapshot = std::make_shared<const Observation>(at->snapshot());
      Steps steps;
      const bool admitted = seat.participant.admit(*snapshot, steps);
      perform(i, seat, std::move(steps));
      if (admitted) seat.cluster.begin(snapshot, now, wall());
      while (seat.cluster.busy()) seat.cluster.advance(50, now, wall());
    }
    hear_agent(i, seat);
    seat.cluster.on_timer(now, wall());
    if (seat.cluster.take_wants_snapshot(now)) seat.anew = true;
    const cluster::OwnShards own = seat.cluster.take_own();
    for (const auto& shard : own.take) net.own(i, cluster::to_octets(shard));
    if (!own.writes.empty()) net.publish(i, octets(own.writes));
    for (const auto& shard : own.leave) net.disown(i, cluster::to_octets(shard));
    if (auto writes = octets(seat.cluster.take_writes()); !writes.empty()) {
      net.publish(i, std::move(writes));
    }
    if (auto claims = octets(seat.cluster.take_claims()); !claims.empty()) {
      net.offer(i, cluster::to_octets(cluster::ShardId{cluster::ShardKind::claims, {}}),
                std::move(claims));
    }
  }
  void hear_agent(std::size_t i, Seat& seat) {
    const auto& lost = net.node(i).lost;
    for (; seat.lost < lost.size(); ++seat.lost) {
      seat.cluster.own_lost(*cluster::parse_shard(lost[seat.lost]), net.now());
    }
    if (!agent_of || silent.contains(i) || net.now() < seat.next_poll) return;
    seat.next_poll = net.now() + 240ms;
    auto said = agent_of(i);
    if (!said || said == seat.told) return;
    seat.told = std::move(said);
    seat.cluster.observe_agent(*seat.told, net.now(), wall());
    while (seat.cluster.busy()) seat.cluster.advance(50, net.now(), wall());
  }
  void perform(std::size_t i, Seat& seat, Steps steps) {
    if (steps.stop_publishing) net.stop_publishing(i);
    if (steps.begin_publishing) net.begin_publishing(i, cluster::published_prefixes());
    if (steps.read_replica) {
      for (const auto& [id, shard] : net.node(i).core->shards().shards()) {
        for (const auto& [key, value] : shard.records) net.on_record(i, {id, key, value});
      }
    }
    if (steps.observe) seat.observing = *steps.observe;
    if (steps.observe_anew) seat.anew = true;
    if (steps.metadata) {
      net.set_metadata(i, {steps.metadata->begin(), steps.metadata->end()});
    }
  }
};

inline void fill(World& master, int tasks) {
  for (int i = 0; i < tasks; ++i) {
    master.add("t" + std::to_string(i), "app" + std::to_string(i / 2) + ".marathon",
               static_cast<unsigned>(i % 4));
  }
}

}  // namespace muster::testing
