#pragma once

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
#include "gossip/io/seal.hpp"

namespace prometheus {
class Registry;
}

namespace muster::gossip {

inline constexpr std::uint16_t kDefaultPort = 61420;

struct NodeOptions {
  /// UDP and TCP.
  Endpoint listen{IpAddress{IpAddress::V4{127, 0, 0, 1}}, *Port::from(kDefaultPort)};
  std::vector<Endpoint> advertised;  // empty: `listen`, which then must be a unicast address
  std::vector<Endpoint> join;
  NodeId id;                // a UUID, persisted
  std::uint32_t epoch = 1;  // max(Unix seconds, the last one + 1); see on_epoch
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
  /// Replicated records that changed, in the order they did.
  std::function<void(std::vector<RecordWrite>)> on_records;
  /// Another node publishes under a higher term: stop publishing.
  std::function<void()> on_superseded;
  /// To be on disk before the next start: `epoch` of NodeOptions must be above it.
  std::function<void(std::uint32_t epoch)> on_epoch;
  /// For a line in the log, at most once a second for the same text: a node refused, a clone.
  std::function<void(std::string)> on_problem;
};

/// This node's part of the cluster: a thread and io_context of its own around the sans-io core.
///
/// All methods may be called from any thread. Callbacks are posted to `control`; none starts
/// after stop() has returned, but one already posted may still run: stop() before what they use
/// is destroyed, and let `control` run dry or stop it.
class Node {
 public:
  /// Errors: invalid_argument (id no UUID, nothing to advertise, a bound exceeded),
  /// permission_denied (no key, and `listen` is not loopback, and not insecure), and what the
  /// sockets say.
  static Result<std::unique_ptr<Node>> start(NodeOptions, NodeCallbacks,
                                             boost::asio::any_io_executor control,
                                             prometheus::Registry&);
  ~Node();
  Node(const Node&) = delete;
  Node& operator=(const Node&) = delete;

  /// Says goodbye (status `left`: nothing leaves the load balancer), then ends the thread.
  /// Blocks for milliseconds. The destructor does the same.
  void stop();

  /// As of a moment ago; sorted by id, this node included.
  std::vector<Member> members() const;
  Endpoint local_endpoint() const;

  /// Writes records of shards that this node publishes; what it does not is counted and dropped.
  void publish(std::vector<RecordWrite>);
  /// Takes over all shards whose ids start with one of the prefixes ("" is all).
  void begin_publishing(std::vector<std::string> shard_prefixes);
  void stop_publishing();
  /// Everything replicated here, given to `done` on the control executor.
  void snapshot(std::function<void(std::vector<RecordWrite>)> done) const;

  void set_join(std::vector<Endpoint>);
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
