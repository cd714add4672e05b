#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <list>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/time.hpp"
#include "dns/core/query.hpp"
#include "dns/core/reply.hpp"
#include "dns/core/types.hpp"

namespace muster::dns {

/// Everything of a query that can change the upstream's reply, without allocation.
class CacheKey {
 public:
  explicit CacheKey(const Query& query) noexcept;
  std::string_view view() const noexcept { return {octets_.data(), size_}; }

 private:
  std::array<char, Name::kMaxWireSize + 5> octets_;
  std::size_t size_;
};

/// Replies of upstreams, kept as long as their TTLs say (RFC 1035 §7.4, 2308), and a day longer
/// for when nobody answers (RFC 8767). Bounded in octets; what was not asked for goes first (second
/// chance). One thread; deterministic.
class ReplyCache {
 public:
  static constexpr std::chrono::seconds kMaxTtl{86'400};
  static constexpr std::chrono::seconds kMaxNegativeTtl{60};  // a name may come any moment
  static constexpr std::chrono::seconds kStaleFor{86'400};
  static constexpr std::uint32_t kStaleTtl = 30;          // RFC 8767 §5
  static constexpr std::chrono::seconds kStaleRetry{30};  // RFC 8767 §5: failure recheck timer
  static constexpr std::chrono::seconds kFailureTtl{1};   // RFC 9520 §3.2
  static constexpr std::size_t kMaxReply = 16'384;        // larger ones are not kept
  static constexpr unsigned kPrefetchHits = 2;            // asked for again this often…
  static constexpr int kPrefetchShare = 10;               // …and in its last tenth: fetched ahead

  /// `max_octets` 0: keeps nothing.
  explicit ReplyCache(std::size_t max_octets) : max_octets_{max_octets} {}

  struct Hit {
    std::size_t size = 0;  // octets written
    std::uint16_t rcode = 0;
    bool stale = false;
    bool refresh = false;  // nearly over and much asked for: ask upstream again, now
    bool truncated = false;
  };
  /// Writes the kept reply for `query`, parsed from `message`, into `out`, at most `limit` octets;
  /// what does not fit becomes an empty reply with TC. Nothing: there is none.
  std::optional<Hit> find(TimePoint now, std::span<const std::byte> message, const Query& query,
                          std::size_t limit, std::span<std::byte> out);

  /// What serve-stale has for a query nobody answered, as find(). Notes that upstreams fail: for
  /// kStaleRetry find() gives it too.
  std::optional<std::vector<std::byte>> stale(TimePoint now, std::string_view key);
  bool has_stale(TimePoint now, std::string_view key) const;

  /// Keeps a reply if it may be kept. `shape` is walk_reply(reply).
  void store(TimePoint now, std::string_view key, std::span<const std::byte> reply,
             const ReplyShape& shape);

  std::size_t size() const noexcept { return by_key_.size(); }
  std::size_t octets() const noexcept { return octets_; }

 private:
  struct Entry {
    std::string key;
    std::vector<std::byte> wire;
    std::vector<std::uint16_t> ttls;
    std::size_t question_end = 0;
    TimePoint stored;
    TimePoint fresh_until;
    TimePoint stale_until;
    TimePoint retry_at{};  // upstreams failed: stale until then, without asking
    std::uint16_t rcode = 0;
    unsigned hits = 0;
    bool refreshing = false;
    bool referenced = false;
  };
  using Entries = std::list<Entry>;

  static std::optional<std::chrono::seconds> time_to_keep(const ReplyShape& shape);
  static std::size_t cost(const Entry& entry) noexcept;
  static void age(const Entry& entry, TimePoint now, bool stale, std::byte* wire) noexcept;
  void evict();

  std::size_t max_octets_;
  std::size_t octets_ = 0;
  Entries entries_;  // the next to go first
  std::unordered_map<std::string_view, Entries::iterator> by_key_;
};

/// Header and question of a reply with TC, and its OPT without options: the client comes again
/// over TCP.
std::vector<std::byte> cut_reply(std::span<const std::byte> reply);

}  // namespace muster::dns
