#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <linux/netlink.h>

#include "base/result.hpp"

/// Netlink without a library: messages are written and read here, byte by byte (RFC 3549,
/// linux/netlink.h). The libraries for nf_tables and conntrack are GPL, and we need little of them.
namespace muster::lb::netlink {

using Bytes = std::span<const std::uint8_t>;

/// Writes messages one behind the other. Numbers are in host byte order unless named be.
class Writer {
 public:
  /// Opens a message; `header` is the family's fixed part (nfgenmsg, rtmsg).
  template <class Header>
  void begin(std::uint16_t type, std::uint16_t flags, std::uint32_t sequence,
             const Header& header) {
    message_ = bytes_.size();
    const nlmsghdr start{.nlmsg_len = 0,
                         .nlmsg_type = type,
                         .nlmsg_flags = flags,
                         .nlmsg_seq = sequence,
                         .nlmsg_pid = 0};
    raw(start);
    raw(header);
  }
  void end();

  void attribute(std::uint16_t type, Bytes value);
  void text(std::uint16_t type, std::string_view value);  // with the closing zero
  void u8(std::uint16_t type, std::uint8_t value) { attribute(type, {&value, 1}); }
  void u16(std::uint16_t type, std::uint16_t value);
  void u16_be(std::uint16_t type, std::uint16_t value);
  void u32(std::uint16_t type, std::uint32_t value);
  void u32_be(std::uint16_t type, std::uint32_t value);
  void u64_be(std::uint16_t type, std::uint64_t value);

  /// Calls `fill` to write the attributes inside one of `type`.
  template <class Fill>
  void nest(std::uint16_t type, Fill fill) {
    const std::size_t start = bytes_.size();
    attribute(static_cast<std::uint16_t>(type | NLA_F_NESTED), {});
    fill();
    patch_length(start);
  }

  /// Octets of the message that is open; a nest must stay below 64 KiB.
  std::size_t message_size() const noexcept { return bytes_.size() - message_; }
  std::size_t size() const noexcept { return bytes_.size(); }
  Bytes bytes() const noexcept { return bytes_; }
  void clear() noexcept { bytes_.clear(); }
  void reserve(std::size_t size) { bytes_.reserve(size); }
  /// Adds to the flags of the message written last.
  void flag_last(std::uint16_t flags);

 private:
  template <class T>
  void raw(const T& value) {
    const auto* data = reinterpret_cast<const std::uint8_t*>(&value);
    bytes_.insert(bytes_.end(), data, data + sizeof(T));
    pad();
  }
  void pad();
  void patch_length(std::size_t attribute_start);

  std::vector<std::uint8_t> bytes_;
  std::size_t message_ = 0;
};

struct Attribute {
  std::uint16_t type = 0;  // without the nested and byte-order flags
  Bytes value;

  std::optional<std::uint8_t> u8() const noexcept;
  std::optional<std::uint16_t> u16() const noexcept;
  std::optional<std::uint16_t> u16_be() const noexcept;
  std::optional<std::uint32_t> u32() const noexcept;
  std::optional<std::uint32_t> u32_be() const noexcept;
  std::optional<std::uint64_t> u64() const noexcept;
  std::optional<std::uint64_t> u64_be() const noexcept;
  std::string_view text() const noexcept;  // up to the first zero
};

/// The attributes in `bytes`, as far as they are well formed.
class Attributes {
 public:
  explicit Attributes(Bytes bytes) noexcept : rest_{bytes} {}
  std::optional<Attribute> next() noexcept;

 private:
  Bytes rest_;
};

/// The first attribute of `type`, else an empty one of type 0 whose accessors return nothing.
Attribute find(Bytes attributes, std::uint16_t type) noexcept;

struct Message {
  nlmsghdr header{};
  Bytes payload;  // behind nlmsghdr
  /// The attributes behind a fixed part of `size` octets.
  Bytes attributes(std::size_t size) const noexcept;
  template <class Header>
  std::optional<Header> fixed() const noexcept {
    if (payload.size() < sizeof(Header)) return std::nullopt;
    Header copy;
    std::memcpy(&copy, payload.data(), sizeof(Header));
    return copy;
  }
};

/// The messages in one datagram, as far as they are well formed.
class Messages {
 public:
  explicit Messages(Bytes bytes) noexcept : rest_{bytes} {}
  std::optional<Message> next() noexcept;

 private:
  Bytes rest_;
};

/// A netlink socket of the namespace of the thread that opens it. Blocking calls wait at most
/// kPatience: the kernel answers at once or not at all.
class Socket {
 public:
  static constexpr int kPatienceSeconds = 2;
  /// A message must fit; 50,000 elements are 6 MB.
  static constexpr int kSendBuffer = 256 << 20;

  static Result<Socket> open(int protocol);
  /// The same of a socket that was made elsewhere, which it owns from then on.
  static Result<Socket> adopt(int fd);
  Socket(Socket&& other) noexcept : fd_{std::exchange(other.fd_, -1)}, port_{other.port_} {}
  Socket& operator=(Socket&& other) noexcept;
  ~Socket();

  int fd() const noexcept { return fd_; }
  /// What the kernel calls us: nlmsg_pid of the notifications we cause.
  std::uint32_t port() const noexcept { return port_; }
  std::uint32_t next_sequence() noexcept { return ++sequence_; }
  std::uint32_t sequence() const noexcept { return sequence_; }  // the one given last

  Result<void> join(unsigned group);
  void leave(unsigned group);

  /// Sends messages, of which the last asks for NLM_F_ACK, and waits for the verdict on all.
  /// Errors: the first the kernel names; detail() then has its words, if it had any.
  Result<void> transact(Bytes messages);

  /// Sends messages that stand alone, the last of which asks for NLM_F_ACK. Each that the kernel
  /// refuses is told to `refused`, by its sequence number; the others are carried out all the same.
  Result<void> pipeline(Bytes messages,
                        const std::function<void(std::uint32_t, const ErrorCode&)>& refused);

  /// Sends a request and hands each message of the answer to `each`, to the end of the dump or
  /// the acknowledgement. Errors: interrupted if the table changed meanwhile.
  Result<void> request(Bytes message, const std::function<void(const Message&)>& each);

  /// One datagram that is already there; empty: nothing more. Valid until any socket next receives
  /// on this thread. Errors: no_buffer_space if some were lost.
  Result<Bytes> receive_ready();

  /// Reads away what a dump that was given up has left, without which there can be no other.
  void drain();

  const std::string& detail() const noexcept { return detail_; }
  void keep_detail(std::string detail) { detail_ = std::move(detail); }

 private:
  Socket(int fd, std::uint32_t port) noexcept : fd_{fd}, port_{port} {}
  Result<void> send(Bytes messages);
  Result<Bytes> receive(int flags);
  ErrorCode error_of(const Message& message);

  int fd_;
  std::uint32_t port_;
  std::uint32_t sequence_ = 0;
  std::string detail_;
};

/// Where sockets come from, if not from the namespace of the calling thread.
class Source {
 public:
  virtual ~Source() = default;
  virtual Result<Socket> open(int protocol) = 0;
};
/// A socket from `source`; none: of the calling thread's namespace.
inline Result<Socket> open_from(Source* source, int protocol) {
  return source != nullptr ? source->open(protocol) : Socket::open(protocol);
}

ErrorCode errno_code(int number) noexcept;

}  // namespace muster::lb::netlink
