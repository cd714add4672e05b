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

void put16(Bytes& to, std::size_t at, std::uint16_t value) {
  to[at] = static_cast<std::byte>(value >> 8);
  to[at + 1] = static_cast<std::byte>(value & 0xFF);
}

// Question and flags as the client has them; OPT is hop by hop (RFC 6891 §6.1.1), so ours: the
// client's options (cookies, its subnet) are nobody else's business.
Bytes upstream_query(std::span<const std::byte> message, const Query& query) {
  Bytes out(message.begin(), message.begin() + query.question_end);
  put16(out, 0, 0);
  put16(out, 2,
        query.flags & (flag::kRecursionDesired | flag::kCheckingDisabled | flag::kAuthenticData));
  put16(out, 4, 1);
  put16(out, 6, 0);
  put16(out, 8, 0);
  put16(out, 10, query.edns ? 1 : 0);
  if (!query.edns) return out;
  const std::size_t at = out.size();
  out.resize(at + kOptSize);
  put16(out, at + 1, type::kOpt);
  put16(out, at + 3, kDefaultUdpSize);
  put16(out, at + 7, query.dnssec_ok ? 0x8000 : 0);
  return out;
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

std::vector<std::size_t> Forwarder::ranked(TimePoint now,
                                           const std::vector<std::size_t>& group) const {
  std::vector<std::size_t> out = group;
  std::stable_sort(out.begin(), out.end(), [&](std::size_t a, std::size_t b) {
    const bool a_down = now < health_[a].down_until;
    const bool b_down = now < health_[b].down_until;
    if (a_down != b_down) return b_down;
    return health_[a].rtt < health_[b].rtt;
  });
  return out;
}

unsigned Forwarder::max_attempts(const Exchange& exchange) const noexcept {
  // Two rounds, but three tries for a lone upstream: one lost packet must not be an error.
  const auto upstreams = static_cast<unsigned>(exchange.order.size());
  return std::min(kMaxAttempts, upstreams == 1 ? 3 : 2 * upstreams);
}

void Forwarder::set_wake(ExchangeId id, Exchange& exchange, TimePoint wake) {
  exchange.wake = std::min(wake, exchange.deadline);
  if (timers_.size() >= kMaxTimers) drop_idle_timers();
  timers_.emplace_back(exchange.wake, id);
  std::push_heap(timers_.begin(), timers_.end(), std::greater<>{});
}

// At most one entry an exchange is left, so this frees most of them.
void Forwarder::drop_idle_timers() {
  std::erase_if(timers_, [this](const Timer& timer) {
    const auto at = exchanges_.find(timer.second);
    return at == exchanges_.end() || at->second.wake != timer.first;
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
  const auto question = message.subspan(kHeaderSize, query.question_end - kHeaderSize);
  start(now, message, query,
        Waiter{client,
               query.id,
               transport,
               transport == Transport::tcp ? kMaxMessageSize : udp_limit(query),
               {question.begin(), question.end()}},
        actions);
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
    Exchange& exchange = exchanges_.at(known->second);
    if (exchange.waiters.size() >= kMaxWaiters) return refuse(ede::kNotReady);
    exchange.waiters.push_back(std::move(*waiter));
    ++stats_.coalesced;
    return;
  }
  const auto* const group = group_for(query);
  if (group->empty()) return refuse(ede::kNoReachableAuthority);
  if (exchanges_.size() >= kMaxExchanges) return refuse(ede::kNotReady);

  const ExchangeId id = next_id_++;
  Exchange& exchange = exchanges_[id];
  exchange.key = key.view();
  exchange.query = upstream_query(message, query);
  exchange.order = ranked(now, *group);
  exchange.sent_at.resize(exchange.order.size());
  exchange.started = now;
  const bool fallback = cache_.has_stale(now, key.view());
  exchange.deadline = now + (fallback ? options_.stale_budget : options_.budget);
  if (waiter) exchange.waiters.push_back(std::move(*waiter));
  by_key_.emplace(exchange.key, id);
  attempt(now, id, exchange, actions);
  const std::size_t at_once = std::min<std::size_t>(options_.parallel, exchange.order.size());
  while (exchange.attempts < at_once) attempt(now, id, exchange, actions);
}

// Asks the next in turn; false if there is none.
bool Forwarder::attempt(TimePoint now, ExchangeId id, Exchange& exchange, Actions& actions) {
  const auto upstreams = static_cast<unsigned>(exchange.order.size());
  const unsigned most = std::max(upstreams, max_attempts(exchange));
  for (; exchange.attempts < most; ++exchange.attempts) {
    const std::size_t place = exchange.attempts % upstreams;
    // A stream loses nothing: a second copy of what is under way there would bring nothing.
    if (exchange.attempts >= upstreams && upstreams_[exchange.order[place]].tls) continue;
    send_to(now, id, exchange, place, actions);
    return true;
  }
  set_wake(id, exchange, exchange.deadline);
  return false;
}

void Forwarder::send_to(TimePoint now, ExchangeId id, Exchange& exchange, std::size_t place,
                        Actions& actions) {
  const std::size_t upstream = exchange.order[place];
  const unsigned round = exchange.attempts / static_cast<unsigned>(exchange.order.size());
  ++exchange.attempts;
  ++exchange.outstanding;
  ++stats_.sent;
  exchange.sent_at[place] = now;
  const bool tls = upstreams_[upstream].tls;
  actions.sends.push_back({id, upstream, tls ? Transport::tls : Transport::udp, exchange.query});
  if (tls) pad_query(actions.sends.back().query);
  const Duration usual = health_[upstream].rtt + health_[upstream].rtt / 2;
  const Duration patience = std::clamp(usual, kMinHedge, kMaxHedge) * (1U << std::min(round, 3U));
  const bool last = exchange.attempts >= max_attempts(exchange);
  set_wake(id, exchange, last ? exchange.deadline : now + patience);
}

bool Forwarder::on_reply(TimePoint now, ExchangeId id, std::size_t upstream, Transport transport,
                         std::uint16_t message_id, std::span<const std::byte> reply,
                         Actions& actions) {
  const auto at = exchanges_.find(id);
  if (at == exchanges_.end()) return true;  // too late: somebody else was faster
  Exchange& exchange = at->second;
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
    set_wake(id, exchange, exchange.deadline);
    return true;
  }
  if (shape->rcode == rcode::kServFail || shape->rcode == rcode::kRefused) {
    // Another may know better. NXDOMAIN is an answer, never a failure.
    if (exchange.refusal.empty()) exchange.refusal.assign(reply.begin(), reply.end());
    next_or_fail(now, at, actions);
    return true;
  }
  finish(now, at, reply, actions);
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
  const auto at = exchanges_.find(id);
  if (at == exchanges_.end()) return;
  Exchange& exchange = at->second;
  if (exchange.outstanding > 0) --exchange.outstanding;
  if (transport == Transport::tcp) {
    // What UDP brought is cut, but it is an answer.
    const Bytes truncated = std::move(exchange.truncated);
    exchange.truncated.clear();
    return finish(now, at, truncated, actions);
  }
  next_or_fail(now, at, actions);
}

void Forwarder::next_or_fail(TimePoint now, Exchanges::iterator at, Actions& actions) {
  Exchange& exchange = at->second;
  if (exchange.over_tcp) return;
  // After a refusal the same server is not asked twice.
  if (exchange.attempts < exchange.order.size()) {
    attempt(now, at->first, exchange, actions);
    return;
  }
  if (exchange.outstanding > 0) return;
  if (!exchange.refusal.empty()) {
    const Bytes refusal = std::move(exchange.refusal);
    return finish(now, at, refusal, actions);
  }
  fail(now, at, ede::kNetworkError, actions);
}

void Forwarder::on_connection_lost(TimePoint now, std::size_t upstream, bool was_open,
                                   std::span<const ExchangeId> exchanges, Actions& actions) {
  note_failure(now, upstream);
  for (const ExchangeId id : exchanges) {
    const auto at = exchanges_.find(id);
    if (at == exchanges_.end()) continue;
    if (at->second.outstanding > 0) --at->second.outstanding;
    if (was_open) {
      ask_anew(now, at, upstream, actions);
    } else {
      next_or_fail(now, at, actions);
    }
  }
}

void Forwarder::ask_anew(TimePoint now, Exchanges::iterator at, std::size_t upstream,
                         Actions& actions) {
  Exchange& exchange = at->second;
  const bool elsewhere = exchange.attempts < exchange.order.size();
  if (exchange.over_tcp || (exchange.asked_anew && !elsewhere)) {
    return next_or_fail(now, at, actions);
  }
  ++stats_.asked_again;
  if (elsewhere) return next_or_fail(now, at, actions);
  exchange.asked_anew = true;
  const auto place = std::find(exchange.order.begin(), exchange.order.end(), upstream);
  MUSTER_ASSERT(place != exchange.order.end());
  send_to(now, at->first, exchange, static_cast<std::size_t>(place - exchange.order.begin()),
          actions);
}

void Forwarder::on_time(TimePoint now, Actions& actions) {
  while (!timers_.empty() && timers_.front().first <= now) {
    const auto [due, id] = timers_.front();
    std::pop_heap(timers_.begin(), timers_.end(), std::greater<>{});
    timers_.pop_back();
    const auto at = exchanges_.find(id);
    if (at == exchanges_.end() || at->second.wake != due) continue;
    Exchange& exchange = at->second;
    if (now < exchange.deadline && !exchange.over_tcp &&
        exchange.attempts < max_attempts(exchange)) {
      if (attempt(now, id, exchange, actions)) ++stats_.hedged;
      continue;
    }
    ++stats_.timeouts;
    const std::size_t asked = std::min<std::size_t>(exchange.attempts, exchange.order.size());
    for (std::size_t i = 0; i < asked; ++i) note_failure(now, exchange.order[i]);
    if (!exchange.truncated.empty()) {
      const Bytes truncated = std::move(exchange.truncated);
      finish(now, at, truncated, actions);
    } else if (!exchange.refusal.empty()) {
      const Bytes refusal = std::move(exchange.refusal);
      finish(now, at, refusal, actions);
    } else {
      fail(now, at, ede::kNoReachableAuthority, actions);
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

void Forwarder::finish(TimePoint now, Exchanges::iterator at, std::span<const std::byte> reply,
                       Actions& actions) {
  Exchange& exchange = at->second;
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
  for (const Waiter& waiter : exchange.waiters) {
    Bytes out{reply.begin(), reply.end()};
    if (out.size() > waiter.limit) {
      const Bytes& udp = exchange.truncated;
      out = !udp.empty() && udp.size() <= waiter.limit ? udp : cut_reply(out);
    }
    put16(out, 0, waiter.id);
    if (out.size() >= kHeaderSize + waiter.question.size() && out[5] == std::byte{1}) {
      std::copy(waiter.question.begin(), waiter.question.end(), out.begin() + kHeaderSize);
    }
    const auto code = static_cast<std::uint16_t>(std::to_integer<unsigned>(out[3]) & 15U);
    actions.replies.push_back({waiter.client, std::move(out), code});
  }
  actions.done.push_back(at->first);
  by_key_.erase(exchange.key);
  exchanges_.erase(at);
  if (exchanges_.empty()) timers_.clear();
}

void Forwarder::fail(TimePoint now, Exchanges::iterator at, std::uint16_t extended_error,
                     Actions& actions) {
  Query query;
  Bytes reply(kMinUdpSize);
  if (parse_query(at->second.query, query) == QueryVerdict::ok) {
    reply.resize(
        empty_reply(at->second.query, query, rcode::kServFail, extended_error, true, reply));
  }
  finish(now, at, reply, actions);
}

}  // namespace muster::dns
