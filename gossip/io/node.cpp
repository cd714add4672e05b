#include "gossip/io/node.hpp"

#include <algorithm>
#include <ctime>
#include <utility>

#include <boost/system/errc.hpp>
#include <prometheus/registry.h>

#include "gossip/io/node_impl.hpp"

namespace muster::gossip {

namespace asio = boost::asio;
using asio::ip::tcp;
using asio::ip::udp;

namespace {

constexpr int kReceiveBuffer = 4 * 1024 * 1024;  // the default holds 256 small datagrams
constexpr std::size_t kMaxSaid = 256;
constexpr Duration kSayAgain{60'000};

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

std::chrono::nanoseconds cpu_time() {
  timespec spent{};
  ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &spent);
  return std::chrono::seconds{spent.tv_sec} + std::chrono::nanoseconds{spent.tv_nsec};
}

std::string explain(Drop reason) {
  switch (reason) {
    case Drop::wrong_key:
      return "wrong key";
    case Drop::wrong_cluster:
      return "another cluster's name";
    case Drop::wrong_version:
      return "no version of the protocol that both speak";
    case Drop::full:
      return "no room for another member";
    case Drop::malformed:
    case Drop::replayed:
    case Drop::stranger:
      break;
  }
  return std::string{to_string(reason)};
}

}  // namespace

Node::Impl::Step::Step(Impl& node) : node_{node}, begin_{cpu_time()} {}
Node::Impl::Step::~Step() {
  node_.counted_.longest_step = std::max(node_.counted_.longest_step, cpu_time() - begin_);
}

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
  auto names = parse_names(options_.join_names);
  if (!uid || !names || options_.keys.size() > kMaxKeys ||
      options_.cluster.size() > kMaxClusterName) {
    return invalid;
  }
  names_ = std::move(*names);
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
  resolver_ =
      std::make_unique<Resolver>(context_.get_executor(), Resolver::Options{options_.name_servers});
  GossipOptions core;
  core.self = *uid;
  core.epoch = options_.epoch;
  core.cluster = options_.cluster;
  core.profile = std::move(*profile);
  core.seeds = options_.join;
  core_ = std::make_unique<Gossip>(std::move(core), sealer(), Rng{sealer().random()}, Clock::now());
  remember({core_->self(), core_->members().find(*uid)->profile});
  take_stats(Clock::now());
  thread_ = std::thread{[this] { run(); }};
  return Done{};
}

void Node::Impl::run() {
  wait_readable();
  accept_next();
  tasks_.spawn(look_up());
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
    resolver_.reset();
  });
  thread_.join();
}

void Node::Impl::perform(Effects& fx) {
  for (const Datagram& datagram : fx.datagrams) {
    ErrorCode error;
    udp_.send_to(asio::buffer(datagram.bytes), to_asio<udp::endpoint>(datagram.to), 0, error);
    if (error) ++counted_.send_errors;  // as good as lost on the way
    ++counted_.packets_sent;
    counted_.bytes_sent += datagram.bytes.size();
  }
  for (const HostProbe& probe : fx.host_probes) {
    if (probes_ < kMaxHostProbes && !stopping_) {
      tasks_.spawn(probe_host(probe.uid, probe.endpoint));
    }
  }
  for (const StreamAction& action : fx.streams) act(action);
  for (const auto took : fx.echoes) {
    metrics_.observe_echo(took);
    counted_.round_trip = took;
  }
  for (const auto took : fx.repaired) metrics_.observe_repair(took);
  forget(fx.forgotten);
  tell_members(std::move(fx.members));
  tell_records(std::move(fx.records));
  if (fx.superseded && callbacks_.on_superseded) asio::post(control_, callbacks_.on_superseded);
  for (std::string& shard : fx.lost_shards) {
    if (!callbacks_.on_shard_lost) break;
    asio::post(control_, [call = callbacks_.on_shard_lost, shard = std::move(shard)]() mutable {
      call(std::move(shard));
    });
  }
  if (fx.epoch && callbacks_.on_epoch) {
    asio::post(control_, [call = callbacks_.on_epoch, epoch = *fx.epoch] { call(epoch); });
  }
  fx = {};
  arm();
}

void Node::Impl::tell_members(std::vector<MemberChange> changes) {
  std::vector<Member> changed;
  for (const MemberChange& change : changes) {
    remember(change.after);
    changed.push_back(to_member(change.after));
  }
  if (changed.empty() || !callbacks_.on_members_changed) return;
  asio::post(control_, [call = callbacks_.on_members_changed,
                        members = std::move(changed)]() mutable { call(std::move(members)); });
}

