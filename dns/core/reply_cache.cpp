#include "dns/core/reply_cache.hpp"

#include <algorithm>
#include <cstring>
#include <utility>

namespace muster::dns {
namespace {

void put16(std::byte* at, std::size_t value) noexcept {
  at[0] = static_cast<std::byte>(value >> 8 & 0xFF);
  at[1] = static_cast<std::byte>(value & 0xFF);
}

void put32(std::byte* at, std::uint32_t value) noexcept {
  put16(at, value >> 16);
  put16(at + 2, value);
}

std::uint32_t get32(const std::byte* at) noexcept {
  std::uint32_t out = 0;
  for (int i = 0; i < 4; ++i) out = out << 8 | std::to_integer<std::uint32_t>(at[i]);
  return out;
}

}  // namespace

CacheKey::CacheKey(const Query& query) noexcept : size_{query.name_size} {
  std::memcpy(octets_.data(), query.name.data(), size_);
  const unsigned bits =
      query.flags & (flag::kRecursionDesired | flag::kCheckingDisabled | flag::kAuthenticData);
  for (const unsigned part : {unsigned{query.qtype}, bits}) {
    octets_[size_++] = static_cast<char>(part >> 8 & 0xFF);
    octets_[size_++] = static_cast<char>(part & 0xFF);
  }
  octets_[size_++] = static_cast<char>((query.edns ? 1 : 0) | (query.dnssec_ok ? 2 : 0));
}

std::vector<std::byte> cut_reply(std::span<const std::byte> reply) {
  const auto shape = walk_reply(reply);
  const std::size_t end = shape ? shape->question_end : kHeaderSize;
  std::vector<std::byte> out(reply.begin(), reply.begin() + static_cast<std::ptrdiff_t>(end));
  for (std::size_t at = 6; at < kHeaderSize; at += 2) put16(out.data() + at, 0);
  out[2] |= std::byte{flag::kTruncated >> 8};
  if (shape && shape->opt_size >= kOptSize) {
    const auto opt = reply.begin() + static_cast<std::ptrdiff_t>(shape->opt_at);
    out.insert(out.end(), opt, opt + static_cast<std::ptrdiff_t>(kOptSize));
    put16(out.data() + out.size() - 2, 0);  // without its options
    put16(out.data() + 10, 1);
  }
  return out;
}

// TTLs count down by what has passed; all of a stale reply are kStaleTtl.
void ReplyCache::age(const Entry& entry, TimePoint now, bool stale, std::byte* wire) noexcept {
  const auto passed = static_cast<std::uint32_t>(
      std::chrono::duration_cast<std::chrono::seconds>(now - entry.stored).count());
  for (const std::uint16_t at : entry.ttls) {
    const std::uint32_t ttl = get32(wire + at);
    put32(wire + at, stale ? kStaleTtl : ttl - std::min(ttl, passed));
  }
}

std::optional<ReplyCache::Hit> ReplyCache::find(TimePoint now, std::span<const std::byte> message,
                                                const Query& query, std::size_t limit,
                                                std::span<std::byte> out) {
  if (max_octets_ == 0) return std::nullopt;
  const CacheKey key{query};
  const auto found = by_key_.find(key.view());
  if (found == by_key_.end()) return std::nullopt;
  Entry& entry = *found->second;
  const bool stale = now >= entry.fresh_until;
  if (stale && (now >= entry.retry_at || now >= entry.stale_until)) return std::nullopt;

  Hit hit;
  hit.rcode = entry.rcode;
  hit.stale = stale;
  entry.referenced = true;
  ++entry.hits;
  if (entry.wire.size() > std::min(limit, out.size())) {
    const std::vector<std::byte> cut = cut_reply(entry.wire);
    std::copy(cut.begin(), cut.end(), out.begin());
    hit.size = cut.size();
    hit.truncated = true;
  } else {
    std::memcpy(out.data(), entry.wire.data(), entry.wire.size());
    hit.size = entry.wire.size();
    age(entry, now, stale, out.data());
  }
  put16(out.data(), query.id);
  std::memcpy(out.data() + kHeaderSize, message.data() + kHeaderSize,
              query.question_end - kHeaderSize);
  if (!stale && !entry.refreshing && entry.hits >= kPrefetchHits &&
      (entry.fresh_until - now) * kPrefetchShare <= entry.fresh_until - entry.stored) {
    hit.refresh = true;
    entry.refreshing = true;
  }
  return hit;
}

bool ReplyCache::has_stale(TimePoint now, std::string_view key) const {
  const auto found = by_key_.find(key);
  return found != by_key_.end() && now < found->second->stale_until;
}

std::optional<std::vector<std::byte>> ReplyCache::stale(TimePoint now, std::string_view key) {
  if (!has_stale(now, key)) return std::nullopt;
  Entry& entry = *by_key_.find(key)->second;
  entry.retry_at = now + kStaleRetry;
  std::vector<std::byte> out = entry.wire;
  age(entry, now, true, out.data());
  return out;
}

// Nothing: it is not to be kept at all.
std::optional<std::chrono::seconds> ReplyCache::time_to_keep(const ReplyShape& shape) {
  if (shape.truncated) return std::nullopt;
  if (shape.rcode == rcode::kServFail) return kFailureTtl;
  if (shape.rcode != rcode::kNoError && shape.rcode != rcode::kNxDomain) return std::nullopt;
  if (shape.rcode == rcode::kNxDomain || shape.answers == 0) {
    // Without a SOA record nobody said for how long (RFC 2308 §5); also: a referral.
    if (!shape.negative_ttl) return std::nullopt;
    return std::min(kMaxNegativeTtl, std::chrono::seconds{*shape.negative_ttl});
  }
  return std::min(kMaxTtl, std::chrono::seconds{shape.min_ttl});
}

void ReplyCache::store(TimePoint now, std::string_view key, std::span<const std::byte> reply,
                       const ReplyShape& shape) {
  const auto keep = time_to_keep(shape);
  if (max_octets_ == 0 || !keep || reply.size() > kMaxReply) return;
  const auto known = by_key_.find(key);
  const bool failure = shape.rcode == rcode::kServFail;
  // A failure never takes the place of something that may yet serve.
  if (failure && known != by_key_.end() && has_stale(now, key)) return;
  if (known != by_key_.end()) {
    octets_ -= cost(*known->second);
    entries_.erase(known->second);
    by_key_.erase(known);
  }
  if (keep->count() == 0) return;
  Entry& entry = entries_.emplace_back();
  entry.key = key;
  entry.wire.assign(reply.begin(), reply.end());
  // What comes from here is nobody's authority.
  entry.wire[2] &= ~std::byte{flag::kAuthoritative >> 8};
  entry.ttls = shape.ttl_offsets;
  entry.question_end = shape.question_end;
  entry.stored = now;
  entry.fresh_until = now + *keep;
  entry.stale_until = failure ? now : entry.fresh_until + kStaleFor;
  entry.rcode = shape.rcode;
  by_key_.emplace(entry.key, std::prev(entries_.end()));
  octets_ += cost(entry);
  evict();
}

std::size_t ReplyCache::cost(const Entry& entry) noexcept {
  constexpr std::size_t kOverhead = 256;  // list and map nodes, the members themselves
  return kOverhead + entry.key.capacity() + entry.wire.capacity() + 2 * entry.ttls.capacity();
}

void ReplyCache::evict() {
  // Each turn either ends an entry or takes a second chance away, so it ends.
  while (octets_ > max_octets_ && entries_.size() > 1) {
    Entry& oldest = entries_.front();
    if (std::exchange(oldest.referenced, false)) {
      entries_.splice(entries_.end(), entries_, entries_.begin());
      continue;
    }
    octets_ -= cost(oldest);
    by_key_.erase(oldest.key);
    entries_.pop_front();
  }
}

}  // namespace muster::dns
