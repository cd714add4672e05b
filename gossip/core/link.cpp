#include "gossip/core/link.hpp"

#include <algorithm>
#include <array>
#include <utility>

#include "base/byte_reader.hpp"
#include "base/byte_writer.hpp"
#include "gossip/core/message.hpp"

namespace muster::gossip {
namespace {

enum class Frame : std::uint8_t { hello = 1, welcome, confirm, data, refused };

constexpr std::size_t kMaxRefusals = 64;
constexpr unsigned kHelloTries = 8;
constexpr Duration kFirstRetry{25};
constexpr Duration kChallenge{2'000};
constexpr Duration kIdlePeer{120'000};
// Whoever sends us noise from a forged address makes us speak to it no more often than this.
constexpr unsigned kStrangersPerSecond = 200;
// Data that does not open: the peer may believe in a session we have lost.
constexpr unsigned kUnopenedBeforeHello = 4;

std::byte first_octet(Frame frame) {
  return static_cast<std::byte>((kProtocolVersion << 4) | static_cast<std::uint8_t>(frame));
}

// Not a ByteWriter: this runs for each datagram, and needs no heap.
std::array<std::byte, 33> associated(Frame frame, std::uint64_t cluster, std::uint64_t from,
                                     std::uint64_t to, std::uint64_t counter) {
  std::array<std::byte, 33> aad{};
  aad[0] = static_cast<std::byte>(frame);
  std::size_t at = 1;
  for (const std::uint64_t word : {cluster, from, to, counter}) {
    for (unsigned shift = 64; shift > 0; shift -= 8) {
      aad[at++] = static_cast<std::byte>((word >> (shift - 8)) & 0xFF);
    }
  }
  return aad;
}

// The counter nearest to the highest one seen whose last two octets are these.
std::uint64_t expand(std::uint64_t highest, std::uint16_t low) {
  const std::uint64_t guess = (highest & ~std::uint64_t{0xFFFF}) | low;
  if (guess + 0x8000 < highest) return guess + 0x10000;
  if (guess > highest + 0x8000 && guess >= 0x10000) return guess - 0x10000;
  return guess;
}

}  // namespace

std::string_view to_string(Drop drop) noexcept {
  constexpr std::array<std::string_view, kDropKinds> kNames{
      "malformed", "wrong_key", "wrong_cluster", "wrong_version", "replayed", "stranger", "full"};
  return kNames[static_cast<std::size_t>(drop)];
}

Link::Link(Options options, Sealer& sealer)
    : options_{std::move(options)},
      sealer_{sealer},
      cluster_{hash_text(options_.cluster)},
      session_{sealer.random() | 1} {}

Link::Peer* Link::peer_at(const Endpoint& at, TimePoint now) {
  const auto found = peers_.find(at);
  if (found != peers_.end()) return &found->second;
  if (peers_.size() >= kMaxPeers) {
    drop(Drop::full);
    return nullptr;
  }
  Peer& peer = peers_[at];
  peer.used = now;
  peer.sent = counter_floor_;
  return &peer;
}

void Link::send(const Endpoint& to, std::span<const std::byte> payload, TimePoint now,
                std::vector<Datagram>& out) {
  Peer* peer = peer_at(to, now);
  if (peer == nullptr) return;
  peer->used = now;
  if (peer->session != 0) {
    emit(to, *peer, payload, out);
    return;
  }
  // The newest are worth more: alerts age, and a later heartbeat says all an earlier one said.
  if (peer->queue.size() >= kMaxQueued) {
    peer->queue.erase(peer->queue.begin());
    drop(Drop::full);
  }
  peer->queue.emplace_back(payload.begin(), payload.end());
  if (!peer->hello) {
    peer->tries = 0;
    say_hello(to, *peer, now, out);
  }
}

void Link::say_hello(const Endpoint& to, Peer& peer, TimePoint now, std::vector<Datagram>& out) {
  // The same number for all tries: an answer to the first may come after the second.
  if (!peer.hello) peer.hello = sealer_.random() | 1;
  peer.next_hello = now + kFirstRetry * (1U << std::min(peer.tries, 4U));
  ++peer.tries;
  asking_.insert(to);
  ByteWriter plain;
  plain.u8(kProtocolVersion);  // lowest and highest it speaks
  plain.u8(kProtocolVersion);
  plain.u64(session_);
  plain.u64(*peer.hello);
  write_uid(plain, options_.self);
  plain.text(options_.cluster);
  std::vector<std::byte> bytes{first_octet(Frame::hello)};
  sealer_.seal(associated(Frame::hello, 0, 0, 0, 0), plain.bytes(), bytes);
  out.push_back({to, std::move(bytes)});
}

void Link::emit(const Endpoint& to, Peer& peer, std::span<const std::byte> payload,
                std::vector<Datagram>& out) {
  const std::uint64_t counter = ++peer.sent;
  ByteWriter plain;
  ByteWriter bytes;
  Frame frame = Frame::data;
  if (peer.confirm) {
    frame = Frame::confirm;
    plain.u64(*peer.confirm);
    bytes.u8(std::to_integer<std::uint8_t>(first_octet(frame)));
    bytes.u64(counter);
  } else {
    bytes.u8(std::to_integer<std::uint8_t>(first_octet(frame)));
    bytes.u16(static_cast<std::uint16_t>(counter & 0xFFFF));
  }
  plain.raw(payload);
  auto sealed = std::move(bytes).release();
  sealer_.seal(associated(frame, cluster_, session_, peer.session, counter), plain.bytes(), sealed);
  out.push_back({to, std::move(sealed)});
}

std::optional<Link::Received> Link::receive(const Endpoint& from, std::span<const std::byte> bytes,
                                            TimePoint now, std::vector<Datagram>& out) {
  if (bytes.size() < 2 || bytes.size() > kMaxDatagram) {
    drop(Drop::malformed);
    return std::nullopt;
  }
  const auto first = std::to_integer<std::uint8_t>(bytes[0]);
  if (first >> 4 != kProtocolVersion) {
    refuse(from, Drop::wrong_version, now, out);
    return std::nullopt;
  }
  const auto rest = bytes.subspan(1);
  switch (static_cast<Frame>(first & 0xF)) {
    case Frame::hello:
      on_hello(from, rest, now, out);
      return std::nullopt;
    case Frame::welcome:
      on_welcome(from, rest, now, out);
      return std::nullopt;
    case Frame::confirm:
      return on_confirm(from, rest, now, out);
    case Frame::data:
      return on_data(from, rest, now, out);
    case Frame::refused: {
      // Anybody can write this: it is a line in the log and nothing else.
      const auto reason = std::to_integer<std::uint8_t>(rest[0]);
      if (reason < kDropKinds && peers_.contains(from) && refusals_.size() < kMaxRefusals) {
        refusals_.push_back({from, static_cast<Drop>(reason), true});
      }
      return std::nullopt;
    }
  }
  drop(Drop::malformed);
  return std::nullopt;
}

void Link::refuse(const Endpoint& to, Drop reason, TimePoint now, std::vector<Datagram>& out) {
  drop(reason);
  if (refusals_.size() < kMaxRefusals) refusals_.push_back({to, reason, false});
  if (!may_answer_stranger(now)) return;
  out.push_back({to, {first_octet(Frame::refused), static_cast<std::byte>(reason)}});
}

void Link::on_hello(const Endpoint& from, std::span<const std::byte> box, TimePoint now,
                    std::vector<Datagram>& out) {
  std::vector<std::byte> plain;
  if (!sealer_.open(associated(Frame::hello, 0, 0, 0, 0), box, plain)) {
    refuse(from, Drop::wrong_key, now, out);
    return;
  }
  ByteReader in{plain};
  const std::uint8_t lowest = in.u8();
  const std::uint8_t highest = in.u8();
  Challenge challenge;
  challenge.session = in.u64();
  const std::uint64_t nonce = in.u64();
  challenge.uid = read_uid(in);
  const auto cluster = in.text();
  if (!in.ok() || challenge.session == 0) return drop(Drop::malformed);
  if (lowest > kProtocolVersion || highest < kProtocolVersion) {
    return refuse(from, Drop::wrong_version, now, out);
  }
  if (cluster != options_.cluster) return refuse(from, Drop::wrong_cluster, now, out);
  Peer* peer = peer_at(from, now);
  if (peer == nullptr) return;
  // A repeated hello keeps its challenge: else a copy on its way would undo the newer one.
  if (peer->challenge && peer->challenge->session == challenge.session &&
      peer->challenge->until > now) {
    challenge.nonce = peer->challenge->nonce;
  } else {
    challenge.nonce = sealer_.random();
  }
  challenge.until = now + kChallenge;
  peer->challenge = challenge;
  ByteWriter welcome;
  welcome.u64(session_);
  welcome.u64(nonce);
  welcome.u64(challenge.nonce);
  welcome.u64(peer->sent);
  write_uid(welcome, options_.self);
  std::vector<std::byte> bytes{first_octet(Frame::welcome)};
  sealer_.seal(associated(Frame::welcome, cluster_, 0, challenge.session, 0), welcome.bytes(),
               bytes);
  out.push_back({from, std::move(bytes)});
}

void Link::on_welcome(const Endpoint& from, std::span<const std::byte> box, TimePoint now,
                      std::vector<Datagram>& out) {
  const auto found = peers_.find(from);
  if (found == peers_.end() || !found->second.hello) return drop(Drop::stranger);
  Peer& peer = found->second;
  std::vector<std::byte> plain;
  if (!sealer_.open(associated(Frame::welcome, cluster_, 0, session_, 0), box, plain)) {
    return drop(Drop::wrong_key);
  }
  ByteReader in{plain};
  const std::uint64_t session = in.u64();
  const std::uint64_t echo = in.u64();
  const std::uint64_t nonce = in.u64();
  const std::uint64_t counter = in.u64();
  const NodeUid uid = read_uid(in);
  if (!in.ok() || session == 0) return drop(Drop::malformed);
  if (echo != *peer.hello) return drop(Drop::replayed);
  believe(peer, uid, session, counter);
  peer.confirm = nonce;
  peer.hello.reset();
  asking_.erase(from);
  peer.used = now;
  if (peer.queue.empty()) emit(from, peer, {}, out);
  for (const auto& payload : std::exchange(peer.queue, {})) emit(from, peer, payload, out);
}

void Link::believe(Peer& peer, const NodeUid& uid, std::uint64_t session, std::uint64_t counter) {
  if (peer.session != session || counter > peer.highest) {
    peer.highest = counter;
    // All up to here has been on its way before: a copy of it is no news.
    peer.window = ~std::uint64_t{0};
  }
  peer.session = session;
  peer.uid = uid;
  peer.unopened = 0;
}

std::optional<Link::Received> Link::on_confirm(const Endpoint& from, std::span<const std::byte> box,
                                               TimePoint now, std::vector<Datagram>& out) {
  ByteReader header{box};
  const std::uint64_t counter = header.u64();
  const auto found = peers_.find(from);
  if (!header.ok() || counter == 0 || found == peers_.end()) {
    drop(header.ok() ? Drop::stranger : Drop::malformed);
    if (header.ok()) ask_back(from, now, out);
    return std::nullopt;
  }
  Peer& peer = found->second;
  const bool challenged = peer.challenge && peer.challenge->until > now;
  const std::uint64_t session = challenged ? peer.challenge->session : peer.session;
  std::vector<std::byte> plain;
  if (session == 0 ||
      !sealer_.open(associated(Frame::confirm, cluster_, session, session_, counter),
                    box.subspan(8), plain)) {
    // Our welcome was too long on its way, or the keys have changed since.
    drop(Drop::stranger);
    ask_back(from, now, out);
    return std::nullopt;
  }
  ByteReader in{plain};
  const std::uint64_t echo = in.u64();
  if (peer.session != session) {
    if (!in.ok() || !challenged || echo != peer.challenge->nonce) {
      drop(Drop::replayed);
      return std::nullopt;
    }
    believe(peer, peer.challenge->uid, session, counter - 1);
  }
  if (!fresh(peer, counter)) {
    drop(Drop::replayed);
    return std::nullopt;
  }
  peer.used = now;
  peer.confirm.reset();  // it believes us: it has sealed for our session
  // So that it stops confirming.
  emit(from, peer, {}, out);
  if (peer.hello) {
    peer.hello.reset();
    asking_.erase(from);
  }
  for (const auto& payload : std::exchange(peer.queue, {})) emit(from, peer, payload, out);
  return Received{peer.uid, {plain.begin() + 8, plain.end()}};
}

std::optional<Link::Received> Link::on_data(const Endpoint& from, std::span<const std::byte> rest,
                                            TimePoint now, std::vector<Datagram>& out) {
  ByteReader header{rest};
  const std::uint16_t low = header.u16();
  if (!header.ok()) {
    drop(Drop::malformed);
    return std::nullopt;
  }
  const auto found = peers_.find(from);
  if (found == peers_.end() || found->second.session == 0) {
    drop(Drop::stranger);
    ask_back(from, now, out);
    return std::nullopt;
  }
  Peer& peer = found->second;
  const std::uint64_t counter = expand(peer.highest, low);
  std::vector<std::byte> plain;
  if (!sealer_.open(associated(Frame::data, cluster_, peer.session, session_, counter),
                    rest.subspan(2), plain)) {
    drop(Drop::wrong_key);
    if (++peer.unopened >= kUnopenedBeforeHello) {
      peer.unopened = 0;
      ask_back(from, now, out);
    }
    return std::nullopt;
  }
  if (!fresh(peer, counter)) {
    drop(Drop::replayed);
    return std::nullopt;
  }
  peer.confirm.reset();
  peer.unopened = 0;
  peer.used = now;
  return Received{peer.uid, std::move(plain)};
}

/// Somebody believes in a session that is not there. One hello: who is one of us goes on from
/// there, who is not refuses it, and says so at its end.
void Link::ask_back(const Endpoint& from, TimePoint now, std::vector<Datagram>& out) {
  if (!may_answer_stranger(now)) return;
  Peer* const peer = peer_at(from, now);
  if (peer == nullptr || peer->hello) return;
  peer->tries = kHelloTries - 1;
  say_hello(from, *peer, now, out);
}

bool Link::fresh(Peer& peer, std::uint64_t counter) noexcept {
  if (counter > peer.highest) {
    const std::uint64_t ahead = counter - peer.highest;
    peer.window = ahead >= 64 ? 1 : (peer.window << ahead) | 1;
    peer.highest = counter;
    return true;
  }
  const std::uint64_t behind = peer.highest - counter;
  if (behind >= 64) return false;
  const std::uint64_t bit = std::uint64_t{1} << behind;
  if ((peer.window & bit) != 0) return false;
  peer.window |= bit;
  return true;
}

bool Link::may_answer_stranger(TimePoint now) noexcept {
  if (now - answers_since_ >= Duration{1000}) {
    answers_since_ = now;
    answers_ = 0;
  }
  return ++answers_ <= kStrangersPerSecond;
}

void Link::on_timer(TimePoint now, std::vector<Datagram>& out) {
  for (auto it = asking_.begin(); it != asking_.end();) {
    const Endpoint to = *it++;
    Peer& peer = peers_.at(to);
    if (now < peer.next_hello) continue;
    if (peer.tries < kHelloTries) {
      say_hello(to, peer, now, out);
      continue;
    }
    peer.hello.reset();
    peer.queue.clear();
    asking_.erase(to);
  }
  if (now < next_sweep_) return;
  next_sweep_ = now + Duration{10'000};
  std::erase_if(peers_, [&](const auto& entry) {
    if (now - entry.second.used < kIdlePeer || entry.second.hello) return false;
    counter_floor_ = std::max(counter_floor_, entry.second.sent);
    return true;
  });
}

std::optional<TimePoint> Link::next_deadline() const {
  if (asking_.empty()) return std::nullopt;
  TimePoint at = TimePoint::max();
  for (const Endpoint& to : asking_) at = std::min(at, peers_.at(to).next_hello);
  return at;
}

std::vector<Link::Refusal> Link::take_refusals() {
  return std::exchange(refusals_, {});
}

}  // namespace muster::gossip
