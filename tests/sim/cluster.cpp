#include "tests/sim/cluster.hpp"

#include <algorithm>
#include <cstring>
#include <stdexcept>

namespace muster::gossip::sim {
namespace {

constexpr std::size_t kSocketBuffer = 4 * 1024 * 1024;
constexpr std::size_t kIpUdp = 28;
constexpr std::uint32_t kMaxWakes = 1'000;

std::uint64_t hash_bytes(std::span<const std::byte> bytes, std::uint64_t seed) {
  return hash_text({reinterpret_cast<const char*>(bytes.data()), bytes.size()}, seed);
}

}  // namespace

void CountingSealer::seal(std::span<const std::byte> aad, std::span<const std::byte> plain,
                          std::vector<std::byte>& out) {
  const std::uint64_t tag = hash_bytes(plain, hash_bytes(aad, key_));
  out.resize(out.size() + kOverhead - 8);
  const auto* octets = reinterpret_cast<const std::byte*>(&tag);
  out.insert(out.end(), octets, octets + 8);
  out.insert(out.end(), plain.begin(), plain.end());
}

bool CountingSealer::open(std::span<const std::byte> aad, std::span<const std::byte> box,
                          std::vector<std::byte>& plain) {
  if (box.size() < kOverhead) return false;
  const auto content = box.subspan(kOverhead);
  std::uint64_t tag = 0;
  std::memcpy(&tag, box.data() + kOverhead - 8, 8);
  if (tag != hash_bytes(content, hash_bytes(aad, key_))) return false;
  plain.assign(content.begin(), content.end());
  return true;
}

Cluster::Cluster(std::size_t nodes, std::uint64_t seed, NetworkOptions network)
    : rng_{seed * 0x9E3779B9 + 1}, network_{network}, now_{std::chrono::hours{1}} {
  for (Index i = 0; i < nodes; ++i) add({});
}

Endpoint Cluster::address(Index i) const {
  return {IpAddress{IpAddress::V4{10, static_cast<std::uint8_t>(i >> 16),
                                  static_cast<std::uint8_t>(i >> 8), static_cast<std::uint8_t>(i)}},
          *Port::from(61420)};
}

Cluster::Index Cluster::add(std::vector<Index> seeds) {
  const Index i = nodes_.size();
  auto agent = address(i);
  agent.port = *Port::from(5051);
  auto node = std::make_unique<Node>(address(i), agent);
  node->uid = {rng_.next(), rng_.next()};
  owners_[node->at] = i;
  by_uid_[node->uid] = i;
  nodes_.push_back(std::move(node));
  if (!seeds.empty()) start(i, std::move(seeds));
  return i;
}

Cluster::Index Cluster::recycle(Index old) {
  const Index i = nodes_.size();
  auto node = std::make_unique<Node>(nodes_[old]->at, nodes_[old]->agent);
  node->uid = {rng_.next(), rng_.next()};
  owners_[node->at] = i;
  by_uid_[node->uid] = i;
  nodes_.push_back(std::move(node));
  return i;
}

void Cluster::boot(Index i, std::vector<Endpoint> seeds, std::span<const MemberRecord> known) {
  Node& node = *nodes_[i];
  ++node.life;
  ++node.epoch;
  node.host_up = true;
  node.socket.clear();
  node.replica.clear();
  node.told.clear();
  node.paused_until = {};
  GossipOptions options;
  options.self = node.uid;
  options.epoch = node.epoch;
  options.cluster = node.cluster;
  options.profile.endpoints = {node.at};
  options.profile.agent = "agent-" + std::to_string(i);
  options.profile.agent_endpoint = node.agent;
  options.seeds = std::move(seeds);
  options.timing = timing;
  node.sealer = std::make_unique<CountingSealer>(node.key, Rng{rng_.next()});
  node.core = std::make_unique<Gossip>(std::move(options), *node.sealer, Rng{rng_.next()}, now_);
  node.core->preload(known, now_);
  node.wake = TimePoint::max();
  rewake(i);
}

void Cluster::start_warm() {
  std::vector<MemberRecord> all;
  all.reserve(nodes_.size());
  for (Index i = 0; i < nodes_.size(); ++i) boot(i, {}, {});
  for (const auto& node : nodes_) {
    all.push_back({node->core->self(), node->core->members().find(node->uid)->profile});
  }
  std::sort(all.begin(), all.end(),
            [](const auto& a, const auto& b) { return a.head.uid < b.head.uid; });
  for (Index i = 0; i < nodes_.size(); ++i) {
    nodes_[i]->core->preload(all, now_);
    rewake(i);
  }
}

void Cluster::start_cold(Duration spread) {
  const TimePoint begin = now_;
  std::vector<std::pair<Duration, Index>> order;
  for (Index i = 0; i < nodes_.size(); ++i) {
    order.emplace_back(Duration{rng_.below(static_cast<std::uint64_t>(spread.count()) + 1)}, i);
  }
  std::sort(order.begin(), order.end());
  for (const auto& [at, i] : order) {
    if (begin + at > now_) run_for(std::chrono::duration_cast<Duration>(begin + at - now_));
    start(i, {0, std::min<Index>(1, size() - 1), std::min<Index>(2, size() - 1)});
  }
}

void Cluster::start(Index i, std::vector<Index> seeds) {
  std::vector<Endpoint> at;
  for (const Index seed : seeds) {
    if (seed != i) at.push_back(nodes_[seed]->at);
  }
  boot(i, std::move(at), {});
}

void Cluster::kill(Index i) {
  nodes_[i]->core.reset();
  std::erase_if(streams_, [&](const auto& s) { return s.first.first == i; });
}

void Cluster::cut_off(Index i) {
  kill(i);
  nodes_[i]->host_up = false;
}

void Cluster::leave(Index i) {
  Effects fx;
  nodes_[i]->core->leave(now_, fx);
  perform(i, fx);
  kill(i);
}

void Cluster::restart(Index i, bool disk_kept) {
  if (nodes_[i]->running()) kill(i);
  if (!disk_kept) nodes_[i]->epoch = 0;
  start(i, {0, 1 % size(), 2 % size(), (i + 1) % size()});
}

void Cluster::pause(Index i, Duration duration) {
  nodes_[i]->paused_until = now_ + duration;
}

void Cluster::schedule(TimePoint at, Body body) {
  std::uint32_t slot = 0;
  if (free_.empty()) {
    slot = static_cast<std::uint32_t>(bodies_.size());
    bodies_.push_back(std::move(body));
  } else {
    slot = free_.back();
    free_.pop_back();
    bodies_[slot] = std::move(body);
  }
  queue_.push({at, ++order_, slot});
}

void Cluster::rewake(Index i) {
  Node& node = *nodes_[i];
  if (!node.running()) return;
  const TimePoint due = std::max({node.core->next_deadline(), now_, node.paused_until});
  if (due >= node.wake) return;
  node.wake = due;
  schedule(due,
           {.what = What::wake, .node = i, .life = node.life, .from = {}, .bytes = {}, .uid = {}});
}

bool Cluster::lost(Index from, Index to) {
  if (cut_ && cut_(from, to)) return true;
  return rng_.chance(network_.loss_percent);
}

bool Cluster::connected(Index a, Index b) const {
  return nodes_[a]->host_up && nodes_[b]->host_up && !(cut_ && (cut_(a, b) || cut_(b, a)));
}

std::chrono::nanoseconds Cluster::delay(Index from, Index to) {
  const auto range = static_cast<std::uint64_t>((network_.delay_max - network_.delay_min).count());
  auto delay = network_.delay_min + std::chrono::microseconds{rng_.below(range + 1)};
  if (rng_.chance(network_.late_percent)) delay *= 10;
  return delay + nodes_[from]->slow + nodes_[to]->slow;
}

void Cluster::transmit(Index from, const Datagram& datagram) {
  Node& node = *nodes_[from];
  ++node.packets;
  node.bytes += datagram.bytes.size() + kIpUdp;
  largest_datagram_ = std::max(largest_datagram_, datagram.bytes.size());
  const auto owner = owners_.find(datagram.to);
  if (owner == owners_.end()) return;
  const Index to = owner->second;
  const unsigned copies = rng_.chance(network_.duplicate_percent) ? 2 : 1;
  for (unsigned copy = 0; copy < copies; ++copy) {
    if (lost(from, to)) continue;
    Body body{.what = What::datagram,
              .node = to,
              .life = 0,
              .from = node.at,
              .bytes = datagram.bytes,
              .uid = {}};
    if (!body.bytes.empty() && rng_.chance(network_.corrupt_percent)) {
      body.bytes[rng_.below(body.bytes.size())] ^= std::byte{0x10};
    }
    schedule(now_ + delay(from, to), std::move(body));
  }
}

void Cluster::act(Index from, const StreamAction& action) {
  const auto key = [&](StreamId id) { return std::pair{from, id}; };
  if (const auto* open = std::get_if<StreamOpen>(&action)) {
    const auto owner = owners_.find(open->to);
    if (owner == owners_.end() || !nodes_[owner->second]->running() ||
        !connected(from, owner->second)) {
      schedule(now_ + Duration{1000}, {.what = What::closed,
                                       .node = from,
                                       .life = nodes_[from]->life,
                                       .from = {},
                                       .bytes = {},
                                       .uid = {},
                                       .stream = open->stream});
      return;
    }
    const Index to = owner->second;
    const StreamId theirs = next_incoming_ += 2;
    streams_[key(open->stream)] = {to, theirs, now_};
    streams_[{to, theirs}] = {from, open->stream, now_};
    const TimePoint at = now_ + delay(from, to);
    schedule(at, {.what = What::opened,
                  .node = to,
                  .life = nodes_[to]->life,
                  .from = {},
                  .bytes = {},
                  .uid = {},
                  .stream = theirs});
    schedule(at + delay(to, from), {.what = What::opened,
                                    .node = from,
                                    .life = nodes_[from]->life,
                                    .from = {},
                                    .bytes = {},
                                    .uid = {},
                                    .stream = open->stream});
  } else if (const auto* send = std::get_if<StreamSend>(&action)) {
    const auto found = streams_.find(key(send->stream));
    if (found == streams_.end()) return;
    Stream& stream = found->second;
    nodes_[from]->stream_bytes += send->bytes.size();
    const std::chrono::nanoseconds took{static_cast<std::int64_t>(
        static_cast<double>(send->bytes.size()) / network_.stream_bytes_per_second * 1e9)};
    stream.busy_until = std::max(stream.busy_until, now_) + took;
    const bool up = nodes_[stream.peer]->running() && connected(from, stream.peer);
    if (up) {
      // Without jitter: a stream keeps its order.
      schedule(stream.busy_until + network_.delay_max, {.what = What::data,
                                                        .node = stream.peer,
                                                        .life = nodes_[stream.peer]->life,
                                                        .from = {},
                                                        .bytes = send->bytes,
                                                        .uid = {},
                                                        .stream = stream.peer_id});
    }
    schedule(stream.busy_until + (up ? std::chrono::nanoseconds{0} : Duration{2000}),
             {.what = up ? What::writable : What::closed,
              .node = from,
              .life = nodes_[from]->life,
              .from = {},
              .bytes = {},
              .uid = {},
              .stream = send->stream});
  } else if (const auto* close = std::get_if<StreamClose>(&action)) {
    const auto found = streams_.find(key(close->stream));
    if (found == streams_.end()) return;
    const Stream stream = found->second;
    streams_.erase(found);
    schedule(std::max(now_, stream.busy_until) + network_.delay_max + Duration{1},
             {.what = What::closed,
              .node = stream.peer,
              .life = nodes_[stream.peer]->life,
              .from = {},
              .bytes = {},
              .uid = {},
              .stream = stream.peer_id});
  }
}

void Cluster::perform(Index i, Effects& fx) {
  Node& node = *nodes_[i];
  for (const Datagram& datagram : fx.datagrams) {
    trace_ = mix(trace_, hash_bytes(datagram.bytes, static_cast<std::uint64_t>(i)));
    transmit(i, datagram);
  }
  for (const HostProbe& probe : fx.host_probes) {
    auto gossip_port = probe.endpoint;
    gossip_port.port = *Port::from(61420);
    const auto host = owners_.find(gossip_port);
    if (host == owners_.end() || !connected(i, host->second)) continue;
    if (lost(i, host->second) || lost(host->second, i)) continue;
    schedule(now_ + delay(i, host->second) * 2, {.what = What::host_probe,
                                                 .node = i,
                                                 .life = node.life,
                                                 .from = {},
                                                 .bytes = {},
                                                 .uid = probe.uid});
  }
  for (const NodeUid& uid : fx.forgotten) node.told.erase(uid);
  for (const MemberChange& change : fx.members) {
    node.told.insert(change.after.head.uid);
    trace_ = mix(trace_, change.after.head.uid.low + static_cast<std::uint64_t>(i));
    const auto who = find(change.after.head.uid);
    const MemberStatus status = change.after.head.status;
    if (who && nodes_[*who]->running() && check_false_deaths && !unhealthy.contains(*who) &&
        !unhealthy.contains(i) && change.after.head.epoch == nodes_[*who]->core->self().epoch &&
        (status == MemberStatus::host_down || status == MemberStatus::daemon_down)) {
      ++false_deaths_;
    }
    if (on_member) on_member(i, change);
  }
  for (const RecordWrite& write : fx.records) {
    auto& shard = node.replica[write.shard];
    if (write.value) {
      shard[write.key] = *write.value;
    } else {
      shard.erase(write.key);
    }
    if (on_record) on_record(i, write);
  }
  if (fx.epoch) node.epoch = *fx.epoch;
  if (fx.superseded) ++node.superseded;
  for (std::string& lost : fx.lost_shards) node.lost.push_back(std::move(lost));
  for (const StreamAction& action : fx.streams) act(i, action);
  rewake(i);
}

void Cluster::handle(Body& body) {
  const Index i = body.node;
  Node& node = *nodes_[i];
  if (!node.running()) return;
  if (body.what != What::datagram && body.life != node.life) return;
  Effects fx;
  if (now_ < node.paused_until && body.what != What::wake) {
    if (body.what == What::datagram) {
      std::size_t held = 0;
      for (const auto& waiting : node.socket) held += waiting.second.size() + 700;  // skb overhead
      if (node.socket.size() < kSocketBuffer / 800 && held < kSocketBuffer) {
        node.socket.emplace_back(*body.from, std::move(body.bytes));
      }
    } else {
      schedule(node.paused_until, body);
    }
    return;
  }
  switch (body.what) {
    case What::wake: {
      if (node.wake != now_) return;
      node.wake = TimePoint::max();
      node.wakes = node.woken == now_ ? node.wakes + 1 : 0;
      node.woken = now_;
      if (node.wakes > kMaxWakes) throw std::logic_error{"a node is due again and again"};
      if (now_ < node.paused_until) break;
      // Drain before judging timers.
      for (auto& [from, bytes] : std::exchange(node.socket, {})) {
        node.core->on_datagram(from, bytes, now_, fx);
      }
      if (node.core->next_deadline() <= now_) node.core->on_timer(now_, fx);
      break;
    }
    case What::datagram:
      // Bytes for another process at this address are not told apart by the network.
      node.core->on_datagram(*body.from, body.bytes, now_, fx);
      break;
    case What::host_probe:
      node.core->on_host_probe(body.uid, now_);
      break;
    case What::opened:
      node.core->on_stream_opened(body.stream, now_, fx);
      break;
    case What::data:
      node.core->on_stream_data(body.stream, body.bytes, now_, fx);
      break;
    case What::writable:
      node.core->on_stream_writable(body.stream, now_, fx);
      break;
    case What::closed:
      streams_.erase({i, body.stream});
      node.core->on_stream_closed(body.stream, now_);
      break;
  }
  perform(i, fx);
}

void Cluster::run_for(Duration duration) {
  const TimePoint end = now_ + duration;
  while (!queue_.empty() && queue_.top().at <= end) {
    const Event event = queue_.top();
    queue_.pop();
    now_ = std::max(now_, event.at);
    Body body = std::move(bodies_[event.body]);
    free_.push_back(event.body);
    if (owners_.size() != nodes_.size() && body.what == What::datagram) {
      // An address has a new owner since this was sent.
      body.node = owners_.at(nodes_[body.node]->at);
    }
    handle(body);
  }
  now_ = end;
}

std::optional<Duration> Cluster::run_until(const std::function<bool()>& done, Duration limit) {
  const TimePoint begin = now_;
  while (!done()) {
    if (now_ - begin >= limit) return std::nullopt;
    run_for(Duration{1});
  }
  return std::chrono::duration_cast<Duration>(now_ - begin);
}

void Cluster::set_seeds(Index i, std::vector<Endpoint> seeds) {
  nodes_[i]->core->set_seeds(std::move(seeds), now_);
  rewake(i);
}

void Cluster::set_metadata(Index i, std::vector<std::pair<std::string, std::string>> metadata) {
  Gossip& core = *nodes_[i]->core;
  Profile profile = *core.members().find(core.self().uid)->profile;
  profile.metadata = std::move(metadata);
  Effects fx;
  core.set_profile(std::move(profile), now_, fx);
  perform(i, fx);
}

void Cluster::publish(Index i, std::vector<RecordWrite> writes) {
  Effects fx;
  nodes_[i]->core->publish(std::move(writes), now_, fx);
  perform(i, fx);
}

void Cluster::offer(Index i, const std::string& prefix, std::vector<RecordWrite> writes) {
  Effects fx;
  nodes_[i]->core->offer(prefix, std::move(writes), now_, fx);
  perform(i, fx);
}

void Cluster::begin_publishing(Index i, std::vector<std::string> prefixes) {
  Effects fx;
  nodes_[i]->core->begin_publishing(std::move(prefixes), now_, fx);
  perform(i, fx);
}

void Cluster::own(Index i, const std::string& shard) {
  Effects fx;
  nodes_[i]->core->own(shard, now_, fx);
  perform(i, fx);
}

std::optional<Cluster::Index> Cluster::find(const NodeUid& uid) const {
  const auto found = by_uid_.find(uid);
  if (found == by_uid_.end()) return std::nullopt;
  return found->second;
}

std::size_t Cluster::running() const {
  return static_cast<std::size_t>(
      std::count_if(nodes_.begin(), nodes_.end(), [](const auto& n) { return n->running(); }));
}

bool Cluster::roots_equal() const {
  std::optional<std::uint32_t> root;
  for (const auto& node : nodes_) {
    if (!node->running()) continue;
    if (root && *root != node->core->root()) return false;
    root = node->core->root();
  }
  return true;
}

bool Cluster::views_equal() const {
  const std::size_t alive = running();
  if (!roots_equal()) return false;
  for (const auto& node : nodes_) {
    if (!node->running()) continue;
    if (node->core->members().alive() != alive) return false;
  }
  // Equal roots and counts: one view stands for all.
  for (const auto& node : nodes_) {
    if (!node->running()) continue;
    return std::all_of(nodes_.begin(), nodes_.end(), [&](const auto& other) {
      return node->core->members().is_alive(other->uid) == other->running();
    });
  }
  return true;
}

std::size_t Cluster::unaware_of_death(Index who) const {
  return static_cast<std::size_t>(
      std::count_if(nodes_.begin(), nodes_.end(), [&](const auto& node) {
        return node->running() && node->core->members().is_alive(nodes_[who]->uid);
      }));
}

void Cluster::reset_counters() {
  for (auto& node : nodes_) {
    node->packets = 0;
    node->bytes = 0;
    node->stream_bytes = 0;
  }
  false_deaths_ = 0;
}

}  // namespace muster::gossip::sim
