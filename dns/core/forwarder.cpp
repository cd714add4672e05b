#include "dns/core/forwarder.hpp"

#include <algorithm>
#include <array>
#include <functional>

#include "base/assert.hpp"
#include "dns/core/answer.hpp"
#include "dns/core/padding.hpp"
#include "dns/core/reply.hpp"

namespace muster::dns {
namespace {

using Bytes = std::vector<std::byte>;

// A second copy goes out once the first is clearly slower than usual.
constexpr Duration kMinHedge{20};
constexpr Duration kMaxHedge{400};
constexpr Duration kMaxDown{30'000};
constexpr std::size_t kMaxIdleRoom = 2048;  // octets

void put16(Bytes& to, std::size_t at, std::uint16_t value) {
  to[at] = static_cast<std::byte>(value >> 8);
  to[at + 1] = static_cast<std::byte>(value & 0xFF);
}

// Question and flags as the client has them; OPT is hop by hop (RFC 6891 §6.1.1), so ours: the
// client's options (cookies, its subnet) are nobody else's business.
void make_upstream_query(std::span<const std::byte> message, const Query& query, Bytes& out) {
  out.assign(message.begin(), message.begin() + query.question_end);
  put16(out, 0, 0);
  put16(out, 2,
        query.flags & (flag::kRecursionDesired | flag::kCheckingDisabled | flag::kAuthenticData));
  put16(out, 4, 1);
  put16(out, 6, 0);
  put16(out, 8, 0);
  put16(out, 10, query.edns ? 1 : 0);
  if (!query.edns) return;
  const std::size_t at = out.size();
  out.resize(at + kOptSize);
  put16(out, at + 1, type::kOpt);
  put16(out, at + 3, kDefaultUdpSize);
  put16(out, at + 7, query.dnssec_ok ? 0x8000 : 0);
}

std::span<const std::byte> question_of(std::span<const std::byte> message, std::size_t end) {
  return message.subspan(kHeaderSize, end - kHeaderSize);
}

std::size_t udp_limit(const Query& query) {
  if (!query.edns) return kMinUdpSize;
  return std::clamp<std::size_t>(query.udp_size, kMinUdpSize, kDefaultUdpSize);
}

}  // namespace

Forwarder::Forwarder(ForwarderOptions options)
    : options_{std::move(options)}, cache_{options_.cache_octets} {
  const auto group = [this](const std::vector<Upstream>& wanted) {
    std::vector<std::size_t> out;
    for (const Upstream& upstream : wanted) {
      const auto known = std::find(upstreams_.begin(), upstreams_.end(), upstream);
      if (known == upstreams_.end() && upstreams_.size() >= kMaxUpstreams) continue;
      const auto index = static_cast<std::size_t>(known - upstreams_.begin());
      if (upstream.tls && std::find(out.begin(), out.end(), index) != out.end()) continue;
      out.push_back(index);
      if (known == upstreams_.end()) upstreams_.push_back(upstream);
    }
    return out;
  };
  default_group_ = group(options_.upstreams);
  for (const auto& [zone, upstreams] : options_.zone_upstreams) {
    zone_groups_.emplace(zone, group(upstreams));
  }
  health_.resize(upstreams_.size());
}

// The longest suffix with upstreams of its own, from the whole name down to the root.
const std::vector<std::size_t>* Forwarder::group_for(const Query& query) const noexcept {
  for (std::size_t i = 0; i < query.label_count && !zone_groups_.empty(); ++i) {
    const auto found = zone_groups_.find(query.wire().substr(query.label_at[i]));
    if (found != zone_groups_.end()) return &found->second;
  }
  return &default_group_;
}

// Best first; equals as they are configured.
void Forwarder::rank(TimePoint now, const std::vector<std::size_t>& group,
                     std::vector<std::size_t>& out) const {
  const auto better = [&](std::size_t a, std::size_t b) {
    const bool a_down = now < health_[a].down_until;
    const bool b_down = now < health_[b].down_until;
    if (a_down != b_down) return b_down;
    return health_[a].rtt < health_[b].rtt;
  };
  out.clear();
  for (const std::size_t upstream : group) {
    out.insert(std::upper_bound(out.begin(), out.end(), upstream, better), upstream);
  }
}

Bytes Forwarder::room() {
  if (idle_octets_.empty()) return {};
  Bytes out = std::move(idle_octets_.back());
  idle_octets_.pop_back();
  return out;
}

void Forwarder::recycle(Bytes&& octets) {
  // What a large reply needed is not kept for small ones.
  if (idle_octets_.size() >= kMaxIdle || octets.capacity() > kMaxIdleRoom) return;
  octets.clear();
  idle_octets_.push_back(std::move(octets));
}

Forwarder::Exchange& Forwarder::open_exchange(const CacheKey& key) {
  const auto [id, exchange] = exchanges_.add();
  exchange.id = id;
  exchange.key = key.view();
  by_key_.emplace(exchange.key, id);
  return exchange;
}

// The vectors keep their room for the next exchange; all else is as in a new one.
void Forwarder::close_exchange(Exchange& old) {
  const ExchangeId id = old.id;
  by_key_.erase(old.key);
  Exchange empty;
  empty.key.swap(old.key);
  empty.query.swap(old.query);
  empty.order.swap(old.order);
  empty.sent_at.swap(old.sent_at);
  empty.waiters.swap(old.waiters);
  empty.key.clear();
  empty.sent_at.clear();
  empty.waiters.clear();
  old = std::move(empty);
  exchanges_.drop(id);
}

unsigned Forwarder::max_attempts(const Exchange& exchange) const noexcept {
  // Two rounds, but three tries for a lone upstream: one lost packet must not be an error.
  const auto upstreams = static_cast<unsigned>(exchange.order.size());
  return std::min(kMaxAttempts, upstreams == 1 ? 3 : 2 * upstreams);
}

void Forwarder::set_wake(Exchange& exchange, TimePoint wake) {
  exchange.wake = std::min(wake, exchange.deadline);
  if (timers_.size() >= kMaxTimers) drop_idle_timers();
  timers_.emplace_back(exchange.wake, exchange.id);
  std::push_heap(timers_.begin(), timers_.end(), std::greater<>{});
}

// At most one entry an exchange is left, so this frees most of them.
void Forwarder::drop_idle_timers() {
  std::erase_if(timers_, [this](const Timer& timer) {
    const Exchange* const exchange = exchanges_.find(timer.second);
    return exchange == nullptr || exchange->wake != timer.first;
  });
  std::make_heap(timers_.begin(), timers_.end(), std::greater<>{});
}

std::optional<ReplyCache::Hit> Forwarder::cached(TimePoint now, std::span<const std::byte> message,
                                                 const Query& query, Transport transport,
                                                 std::span<std::byte> out) {
  const std::size_t limit = transport == Transport::tcp ? kMaxMessageSize : udp_limit(query);
  const auto hit = cache_.find(now, message, query, limit, out);
  if (!hit) return hit;
  ++stats_.cache_hits;
  if (hit->stale) ++stats_.cache_stale;
  if (hit->refresh) ++stats_.prefetched;
  return hit;
}

void Forwarder::refresh(TimePoint now, std::span<const std::byte> message, const Query& query,
                        Actions& actions) {
  start(now, message, query, std::nullopt, actions);
}

void Forwarder::ask(TimePoint now, std::span<const std::byte> message, const Query& query,
                    Transport transport, std::uint64_t client, Actions& actions) {
  const std::size_t limit = transport == Transport::tcp ? kMaxMessageSize : udp_limit(query);
  start(now, message, query, Waiter{client, query.id, transport, limit, {}}, actions);
}

void Forwarder::start(TimePoint now, std::span<const std::byte> message, const Query& query,
                      std::optional<Waiter> waiter, Actions& actions) {
  const auto refuse = [&](std::uint16_t extended_error) {
    ++stats_.refused;
    if (!waiter) return;
    Bytes reply(kMinUdpSize);
    reply.resize(empty_reply(message, query, rcode::kServFail, extended_error, true, reply));
    actions.replies.push_back({waiter->client, std::move(reply), rcode::kServFail});
  };
  const CacheKey key{query};
  if (const auto known = by_key_.find(key.view()); known != by_key_.end()) {
    if (!waiter) return;
    Exchange& exchange = *exchanges_.find(known->second);
    if (exchange.waiters.size() >= kMaxWaiters) return refuse(ede::kNotReady);
    const auto question = question_of(message, query.question_end);
    const auto asked = question_of(exchange.query, query.question_end);
    if (!std::equal(question.begin(), question.end(), asked.begin(), asked.end())) {
      waiter->question.assign(question.begin(), question.end());
    }
    exchange.waiters.push_back(std::move(*waiter));
    ++stats_.coalesced;
    return;
  }
  const auto* const group = group_for(query);
  if (group->empty()) return refuse(ede::kNoReachableAuthority);
  if (exchanges_.size() >= kMaxExchanges) return refuse(ede::kNotReady);

  Exchange& exchange = open_exchange(key);
  make_upstream_query(message, query, exchange.query);
  exchange.question_end = query.question_end;
  rank(now, *group, exchange.order);
  exchange.sent_at.resize(exchange.order.size());
  exchange.started = now;
  const bool fallback = cache_.has_stale(now, key.view());
  exchange.deadline = now + (fallback ? options_.stale_budget : options_.budget);
  if (waiter) exchange.waiters.push_back(std::move(*waiter));
  attempt(now, exchange, actions);
  const std::size_t at_once = std::min<std::size_t>(options_.parallel, exchange.order.size());
  while (exchange.attempts < at_once) attempt(now, exchange, actions);
}

// Asks the next in turn; false if there is none.
bool Forwarder::attempt(TimePoint now, Exchange& exchange, Actions& actions) {
  const auto upstreams = static_cast<unsigned>(exchange.order.size());
  const unsigned most = std::max(upstreams, max_attempts(exchange));
  for (; exchange.attempts < most; ++exchange.attempts) {
    const std::size_t place = exchange.attempts % upstreams;
    // A stream loses nothing: a second copy of what is under way there would bring nothing.
    if (exchange.attempts >= upstreams && upstreams_[exchange.order[place]].tls) continue;
    send_to(now, exchange, place, actions);
    return true;
  }
  set_wake(exchange, exchange.deadline);
  return false;
}

void Forwarder::send_to(TimePoint now, Exchange& exchange, std::size_t place, Actions& actions) {
  const std::size_t upstream = exchange.order[place];
  const unsigned round = exchange.attempts / static_cast<unsigned>(exchange.order.size());
  ++exchange.attempts;
  ++exchange.outstanding;
  ++stats_.sent;
  exchange.sent_at[place] = now;
  const bool tls = upstreams_[upstream].tls;
  actions.sends.push_back({exchange.id, upstream, tls ? Transport::tls : Transport::udp, room()});
  actions.sends.back().query = exchange.query;
  if (tls) pad_query(actions.sends.back().query);
  const Duration usual = health_[upstream].rtt + health_[upstream].rtt / 2;
  const Duration patience = std::clamp(usual, kMinHedge, kMaxHedge) * (1U << std::min(round, 3U));
  const bool last = exchange.attempts >= max_attempts(exchange);
  set_wake(exchange, last ? exchange.deadline : now + patience);
}

bool Forwarder::on_reply(TimePoint now, ExchangeId id, std::size_t upstream, Transport transport,
                         std::uint16_t message_id, std::span<const std::byte> reply,
                         Actions& actions) {
  Exchange* const found = exchanges_.find(id);
  if (found == nullptr) return true;  // too late: somebody else was faster
  Exchange& exchange = *found;
  put16(exchange.query, 0, message_id);
  const bool ours = answers_question(reply, exchange.query);
  put16(exchange.query, 0, 0);
  const auto shape = walk_reply(reply);
  if (!ours || !shape) {
    ++stats_.mismatched;
    // Over TCP, and to our question over TLS, the right server sent it: waiting for a better one
    // is no use.
    const bool last = transport == Transport::tcp || (transport == Transport::tls && ours);
    if (last) on_error(now, id, upstream, transport, actions);
    return last;
  }
  if (transport != Transport::tcp) note_reply(now, exchange, upstream);
  if (exchange.outstanding > 0) --exchange.outstanding;
  std::optional<Bytes> bare;
  if (transport == Transport::tls) bare = without_padding(reply, *shape);
  if (bare) reply = *bare;

  if (shape->truncated && transport == Transport::udp) {
    if (exchange.over_tcp) return true;
    exchange.over_tcp = true;
    ++exchange.outstanding;
    ++stats_.tcp_retries;
    exchange.truncated.assign(reply.begin(), reply.end());
    actions.sends.push_back({id, upstream, Transport::tcp, exchange.query});
    set_wake(exchange, exchange.deadline);
    return true;
  }
  if (shape->rcode == rcode::kServFail || shape->rcode == rcode::kRefused) {
    // Another may know better. NXDOMAIN is an answer, never a failure.
    if (exchange.refusal.empty()) exchange.refusal.assign(reply.begin(), reply.end());
    next_or_fail(now, exchange, actions);
    return true;
  }
  finish(now, exchange, reply, actions);
  return true;
}

void Forwarder::note_reply(TimePoint now, const Exchange& exchange, std::size_t upstream) {
  const auto place = std::find(exchange.order.begin(), exchange.order.end(), upstream);
  if (place == exchange.order.end()) return;
  const TimePoint sent = exchange.sent_at[static_cast<std::size_t>(place - exchange.order.begin())];
  const auto took = std::chrono::duration_cast<Duration>(now - sent);
  Health& health = health_[upstream];
  health.rtt = (health.rtt * 7 + took) / 8;
  health.failures = 0;
  health.down_until = {};
}

void Forwarder::on_error(TimePoint now, ExchangeId id, std::size_t upstream, Transport transport,
                         Actions& actions) {
  note_failure(now, upstream);
  Exchange* const found = exchanges_.find(id);
  if (found == nullptr) return;
  Exchange& exchange = *found;
  if (exchange.outstanding > 0) --exchange.outstanding;
  if (transport == Transport::tcp) {
    // What UDP brought is cut, but it is an answer.
    const Bytes truncated = std::move(exchange.truncated);
    exchange.truncated.clear();
    return finish(now, exchange, truncated, actions);
  }
  next_or_fail(now, exchange, actions);
}

void Forwarder::next_or_fail(TimePoint now, Exchange& exchange, Actions& actions) {
  if (exchange.over_tcp) return;
  // After a refusal the same server is not asked twice.
  if (exchange.attempts < exchange.order.size()) {
    attempt(now, exchange, actions);
    return;
  }
  if (exchange.outstanding > 0) return;
  if (!exchange.refusal.empty()) {
    const Bytes refusal = std::move(exchange.refusal);
    return finish(now, exchange, refusal, actions);
  }
  fail(now, exchange, ede::kNetworkError, actions);
}

void Forwarder::on_connection_lost(TimePoint now, std::size_t upstream, bool was_open,
                                   std::span<const ExchangeId> exchanges, Actions& actions) {
  note_failure(now, upstream);
  for (const ExchangeId id : exchanges) {
    Exchange* const exchange = exchanges_.find(id);
    if (exchange == nullptr) continue;
    if (exchange->outstanding > 0) --exchange->outstanding;
    if (was_open) {
      ask_anew(now, *exchange, upstream, actions);
    } else {
      next_or_fail(now, *exchange, actions);
    }
  }
}

void Forwarder::ask_anew(TimePoint now, Exchange& exchange, std::size_t upstream,
                         Actions& actions) {
  const bool elsewhere = exchange.attempts < exchange.order.size();
  if (exchange.over_tcp || (exchange.asked_anew && !elsewhere)) {
    return next_or_fail(now, exchange, actions);
  }
  ++stats_.asked_again;
  if (elsewhere) return next_or_fail(now, exchange, actions);
  exchange.asked_anew = true;
  const auto place = std::find(exchange.order.begin(), exchange.order.end(), upstream);
  MUSTER_ASSERT(place != exchange.order.end());
  send_to(now, exchange, static_cast<std::size_t>(place - exchange.order.begin()), actions);
}

void Forwarder::on_time(TimePoint now, Actions& actions) {
  while (!timers_.empty() && timers_.front().first <= now) {
    const auto [due, id] = timers_.front();
    std::pop_heap(timers_.begin(), timers_.end(), std::greater<>{});
    timers_.pop_back();
    Exchange* const found = exchanges_.find(id);
    if (found == nullptr || found->wake != due) continue;
    Exchange& exchange = *found;
    if (now < exchange.deadline && !exchange.over_tcp &&
        exchange.attempts < max_attempts(exchange)) {
      if (attempt(now, exchange, actions)) ++stats_.hedged;
      continue;
    }
    ++stats_.timeouts;
    const std::size_t asked = std::min<std::size_t>(exchange.attempts, exchange.order.size());
    for (std::size_t i = 0; i < asked; ++i) note_failure(now, exchange.order[i]);
    if (!exchange.truncated.empty()) {
      const Bytes truncated = std::move(exchange.truncated);
      finish(now, exchange, truncated, actions);
    } else if (!exchange.refusal.empty()) {
      const Bytes refusal = std::move(exchange.refusal);
      finish(now, exchange, refusal, actions);
    } else {
      fail(now, exchange, ede::kNoReachableAuthority, actions);
    }
  }
}

std::optional<TimePoint> Forwarder::next_deadline() const {
  if (timers_.empty()) return std::nullopt;
  return timers_.front().first;
}

void Forwarder::note_failure(TimePoint now, std::size_t upstream) {
  Health& health = health_[upstream];
  health.failures = std::min(health.failures + 1, 16U);
  // One loss is the network's; from the second on others are asked first, for a while.
  if (health.failures < 2) return;
  health.down_until = now + std::min(kMaxDown, Duration{500} * (1U << (health.failures - 2)));
}

void Forwarder::finish(TimePoint now, Exchange& exchange, std::span<const std::byte> reply,
                       Actions& actions) {
  const auto shape = walk_reply(reply);
  // An old answer is better than none (RFC 8767); NXDOMAIN is an answer.
  std::optional<Bytes> old;
  if (shape && (shape->rcode == rcode::kServFail || shape->rcode == rcode::kRefused)) {
    old = cache_.stale(now, exchange.key);
  }
  if (old) {
    reply = *old;
    stats_.cache_stale += exchange.waiters.size();
  } else if (shape) {
    cache_.store(now, exchange.key, reply, *shape);
  }
  const auto asked = question_of(exchange.query, exchange.question_end);
  for (const Waiter& waiter : exchange.waiters) {
    Bytes out = room();
    out.assign(reply.begin(), reply.end());
    if (out.size() > waiter.limit) {
      const Bytes& udp = exchange.truncated;
      out = !udp.empty() && udp.size() <= waiter.limit ? udp : cut_reply(out);
    }
    put16(out, 0, waiter.id);
    const auto question = waiter.question.empty() ? asked : std::span{waiter.question};
    if (out.size() >= kHeaderSize + question.size() && out[5] == std::byte{1}) {
      std::copy(question.begin(), question.end(), out.begin() + kHeaderSize);
    }
    const auto code = static_cast<std::uint16_t>(std::to_integer<unsigned>(out[3]) & 15U);
    actions.replies.push_back({waiter.client, std::move(out), code});
  }
  actions.done.push_back(exchange.id);
  close_exchange(exchange);
  if (exchanges_.empty()) timers_.clear();
}

void Forwarder::fail(TimePoint now, Exchange& exchange, std::uint16_t extended_error,
                     Actions& actions) {
  Query query;
  Bytes reply(kMinUdpSize);
  if (parse_query(exchange.query, query) == QueryVerdict::ok) {
    reply.resize(empty_reply(exchange.query, query, rcode::kServFail, extended_error, true, reply));
  }
  finish(now, exchange, reply, actions);
}

}  // namespace muster::dns
