#include <algorithm>
#include <utility>

#include "gossip/core/gossip.hpp"

// Replicated content: eager deltas, pulls, and both ends of the streams.
namespace muster::gossip {
namespace {

constexpr std::size_t kMaxChain = 8;         // deltas given in datagrams; longer: a stream
constexpr std::size_t kRestampAtOnce = 512;  // well below kMaxNews, and a millisecond's work
constexpr Duration kPullGap{20};
constexpr Duration kPullRetry{250};
constexpr Duration kStreamIdle{10'000};

bool fits(const std::vector<std::byte>& item) {
  return item.size() + 4 <= kMaxPayload;
}

}  // namespace

Term Gossip::begin_publishing(std::vector<std::string> prefixes, TimePoint now, Effects& fx) {
  const Term term = shards_.take_over(options_.self, self().epoch, std::move(prefixes));
  restamp(now);
  finish(now, fx);
  return term;
}

Term Gossip::own(const std::string& shard, TimePoint now, Effects& fx) {
  std::vector<ShardDelta> deltas;
  const Term term = shards_.own(options_.self, self().epoch, shard, deltas);
  spread(deltas, options_.self);
  finish(now, fx);
  return term;
}

void Gossip::restamp(TimePoint now) {
  std::vector<ShardDelta> deltas;
  shards_.restamp_some(kRestampAtOnce, deltas);
  next_restamp_ = now + options_.timing.spread_gap;
  spread(deltas, options_.self);
}

void Gossip::publish(std::vector<RecordWrite> writes, TimePoint now, Effects& fx) {
  std::vector<ShardDelta> deltas;
  shards_.publish(std::move(writes), deltas);
  spread(deltas, options_.self);
  finish(now, fx);
}

void Gossip::offer(const std::string& prefix, std::vector<RecordWrite> writes, TimePoint now,
                   Effects& fx) {
  std::vector<ShardDelta> deltas;
  shards_.offer(options_.self, prefix, std::move(writes), deltas);
  spread(deltas, options_.self);
  finish(now, fx);
}

void Gossip::spread(const std::vector<ShardDelta>& deltas, const NodeUid& from) {
  for (const ShardDelta& delta : deltas) {
    // Content that does not fit is announced; who lacks it fetches it from who told.
    std::size_t bytes = delta.shard.size() + 80;
    for (const ShardOp& op : delta.ops) {
      bytes += op.key.size() + 8 + (op.value ? op.value->size() : 0);
    }
    if (bytes + 8 <= kMaxPayload && delta.ops.size() <= kMaxDeltaOps) {
      news_.add(delta, from);
    } else {
      news_.add(ShardAnnounce{delta.shard, delta.head}, from);
    }
  }
}

void Gossip::on_delta(const NodeUid& from, const Endpoint& at, ShardDelta&& delta, TimePoint) {
  std::vector<ShardDelta> restamp;
  const auto applied = shards_.apply(delta, restamp);
  switch (applied) {
    case ShardStore::Applied::applied:
      spread({std::move(delta)}, from);
      break;
    case ShardStore::Applied::needs_more: {
      const auto* mine = shards_.find(delta.shard);
      Want want;
      want.shards.push_back({delta.shard, mine == nullptr ? 0 : mine->head.content});
      out_.send(at, want);
      break;
    }
    case ShardStore::Applied::invalid:
      ++stats_.invalid_deltas;
      break;
    case ShardStore::Applied::stale:
    case ShardStore::Applied::full:
      break;
  }
  spread(restamp, options_.self);
}

void Gossip::on_announce(const Endpoint& at, const ShardAnnounce& announce, TimePoint) {
  const auto* mine = shards_.find(announce.shard);
  const ShardHead head = mine == nullptr ? ShardHead{} : mine->head;
  if (announce.head <= head) return;
  if (announce.head.content == head.content || announce.head.content == 0) {
    // The same content under a new name, or none, needs no transfer.
    const std::uint64_t base = announce.head.content == 0 ? 0 : head.content;
    on_delta(options_.self, at, {announce.shard, announce.head, base, {}}, {});
    return;
  }
  pull(at, announce.shard);
}

void Gossip::pull(const Endpoint& at, const std::string& shard) {
  if (wanted_.size() >= kMaxWantedShards) return;
  wanted_.insert_or_assign(shard, at);
}

void Gossip::give_shard(const Endpoint& at, const std::string& id, std::uint64_t content) {
  const auto* shard = shards_.find(id);
  if (shard == nullptr) return;
  std::vector<std::vector<std::byte>> items;
  const auto chain = shards_.since(id, content);
  if (shard->head.content == content) {
    items.push_back(encode_item(ShardDelta{id, shard->head, content, {}}));
  } else if (!chain.empty() && chain.size() <= kMaxChain) {
    for (const ShardDelta* delta : chain) items.push_back(encode_item(*delta));
  }
  const bool small = !items.empty() && std::all_of(items.begin(), items.end(), fits);
  if (!small) {
    out_.send(at, Items{{Item{ShardAnnounce{id, shard->head}}}});
    return;
  }
  for (const auto& item : items) {
    const std::span<const std::byte> one{item};
    out_.messages.push_back({at, join_items({&one, 1})});
  }
}

void Gossip::start_sync(TimePoint now, Effects& fx) {
  if (client_ || now < next_pull_ || (!want_all_ && wanted_.empty())) return;
  next_pull_ = now + kPullGap;
  // Of single shards: all that one peer has told of, in one stream.
  const Endpoint peer = want_all_ ? *pull_from_ : wanted_.begin()->second;
  std::set<std::string> only;
  if (want_all_) wanted_.clear();
  for (auto it = wanted_.begin(); it != wanted_.end();) {
    if (it->second != peer) {
      ++it;
      continue;
    }
    only.insert(it->first);
    it = wanted_.erase(it);
  }
  want_all_ = false;
  client_.emplace(Client{next_stream_, {}, SyncClient::request(shards_, only), now});
  next_stream_ += 2;
  fx.streams.emplace_back(StreamOpen{client_->stream, peer});
  ++stats_.syncs;
}

void Gossip::on_stream_opened(StreamId stream, TimePoint now, Effects& fx) {
  enter(now);
  if (client_ && client_->stream == stream) return on_stream_writable(stream, now, fx);
  if (servers_.size() >= kMaxSyncServers || left_) {
    fx.streams.emplace_back(StreamClose{stream});
    return;
  }
  servers_.emplace(stream, Server{{}, now});
}

void Gossip::on_stream_writable(StreamId stream, TimePoint now, Effects& fx) {
  enter(now);
  if (client_ && client_->stream == stream) {
    client_->used = now;
    if (client_->requests.empty()) return;
    fx.streams.emplace_back(StreamSend{stream, std::move(client_->requests.front())});
    client_->requests.erase(client_->requests.begin());
    return;
  }
  const auto server = servers_.find(stream);
  if (server != servers_.end() && server->second.session.ready()) {
    serve(stream, server->second, now, fx);
  }
}

void Gossip::serve(StreamId stream, Server& server, TimePoint now, Effects& fx) {
  server.used = now;
  if (server.session.done()) return;  // the client hangs up
  auto chunk = server.session.next_chunk(shards_);
  stats_.sync_bytes += chunk.size();
  fx.streams.emplace_back(StreamSend{stream, std::move(chunk)});
}

void Gossip::on_stream_data(StreamId stream, std::span<const std::byte> chunk, TimePoint now,
                            Effects& fx) {
  enter(now);
  if (client_ && client_->stream == stream) {
    client_->used = now;
    std::vector<ShardDelta> restamp;
    std::vector<ShardAnnounce> taken;
    const auto step = client_->session.on_chunk(chunk, shards_, restamp, taken);
    stats_.sync_bytes += chunk.size();
    // A few are news to others; all of them are a full transfer, which they had before us.
    if (taken.size() <= 256) {
      for (const ShardAnnounce& announce : taken) news_.add(announce, options_.self);
    }
    spread(restamp, options_.self);
    if (step == SyncClient::Step::bad) ++stats_.malformed;
    if (step != SyncClient::Step::more) end_sync(true, now, fx);
    return finish(now, fx);
  }
  const auto server = servers_.find(stream);
  if (server == servers_.end()) return;
  auto message = decode_sync(chunk);
  const auto* request = message ? std::get_if<SyncRequest>(&*message) : nullptr;
  if (request == nullptr || !server->second.session.on_request(*request)) {
    ++stats_.malformed;
    servers_.erase(server);
    fx.streams.emplace_back(StreamClose{stream});
    return;
  }
  server->second.used = now;
  if (server->second.session.ready()) serve(stream, server->second, now, fx);
}

void Gossip::end_sync(bool close, TimePoint now, Effects& fx) {
  if (close) fx.streams.emplace_back(StreamClose{client_->stream});
  client_.reset();
  next_pull_ = now + kPullGap;
}

void Gossip::on_stream_closed(StreamId stream, TimePoint now) {
  servers_.erase(stream);
  if (!client_ || client_->stream != stream) return;
  // Busy, gone or garbled. The root hashes still differ, and the next answer to a digest names
  // what is missing, from whoever gives it.
  client_.reset();
  next_pull_ = now + kPullRetry;
  next_digest_ = std::min(next_digest_, now + kPullRetry);
}

void Gossip::expire_streams(TimePoint now, Effects& fx) {
  for (auto it = servers_.begin(); it != servers_.end();) {
    if (now - it->second.used < kStreamIdle) {
      ++it;
      continue;
    }
    fx.streams.emplace_back(StreamClose{it->first});
    it = servers_.erase(it);
  }
  if (client_ && now - client_->used >= kStreamIdle) end_sync(true, now, fx);
}

}  // namespace muster::gossip
