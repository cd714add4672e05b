#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <span>
#include <unordered_map>
#include <vector>

#include "base/time.hpp"

namespace muster::dns {

/// Why a question to a TLS upstream, or a connection to it, came to nothing.
enum class StreamFailure : std::uint8_t {
  connect,      // refused, unreachable
  handshake,    // no TLS could be agreed on, or it broke
  certificate,  // not one that is believed for this upstream
  timeout,      // no connection, or no reply, in time
  closed,       // the other side ended it with questions unanswered
  garbage,      // what came is no reply to anything that was asked
  full,         // kMaxOutstanding questions are under way
};
inline constexpr std::size_t kStreamFailures = 7;
/// As it is called in metrics and messages: the enumerator's name.
const char* name_of(StreamFailure) noexcept;

/// Questions to one upstream over one connection that is made when there is something to ask:
/// pipelined, replies in any order (RFC 7766 §6.2.1.1, RFC 7858 §3.3). It gives the octets to send,
/// cuts what comes into replies and says when to connect, to give up and to close. The connection
/// is the caller's. Not thread-safe; each worker has one for an upstream.
class UpstreamStream {
 public:
  using ExchangeId = std::uint64_t;  // a Forwarder's, never 0

  /// More than a server is likely to work on at once; then the next upstream is asked.
  static constexpr std::size_t kMaxOutstanding = 1024;
  /// Replies to nothing that was asked; a server that goes on so is not talked to.
  static constexpr unsigned kMaxStray = 16;
  /// For connection and handshake together, and for silence while replies are due: longer than
  /// ForwarderOptions::budget, so that nobody waits any more for what is given up.
  static constexpr Duration kLimit{3000};
  /// Public resolvers close after 10 s or more; closing first is the client's part (RFC 7766
  /// §6.2.3).
  static constexpr Duration kIdle{10'000};
  /// Between two attempts when the second one in a row and later ones failed; doubles.
  static constexpr Duration kFirstBackOff{100};
  static constexpr Duration kMaxBackOff{1000};

  enum class State : std::uint8_t { closed, opening, open };
  enum class Due : std::uint8_t { nothing, open, give_up, close_idle };

  State state() const noexcept { return state_; }
  bool full() const noexcept { return exchanges_by_id_.size() >= kMaxOutstanding; }
  bool has_id(std::uint16_t id) const noexcept { return exchanges_by_id_.contains(id); }
  /// Somebody waits for a reply.
  bool wanted() const noexcept { return !ids_by_exchange_.empty(); }

  /// `query` under `id`, which must be free; not when full(), nor for an exchange that is under way
  /// here. Sent when there is a connection.
  void ask(TimePoint now, ExchangeId exchange, std::uint16_t id, std::span<const std::byte> query);
  /// Nobody waits for it any more. Its id stays taken until the reply comes or the connection ends:
  /// a late reply must not be taken for another question's.
  void abandon(ExchangeId exchange);

  void opening(TimePoint now);
  void opened(TimePoint now);
  /// The connection is no more, or could not be made; `failed`: not as it should be. Returns the
  /// exchanges that wait, smallest first; they are forgotten.
  std::vector<ExchangeId> closed(TimePoint now, bool failed);

  /// What is to be sent now; nothing unless open. Valid until the next call.
  std::span<const std::byte> unsent() const noexcept;
  void sent(std::size_t octets);

  /// Given a reply with the id of a question: false if it does not answer it.
  using Take = std::function<bool(ExchangeId, std::uint16_t id, std::span<const std::byte> reply)>;
  /// Takes what the server sent; `take` gets each reply that somebody waits for. False: nothing
  /// that a DNS server would say, the connection is to be closed. `strays` grows by replies that
  /// fit no question.
  bool received(TimePoint now, std::span<const std::byte> octets, const Take& take,
                std::uint64_t& strays);

  /// When due() will say something else. Perhaps too early, never too late.
  std::optional<TimePoint> next_deadline() const;
  Due due(TimePoint now) const;

 private:
  static constexpr ExchangeId kAbandoned = 0;

  bool take_message(TimePoint now, std::span<const std::byte> message, const Take& take,
                    std::uint64_t& strays);

  State state_ = State::closed;
  std::unordered_map<std::uint16_t, ExchangeId> exchanges_by_id_;
  std::map<ExchangeId, std::uint16_t> ids_by_exchange_;  // without those abandoned
  std::vector<std::byte> out_;                           // framed
  std::size_t sent_ = 0;                                 // of out_
  std::vector<std::byte> in_;                            // at most a message and one read
  TimePoint since_{};  // opening: since then; open: last reply, or first question that waits since
  TimePoint not_before_{};
  unsigned failures_ = 0;  // since the last reply
  unsigned strays_ = 0;    // of this connection
};

}  // namespace muster::dns
