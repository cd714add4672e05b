#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "base/rng.hpp"
#include "gossip/core/jury.hpp"
#include "gossip/core/link.hpp"
#include "gossip/core/member_table.hpp"
#include "gossip/core/monitor.hpp"
#include "gossip/core/news.hpp"
#include "gossip/core/options.hpp"
#include "gossip/core/outbox.hpp"
#include "gossip/core/shard_store.hpp"
#include "gossip/core/sync.hpp"

namespace muster::gossip {

inline constexpr std::size_t kMaxInquiries = 64;
inline constexpr std::size_t kMaxSyncServers = 8;
inline constexpr std::size_t kMaxWantedShards = kMaxShards;

struct GossipOptions {
  NodeUid self;
  std::uint32_t epoch = 1;  // persisted: max(Unix seconds, the last one + 1)
  std::string cluster = "muster";
  Profile profile;
  std::vector<Endpoint> seeds;
  Timing timing;
};

/// A member became known, or its status, epoch or profile changed.
struct MemberChange {
  std::optional<MemberHead> before;
  MemberRecord after;
};

using StreamId = std::uint64_t;
struct StreamOpen {
  StreamId stream;
  Endpoint to;
};
/// The shell calls on_stream_writable when it wants the next.
struct StreamSend {
  StreamId stream;
  std::vector<std::byte> bytes;
};
struct StreamClose {
  StreamId stream;
};
using StreamAction = std::variant<StreamOpen, StreamSend, StreamClose>;

/// Everything a step wants done outside. Nothing has happened until the shell does it.
struct Effects {
  std::vector<Datagram> datagrams;
  std::vector<HostProbe> host_probes;
  std::vector<NodeUid> forgotten;  // members; before those of `members` became known
  std::vector<MemberChange> members;
  std::vector<RecordWrite> records;  // replicated content that changed, in order
  std::vector<StreamAction> streams;
  std::optional<std::uint32_t> epoch;            // to be kept on disk before the next start
  bool superseded = false;                       // another publishes under a higher term: stop
  std::vector<std::string> lost_shards;          // of own(): another writes them now
  std::vector<std::chrono::nanoseconds> echoes;  // round trips to subjects
  /// How long this node and all it heard had not held the same, once they did again.
  std::vector<std::chrono::nanoseconds> repaired;
};

struct GossipStats {
  std::uint64_t alerts_raised = 0;
  std::uint64_t alerts_heard = 0;
  std::uint64_t verdicts = 0;  // reached by this node's own count
  std::uint64_t hearsay = 0;   // verdicts of others that had to be asked about
  std::uint64_t refutations = 0;
  std::uint64_t late = 0;  // times this node found itself to have been away
  std::uint64_t digests = 0;
  std::uint64_t syncs = 0;
  std::uint64_t sync_bytes = 0;
  std::uint64_t malformed = 0;
  std::uint64_t unknown_kind = 0;
  std::uint64_t invalid_deltas = 0;
  std::uint64_t duplicate_ids = 0;  // another process spoke as this node
};

/// One node of the cluster: membership, failure detection and replicated shards.
///
/// Owns no socket, clock, thread or log. The shell drains its sockets into on_datagram() before
/// it calls on_timer(), or a pause of this process looks like the death of all others. `now` must
/// never go backwards.
class Gossip {
 public:
  Gossip(GossipOptions options, Sealer& sealer, Rng rng, TimePoint now);
  Gossip(const Gossip&) = delete;
  Gossip& operator=(const Gossip&) = delete;

  void on_datagram(const Endpoint& from, std::span<const std::byte>, TimePoint now, Effects&);
  /// Call when next_deadline() has come; at other times it does no harm.
  void on_timer(TimePoint now, Effects&);
  TimePoint next_deadline() const;
  /// Sends the heartbeats that are due, and judges nobody: for a shell with much to drain.
  void beat(TimePoint now, Effects&);
  /// Something at the Mesos agent's port of `uid` answered, be it with a refusal.
  void on_host_probe(const NodeUid& uid, TimePoint now);

