#include "dns/core/upstream_stream.hpp"

#include <algorithm>
#include <array>

#include "base/assert.hpp"
#include "dns/core/octets.hpp"
#include "dns/core/types.hpp"

namespace muster::dns {
const char* name_of(StreamFailure failure) noexcept {
  constexpr std::array<const char*, kStreamFailures> kNames{
      "connect", "handshake", "certificate", "timeout", "closed", "garbage", "full"};
  return kNames[static_cast<std::size_t>(failure)];
}

void UpstreamStream::ask(TimePoint now, ExchangeId exchange, std::uint16_t id,
                         std::span<const std::byte> query) {
  MUSTER_ASSERT(!full() && exchange != kAbandoned && query.size() <= kMaxMessageSize);
  // Silence is counted from the first question that waits.
  if (!wanted() && state_ == State::open) since_ = now;
  const bool fresh = exchanges_by_id_.emplace(id, exchange).second &&
                     ids_by_exchange_.emplace(exchange, id).second;
  MUSTER_ASSERT(fresh);
  const auto length = static_cast<std::uint16_t>(query.size());
  const auto low = static_cast<std::byte>(id & 0xFF);
  out_.insert(out_.end(),
              {static_cast<std::byte>(length >> 8), static_cast<std::byte>(length & 0xFF),
               static_cast<std::byte>(id >> 8), low});
  out_.insert(out_.end(), query.begin() + 2, query.end());
}

void UpstreamStream::abandon(ExchangeId exchange) {
  const auto found = ids_by_exchange_.find(exchange);
  if (found == ids_by_exchange_.end()) return;
  exchanges_by_id_[found->second] = kAbandoned;
  ids_by_exchange_.erase(found);
}

void UpstreamStream::opening(TimePoint now) {
  state_ = State::opening;
  since_ = now;
}

void UpstreamStream::opened(TimePoint now) {
  state_ = State::open;
  since_ = now;
}

std::vector<UpstreamStream::ExchangeId> UpstreamStream::closed(TimePoint now, bool failed) {
  std::vector<ExchangeId> waiting;
  for (const auto& [exchange, id] : ids_by_exchange_) waiting.push_back(exchange);
  exchanges_by_id_.clear();
  ids_by_exchange_.clear();
  out_.clear();
  in_.clear();
  sent_ = 0;
  strays_ = 0;
  state_ = State::closed;
  if (!failed) return waiting;
  failures_ = std::min(failures_ + 1, 16U);
  // One failure is the network's, or a restart of the server's: the next question tries at once.
  if (failures_ > 1) {
    not_before_ = now + std::min(kMaxBackOff, kFirstBackOff * (1U << (failures_ - 2)));
  }
  return waiting;
}

std::span<const std::byte> UpstreamStream::unsent() const noexcept {
  if (state_ != State::open) return {};
  return std::span{out_}.subspan(sent_);
}

void UpstreamStream::sent(std::size_t octets) {
  sent_ += octets;
  if (sent_ < out_.size()) return;
  out_.clear();
  sent_ = 0;
}

bool UpstreamStream::received(TimePoint now, std::span<const std::byte> octets, const Take& take,
                              std::uint64_t& strays) {
  in_.insert(in_.end(), octets.begin(), octets.end());
  std::size_t at = 0;
  bool sane = true;
  while (sane && in_.size() - at >= 2) {
    const std::size_t size = at16(in_, at);
    if (size < kHeaderSize) {
      ++strays;
      sane = false;
    } else if (in_.size() - at - 2 < size) {
      break;
    } else {
      sane = take_message(now, std::span{in_}.subspan(at + 2, size), take, strays);
      at += 2 + size;
    }
  }
  in_.erase(in_.begin(), in_.begin() + static_cast<std::ptrdiff_t>(at));
  return sane;
}

bool UpstreamStream::take_message(TimePoint now, std::span<const std::byte> message,
                                  const Take& take, std::uint64_t& strays) {
  const auto id = at16(message, 0);
  const auto found = exchanges_by_id_.find(id);
  const bool known = found != exchanges_by_id_.end();
  const ExchangeId exchange = known ? found->second : kAbandoned;
  if (!known || (exchange != kAbandoned && !take(exchange, id, message))) {
    ++strays;
    return ++strays_ <= kMaxStray;
  }
  if (exchange != kAbandoned) ids_by_exchange_.erase(exchange);
  exchanges_by_id_.erase(found);
  since_ = now;
  failures_ = 0;
  return true;
}

std::optional<TimePoint> UpstreamStream::next_deadline() const {
  switch (state_) {
    case State::closed:
      return wanted() ? std::optional{not_before_} : std::nullopt;
    case State::opening:
      return since_ + kLimit;
    case State::open:
      return since_ + (exchanges_by_id_.empty() ? kIdle : kLimit);
  }
  return std::nullopt;
}

UpstreamStream::Due UpstreamStream::due(TimePoint now) const {
  const auto deadline = next_deadline();
  if (!deadline || now < *deadline) return Due::nothing;
  if (state_ == State::closed) return Due::open;
  // Where all have been given up that were asked, the connection may be fine, and some name slow.
  return state_ == State::open && !wanted() ? Due::close_idle : Due::give_up;
}

}  // namespace muster::dns
