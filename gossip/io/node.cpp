#include "gossip/io/node.hpp"

#include <algorithm>
#include <array>
#include <deque>
#include <mutex>
#include <random>
#include <thread>
#include <utility>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ip/udp.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/system/errc.hpp>
#include <prometheus/counter.h>
#include <prometheus/gauge.h>
#include <prometheus/registry.h>

#include "base/io/async.hpp"
#include "base/io/task_group.hpp"
#include "gossip/core/gossip.hpp"
#include "gossip/io/stream.hpp"

namespace muster::gossip {
namespace {

namespace asio = boost::asio;
using asio::ip::tcp;
using asio::ip::udp;

constexpr int kReceiveBuffer = 4 * 1024 * 1024;  // the default holds 256 small datagrams
constexpr std::size_t kDrainAtOnce = 8192;       // 4 MB of small datagrams, with their overhead
constexpr std::size_t kMaxStreams = 32;
constexpr std::size_t kMaxHostProbes = 32;
constexpr Duration kHostProbe{110};  // within the verify burst
constexpr std::size_t kMaxSaid = 256;
constexpr Duration kSayAgain{60'000};
constexpr Duration kMetrics{1'000};

asio::ip::address to_asio(const IpAddress& address) {
  if (address.is_v4()) return asio::ip::address_v4{address.v4()};
  asio::ip::address_v6::bytes_type octets{};
  std::copy(address.v6().begin(), address.v6().end(), octets.begin());
  return asio::ip::address_v6{octets};
}

template <class AsioEndpoint>
AsioEndpoint to_asio(const Endpoint& endpoint) {
  return {to_asio(endpoint.address), endpoint.port.number()};
}

template <class AsioEndpoint>
std::optional<Endpoint> from_asio(const AsioEndpoint& from) {
  const auto port = Port::from(from.port());
  if (!port) return std::nullopt;
  if (from.address().is_v4()) return Endpoint{IpAddress{from.address().to_v4().to_bytes()}, *port};
  return Endpoint{IpAddress{from.address().to_v6().to_bytes()}, *port};
}

Member to_member(const MemberRecord& record) {
  Member member;
  member.id = record.head.uid.id();
  member.status = record.head.status;
  member.epoch = record.head.epoch;
  member.endpoints = record.profile->endpoints;
  member.agent = AgentId{record.profile->agent};
  member.agent_endpoint = record.profile->agent_endpoint;
  for (const auto& [key, value] : record.profile->metadata) member.metadata.emplace(key, value);
  return member;
}

asio::awaitable<Result<Done>> connect_once(tcp::socket& socket, tcp::endpoint to) {
  ErrorCode error;
  co_await socket.async_connect(to, asio::redirect_error(asio::use_awaitable, error));
  if (error) co_return error;
  co_return Done{};
}

Result<Profile> profile_of(const NodeOptions& options) {
  Profile profile;
  profile.endpoints = options.advertised;
  profile.agent = options.agent.str();
  profile.agent_endpoint = options.agent_endpoint;
  profile.metadata.assign(options.metadata.begin(), options.metadata.end());
  ByteWriter encoded;
  write_profile(encoded, profile);
  ByteReader in{encoded.bytes()};
  // What others would refuse is refused here.
  if (read_profile(in) == nullptr) return make_error_code(boost::system::errc::invalid_argument);
  return profile;
}

}  // namespace

class Node::Impl {
 public:
  Impl(NodeOptions options, NodeCallbacks callbacks, asio::any_io_executor control,
       prometheus::Registry& registry)
      : options_{std::move(options)},
        callbacks_{std::move(callbacks)},
        control_{std::move(control)},
        registry_{registry} {}

  Result<Done> open();
  void run();
  void stop();

  template <class Do>
  void post(Do action) {
    asio::post(context_, [this, action = std::move(action)]() mutable {
      if (stopping_) return;
      Effects fx;
      action(*core_, fx);
      perform(fx);
    });
  }

  std::vector<Member> members() const {
    const std::scoped_lock lock{members_mutex_};
    std::vector<Member> all;
    for (const auto& [uid, member] : members_) all.push_back(member);
    return all;
  }
  Endpoint local() const { return options_.listen; }
  bool set_keys(std::vector<Key> keys);
  void set_metadata(std::map<std::string, std::string> metadata);
  void snapshot(std::function<void(std::vector<RecordWrite>)> done);

 private:
  struct Connection {
    Connection(tcp::socket socket, Sealer& sealer) : stream{std::move(socket), sealer} {}
    SealedStream stream;
    std::deque<std::vector<std::byte>> out;
    bool closing = false;
  };

  Result<Done> bind();
  void wait_readable();
  void drain();
  void arm();
  void on_timer();
  void accept_next();
  void perform(Effects&);
  void act(const StreamAction&);
  void report(std::string problem);
  void report_refusals();
  void remember(const MemberRecord&);
  void export_metrics();
  asio::awaitable<void> probe_host(NodeUid uid, Endpoint at);
  asio::awaitable<void> run_client(StreamId id, Endpoint to);
  asio::awaitable<void> run_server(tcp::socket socket);
  asio::awaitable<void> converse(StreamId id, Connection& connection);

  NodeOptions options_;
  NodeCallbacks callbacks_;
  asio::any_io_executor control_;
  prometheus::Registry& registry_;
  asio::io_context context_{1};
  udp::socket udp_{context_};
  tcp::acceptor acceptor_{context_};
  asio::steady_timer timer_{context_};
  TaskGroup tasks_{context_.get_executor()};
  std::unique_ptr<SodiumSealer> keyed_;
  PlainSealer plain_;
  std::unique_ptr<Gossip> core_;
  std::thread thread_;
  bool stopping_ = false;  // gossip's thread only
  TimePoint armed_ = TimePoint::max();
  std::map<StreamId, Connection*> connections_;
  StreamId next_incoming_ = 2;
  std::size_t probes_ = 0;
  std::size_t incoming_ = 0;
  std::map<std::string, TimePoint> said_;
  std::uint64_t send_errors_ = 0;
  TimePoint next_metrics_{};
  std::map<std::string, std::uint64_t> exported_;

  mutable std::mutex members_mutex_;
  std::map<NodeUid, Member> members_;  // guarded by members_mutex_
};

Result<Done> Node::Impl::bind() {
  const auto at = to_asio<tcp::endpoint>(options_.listen);
  ErrorCode error;
  acceptor_.open(at.protocol(), error);
  if (error) return error;
  acceptor_.set_option(tcp::acceptor::reuse_address{true}, error);
  acceptor_.bind(at, error);
  if (!error) acceptor_.listen(asio::socket_base::max_listen_connections, error);
  if (error) return error;
  const auto same = to_asio<udp::endpoint>(options_.listen);
  udp_.open(same.protocol(), error);
  if (!error) udp_.bind(same, error);
  if (error) return error;
  // Above net.core.rmem_max only with CAP_NET_ADMIN: take what is given.
  ErrorCode ignored;
  const int force = kReceiveBuffer;
  if (::setsockopt(udp_.native_handle(), SOL_SOCKET, SO_RCVBUFFORCE, &force, sizeof force) != 0) {
    udp_.set_option(asio::socket_base::receive_buffer_size{kReceiveBuffer}, ignored);
  }
  udp_.non_blocking(true, error);
  if (error) return error;
  return Done{};
}

Result<Done> Node::Impl::open() {
  const auto invalid = make_error_code(boost::system::errc::invalid_argument);
  const auto uid = NodeUid::parse(options_.id.str());
  if (!uid || options_.keys.size() > kMaxKeys || options_.cluster.size() > kMaxClusterName) {
    return invalid;
  }
  if (options_.keys.empty() && !options_.insecure && !options_.listen.address.is_loopback()) {
    return make_error_code(boost::system::errc::permission_denied);
  }
  if (options_.advertised.empty()) options_.advertised = {options_.listen};
  for (const Endpoint& endpoint : options_.advertised) {
    if (!endpoint.address.is_unicast()) return invalid;
  }
  auto profile = profile_of(options_);
  if (!profile) return profile.error();
  if (const auto bound = bind(); !bound) return bound.error();
  if (!options_.keys.empty()) {
    keyed_ = std::make_unique<SodiumSealer>(std::exchange(options_.keys, {}));
  }
  Sealer& sealer = keyed_ ? static_cast<Sealer&>(*keyed_) : plain_;
  GossipOptions core;
  core.self = *uid;
  core.epoch = options_.epoch;
  core.cluster = options_.cluster;
  core.profile = std::move(*profile);
  core.seeds = options_.join;
  core_ = std::make_unique<Gossip>(std::move(core), sealer, Rng{sealer.random()}, Clock::now());
  remember({core_->self(), core_->members().find(*uid)->profile});
  thread_ = std::thread{[this] { run(); }};
  return Done{};
}

void Node::Impl::run() {
  wait_readable();
  accept_next();
  arm();
  context_.run();
}

void Node::Impl::stop() {
  if (!thread_.joinable()) return;
  asio::post(context_, [this] {
    Effects fx;
    core_->leave(Clock::now(), fx);
    perform(fx);
    stopping_ = true;
    ErrorCode ignored;
    acceptor_.close(ignored);
    udp_.close(ignored);
    timer_.cancel();
    for (auto& [id, connection] : connections_) connection->stream.close();
    tasks_.stop();
  });
  thread_.join();
}

void Node::Impl::wait_readable() {
  udp_.async_wait(udp::socket::wait_read, [this](ErrorCode error) {
    if (error || stopping_) return;
    drain();
    wait_readable();
  });
}

void Node::Impl::drain() {
  std::array<std::byte, kMaxDatagram + 1> buffer;
  Effects fx;
  for (std::size_t i = 0; i < kDrainAtOnce; ++i) {
    udp::endpoint from;
    ErrorCode error;
    const std::size_t size = udp_.receive_from(asio::buffer(buffer), from, 0, error);
    if (error == asio::error::would_block || error == asio::error::try_again) break;
    if (error) continue;  // an ICMP error for something sent before
    const auto endpoint = from_asio(from);
    if (!endpoint) continue;
    core_->on_datagram(*endpoint, std::span{buffer}.first(size), Clock::now(), fx);
  }
  perform(fx);
}

void Node::Impl::arm() {
  const TimePoint due = core_->next_deadline();
  if (due == armed_ || stopping_) return;
  armed_ = due;
  timer_.expires_at(due);
  timer_.async_wait([this](ErrorCode error) {
    if (error || stopping_) return;
    armed_ = TimePoint::max();
    on_timer();
  });
}

void Node::Impl::on_timer() {
  // First what has come, then what is late: after a pause everybody would look silent.
  drain();
  Effects fx;
  const TimePoint now = Clock::now();
  if (core_->next_deadline() <= now) core_->on_timer(now, fx);
  if (now >= next_metrics_) {
    next_metrics_ = now + kMetrics;
    report_refusals();
    export_metrics();
  }
  perform(fx);
}

void Node::Impl::perform(Effects& fx) {
  for (const Datagram& datagram : fx.datagrams) {
    ErrorCode error;
    udp_.send_to(asio::buffer(datagram.bytes), to_asio<udp::endpoint>(datagram.to), 0, error);
    if (error) ++send_errors_;  // as good as lost on the way
  }
  for (const HostProbe& probe : fx.host_probes) {
    if (probes_ < kMaxHostProbes && !stopping_) {
      tasks_.spawn(probe_host(probe.uid, probe.endpoint));
    }
  }
  for (const StreamAction& action : fx.streams) act(action);
  std::vector<Member> changed;
  for (const MemberChange& change : fx.members) {
    remember(change.after);
    changed.push_back(to_member(change.after));
  }
  if (!changed.empty() && callbacks_.on_members_changed) {
    asio::post(control_, [call = callbacks_.on_members_changed,
                          members = std::move(changed)]() mutable { call(std::move(members)); });
  }
  if (!fx.records.empty() && callbacks_.on_records) {
    asio::post(control_, [call = callbacks_.on_records, records = std::move(fx.records)]() mutable {
      call(std::move(records));
    });
  }
  if (fx.superseded && callbacks_.on_superseded) asio::post(control_, callbacks_.on_superseded);
  if (fx.epoch && callbacks_.on_epoch) {
    asio::post(control_, [call = callbacks_.on_epoch, epoch = *fx.epoch] { call(epoch); });
  }
  fx = {};
  arm();
}

void Node::Impl::remember(const MemberRecord& record) {
  const std::scoped_lock lock{members_mutex_};
  members_.insert_or_assign(record.head.uid, to_member(record));
  if (members_.size() <= kMaxMembers) return;
  std::erase_if(members_, [&](const auto& m) { return core_->members().find(m.first) == nullptr; });
}

void Node::Impl::act(const StreamAction& action) {
  if (stopping_) return;
  if (const auto* open = std::get_if<StreamOpen>(&action)) {
    tasks_.spawn(run_client(open->stream, open->to));
  } else if (const auto* send = std::get_if<StreamSend>(&action)) {
    const auto found = connections_.find(send->stream);
    if (found != connections_.end()) found->second->out.push_back(send->bytes);
  } else if (const auto* close = std::get_if<StreamClose>(&action)) {
    const auto found = connections_.find(close->stream);
    if (found == connections_.end()) return;
    found->second->closing = true;
    found->second->stream.close();
  }
}

asio::awaitable<void> Node::Impl::probe_host(NodeUid uid, Endpoint at) {
  ++probes_;
  tcp::socket socket{context_};
  auto operation = connect_once(socket, to_asio<tcp::endpoint>(at));
  const auto answer = co_await with_timeout(std::move(operation), kHostProbe);
  --probes_;
  if (answer || answer.error() == asio::error::connection_refused) {
    core_->on_host_probe(uid, Clock::now());
  }
}

asio::awaitable<void> Node::Impl::run_client(StreamId id, Endpoint to) {
  Sealer& sealer = keyed_ ? static_cast<Sealer&>(*keyed_) : plain_;
  Connection connection{tcp::socket{context_}, sealer};
  connections_.emplace(id, &connection);
  const auto connected = co_await connection.stream.connect(to_asio<tcp::endpoint>(to));
  if (connected) co_await converse(id, connection);
  connections_.erase(id);
  core_->on_stream_closed(id, Clock::now());
}

asio::awaitable<void> Node::Impl::run_server(tcp::socket socket) {
  Sealer& sealer = keyed_ ? static_cast<Sealer&>(*keyed_) : plain_;
  const StreamId id = next_incoming_;
  next_incoming_ += 2;
  ++incoming_;
  Connection connection{std::move(socket), sealer};
  connections_.emplace(id, &connection);
  const auto accepted = co_await connection.stream.accept();
  if (accepted) co_await converse(id, connection);
  connections_.erase(id);
  --incoming_;
  core_->on_stream_closed(id, Clock::now());
}

asio::awaitable<void> Node::Impl::converse(StreamId id, Connection& connection) {
  bool opened = false;
  const bool server = id % 2 == 0;
  Effects fx;
  // A peer is not believed before its first frame, which echoes what we have just drawn.
  if (!server) {
    core_->on_stream_opened(id, Clock::now(), fx);
    perform(fx);
    opened = true;
  }
  while (!connection.closing && !stopping_) {
    if (!connection.out.empty()) {
      auto frame = std::move(connection.out.front());
      connection.out.pop_front();
      const auto written = co_await connection.stream.write(std::move(frame));
      if (!written) break;
      core_->on_stream_writable(id, Clock::now(), fx);
      perform(fx);
      continue;
    }
    auto frame = co_await connection.stream.read();
    if (!frame) break;
    if (!opened) {
      core_->on_stream_opened(id, Clock::now(), fx);
      opened = true;
    }
    core_->on_stream_data(id, *frame, Clock::now(), fx);
    perform(fx);
  }
  connection.stream.close();
}

void Node::Impl::accept_next() {
  acceptor_.async_accept([this](ErrorCode error, tcp::socket socket) {
    if (stopping_ || error == asio::error::operation_aborted) return;
    if (!error && incoming_ < kMaxStreams) tasks_.spawn(run_server(std::move(socket)));
    accept_next();
  });
}

void Node::Impl::report(std::string problem) {
  const TimePoint now = Clock::now();
  if (said_.size() >= kMaxSaid) said_.clear();
  auto& last = said_[problem];
  if (last != TimePoint{} && now - last < kSayAgain) return;
  last = now;
  if (!callbacks_.on_problem) return;
  asio::post(control_, [call = callbacks_.on_problem, problem = std::move(problem)]() mutable {
    call(std::move(problem));
  });
}

void Node::Impl::report_refusals() {
  for (const auto& refusal : core_->link().take_refusals()) {
    const std::string who = to_string(refusal.from);
    const std::string why{to_string(refusal.reason)};
    report(refusal.by_peer ? who + " refuses this node: " + why : "refused " + who + ": " + why);
  }
  if (core_->conflicted()) {
    report("another live node uses this node's id " + options_.id.str() +
           "; give one of them a new id file");
  }
}

void Node::Impl::export_metrics() {
  const GossipStats& stats = core_->stats();
  const auto gauge = [&](const char* name, const char* help, double value) {
    prometheus::BuildGauge().Name(name).Help(help).Register(registry_).Add({}).Set(value);
  };
  const auto counter = [&](const char* name, const char* help, const std::string& kind,
                           std::uint64_t value) {
    std::uint64_t& before = exported_[std::string{name} + kind];
    prometheus::Labels labels;
    if (!kind.empty()) labels.emplace("kind", kind);
    auto& family = prometheus::BuildCounter().Name(name).Help(help).Register(registry_);
    family.Add(labels).Increment(static_cast<double>(value - before));
    before = value;
  };
  gauge("muster_gossip_members_alive", "Members believed alive, this node included.",
        static_cast<double>(core_->members().alive()));
  gauge("muster_gossip_members_known", "Members remembered, alive or not.",
        static_cast<double>(core_->members().entries().size()));
  gauge("muster_gossip_shards", "Replicated shards.",
        static_cast<double>(core_->shards().shards().size()));
  gauge("muster_gossip_records", "Replicated records.",
        static_cast<double>(core_->shards().records()));
  gauge("muster_gossip_isolated", "1 while none of this node's subjects can be heard.",
        core_->isolated(Clock::now()) ? 1 : 0);
  const char* events = "muster_gossip_events_total";
  const char* help = "What the gossip core has done or met.";
  counter(events, help, "alert_raised", stats.alerts_raised);
  counter(events, help, "alert_heard", stats.alerts_heard);
  counter(events, help, "verdict", stats.verdicts);
  counter(events, help, "hearsay", stats.hearsay);
  counter(events, help, "refutation", stats.refutations);
  counter(events, help, "late", stats.late);
  counter(events, help, "digest", stats.digests);
  counter(events, help, "sync", stats.syncs);
  counter(events, help, "malformed", stats.malformed);
  counter(events, help, "unknown_kind", stats.unknown_kind);
  counter(events, help, "invalid_delta", stats.invalid_deltas);
  counter(events, help, "write_refused", core_->shards().refused());
  counter(events, help, "verify_burst", core_->monitor().verify_bursts());
  counter("muster_gossip_send_errors_total", "Datagrams the kernel did not take.", {},
          send_errors_);
  counter("muster_gossip_sync_bytes_total", "Octets of bulk transfers, both ways.", {},
          stats.sync_bytes);
  for (std::size_t i = 0; i < kDropKinds; ++i) {
    const auto kind = static_cast<Drop>(i);
    counter("muster_gossip_datagrams_dropped_total", "Datagrams not let in.",
            std::string{to_string(kind)}, core_->link().drops(kind));
  }
}

bool Node::Impl::set_keys(std::vector<Key> keys) {
  if (!keyed_ || keys.empty() || keys.size() > kMaxKeys) return false;
  post([this, keys = std::move(keys)](Gossip&, Effects&) { keyed_->set_keys(keys); });
  return true;
}

void Node::Impl::set_metadata(std::map<std::string, std::string> metadata) {
  post([this, metadata = std::move(metadata)](Gossip& core, Effects& fx) mutable {
    auto changed = options_;
    changed.metadata = std::move(metadata);
    auto profile = profile_of(changed);
    if (!profile) return report("the node's metadata is too long and was not changed");
    options_.metadata = std::move(changed.metadata);
    core.set_profile(std::move(*profile), Clock::now(), fx);
    remember({core.self(), core.members().find(core.self().uid)->profile});
  });
}

void Node::Impl::snapshot(std::function<void(std::vector<RecordWrite>)> done) {
  post([this, done = std::move(done)](Gossip& core, Effects&) mutable {
    std::vector<RecordWrite> all;
    for (const auto& [id, shard] : core.shards().shards()) {
      for (const auto& [key, value] : shard.records) all.push_back({id, key, value});
    }
    asio::post(control_,
               [done = std::move(done), all = std::move(all)]() mutable { done(std::move(all)); });
  });
}

Node::Node(std::unique_ptr<Impl> impl) : impl_{std::move(impl)} {}
Node::~Node() {
  stop();
}

Result<std::unique_ptr<Node>> Node::start(NodeOptions options, NodeCallbacks callbacks,
                                          asio::any_io_executor control,
                                          prometheus::Registry& registry) {
  auto impl = std::make_unique<Impl>(std::move(options), std::move(callbacks), std::move(control),
                                     registry);
  if (const auto opened = impl->open(); !opened) return opened.error();
  return std::unique_ptr<Node>{new Node{std::move(impl)}};
}

void Node::stop() {
  impl_->stop();
}
std::vector<Member> Node::members() const {
  return impl_->members();
}
Endpoint Node::local_endpoint() const {
  return impl_->local();
}

void Node::publish(std::vector<RecordWrite> writes) {
  impl_->post([writes = std::move(writes)](Gossip& core, Effects& fx) mutable {
    core.publish(std::move(writes), Clock::now(), fx);
  });
}
void Node::begin_publishing(std::vector<std::string> prefixes) {
  impl_->post([prefixes = std::move(prefixes)](Gossip& core, Effects& fx) mutable {
    core.begin_publishing(std::move(prefixes), Clock::now(), fx);
  });
}
void Node::stop_publishing() {
  impl_->post([](Gossip& core, Effects&) { core.stop_publishing(); });
}
void Node::snapshot(std::function<void(std::vector<RecordWrite>)> done) const {
  impl_->snapshot(std::move(done));
}
void Node::set_join(std::vector<Endpoint> join) {
  impl_->post([join = std::move(join)](Gossip& core, Effects&) mutable {
    core.set_seeds(std::move(join));
  });
}
void Node::set_metadata(std::map<std::string, std::string> metadata) {
  impl_->set_metadata(std::move(metadata));
}
bool Node::set_keys(std::vector<Key> keys) {
  return impl_->set_keys(std::move(keys));
}

}  // namespace muster::gossip
