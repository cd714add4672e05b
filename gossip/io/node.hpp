#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <boost/asio/any_io_executor.hpp>

#include "base/endpoint.hpp"
#include "base/id.hpp"
#include "base/member.hpp"
#include "base/result.hpp"
#include "gossip/core/shard_types.hpp"
#include "gossip/io/node_stats.hpp"
#include "gossip/io/seal.hpp"

namespace prometheus {
class Registry;
}

namespace muster::gossip {

inline constexpr std::uint16_t kDefaultPort = 61420;
inline constexpr std::size_t kMaxJoinNames = 16;
/// Records in one call of on_records: what control works off without a pause.
inline constexpr std::size_t kRecordsAtOnce = 500;
/// Writes that wait for gossip's thread; above it they are refused, counted and named.
inline constexpr std::size_t kMaxPendingWrites = 1'000'000;
/// Endpoints last_members() gives.
inline constexpr std::size_t kMaxLastMembers = 64;

struct NodeOptions {
  /// UDP and TCP.
  Endpoint listen{IpAddress{IpAddress::V4{127, 0, 0, 1}}, *Port::from(kDefaultPort)};
  std::vector<Endpoint> advertised;  // empty: `listen`, which then must be a unicast address
  std::vector<Endpoint> join;
  /// "host:port", at most kMaxJoinNames: looked up (c-ares) at start, and again every few seconds
  /// while nobody answers; once joined, every minute.
  std::vector<std::string> join_names;
  std::vector<Endpoint> name_servers;  // for these; empty: those of /etc/resolv.conf
  NodeId id;                           // a UUID, persisted
  std::uint32_t epoch = 1;             // max(Unix seconds, the last one + 1); see on_epoch
  std::string cluster = "muster";
  std::vector<Key> keys;  // empty: loopback only, unless `insecure`
  bool insecure = false;
  AgentId agent;
  std::optional<Endpoint> agent_endpoint;  // probed before a verdict: does the host answer?
  std::map<std::string, std::string> metadata;
};

/// Called on the executor given to Node, never on gossip's own thread.
struct NodeCallbacks {
  /// Every member whose status, epoch or profile changed, as it is now.
  std::function<void(std::vector<Member>)> on_members_changed;
  /// Replicated records that changed, in the order they did; at most kRecordsAtOnce in a call.
  std::function<void(std::vector<RecordWrite>)> on_records;
  /// Another node publishes under a higher term: stop publishing.
  std::function<void()> on_superseded;
  /// Another node writes this shard of own() under a higher term; it is this node's no more.
  std::function<void(std::string shard)> on_shard_lost;
  /// To be on disk before the next start: `epoch` of NodeOptions must be above it.
  std::function<void(std::uint32_t epoch)> on_epoch;
  /// For a line in the log, at most once a minute for the same text: a node refused, a clone, a
  /// name that is not found.
  std::function<void(std::string)> on_problem;
};

/// This node's part of the cluster: a thread and io_context of its own around the sans-io core.
///
/// All methods may be called from any thread. Callbacks are posted to `control`; none starts
/// after stop() has returned, but one already posted may still run: stop() before what they use
/// is destroyed, and let `control` run dry or stop it.
class Node {
 public:
  /// Errors: invalid_argument (id no UUID, nothing to advertise, a name that is no host:port, a
  /// bound exceeded), permission_denied (no key, and `listen` is not loopback, and not insecure),
  /// and what the sockets say.
  static Result<std::unique_ptr<Node>> start(NodeOptions, NodeCallbacks,
                                             boost::asio::any_io_executor control,
                                             prometheus::Registry&);
  ~Node();
  Node(const Node&) = delete;
  Node& operator=(const Node&) = delete;

  /// Says goodbye (status `left`: nothing leaves the load balancer), then ends the thread.
  /// Blocks for milliseconds. The destructor does the same. What waits to be published is lost.
  void stop();

  /// As of a moment ago; sorted by id, this node included, without the replaced (erase_replaced()).
  std::vector<Member> members() const;
  /// Where others listen, the living first: to be kept on disk and given as `join` at the next
  /// start. Empty while this node knows nobody: keep what is on disk then.
  std::vector<Endpoint> last_members() const;
  /// As of the last second.
  NodeStats stats() const;
  Endpoint local_endpoint() const;

  /// Writes records of shards that this node publishes; what it does not is counted and dropped.
  /// Any number: gossip's thread takes them in slices of milliseconds, in the order of the calls
  /// to publish(), begin_publishing(), stop_publishing(), own(), disown() and snapshot().
  void publish(std::vector<RecordWrite>);
  /// Tells whoever publishes of some records (a thousand, not a million), in a shard of their own
  /// whose id starts with `prefix`. For who does not publish itself.
  void offer(std::string prefix, std::vector<RecordWrite>);
  /// Takes over all shards whose ids start with one of the prefixes ("" is all).
  void begin_publishing(std::vector<std::string> shard_prefixes);
  void stop_publishing();
  /// Begins to write one shard, whole id, beside what this or another node publishes; at most
  /// kMaxOwnShards.
  void own(std::string shard);
  /// What stands in it stays.
  void disown(std::string shard);
  /// Everything replicated here, as of one moment, given to `done` on the control executor.
  /// on_records tells every change after that moment, and none before, once `done` has run.
  void snapshot(std::function<void(std::vector<RecordWrite>)> done) const;

  void set_join(std::vector<Endpoint>);
  /// False, and nothing changes: one is no host:port, or there are too many.
  bool set_join_names(std::vector<std::string>);
  void set_metadata(std::map<std::string, std::string>);
  /// Live rotation: the first seals, all open. False where the node runs without keys, or for
  /// none or too many.
  bool set_keys(std::vector<Key>);

 private:
  class Impl;
  explicit Node(std::unique_ptr<Impl>);
  std::unique_ptr<Impl> impl_;
};

}  // namespace muster::gossip
