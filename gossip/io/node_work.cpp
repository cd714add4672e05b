#include <algorithm>
#include <utility>

#include <boost/asio/redirect_error.hpp>
#include <boost/asio/use_awaitable.hpp>

#include "gossip/io/node_impl.hpp"

// What takes long, in slices; and names to addresses.
namespace muster::gossip {

namespace asio = boost::asio;

namespace {

constexpr Duration kSlice{5};  // then heartbeats and datagrams have their turn
constexpr std::size_t kWritesAtOnce = 250;
constexpr std::size_t kCopyAtLeast = 1'000;  // records, so that a slow machine gets on as well
constexpr std::size_t kMaxHostName = 253;
constexpr Duration kLookUp{3'000};
constexpr Duration kLookUpAlone{3'000};
constexpr Duration kLookUpJoined{60'000};

}  // namespace

void Node::Impl::publish(std::vector<RecordWrite> writes) {
  if (writes.empty()) return;
  const std::size_t count = writes.size();
  if (pending_writes_.fetch_add(count) + count > kMaxPendingWrites) {
    pending_writes_ -= count;
    refused_writes_ += count;
    asio::post(context_, [this, count] {
      report(std::to_string(count) + " records could not be published: too many wait already");
    });
    return;
  }
  enqueue(Publish{std::move(writes), 0, {}});
}

void Node::Impl::offer(std::string prefix, std::vector<RecordWrite> writes) {
  post([prefix = std::move(prefix), writes = std::move(writes)](Gossip& core, Effects& fx) mutable {
    core.offer(prefix, std::move(writes), Clock::now(), fx);
  });
}

void Node::Impl::begin_publishing(std::vector<std::string> prefixes) {
  enqueue(Begin{std::move(prefixes)});
}

void Node::Impl::stop_publishing() {
  enqueue(End{});
}

void Node::Impl::own(std::string shard) {
  enqueue(Own{std::move(shard), true});
}

void Node::Impl::disown(std::string shard) {
  enqueue(Own{std::move(shard), false});
}

void Node::Impl::snapshot(std::function<void(std::vector<RecordWrite>)> done) {
  Copy copy;
  copy.done = std::move(done);
  enqueue(std::move(copy));
}

void Node::Impl::enqueue(Work work) {
  asio::post(context_, [this, work = std::move(work)]() mutable {
    if (stopping_) return;
    work_.push_back(std::move(work));
    if (work_.size() == 1) pump();
  });
}

void Node::Impl::pump() {
  if (stopping_ || work_.empty()) return;
  const Step step{*this};
  const TimePoint end = Clock::now() + kSlice;
  Effects fx;
  do {
    if (work_some(work_.front(), fx)) work_.pop_front();
  } while (!work_.empty() && Clock::now() < end);
  perform(fx);
  if (!work_.empty()) asio::post(context_, [this] { pump(); });
}

bool Node::Impl::work_some(Work& work, Effects& fx) {
  if (auto* publish = std::get_if<Publish>(&work)) return publish_some(*publish, fx);
  if (auto* copy = std::get_if<Copy>(&work)) {
    perform(fx);  // what changed before goes before
    return copy_some(*copy);
  }
  if (auto* begin = std::get_if<Begin>(&work)) {
    core_->begin_publishing(std::move(begin->prefixes), Clock::now(), fx);
  } else if (auto* own = std::get_if<Own>(&work); own != nullptr && own->begins) {
    core_->own(own->shard, Clock::now(), fx);
  } else if (own != nullptr) {
    core_->disown(own->shard);
  } else {
    core_->stop_publishing();
  }
  return true;
}

bool Node::Impl::publish_some(Publish& publish, Effects& fx) {
  for (std::size_t n = 0; n < kWritesAtOnce && publish.next < publish.writes.size(); ++n) {
    RecordWrite& write = publish.writes[publish.next++];
    publish.by_shard[write.shard].push_back(std::move(write));
  }
  if (publish.next < publish.writes.size()) return false;
  std::vector<RecordWrite> slice;
  while (!publish.by_shard.empty() && slice.size() < kWritesAtOnce) {
    const auto shard = publish.by_shard.begin();
    auto& writes = shard->second;
    const std::size_t count = std::min(writes.size(), 2 * kWritesAtOnce);
    const auto end = writes.begin() + static_cast<std::ptrdiff_t>(count);
    slice.insert(slice.end(), std::make_move_iterator(writes.begin()),
                 std::make_move_iterator(end));
    writes.erase(writes.begin(), end);
    if (writes.empty()) publish.by_shard.erase(shard);
  }
  pending_writes_ -= slice.size();
  core_->publish(std::move(slice), Clock::now(), fx);
  return publish.by_shard.empty();
}

bool Node::Impl::copy_some(Copy& copy) {
  if (!copy.whole) {
    if (!copy_parts(copy)) return false;
    copy.whole = true;
    holding_back_ = true;
    std::size_t records = 0;
    for (const auto& [id, part] : copy.parts) records += part.records.size();
    copy.all.reserve(records);
    return false;
  }
  for (std::size_t moved = 0; moved < kCopyAtLeast && !copy.parts.empty();) {
    auto& records = copy.parts.begin()->second.records;
    moved += records.size() + 1;
    copy.all.insert(copy.all.end(), std::make_move_iterator(records.begin()),
                    std::make_move_iterator(records.end()));
    copy.parts.erase(copy.parts.begin());
  }
  if (!copy.parts.empty()) return false;
  asio::post(control_, [done = std::move(copy.done), all = std::move(copy.all)]() mutable {
    done(std::move(all));
  });
  holding_back_ = false;
  tell_records(std::exchange(held_back_, {}));
  return true;
}

// From the start each time: when one walk finds every shard as it was copied, it is the state of
// one moment.
bool Node::Impl::copy_parts(Copy& copy) {
  const TimePoint end = Clock::now() + kSlice;
  std::size_t copied = 0;
  const auto& shards = core_->shards().shards();
  for (const auto& [id, shard] : shards) {
    auto& part = copy.parts[id];
    if (part.head == shard.head) continue;
    if (copied >= kCopyAtLeast && Clock::now() >= end) return false;
    part.head = shard.head;
    part.records.clear();
    part.records.reserve(shard.records.size());
    for (const auto& [key, value] : shard.records) part.records.push_back({id, key, value});
    copied += shard.records.size() + 1;
  }
  // Emptied and forgotten meanwhile.
  std::erase_if(copy.parts, [&](const auto& part) { return !shards.contains(part.first); });
  return true;
}

std::optional<std::vector<Node::Impl::JoinName>> Node::Impl::parse_names(
    const std::vector<std::string>& texts) {
  if (texts.size() > kMaxJoinNames) return std::nullopt;
  std::vector<JoinName> names;
  for (const std::string& text : texts) {
    if (const auto literal = Endpoint::parse(text)) {
      names.push_back({literal->address.to_string(), literal->port});
      continue;
    }
    const auto colon = text.find(':');
    if (colon == 0 || colon == std::string::npos || colon > kMaxHostName) return std::nullopt;
    const auto port = Port::parse(std::string_view{text}.substr(colon + 1));
    if (!port) return std::nullopt;
    names.push_back({text.substr(0, colon), *port});
  }
  return names;
}

void Node::Impl::set_join(std::vector<Endpoint> join) {
  post([this, join = std::move(join)](Gossip&, Effects&) mutable {
    options_.join = std::move(join);
    give_seeds();
  });
}

bool Node::Impl::set_join_names(std::vector<std::string> texts) {
  auto names = parse_names(texts);
  if (!names) return false;
  post([this, names = std::move(*names)](Gossip&, Effects&) mutable {
    names_ = std::move(names);
    std::erase_if(found_, [&](const auto& found) {
      return std::find(names_.begin(), names_.end(), found.first) == names_.end();
    });
    give_seeds();
    look_up_timer_.cancel();
  });
  return true;
}

void Node::Impl::give_seeds() {
  std::vector<Endpoint> seeds = options_.join;
  for (const auto& [name, endpoints] : found_) {
    seeds.insert(seeds.end(), endpoints.begin(), endpoints.end());
  }
  core_->set_seeds(std::move(seeds), Clock::now());
  arm();
}

// For ever: an address may change while this node is alone, and then it is the only way back.
asio::awaitable<void> Node::Impl::look_up() {
  for (;;) {
    const auto names = names_;
    for (const JoinName& name : names) {
      const auto addresses = co_await resolver_->resolve(name.host, kLookUp);
      if (stopping_) co_return;
      if (!addresses) {
        // What it was before may still be right.
        report("no address for " + name.host + ": " + addresses.error().message());
        continue;
      }
      if (std::find(names_.begin(), names_.end(), name) == names_.end()) continue;
      auto& endpoints = found_[name];
      endpoints.clear();
      for (const IpAddress& address : *addresses) endpoints.push_back({address, name.port});
      give_seeds();
    }
    const TimePoint begin = Clock::now();
    bool asked_again = false;
    while (!asked_again) {
      const TimePoint until = begin + (core_->joined() ? kLookUpJoined : kLookUpAlone);
      if (names_.empty() || Clock::now() < until) {
        ErrorCode woken;
        look_up_timer_.expires_after(Duration{1'000});
        co_await look_up_timer_.async_wait(asio::redirect_error(asio::use_awaitable, woken));
        if (stopping_) co_return;
        asked_again = woken == asio::error::operation_aborted;
      } else {
        asked_again = true;
      }
    }
  }
}

}  // namespace muster::gossip