  /// A stream opened by a peer, or by StreamOpen. Ids of the shell's are even, ours odd.
  void on_stream_opened(StreamId, TimePoint now, Effects&);
  void on_stream_data(StreamId, std::span<const std::byte> chunk, TimePoint now, Effects&);
  void on_stream_writable(StreamId, TimePoint now, Effects&);
  void on_stream_closed(StreamId, TimePoint now);

  /// Says goodbye. The shell sends what comes out, and stops.
  void leave(TimePoint now, Effects&);
  /// Others than before are asked at once, where this node is alone.
  void set_seeds(std::vector<Endpoint> seeds, TimePoint now);
  void set_profile(Profile profile, TimePoint now, Effects&);

  Term begin_publishing(std::vector<std::string> prefixes, TimePoint now, Effects&);
  void stop_publishing() noexcept { shards_.stop_publishing(); }
  /// See ShardStore::own().
  Term own(const std::string& shard, TimePoint now, Effects&);
  void disown(const std::string& shard) { shards_.disown(shard); }
  void publish(std::vector<RecordWrite>, TimePoint now, Effects&);
  /// See ShardStore::offer(); the writes' shards do not matter.
  void offer(const std::string& prefix, std::vector<RecordWrite>, TimePoint now, Effects&);

  /// Believes these records at once: members known from elsewhere, as a simulation starts with.
  void preload(std::span<const MemberRecord>, TimePoint now);

  const MemberTable& members() const noexcept { return table_; }
  const ShardStore& shards() const noexcept { return shards_; }
  const Monitor& monitor() const noexcept { return monitor_; }
  Link& link() noexcept { return link_; }
  const GossipStats& stats() const noexcept { return stats_; }
  MemberHead self() const;
  std::uint32_t root() const noexcept;
  /// Another live process uses our node id; ours is the one that has to go.
  bool conflicted() const noexcept { return conflicted_; }
  /// Where another process that uses our node id was last heard of; told once.
  std::optional<Endpoint> take_twin() { return std::exchange(twin_, std::nullopt); }
  bool isolated(TimePoint now) const { return monitor_.isolated(now); }
  bool joined() const noexcept { return table_.alive() > 1; }
  /// Since a heartbeat last showed that another node holds exactly what this one does: of all
  /// members and shards. 0 while it is alone.
  std::chrono::nanoseconds state_age(TimePoint now) const noexcept {
    return joined() ? now - agreed_at_ : std::chrono::nanoseconds{0};
  }

 private:
  struct Inquiry {
    MemberHead verdict;
    std::uint32_t nonce = 0;
    TimePoint until{};
    bool probed_twice = false;
  };
  struct Server {
    SyncServer session;
    TimePoint used{};
  };
  struct Client {
    StreamId stream = 0;
    SyncClient session;
    std::vector<std::vector<std::byte>> requests;  // not sent yet
    TimePoint used{};
  };

  // gossip.cpp
  void enter(TimePoint now);
  void finish(TimePoint now, Effects&);
  void dispatch(const NodeUid& from, const Endpoint& at, Message&&, TimePoint now, Effects&);
  void on_items(const NodeUid& from, const Endpoint& at, Items&&, TimePoint now, Effects&);
  void on_item(const NodeUid& from, const Endpoint& at, Item&&, TimePoint now, Effects&);

  // gossip_members.cpp
  void learn(const MemberHead&, const ProfilePtr&, const NodeUid& from, TimePoint now, Effects&);
  void take(const MemberHead&, const ProfilePtr&, const NodeUid& from, TimePoint now, Effects&);
  void about_self(const MemberHead&, const ProfilePtr&, TimePoint now, Effects&);
  bool is_clone(const Profile& other, TimePoint now);
  void announce_self(std::uint32_t epoch, std::uint32_t seq, MemberStatus, TimePoint, Effects&);
  void refute(std::uint32_t seq, TimePoint now, Effects&);
  void inquire(const MemberHead&, TimePoint now);
  void on_alert(const Alert&, const NodeUid& from, TimePoint now, Effects&);
  void judge(const NodeUid* subject, TimePoint now, Effects&);
  void answer_outsider(const NodeUid& uid, const Endpoint& at, TimePoint now);
  void settle_inquiries(TimePoint now, Effects&);
  void raise_alerts(const std::vector<Alert>&, TimePoint now, Effects&);

