#pragma once

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/strand.hpp>
#include <boost/asio/thread_pool.hpp>

#include "base/io/log_once.hpp"
#include "base/observation.hpp"
#include "cluster/core/cluster.hpp"
#include "cluster/core/participant.hpp"
#include "daemon/config.hpp"
#include "daemon/identity.hpp"
#include "gossip/io/node.hpp"
#include "mesos/io/observer.hpp"

namespace prometheus {
class Gauge;
class Registry;
}  // namespace prometheus

namespace muster::daemon {

/// Of Member::metadata: "agent" or "master", who says what runs on that node.
inline constexpr std::string_view kSourceKey = "source";

/// Ties gossip to the cluster's state: members to hosts that are down, replicated records to the
/// view, and the election to who observes and publishes. Control thread only.
class Mesh {
 public:
  /// What changed in the view; called on the control thread.
  using OnDelta = std::function<void(const ClusterDelta&)>;
  /// What happened to members, a line each.
  using OnNews = std::function<void(std::vector<std::string>)>;

  /// Throws ConfigError for keys that cannot be read and for a combination gossip refuses.
  Mesh(boost::asio::any_io_executor control, boost::asio::thread_pool& workers, const Config&,
       cluster::Cluster&, mesos::Observer*, prometheus::Registry&, OnDelta, OnNews);
  ~Mesh();
  Mesh(const Mesh&) = delete;
  Mesh& operator=(const Mesh&) = delete;

  /// Opens the sockets. False: said why in the log.
  bool start();
  /// Decides on roles and keeps what must survive a restart, until cancelled.
  boost::asio::awaitable<void> run();
  /// Without join addresses: asks the leading master where its agents are, while this node is
  /// alone. Until cancelled.
  boost::asio::awaitable<void> find_others();
  /// Says goodbye to the others. Callbacks posted before may still run.
  void stop();

  /// What the observer said, as it came. True if it is to be given to the cluster.
  bool admit(const Observation&);
  /// After anything that may have written records: gives them to the others.
  void flush();
  /// Reads the key file again: live rotation. What is wrong with it, and then nothing changed;
  /// empty: it was read, or there is none.
  std::string reload_keys();
  /// The ring, the key that seals first, and how many living nodes have and use each key.
  struct KeyUse {
    std::string id;
    bool here = false;
    bool seals = false;    // here
    std::size_t have = 0;  // nodes, this one included
    std::size_t seal = 0;
  };
  std::vector<KeyUse> keys() const;

  struct Status {
    cluster::Role role = cluster::Role::follower;
    NodeId publisher;  // empty: none is known
    std::size_t alive = 0;
    std::size_t known = 0;
    std::size_t held = 0;  // deaths that are known and not acted on
  };
  /// As of the last decision on roles, half a second ago at most.
  const Status& status() const noexcept { return status_; }
  const NodeId& self() const noexcept { return identity_.id; }
  std::vector<Member> members() const { return node_->members(); }

 private:
  gossip::NodeOptions node_options();
  gossip::NodeCallbacks callbacks();
  /// Replicated records on their way to the view, and how far they have come.
  struct Incoming {
    std::vector<gossip::RecordWrite> writes;
    std::size_t next = 0;
  };

  void decide();
  void perform(cluster::Steps);
  bool reach() const;
  void on_members(const std::vector<Member>&);
  void on_records(std::vector<gossip::RecordWrite>);
  void on_superseded();
  void on_shard_lost(const std::string& octets);
  void drain();
  static std::vector<gossip::RecordWrite> to_gossip(std::vector<cluster::RecordWrite>);
  void tell_news(const std::vector<Member>&);
  void note_status(const std::vector<Member>&);
  void keep_members();
  std::vector<gossip::Key> read_keys();
  void tell(std::map<std::string, std::string> metadata);

  boost::asio::any_io_executor control_;
  boost::asio::thread_pool& workers_;
  // One write at a time: two of one file would be in each other's way.
  boost::asio::strand<boost::asio::thread_pool::executor_type> disk_;
  const Config& config_;
  cluster::Cluster& cluster_;
  mesos::Observer* observer_;  // null: no masters are configured
  prometheus::Registry& registry_;
  OnDelta on_delta_;
  OnNews on_news_;
  Identity identity_;
  cluster::Participant participant_;
  std::map<std::string, std::string> told_;  // what the others know of this node
  std::vector<std::string> key_ids_;
  std::unique_ptr<gossip::Node> node_;
  std::deque<Incoming> inbox_;
  bool draining_ = false;
  bool stopped_ = false;
  Status status_;
  TimePoint started_;
  std::vector<Endpoint> kept_members_;
  std::vector<Endpoint> join_;  // configured, and as it was on disk
  std::vector<Endpoint> own_;   // where the others find this node
  prometheus::Gauge& publishing_;
  prometheus::Gauge& held_;
  LogOnce log_once_;
};

}  // namespace muster::daemon
