#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <boost/unordered/unordered_flat_map.hpp>

#include "base/slab.hpp"
#include "base/time.hpp"
#include "dns/core/query.hpp"
#include "dns/core/reply_cache.hpp"
#include "dns/core/types.hpp"
#include "dns/core/upstream.hpp"

namespace muster::dns {

struct ForwarderOptions {
  std::vector<Upstream> upstreams;
  std::map<std::string, std::vector<Upstream>> zone_upstreams;  // wire name -> its own upstreams
  Duration budget{2500};  // a stub resolver gives up after 3 s in all (resolv.conf: 1 s x 3)
  /// Where there is an old reply to fall back on, it is given after this (RFC 8767 §5).
  Duration stale_budget{1800};
  unsigned parallel = 1;         // upstreams asked at once; 2 is what Spartan did
  std::size_t cache_octets = 0;  // 0: no cache
};

/// Relays queries to upstreams: which to ask, when to ask another, which reply to believe and
/// what each client gets. Sockets, ids and ports are the caller's; it makes the sends in
/// Actions and reports what came of them.
///
/// Equal questions of several clients share one exchange, which also ends a forwarding loop: the
/// query that comes back finds itself already in flight. Not thread-safe; each worker has one.
class Forwarder {
 public:
  static constexpr std::size_t kMaxExchanges = 4096;
  static constexpr std::size_t kMaxWaiters = 64;    // of one exchange
  static constexpr unsigned kMaxAttempts = 6;       // of one exchange, retransmissions included
  static constexpr std::size_t kMaxUpstreams = 64;  // over all zones
  static constexpr std::size_t kMaxTimers = 16 * kMaxExchanges;

  using ExchangeId = std::uint64_t;

  /// Ask upstreams()[upstream] `query`, under an id of the caller's choice. An upstream with TLS is
  /// asked by Transport::tls and never otherwise; it has no question twice at a time.
  struct Send {
    ExchangeId exchange;
    std::size_t upstream;
    Transport transport;
    std::vector<std::byte> query;  // id 0
  };
  struct Deliver {
    std::uint64_t client;  // as given to ask()
    std::vector<std::byte> reply;
    std::uint16_t rcode;
  };
  struct Actions {
    std::vector<Send> sends;
    std::vector<Deliver> replies;
    std::vector<ExchangeId> done;  // forget the sends of these
  };

  struct Stats {
    std::uint64_t cache_hits = 0;
    std::uint64_t cache_stale = 0;  // of old replies, because nobody answered
    std::uint64_t prefetched = 0;
    std::uint64_t sent = 0;
    std::uint64_t coalesced = 0;
    std::uint64_t hedged = 0;
    std::uint64_t mismatched = 0;  // replies that were not to what we asked
    std::uint64_t timeouts = 0;    // exchanges that ran out of time
    std::uint64_t refused = 0;     // over a bound
    std::uint64_t tcp_retries = 0;
    std::uint64_t asked_again = 0;  // because a TLS connection was cut
  };

  explicit Forwarder(ForwarderOptions);

  /// Counters go on where those of `before` are.
  void count_on_from(const Forwarder& before) noexcept { stats_ = before.stats_; }

  /// All upstreams of all zones, each once.
  const std::vector<Upstream>& upstreams() const noexcept { return upstreams_; }
  bool can_forward() const noexcept { return !upstreams_.empty(); }

  /// Answers from the cache, into `out`, within what this client takes. Nothing: ask(). With
  /// `refresh` set the caller should refresh() too.
  std::optional<ReplyCache::Hit> cached(TimePoint now, std::span<const std::byte> message,
                                        const Query& query, Transport transport,
                                        std::span<std::byte> out);
  /// As ask(), for nobody but the cache.
  void refresh(TimePoint now, std::span<const std::byte> message, const Query& query,
               Actions& actions);

  /// `message` is a valid query, `query` what parse_query() made of it, `client` a handle that
  /// comes back in exactly one Deliver, perhaps at once.
  void ask(TimePoint now, std::span<const std::byte> message, const Query& query,
           Transport transport, std::uint64_t client, Actions& actions);

  /// True if it answers the exchange; else the caller waits on: it may be forged.
  bool on_reply(TimePoint now, ExchangeId id, std::size_t upstream, Transport transport,
                std::uint16_t message_id, std::span<const std::byte> reply, Actions& actions);

  /// The send came to nothing: connection refused, cut, no socket.
  void on_error(TimePoint now, ExchangeId exchange, std::size_t upstream, Transport transport,
                Actions& actions);

