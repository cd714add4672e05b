#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <queue>
#include <set>
#include <string>
#include <vector>

#include "base/rng.hpp"
#include "gossip/core/gossip.hpp"

namespace muster::gossip::sim {

/// Seals by counting: a box is as long as libsodium's, and opens only with the same associated
/// data and key.
class CountingSealer : public Sealer {
 public:
  CountingSealer(std::uint64_t key, Rng rng) : key_{key}, rng_{rng} {}
  void seal(std::span<const std::byte> aad, std::span<const std::byte> plain,
            std::vector<std::byte>& out) override;
  bool open(std::span<const std::byte> aad, std::span<const std::byte> box,
            std::vector<std::byte>& plain) override;
  std::uint64_t random() override { return rng_.next(); }
  static constexpr std::size_t kOverhead = 1 + 24 + 16;

 private:
  std::uint64_t key_;
  Rng rng_;
};

struct NetworkOptions {
  std::uint32_t loss_percent = 0;
  std::uint32_t duplicate_percent = 0;
  std::uint32_t corrupt_percent = 0;
  std::chrono::microseconds delay_min{250};
  std::chrono::microseconds delay_max{850};
  std::uint32_t late_percent = 0;  // of datagrams, delayed tenfold: reordering
  double stream_bytes_per_second = 100e6;
};

/// Whole clusters on virtual time, in one thread. All randomness comes from the seed: one seed is
/// one run, and trace() is equal for equal runs.
class Cluster {
 public:
  using Index = std::size_t;
  struct Node {
    Node(const Endpoint& gossip, const Endpoint& mesos) : at{gossip}, agent{mesos} {}
    Endpoint at;
    Endpoint agent;
    NodeUid uid;
    std::uint64_t key = 1;
    std::string cluster = "sim";
    std::uint32_t epoch = 0;  // what its disk remembers
    std::unique_ptr<CountingSealer> sealer;
    std::unique_ptr<Gossip> core;
    bool host_up = true;
    TimePoint paused_until{};
    std::chrono::microseconds slow{0};  // added to each datagram in and out
    std::uint64_t packets = 0;
    std::uint64_t bytes = 0;  // with IP and UDP headers
    std::uint64_t stream_bytes = 0;
    std::uint64_t superseded = 0;
    std::vector<std::string> lost;  // shards of own()
    std::set<NodeUid> told;         // members, as Effects name and forget them
    std::map<std::string, std::map<std::string, std::vector<std::byte>>> replica;  // from Effects
    TimePoint wake = TimePoint::max();
    TimePoint woken;          // last
    std::uint32_t wakes = 0;  // at that very moment, after the first
    std::uint32_t life = 0;   // of the process: events for an earlier one are void
    std::vector<std::pair<Endpoint, std::vector<std::byte>>> socket;  // while paused
    bool running() const noexcept { return core != nullptr; }
  };
  using OnMember = std::function<void(Index observer, const MemberChange&)>;
  using OnRecord = std::function<void(Index observer, const RecordWrite&)>;

  Cluster(std::size_t nodes, std::uint64_t seed, NetworkOptions network = {});
  Cluster(const Cluster&) = delete;
  Cluster& operator=(const Cluster&) = delete;

  /// All at once, each knowing all others as alive, at random heartbeat phases.
  void start_warm();
  /// Each started with node 0 .. 2 as seeds, within `spread`.
  void start_cold(Duration spread);
  void start(Index, std::vector<Index> seeds);
  void kill(Index);     // the process: its host answers
  void cut_off(Index);  // the host
  void leave(Index);
  void restart(Index, bool disk_kept = true);
  /// A new node with a new id at the address of `old`.
  Index recycle(Index old);
  Index add(std::vector<Index> seeds);
  void pause(Index, Duration);
  /// True: what goes from the first to the second is lost.
  void cut(std::function<bool(Index, Index)> cut) { cut_ = std::move(cut); }
  void heal() { cut_ = nullptr; }

