#include "daemon/mesh.hpp"

#include <algorithm>
#include <fstream>
#include <random>
#include <spdlog/spdlog.h>
#include <sstream>
#include <utility>

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/thread_pool.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <prometheus/gauge.h>
#include <prometheus/registry.h>

#include "base/io/bulk.hpp"
#include "cluster/core/first_contact.hpp"
#include "daemon/version.hpp"

namespace muster::daemon {
namespace {

namespace asio = boost::asio;

constexpr Duration kDecideEvery{500};
constexpr unsigned kKeepMembersEvery = 60;  // in units of kDecideEvery
constexpr std::size_t kInboxSlice = 500;    // records at a stretch: some 10 ms
// Who was there before this node is no news to it.
constexpr Duration kGettingToKnow{10'000};
constexpr std::size_t kMaxKeysShown = 100;  // of all nodes together; 8 each, and mostly the same
constexpr std::uint16_t kAgentPort = 5051;
constexpr std::size_t kMaxSeeds = 16'384;      // as many as there may be members
constexpr std::string_view kKeysKey = "keys";  // of the metadata: ids, the one that seals first

prometheus::Gauge& gauge(prometheus::Registry& registry, const char* name, const char* help) {
  return prometheus::BuildGauge().Name(name).Help(help).Register(registry).Add({});
}

std::string joined(const std::vector<std::string>& words) {
  std::string text;
  for (const std::string& word : words) text += (text.empty() ? "" : ",") + word;
  return text;
}

Identity identity_of(const Config& config) {
  FoundIdentity found = load_identity(config.state.directory);
  if (!found.problem.empty()) spdlog::warn("gossip: {}", found.problem);
  return found.identity;
}

}  // namespace

Mesh::Mesh(asio::any_io_executor control, asio::thread_pool& workers, const Config& config,
           cluster::Cluster& cluster, mesos::Observer* observer, prometheus::Registry& registry,
           OnDelta on_delta, OnNews on_news)
    : control_{std::move(control)},
      workers_{workers},
      disk_{asio::make_strand(workers)},
      config_{config},
      cluster_{cluster},
      observer_{observer},
      registry_{registry},
      on_delta_{std::move(on_delta)},
      on_news_{std::move(on_news)},
      identity_{identity_of(config)},
      participant_{cluster,
                   identity_.id,
                   observer == nullptr ? "no" : config.mesos.observer,
                   observer == nullptr && config.gossip.join.empty() &&
                       load_members(config.state.directory).empty(),
                   {{"version", kVersion},
                    {std::string{kSourceKey}, config.mesos.from_agent ? "agent" : "master"}},
                   Clock::now()},
      publishing_{gauge(registry, "muster_cluster_publisher",
                        "1 while this node publishes what all nodes read.")},
      held_{gauge(registry, "muster_cluster_held_host_deaths",
                  "Hosts believed dead whose backends stay, because too many died at once.")} {
  cluster_.set_self(identity_.id);
  read_keys();  // a mistake is said before anything runs
}

Mesh::~Mesh() {
  stop();
}

std::vector<gossip::Key> Mesh::read_keys() {
  std::vector<gossip::Key> keys;
  const auto& path = config_.gossip.key_file;
  if (path.empty()) return keys;
  std::ifstream in{path};
  if (in) require_private(path, "gossip.key_file");
  std::string line;
  unsigned number = 0;
  while (std::getline(in, line)) {
    ++number;
    if (line.empty() || line.front() == '#') continue;
    const auto key = gossip::parse_key(line);
    if (!key || keys.size() == gossip::kMaxKeys) {
      throw ConfigError{path.string() + ':' + std::to_string(number) +
                        ": expected at most 8 keys of 64 hexadecimal digits, one a line"};
    }
    keys.push_back(*key);
  }
  if (keys.empty()) {
    throw ConfigError{path.string() +
                      ": gossip.key_file: expected a readable file with 64 hexadecimal digits"};
  }
  key_ids_.clear();
  for (const gossip::Key& key : keys) key_ids_.push_back(gossip::key_id(key));
  return keys;
}

gossip::NodeOptions Mesh::node_options() {
  const Config::Gossip& from = config_.gossip;
  gossip::NodeOptions options;
  options.id = identity_.id;
  options.epoch = identity_.epoch;
  options.cluster = from.cluster;
  options.keys = read_keys();
  options.insecure = from.insecure;
  const std::optional<IpAddress> own = config_.node.v4   ? config_.node.v4
                                       : config_.node.v6 ? config_.node.v6
                                                         : own_address();
  if (from.listen) {
    options.listen = *from.listen;
  } else if (own) {
    options.listen = {*own, *Port::from(gossip::kDefaultPort)};
  }
  options.advertised = from.advertise;
  if (options.advertised.empty() && own && !options.listen.address.is_unicast()) {
    options.advertised = {{*own, options.listen.port}};
  }
  for (const std::string& where : from.join) {
    if (const auto endpoint = Endpoint::parse(where)) {
      options.join.push_back(*endpoint);
    } else {
      options.join_names.push_back(where);
    }
  }
  kept_members_ = load_members(config_.state.directory);
  options.join.insert(options.join.end(), kept_members_.begin(), kept_members_.end());
  join_ = options.join;
  own_ = options.advertised.empty() ? std::vector{options.listen} : options.advertised;
  if (config_.node.agent) {
    options.agent_endpoint = config_.node.agent;
  } else if (own) {
    options.agent_endpoint = Endpoint{*own, *Port::from(kAgentPort)};
  }
  told_ = participant_.metadata();
  if (!key_ids_.empty()) told_[std::string{kKeysKey}] = joined(key_ids_);
  options.metadata = told_;
  return options;
}

gossip::NodeCallbacks Mesh::callbacks() {
  gossip::NodeCallbacks out;
  out.on_members_changed = [this](const std::vector<Member>& changed) { on_members(changed); };
  out.on_records = [this](std::vector<gossip::RecordWrite> writes) {
    on_records(std::move(writes));
  };
  out.on_superseded = [this] { on_superseded(); };
  out.on_shard_lost = [this](const std::string& shard) { on_shard_lost(shard); };
  out.on_epoch = [this](std::uint32_t epoch) {
    identity_.epoch = epoch;
    asio::post(disk_, [directory = config_.state.directory, identity = identity_] {
      if (!store_identity(directory, identity)) {
        spdlog::warn("gossip: cannot write {}", (directory / "node").string());
      }
    });
  };
  out.on_problem = [](const std::string& problem) { spdlog::warn("gossip: {}", problem); };
  return out;
}

bool Mesh::start() {
  gossip::NodeOptions options = node_options();
  const Endpoint listen = options.listen;
  auto node = gossip::Node::start(std::move(options), callbacks(), control_, registry_);
  if (!node) {
    const bool no_key = node.error() == boost::system::errc::permission_denied;
    spdlog::error("gossip: cannot run on {}: {}{}", to_string(listen), node.error().message(),
                  no_key ? "; beyond loopback it needs gossip.key_file (64 hexadecimal digits, the "
                           "same on every node), or gossip.insecure = true"
                         : "");
    return false;
  }
  node_ = std::move(*node);
  started_ = Clock::now();
  spdlog::info("gossip: node {} listens on {}", identity_.id.str(), to_string(listen));
  return true;
}

void Mesh::stop() {
  stopped_ = true;
  if (node_ != nullptr) node_->stop();
}

asio::awaitable<void> Mesh::run() {
  asio::steady_timer timer{control_};
  for (unsigned round = 0;; ++round) {
    decide();
    if (round % kKeepMembersEvery == kKeepMembersEvery - 1) keep_members();
    timer.expires_after(kDecideEvery);
    const auto [error] = co_await timer.async_wait(asio::as_tuple(asio::use_awaitable));
    if (error) co_return;
  }
}

asio::awaitable<void> Mesh::find_others() {
  if (observer_ == nullptr || !config_.gossip.join.empty()) co_return;
  asio::steady_timer timer{control_};
  cluster::FirstContact contact{!join_.empty(), Rng{std::random_device{}()}, Clock::now()};
  for (;;) {
    timer.expires_at(contact.next_deadline());
    const auto [error] = co_await timer.async_wait(asio::as_tuple(asio::use_awaitable));
    if (error) co_return;
    const auto members = node_->members();
    const auto alive = std::count_if(members.begin(), members.end(), [](const Member& member) {
      return member.status == MemberStatus::alive;
    });
    if (!contact.due(alive <= 1, Clock::now())) continue;
    auto agents = co_await observer_->agents();
    if (stopped_) co_return;
    if (!agents) {
      log_once_.warn("gossip: no other node is known, nor where agents are: " + agents.error());
      continue;
    }
    std::vector<Endpoint> seeds = join_;
    for (const IpAddress& address : *agents) {
      // Every node listens at the same port; nothing else tells where.
      const Endpoint at{address, own_.front().port};
      const bool own = std::find(own_.begin(), own_.end(), at) != own_.end();
      if (!own && seeds.size() < kMaxSeeds) seeds.push_back(at);
    }
    spdlog::info("gossip: looking for others at {} addresses of the master's agents",
                 seeds.size() - join_.size());
    node_->set_join(std::move(seeds));
  }
}

void Mesh::keep_members() {
  auto members = node_->last_members();
  if (config_.state.directory.empty() || members.empty() || members == kept_members_) return;
  kept_members_ = members;
  asio::post(disk_, [directory = config_.state.directory, members = std::move(members)] {
    if (!store_members(directory, members)) {
      spdlog::warn("gossip: cannot write {}", (directory / "members").string());
    }
  });
}

// ---- roles -----------------------------------------------------------------------------------

bool Mesh::reach() const {
  if (observer_ == nullptr) return false;
  const std::string& state = observer_->status().state;
  return state == "subscribed" || state == "polling";
}

void Mesh::decide() {
  const auto members = node_->members();
  perform(participant_.decide(members, reach(), Clock::now()));
  note_status(members);
  publishing_.Set(participant_.role() == cluster::Role::publisher ? 1 : 0);
  held_.Set(static_cast<double>(cluster_.liveness().held()));
}

void Mesh::perform(cluster::Steps steps) {
  if (steps.observe) spdlog::info("cluster: this node is now {}", to_string(participant_.role()));
  if (steps.stop_publishing) node_->stop_publishing();
  if (steps.begin_publishing) node_->begin_publishing(cluster::published_prefixes());
  if (steps.read_replica) {
    node_->snapshot([this](std::vector<gossip::RecordWrite> all) { on_records(std::move(all)); });
  }
  if (observer_ != nullptr) {
    if (steps.observe) observer_->set_active(*steps.observe);
    if (steps.observe_anew) observer_->restart();
  }
  if (steps.metadata) tell(std::move(*steps.metadata));
  if (steps.former != nullptr) {
    asio::post(workers_, [former = std::move(steps.former)]() mutable { former.reset(); });
  }
}

void Mesh::on_superseded() {
  if (stopped_) return;
  perform(participant_.superseded(node_->members(), reach(), Clock::now()));
}

void Mesh::on_shard_lost(const std::string& octets) {
  const auto shard = cluster::parse_shard(octets);
  if (stopped_ || !shard) return;
  log_once_.warn("cluster: another node writes what runs on agent " + shard->agent.str() +
                 ": do two nodes ask one agent? It is taken back, every 30 s at most");
  cluster_.own_lost(*shard, Clock::now());
  on_delta_(cluster_.replicate({}, Clock::now()));
}

bool Mesh::admit(const Observation& observation) {
  cluster::Steps steps;
  const bool admitted = participant_.admit(observation, steps);
  perform(std::move(steps));
  return admitted;
}

std::vector<gossip::RecordWrite> Mesh::to_gossip(std::vector<cluster::RecordWrite> writes) {
  std::vector<gossip::RecordWrite> out;
  out.reserve(writes.size());
  for (cluster::RecordWrite& write : writes) {
    out.push_back(
        {cluster::to_octets(write.shard), cluster::to_octets(write.key), std::move(write.value)});
  }
  return out;
}

void Mesh::flush() {
  if (auto writes = cluster_.take_writes(); !writes.empty()) {
    node_->publish(to_gossip(std::move(writes)));
  }
  cluster::OwnShards own = cluster_.take_own();
  for (const cluster::ShardId& shard : own.take) node_->own(cluster::to_octets(shard));
  if (!own.writes.empty()) node_->publish(to_gossip(std::move(own.writes)));
  for (const cluster::ShardId& shard : own.leave) node_->disown(cluster::to_octets(shard));
  if (auto claims = cluster_.take_claims(); !claims.empty()) {
    spdlog::info("cluster: {} VIP addresses given here differ from what all have now: told",
                 claims.size());
    node_->offer(cluster::to_octets(cluster::ShardId{cluster::ShardKind::claims, {}}),
                 to_gossip(std::move(claims)));
  }
}

// ---- what others say -------------------------------------------------------------------------

void Mesh::on_members(const std::vector<Member>& changed) {
  if (stopped_) return;
  tell_news(changed);
  on_delta_(cluster_.set_members(changed, Clock::now()));
  // The others change nothing about who observes; decide() looks at every member there is.
  const bool matters = std::any_of(changed.begin(), changed.end(), [](const Member& member) {
    const auto role = member.metadata.find(std::string{cluster::kRoleKey});
    return member.status != MemberStatus::alive ||
           (role != member.metadata.end() && role->second != to_string(cluster::Role::follower));
  });
  if (matters) decide();
}

void Mesh::tell_news(const std::vector<Member>& changed) {
  std::vector<std::string> lines;
  const bool settled = Clock::now() - started_ > kGettingToKnow;
  for (const Member& member : changed) {
    if (member.id == identity_.id) continue;
    const std::string at =
        member.endpoints.empty() ? member.id.str() : to_string(member.endpoints.front());
    spdlog::debug("gossip: node {} at {} is {}", member.id.str(), at, to_string(member.status));
    const Member* before = cluster_.liveness().find(member.id);
    if (before == nullptr ? !settled : before->status == member.status) continue;
    switch (member.status) {
      case MemberStatus::alive:
        lines.push_back("node " + at + (before == nullptr ? " joined" : " is back"));
        break;
      case MemberStatus::left:
        lines.push_back("node " + at + " stopped");
        break;
      case MemberStatus::daemon_down:
        lines.push_back("node " + at + ": its daemon is down, its host answers");
        break;
      case MemberStatus::host_down:
        lines.push_back("node " + at + ": its host does not answer");
        break;
    }
  }
  if (!lines.empty()) on_news_(std::move(lines));
}

void Mesh::on_records(std::vector<gossip::RecordWrite> writes) {
  if (stopped_) return;
  if (!writes.empty()) inbox_.push_back({std::move(writes)});
  if (!draining_) drain();
}

/// One slice at a time, in the order they came.
void Mesh::drain() {
  draining_ = !inbox_.empty() && !stopped_;
  if (!draining_) return;
  Incoming& incoming = inbox_.front();
  const std::size_t end = std::min(incoming.writes.size(), incoming.next + kInboxSlice);
  std::vector<cluster::RecordWrite> slice;
  slice.reserve(end - incoming.next);
  for (; incoming.next < end; ++incoming.next) {
    gossip::RecordWrite& write = incoming.writes[incoming.next];
    auto parsed = cluster::parse_write(write.shard, write.key, std::move(write.value));
    if (parsed) {
      slice.push_back(std::move(*parsed));
    } else {
      log_once_.warn("cluster: a replicated record was skipped: " +
                     std::string{to_string(parsed.error())});
    }
  }
  if (end == incoming.writes.size()) {
    // What is left of many thousand strings is freed where there is time.
    asio::post(workers_, [freed = std::move(incoming.writes)]() mutable { freed.clear(); });
    inbox_.pop_front();
  }
  on_delta_(cluster_.replicate(slice, Clock::now()));
  post_bulk(control_, [this] { drain(); });
}

std::string Mesh::reload_keys() {
  if (config_.gossip.key_file.empty()) return {};
  try {
    if (!node_->set_keys(read_keys())) return "the keys were not taken";
    spdlog::info("gossip: {} keys; {} seals", key_ids_.size(), key_ids_.front());
    tell(told_);
    return {};
  } catch (const ConfigError& error) {
    spdlog::error("{}; the keys stay as they were", error.what());
    return error.what();
  }
}

/// What is said of this node, and which keys it has: only their ids.
void Mesh::tell(std::map<std::string, std::string> metadata) {
  if (!key_ids_.empty()) metadata[std::string{kKeysKey}] = joined(key_ids_);
  told_ = metadata;
  node_->set_metadata(std::move(metadata));
}

std::vector<Mesh::KeyUse> Mesh::keys() const {
  std::vector<KeyUse> uses;
  const auto use_of = [&](std::string_view id) -> KeyUse& {
    const auto known =
        std::find_if(uses.begin(), uses.end(), [&](const KeyUse& use) { return use.id == id; });
    if (known != uses.end()) return *known;
    return uses.emplace_back(KeyUse{std::string{id}});
  };
  for (const std::string& id : key_ids_) use_of(id).here = true;
  if (!uses.empty()) uses.front().seals = true;
  for (const Member& member : node_->members()) {
    if (member.status != MemberStatus::alive) continue;
    const auto told = member.metadata.find(std::string{kKeysKey});
    if (told == member.metadata.end()) continue;
    bool first = true;
    if (uses.size() > kMaxKeysShown) break;
    for (std::string_view rest = told->second; !rest.empty(); first = false) {
      const std::size_t comma = std::min(rest.find(','), rest.size());
      KeyUse& use = use_of(rest.substr(0, comma));
      ++use.have;
      use.seal += first ? 1U : 0U;
      rest.remove_prefix(std::min(comma + 1, rest.size()));
    }
  }
  return uses;
}

void Mesh::note_status(const std::vector<Member>& members) {
  Status status;
  status.role = participant_.role();
  status.held = cluster_.liveness().held();
  for (const Member& member : members) {
    ++status.known;
    if (member.status != MemberStatus::alive) continue;
    ++status.alive;
    const auto role = member.metadata.find(std::string{cluster::kRoleKey});
    const bool publishes =
        role != member.metadata.end() && role->second == to_string(cluster::Role::publisher);
    if (publishes && member.id != identity_.id) status.publisher = member.id;
  }
  if (participant_.role() == cluster::Role::publisher) status.publisher = identity_.id;
  status_ = status;
}

}  // namespace muster::daemon