  /// The connection to a TLS upstream, on which `exchanges` wait, could not be made, or was and
  /// ended. One failure of the upstream, whatever their number. What was under way on an open one
  /// is asked once more: elsewhere, else anew; it may have closed for idling as we asked.
  void on_connection_lost(TimePoint now, std::size_t upstream, bool was_open,
                          std::span<const ExchangeId> exchanges, Actions& actions);

  /// Sends what is due and ends what is overdue. To be called at next_deadline().
  void on_time(TimePoint now, Actions& actions);
  /// Octets that a Send or a Deliver had, for the next one: a flood then allocates nothing.
  void recycle(std::vector<std::byte>&& octets);
  /// Perhaps too early, never too late.
  std::optional<TimePoint> next_deadline() const;

  const Stats& stats() const noexcept { return stats_; }
  std::size_t in_flight() const noexcept { return exchanges_.size(); }
  const ReplyCache& cache() const noexcept { return cache_; }

 private:
  struct Health {
    Duration rtt{50};  // smoothed; the first guess makes the first hedge come soon
    unsigned failures = 0;
    TimePoint down_until{};  // until then, others first
  };
  struct Waiter {
    std::uint64_t client;
    std::uint16_t id;
    Transport transport;
    std::size_t limit;
    std::vector<std::byte> question;  // in this client's spelling; empty: as it went upstream
  };
  struct Exchange {
    ExchangeId id = 0;
    std::string key;
    std::vector<std::byte> query;
    std::size_t question_end = 0;    // of `query`
    std::vector<std::size_t> order;  // upstreams, best first
    std::vector<TimePoint> sent_at;  // by place in `order`; of the last send
    unsigned attempts = 0;
    unsigned outstanding = 0;
    TimePoint started;
    TimePoint deadline;
    TimePoint wake;
    bool over_tcp = false;             // a TCP retry runs
    bool asked_anew = false;           // of an upstream that cut the connection
    std::vector<std::byte> truncated;  // what UDP brought before it
    std::vector<std::byte> refusal;    // SERVFAIL or REFUSED: for when nobody says better
    std::vector<Waiter> waiters;
  };
  using Timer = std::pair<TimePoint, ExchangeId>;

  const std::vector<std::size_t>* group_for(const Query& query) const noexcept;
  void rank(TimePoint now, const std::vector<std::size_t>& group,
            std::vector<std::size_t>& out) const;
  std::vector<std::byte> room();
  Exchange& open_exchange(const CacheKey&);
  void close_exchange(Exchange&);
  bool attempt(TimePoint now, Exchange& exchange, Actions& actions);
  void send_to(TimePoint now, Exchange& exchange, std::size_t place, Actions& actions);
  void ask_anew(TimePoint now, Exchange& exchange, std::size_t upstream, Actions& actions);
  void next_or_fail(TimePoint now, Exchange& exchange, Actions& actions);
  void drop_idle_timers();
  void set_wake(Exchange& exchange, TimePoint wake);
  void start(TimePoint now, std::span<const std::byte> message, const Query& query,
             std::optional<Waiter> waiter, Actions& actions);
  void finish(TimePoint now, Exchange& exchange, std::span<const std::byte> reply,
              Actions& actions);
  void fail(TimePoint now, Exchange& exchange, std::uint16_t extended_error, Actions& actions);
  void note_reply(TimePoint now, const Exchange& exchange, std::size_t upstream);
  void note_failure(TimePoint now, std::size_t upstream);
  unsigned max_attempts(const Exchange& exchange) const noexcept;

  ForwarderOptions options_;
  std::vector<Upstream> upstreams_;
  std::vector<Health> health_;
  std::vector<std::size_t> default_group_;
  std::map<std::string, std::vector<std::size_t>, std::less<>> zone_groups_;  // by wire name
  static constexpr std::size_t kMaxIdle = 512;  // of what is kept to be used again

  Slab<Exchange> exchanges_{kMaxIdle};
  boost::unordered_flat_map<std::string_view, ExchangeId> by_key_;  // of the exchanges' own keys
  std::vector<std::vector<std::byte>> idle_octets_;
  /// A heap, the next first. Entries of exchanges that ended, or that wake at another time, stay
  /// until they are due or there are kMaxTimers: cheaper than taking each out.
  std::vector<Timer> timers_;
  ReplyCache cache_;
  Stats stats_;
};

}  // namespace muster::dns