  // gossip_repair.cpp
  void on_join(const NodeUid& from, const Endpoint& at, const Join&, TimePoint now, Effects&);
  void on_heartbeat(const NodeUid& from, const Endpoint& at, const Heartbeat&, TimePoint now,
                    Effects&);
  void on_digest(const Endpoint& at, const Digest&, TimePoint now);
  void on_entries(const NodeUid& from, const Endpoint& at, const Entries&, TimePoint now, Effects&);
  void on_want(const Endpoint& at, const Want&);
  void send_entries(const Endpoint& at, const std::vector<MemberHead>&);
  void send_shard_entries(const Endpoint& at, const Digest&);
  void send_records(const Endpoint& at, const std::vector<NodeUid>&);
  void knock(TimePoint now);
  void knock_at_seeds(std::size_t count);
  void shuffle_seeds();
  void ask_digest(const Endpoint& at, TimePoint now);

  // gossip_shards.cpp
  void restamp(TimePoint now);
  void spread(const std::vector<ShardDelta>&, const NodeUid& from);
  void on_delta(const NodeUid& from, const Endpoint& at, ShardDelta&&, TimePoint now);
  void on_announce(const Endpoint& at, const ShardAnnounce&, TimePoint now);
  void give_shard(const Endpoint& at, const std::string& shard, std::uint64_t content);
  void pull(const Endpoint& at, const std::string& shard);
  void start_sync(TimePoint now, Effects&);
  void end_sync(bool close, TimePoint now, Effects&);
  void serve(StreamId, Server&, TimePoint now, Effects&);
  void expire_streams(TimePoint now, Effects&);

  GossipOptions options_;
  Rng rng_;
  MemberTable table_;
  ShardStore shards_;
  Jury jury_;
  Monitor monitor_;
  News news_;
  Link link_;
  Outbox out_;
  GossipStats stats_;

  TimePoint quiet_until_{};
  TimePoint next_sweep_{};
  TimePoint next_judgement_{};
  bool judge_all_ = false;
  bool left_ = false;

  // Refuting: at once the first time; then only after a while without having been away.
  std::optional<TimePoint> refute_at_;
  std::uint32_t refute_seq_ = 0;
  unsigned flaps_ = 0;
  TimePoint last_flap_{};
  bool conflicted_ = false;
  unsigned clones_seen_ = 0;
  std::optional<Endpoint> twin_;
  TimePoint born_;
  TimePoint last_clone_{};

  std::map<NodeUid, Inquiry> inquiries_;
  std::map<NodeUid, TimePoint> told_;  // who spoke and is not alive here, and when it was answered

  TimePoint next_knock_{};
  Duration knock_gap_{200};
  TimePoint next_seed_knock_{};
  TimePoint next_heal_{};
  std::vector<Endpoint> seed_order_;
  std::size_t seed_turn_ = 0;      // whose turn it is in it
  std::size_t seeds_untried_ = 0;  // of this order
  TimePoint next_digest_{};
  Duration digest_gap_{};
  std::uint32_t foreign_root_ = 0;
  TimePoint foreign_root_since_{};
  TimePoint agreed_at_{};
  bool disagreed_ = false;  // with somebody, since then

  TimePoint next_restamp_{};
  bool want_all_ = false;
  std::map<std::string, Endpoint> wanted_;  // shards to pull, and from whom
  std::optional<Endpoint> pull_from_;
  TimePoint next_pull_{};
  std::optional<Client> client_;
  std::map<StreamId, Server> servers_;
  StreamId next_stream_ = 1;
};

}  // namespace muster::gossip
