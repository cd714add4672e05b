#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "base/endpoint.hpp"
#include "base/time.hpp"
#include "gossip/core/types.hpp"

namespace muster::gossip {

inline constexpr std::uint8_t kProtocolVersion = 1;
inline constexpr std::size_t kMaxPeers = 20'000;
inline constexpr std::size_t kMaxQueued = 32;  // messages waiting for one handshake
inline constexpr std::size_t kMaxClusterName = 64;
inline constexpr std::size_t kMaxDatagram = 1452;  // an Ethernet frame of IPv6 and UDP

/// Authenticated encryption under the cluster's key ring. The shell has libsodium's; tests have
/// one that only counts octets. A box carries its key's id and a random nonce.
class Sealer {
 public:
  virtual ~Sealer() = default;
  /// Appends a box.
  virtual void seal(std::span<const std::byte> aad, std::span<const std::byte> plain,
                    std::vector<std::byte>& out) = 0;
  virtual bool open(std::span<const std::byte> aad, std::span<const std::byte> box,
                    std::vector<std::byte>& plain) = 0;
  /// Unpredictable.
  virtual std::uint64_t random() = 0;
};

/// Why a datagram was not let through; a metric's label.
enum class Drop : std::uint8_t {
  malformed,
  wrong_key,
  wrong_cluster,
  wrong_version,
  replayed,
  stranger,  // no handshake yet, or one from before a restart
  full,
};
std::string_view to_string(Drop) noexcept;
inline constexpr std::size_t kDropKinds = 7;

struct Datagram {
  Endpoint to;
  std::vector<std::byte> bytes;
};

/// Sessions with other nodes' addresses: a handshake in which each side echoes a number the other
/// has just drawn, so that nothing recorded is ever believed; then sealed, counted datagrams.
///
///     A -> B  hello    {session A, nonce a, cluster}       nothing is believed yet
///     B -> A  welcome  {session B, a, nonce b}             A believes B
///     A -> B  confirm  {b, payload}                        B believes A
///     A <-> B data     {payload}
///
/// Sessions are drawn once per boot and stand in the associated data of each datagram, not in it:
/// a heartbeat is 77 octets with its IP header. Of the counter two octets travel.
class Link {
 public:
  struct Options {
    NodeUid self;
    std::string cluster;
  };
  struct Received {
    NodeUid from;
    std::vector<std::byte> payload;  // empty: only a sign of life
  };
  struct Refusal {
    Endpoint from;
    Drop reason = Drop::wrong_key;
    bool by_peer = false;  // it refuses us; else we it
  };

  Link(Options options, Sealer& sealer);

  void send(const Endpoint& to, std::span<const std::byte> payload, TimePoint now,
            std::vector<Datagram>& out);
  std::optional<Received> receive(const Endpoint& from, std::span<const std::byte> bytes,
                                  TimePoint now, std::vector<Datagram>& out);
  void on_timer(TimePoint now, std::vector<Datagram>& out);
  std::optional<TimePoint> next_deadline() const;

  std::uint64_t session() const noexcept { return session_; }
  std::uint64_t drops(Drop kind) const noexcept { return drops_[static_cast<std::size_t>(kind)]; }
  std::size_t peers() const noexcept { return peers_.size(); }
  /// Since the last call; at most 64.
  std::vector<Refusal> take_refusals();
  /// Counts it, remembers it for the log, and tells the other side, at a limited rate.
  void refuse(const Endpoint&, Drop, TimePoint now, std::vector<Datagram>& out);

 private:
  struct Challenge {  // what a hello claimed, until its echo
    std::uint64_t session = 0;
    std::uint64_t nonce = 0;
    NodeUid uid;
    TimePoint until{};
  };
  struct Peer {
    NodeUid uid;
    std::uint64_t session = 0;  // 0: nothing believed
    std::uint64_t sent = 0;
    std::uint64_t highest = 0;  // received; window bit n: highest - n was seen
    std::uint64_t window = 0;
    std::optional<std::uint64_t> confirm;  // its nonce, echoed until it answers
    std::optional<std::uint64_t> hello;    // our nonce, while we are asking
    unsigned tries = 0;
    TimePoint next_hello{};
    std::optional<Challenge> challenge;
    std::vector<std::vector<std::byte>> queue;
    TimePoint used{};
    unsigned unopened = 0;
  };

  Peer* peer_at(const Endpoint&, TimePoint now);
  void say_hello(const Endpoint&, Peer&, TimePoint now, std::vector<Datagram>& out);
  void ask_back(const Endpoint&, TimePoint now, std::vector<Datagram>& out);
  void emit(const Endpoint&, Peer&, std::span<const std::byte> payload, std::vector<Datagram>& out);
  void on_hello(const Endpoint&, std::span<const std::byte>, TimePoint, std::vector<Datagram>&);
  void on_welcome(const Endpoint&, std::span<const std::byte>, TimePoint, std::vector<Datagram>&);
  std::optional<Received> on_confirm(const Endpoint&, std::span<const std::byte>, TimePoint,
                                     std::vector<Datagram>&);
  std::optional<Received> on_data(const Endpoint&, std::span<const std::byte>, TimePoint,
                                  std::vector<Datagram>&);
  bool fresh(Peer&, std::uint64_t counter) noexcept;
  void believe(Peer&, const NodeUid&, std::uint64_t session, std::uint64_t counter);
  void drop(Drop kind) noexcept { ++drops_[static_cast<std::size_t>(kind)]; }
  bool may_answer_stranger(TimePoint now) noexcept;

  Options options_;
  Sealer& sealer_;
  std::uint64_t cluster_;
  std::uint64_t session_;
  // No peer's counter starts below: one forgotten and met again sees no number twice.
  std::uint64_t counter_floor_ = 0;
  std::map<Endpoint, Peer> peers_;
  std::set<Endpoint> asking_;  // those with a hello outstanding
  std::uint64_t drops_[kDropKinds] = {};
  std::vector<Refusal> refusals_;
  TimePoint answers_since_{};
  unsigned answers_ = 0;
  TimePoint next_sweep_{};
};

}  // namespace muster::gossip
