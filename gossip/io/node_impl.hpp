#pragma once

// Only for the node's own sources: Asio is heavy.
#include <atomic>
#include <deque>
#include <map>
#include <mutex>
#include <set>
#include <thread>
#include <utility>
#include <variant>

#include <boost/asio/awaitable.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ip/udp.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>

#include "base/io/resolver.hpp"
#include "base/io/task_group.hpp"
#include "base/io/to_asio.hpp"
#include "gossip/core/gossip.hpp"
#include "gossip/io/node.hpp"
#include "gossip/io/node_metrics.hpp"
#include "gossip/io/stream.hpp"

namespace muster::gossip {

inline constexpr std::size_t kMaxHostProbes = 32;

/// Everything below runs on gossip's thread but for what is said to be called from others.
class Node::Impl {
 public:
  Impl(NodeOptions options, NodeCallbacks callbacks, boost::asio::any_io_executor control,
       prometheus::Registry& registry)
      : options_{std::move(options)},
        callbacks_{std::move(callbacks)},
        control_{std::move(control)},
        metrics_{registry} {}

  // Called from any thread.
  Result<Done> open();
  void stop();
  std::vector<Member> members() const;
  std::vector<Endpoint> last_members() const;
  NodeStats stats() const;
  Endpoint local() const { return options_.listen; }
  bool set_keys(std::vector<Key> keys);
  void set_metadata(std::map<std::string, std::string> metadata);
  void set_join(std::vector<Endpoint> join);
  bool set_join_names(std::vector<std::string> names);
  void publish(std::vector<RecordWrite> writes);
  void offer(std::string prefix, std::vector<RecordWrite> writes);
  void begin_publishing(std::vector<std::string> prefixes);
  void stop_publishing();
  void own(std::string shard);
  void disown(std::string shard);
  void snapshot(std::function<void(std::vector<RecordWrite>)> done);

 private:
  struct Connection {
    Connection(boost::asio::ip::tcp::socket socket, Sealer& sealer)
        : stream{std::move(socket), sealer} {}
    SealedStream stream;
    std::deque<std::vector<std::byte>> out;
    bool closing = false;
  };
  struct JoinName {
    std::string host;
    Port port;
    friend auto operator<=>(const JoinName&, const JoinName&) = default;
  };
  /// What takes long, in slices, in the order it was asked for.
  struct Publish {
    std::vector<RecordWrite> writes;
    std::size_t next = 0;
    // One delta per shard, not one per record: a caller's order may be any.
    std::map<std::string, std::vector<RecordWrite>> by_shard;
  };
  struct Begin {
    std::vector<std::string> prefixes;
  };
  struct End {};
  struct Own {
    std::string shard;
    bool begins = false;
  };
  struct Copy {
    struct Part {
      ShardHead head;
      std::vector<RecordWrite> records;
    };
    std::function<void(std::vector<RecordWrite>)> done;
    std::map<std::string, Part> parts;
    bool whole = false;  // the parts are of one moment; what changes since then is held back
    std::vector<RecordWrite> all;
  };
  using Work = std::variant<Publish, Begin, Own, End, Copy>;
  /// Measures what happens between two returns to the event loop, in CPU time: what another
  /// process took away is not this thread's doing.
  class Step {
   public:
    explicit Step(Impl& node);
    ~Step();
    Step(const Step&) = delete;
    Step& operator=(const Step&) = delete;

   private:
    Impl& node_;
    std::chrono::nanoseconds begin_;
  };

  template <class Do>
  void post(Do action) {
    boost::asio::post(context_, [this, action = std::move(action)]() mutable {
      if (stopping_) return;
      const Step step{*this};
      Effects fx;
      action(*core_, fx);
      perform(fx);
    });
  }

  // node.cpp
  Result<Done> bind();
  void run();
  Sealer& sealer() { return keyed_ ? static_cast<Sealer&>(*keyed_) : plain_; }
  void perform(Effects&);
  void tell_members(std::vector<MemberChange>);
  void tell_records(std::vector<RecordWrite>);
  void report(std::string problem);
  void report_refusals();
  void remember(const MemberRecord&);
  void forget(const std::vector<NodeUid>&);
  void take_stats(TimePoint now);

  // node_net.cpp
  void wait_readable();
  void drain();
  void beat();
  void arm();
  void on_timer();
  void accept_next();
  void act(const StreamAction&);
  boost::asio::awaitable<void> probe_host(NodeUid uid, Endpoint at);
  boost::asio::awaitable<void> run_client(StreamId id, Endpoint to);
  boost::asio::awaitable<void> run_server(boost::asio::ip::tcp::socket socket);
  boost::asio::awaitable<void> converse(StreamId id, Connection& connection);

  // node_work.cpp
  static std::optional<std::vector<JoinName>> parse_names(const std::vector<std::string>&);
  void enqueue(Work work);
  void pump();
  bool work_some(Work&, Effects&);  // true: done
  bool publish_some(Publish&, Effects&);
  bool copy_some(Copy&);
  bool copy_parts(Copy&);
  void give_seeds();
  boost::asio::awaitable<void> look_up();

  NodeOptions options_;
  NodeCallbacks callbacks_;
  boost::asio::any_io_executor control_;
  NodeMetrics metrics_;
  boost::asio::io_context context_{1};
  boost::asio::ip::udp::socket udp_{context_};
  boost::asio::ip::tcp::acceptor acceptor_{context_};
  boost::asio::steady_timer timer_{context_};
  boost::asio::steady_timer look_up_timer_{context_};
  TaskGroup tasks_{context_.get_executor()};
  std::unique_ptr<Resolver> resolver_;
  std::unique_ptr<SodiumSealer> keyed_;
  PlainSealer plain_;
  std::unique_ptr<Gossip> core_;
  std::thread thread_;
  bool stopping_ = false;
  TimePoint armed_ = TimePoint::max();
  std::map<StreamId, Connection*> connections_;
  StreamId next_incoming_ = 2;
  std::size_t probes_ = 0;
  std::size_t incoming_ = 0;
  std::deque<Work> work_;  // publishing: kMaxPendingWrites; the rest is as often as it is asked for
  bool holding_back_ = false;
  std::vector<RecordWrite> held_back_;  // of some milliseconds
  std::atomic<std::size_t> pending_writes_ = 0;
  std::atomic<std::uint64_t> refused_writes_ = 0;
  std::vector<JoinName> names_;
  std::map<JoinName, std::vector<Endpoint>> found_;
  std::map<std::string, TimePoint> said_;
  std::string twin_;  // where another process speaks as this node
  std::uint64_t told_twins_ = 0;
  TimePoint next_metrics_{};
  NodeStats counted_;  // what only the shell can count

  mutable std::mutex mutex_;
  std::map<NodeUid, Member> members_;  // those of core_; guarded by mutex_
  NodeStats stats_;                    // guarded by mutex_
};

}  // namespace muster::gossip