  void run_for(Duration);
  /// Steps of 1 ms until `done`; the time it took, or nothing if `limit` came first.
  std::optional<Duration> run_until(const std::function<bool()>& done, Duration limit);

  void publish(Index, std::vector<RecordWrite>);
  void offer(Index, const std::string& prefix, std::vector<RecordWrite>);
  void own(Index, const std::string& shard);
  void disown(Index i, const std::string& shard) { nodes_[i]->core->disown(shard); }
  void stop_publishing(Index i) { nodes_[i]->core->stop_publishing(); }
  void set_seeds(Index, std::vector<Endpoint> seeds);
  void set_metadata(Index, std::vector<std::pair<std::string, std::string>>);
  void begin_publishing(Index, std::vector<std::string> prefixes = {""});

  /// Every running node believes exactly the running ones alive, and holds the same.
  bool views_equal() const;
  bool roots_equal() const;
  /// Running nodes that do not yet believe `who` dead (or gone).
  std::size_t unaware_of_death(Index who) const;
  std::size_t running() const;

  Node& node(Index i) { return *nodes_[i]; }
  const Node& node(Index i) const { return *nodes_[i]; }
  std::size_t size() const noexcept { return nodes_.size(); }
  std::optional<Index> find(const NodeUid&) const;
  TimePoint now() const noexcept { return now_; }
  std::uint64_t trace() const noexcept { return trace_; }
  NetworkOptions& network() noexcept { return network_; }
  Rng& rng() noexcept { return rng_; }
  /// Someone began to believe a running, connected node dead.
  std::uint64_t false_deaths() const noexcept { return false_deaths_; }
  void reset_counters();
  /// Sent by anybody since the beginning.
  std::size_t largest_datagram() const noexcept { return largest_datagram_; }
  bool check_false_deaths = true;
  Timing timing;              // of nodes started from now on
  std::set<Index> unhealthy;  // not counted when believed dead: stalled, cut off, half detached
  OnMember on_member;
  OnRecord on_record;

 private:
  enum class What : std::uint8_t { wake, datagram, host_probe, opened, data, writable, closed };
  struct Event {
    TimePoint at;
    std::uint64_t order;
    std::uint32_t body;
    bool operator<(const Event& o) const { return at != o.at ? at > o.at : order > o.order; }
  };
  struct Body {
    What what = What::wake;
    Index node = 0;
    std::uint32_t life = 0;
    std::optional<Endpoint> from;
    std::vector<std::byte> bytes;
    NodeUid uid;
    StreamId stream = 0;
  };
  struct Stream {
    Index peer = 0;
    StreamId peer_id = 0;
    TimePoint busy_until{};
  };

  Endpoint address(Index) const;
  void boot(Index, std::vector<Endpoint> seeds, std::span<const MemberRecord> known);
  void schedule(TimePoint, Body);
  void rewake(Index);
  void perform(Index, Effects&);
  void transmit(Index from, const Datagram&);
  void act(Index from, const StreamAction&);
  void handle(Body&);
  bool lost(Index from, Index to);
  std::chrono::nanoseconds delay(Index from, Index to);
  bool connected(Index a, Index b) const;

  Rng rng_;
  NetworkOptions network_;
  TimePoint now_;
  std::vector<std::unique_ptr<Node>> nodes_;
  std::map<Endpoint, Index> owners_;
  std::map<NodeUid, Index> by_uid_;
  std::priority_queue<Event> queue_;
  std::vector<Body> bodies_;
  std::vector<std::uint32_t> free_;
  std::uint64_t order_ = 0;
  std::uint64_t trace_ = 0;
  std::uint64_t false_deaths_ = 0;
  std::size_t largest_datagram_ = 0;
  std::function<bool(Index, Index)> cut_;
  std::map<std::pair<Index, StreamId>, Stream> streams_;
  StreamId next_incoming_ = 2;
};

}  // namespace muster::gossip::sim