void Node::Impl::tell_records(std::vector<RecordWrite> records) {
  if (!callbacks_.on_records) return;
  if (holding_back_) {
    held_back_.insert(held_back_.end(), std::make_move_iterator(records.begin()),
                      std::make_move_iterator(records.end()));
    return;
  }
  for (auto from = records.begin(); from != records.end();) {
    const auto to =
        from + std::min(static_cast<std::ptrdiff_t>(kRecordsAtOnce), records.end() - from);
    std::vector<RecordWrite> part{std::make_move_iterator(from), std::make_move_iterator(to)};
    asio::post(control_, [call = callbacks_.on_records, part = std::move(part)]() mutable {
      call(std::move(part));
    });
    from = to;
  }
}

void Node::Impl::remember(const MemberRecord& record) {
  const std::scoped_lock lock{mutex_};
  members_.insert_or_assign(record.head.uid, to_member(record));
}

void Node::Impl::forget(const std::vector<NodeUid>& forgotten) {
  if (forgotten.empty()) return;
  const std::scoped_lock lock{mutex_};
  for (const NodeUid& uid : forgotten) members_.erase(uid);
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
    const std::string why = explain(refusal.reason);
    report(refusal.by_peer ? who + " refuses this node: " + why : "refused " + who + ": " + why);
  }
  // Said again and again by who has yielded, and by who has not as often as the other one speaks.
  if (const auto twin = core_->take_twin()) twin_ = to_string(*twin);
  if (core_->conflicted()) {
    report("this node takes no part: one at " + twin_ + " uses the same id, " + options_.id.str() +
           "; remove the file `node` of the state directory here and start again");
  } else if (core_->stats().duplicate_ids > told_twins_) {
    told_twins_ = core_->stats().duplicate_ids;
    report("refused " + twin_ + ": it uses this node's id, " + options_.id.str());
  }
}

void Node::Impl::take_stats(TimePoint now) {
  NodeStats stats = counted_;
  stats.members_alive = core_->members().alive();
  stats.members_known = core_->members().entries().size();
  stats.shards = core_->shards().shards().size();
  stats.records = core_->shards().records();
  stats.pending_writes = pending_writes_;
  stats.isolated = core_->isolated(now);
  const GossipStats& did = core_->stats();
  stats.alerts_raised = did.alerts_raised;
  stats.alerts_heard = did.alerts_heard;
  stats.verdicts = did.verdicts;
  stats.refutations = did.refutations;
  stats.late = did.late;
  stats.syncs = did.syncs;
  stats.sync_bytes = did.sync_bytes;
  for (std::size_t i = 0; i < kDropKinds; ++i) {
    const auto kind = static_cast<Drop>(i);
    stats.refused.emplace(to_string(kind), core_->link().drops(kind));
  }
  stats.state_age = core_->state_age(now);
  metrics_.update(*core_, stats, refused_writes_);
  const std::scoped_lock lock{mutex_};
  stats_ = std::move(stats);
}

std::vector<Member> Node::Impl::members() const {
  std::unique_lock lock{mutex_};
  std::vector<Member> all;
  for (const auto& [uid, member] : members_) all.push_back(member);
  lock.unlock();
  erase_replaced(all);
  return all;
}

std::vector<Endpoint> Node::Impl::last_members() const {
  const std::scoped_lock lock{mutex_};
  std::vector<Endpoint> last;
  for (const bool alive : {true, false}) {
    for (const auto& [uid, member] : members_) {
      if (last.size() >= kMaxLastMembers) return last;
      if (member.id == options_.id || (member.status == MemberStatus::alive) != alive) continue;
      last.push_back(member.endpoints.front());
    }
  }
  return last;
}

NodeStats Node::Impl::stats() const {
  const std::scoped_lock lock{mutex_};
  return stats_;
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
std::vector<Endpoint> Node::last_members() const {
  return impl_->last_members();
}
NodeStats Node::stats() const {
  return impl_->stats();
}
Endpoint Node::local_endpoint() const {
  return impl_->local();
}
void Node::publish(std::vector<RecordWrite> writes) {
  impl_->publish(std::move(writes));
}
void Node::offer(std::string prefix, std::vector<RecordWrite> writes) {
  impl_->offer(std::move(prefix), std::move(writes));
}
void Node::begin_publishing(std::vector<std::string> prefixes) {
  impl_->begin_publishing(std::move(prefixes));
}
void Node::stop_publishing() {
  impl_->stop_publishing();
}
void Node::own(std::string shard) {
  impl_->own(std::move(shard));
}
void Node::disown(std::string shard) {
  impl_->disown(std::move(shard));
}
void Node::snapshot(std::function<void(std::vector<RecordWrite>)> done) const {
  impl_->snapshot(std::move(done));
}
void Node::set_join(std::vector<Endpoint> join) {
  impl_->set_join(std::move(join));
}
bool Node::set_join_names(std::vector<std::string> names) {
  return impl_->set_join_names(std::move(names));
}
void Node::set_metadata(std::map<std::string, std::string> metadata) {
  impl_->set_metadata(std::move(metadata));
}
bool Node::set_keys(std::vector<Key> keys) {
  return impl_->set_keys(std::move(keys));
}

}  // namespace muster::gossip
