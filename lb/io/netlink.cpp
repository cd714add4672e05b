#include "lb/io/netlink.hpp"

#include <arpa/inet.h>
#include <cerrno>
#include <endian.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "base/assert.hpp"

namespace muster::lb::netlink {
namespace {

constexpr std::size_t kReceiveBuffer =
    std::size_t{64} * 1024;  // a dump's datagrams stay below 32 KiB

/// Datagrams of a dump that is given up: 100,000 Vips have some 2,000.
constexpr std::size_t kMaxDrained = 100'000;

constexpr std::size_t aligned(std::size_t size) {
  return (size + 3) & ~std::size_t{3};
}

template <class T>
std::optional<T> number(Bytes value) noexcept {
  if (value.size() < sizeof(T)) return std::nullopt;
  T result;
  std::memcpy(&result, value.data(), sizeof(T));
  return result;
}

}  // namespace

ErrorCode errno_code(int number) noexcept {
  return {number, boost::system::system_category()};
}

void Writer::pad() {
  bytes_.resize(aligned(bytes_.size()));
}

void Writer::end() {
  const auto length = static_cast<std::uint32_t>(bytes_.size() - message_);
  std::memcpy(bytes_.data() + message_, &length, sizeof length);
}

void Writer::attribute(std::uint16_t type, Bytes value) {
  const nlattr start{.nla_len = static_cast<std::uint16_t>(sizeof(nlattr) + value.size()),
                     .nla_type = type};
  raw(start);
  bytes_.insert(bytes_.end(), value.begin(), value.end());
  pad();
}

void Writer::text(std::uint16_t type, std::string_view value) {
  const std::string zero_ended{value};
  attribute(type, {reinterpret_cast<const std::uint8_t*>(zero_ended.c_str()), value.size() + 1});
}

void Writer::u16(std::uint16_t type, std::uint16_t value) {
  attribute(type, {reinterpret_cast<const std::uint8_t*>(&value), sizeof value});
}

void Writer::u16_be(std::uint16_t type, std::uint16_t value) {
  const std::uint16_t swapped = htons(value);
  attribute(type, {reinterpret_cast<const std::uint8_t*>(&swapped), sizeof swapped});
}

void Writer::u32(std::uint16_t type, std::uint32_t value) {
  attribute(type, {reinterpret_cast<const std::uint8_t*>(&value), sizeof value});
}

void Writer::u32_be(std::uint16_t type, std::uint32_t value) {
  u32(type, htonl(value));
}

void Writer::u64_be(std::uint16_t type, std::uint64_t value) {
  const std::uint64_t swapped = htobe64(value);
  attribute(type, {reinterpret_cast<const std::uint8_t*>(&swapped), sizeof swapped});
}

void Writer::patch_length(std::size_t attribute_start) {
  const std::size_t length = bytes_.size() - attribute_start;
  MUSTER_ASSERT(length <= 0xFFFF);
  const auto short_length = static_cast<std::uint16_t>(length);
  std::memcpy(bytes_.data() + attribute_start, &short_length, sizeof short_length);
}

void Writer::flag_last(std::uint16_t flags) {
  nlmsghdr header;
  std::memcpy(&header, bytes_.data() + message_, sizeof header);
  header.nlmsg_flags = static_cast<std::uint16_t>(header.nlmsg_flags | flags);
  std::memcpy(bytes_.data() + message_, &header, sizeof header);
}

std::optional<std::uint8_t> Attribute::u8() const noexcept {
  return number<std::uint8_t>(value);
}
std::optional<std::uint16_t> Attribute::u16() const noexcept {
  return number<std::uint16_t>(value);
}
std::optional<std::uint16_t> Attribute::u16_be() const noexcept {
  const auto raw = number<std::uint16_t>(value);
  return raw ? std::optional{ntohs(*raw)} : std::nullopt;
}
std::optional<std::uint32_t> Attribute::u32() const noexcept {
  return number<std::uint32_t>(value);
}
std::optional<std::uint32_t> Attribute::u32_be() const noexcept {
  const auto raw = u32();
  return raw ? std::optional{ntohl(*raw)} : std::nullopt;
}
std::optional<std::uint64_t> Attribute::u64() const noexcept {
  return number<std::uint64_t>(value);
}
std::optional<std::uint64_t> Attribute::u64_be() const noexcept {
  const auto raw = number<std::uint64_t>(value);
  return raw ? std::optional<std::uint64_t>{be64toh(*raw)} : std::nullopt;
}
std::string_view Attribute::text() const noexcept {
  const std::string_view whole{reinterpret_cast<const char*>(value.data()), value.size()};
  return whole.substr(0, whole.find('\0'));
}

std::optional<Attribute> Attributes::next() noexcept {
  if (rest_.size() < sizeof(nlattr)) return std::nullopt;
  nlattr header;
  std::memcpy(&header, rest_.data(), sizeof header);
  if (header.nla_len < sizeof header || header.nla_len > rest_.size()) {
    rest_ = {};
    return std::nullopt;
  }
  const Attribute found{static_cast<std::uint16_t>(header.nla_type & NLA_TYPE_MASK),
                        rest_.subspan(sizeof header, header.nla_len - sizeof header)};
  rest_ = rest_.subspan(std::min(rest_.size(), aligned(header.nla_len)));
  return found;
}

Attribute find(Bytes attributes, std::uint16_t type) noexcept {
  Attributes all{attributes};
  while (const auto attribute = all.next()) {
    if (attribute->type == type) return *attribute;
  }
  return {};
}

Bytes Message::attributes(std::size_t size) const noexcept {
  const std::size_t skip = aligned(size);
  return skip <= payload.size() ? payload.subspan(skip) : Bytes{};
}

std::optional<Message> Messages::next() noexcept {
  if (rest_.size() < sizeof(nlmsghdr)) return std::nullopt;
  Message found;
  std::memcpy(&found.header, rest_.data(), sizeof(nlmsghdr));
  const std::size_t length = found.header.nlmsg_len;
  if (length < sizeof(nlmsghdr) || length > rest_.size()) {
    rest_ = {};
    return std::nullopt;
  }
  found.payload = rest_.subspan(sizeof(nlmsghdr), length - sizeof(nlmsghdr));
  rest_ = rest_.subspan(std::min(rest_.size(), aligned(length)));
  return found;
}

Result<Socket> Socket::open(int protocol) {
  const int fd = ::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, protocol);
  if (fd < 0) return errno_code(errno);
  return adopt(fd);
}

Result<Socket> Socket::adopt(int fd) {
  Socket socket{fd, 0};
  sockaddr_nl address{};
  address.nl_family = AF_NETLINK;
  socklen_t size = sizeof address;
  if (::bind(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) < 0 ||
      ::getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size) < 0) {
    return errno_code(errno);
  }
  socket.port_ = address.nl_pid;
  const int on = 1;
  // Errors then name the attribute in words and do not carry the whole request back. All of these
  // are improvements only: older kernels do without.
  ::setsockopt(fd, SOL_NETLINK, NETLINK_CAP_ACK, &on, sizeof on);
  ::setsockopt(fd, SOL_NETLINK, NETLINK_EXT_ACK, &on, sizeof on);
  ::setsockopt(fd, SOL_NETLINK, NETLINK_GET_STRICT_CHK, &on, sizeof on);
  const int send_buffer = kSendBuffer;
  ::setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &send_buffer, sizeof send_buffer);
  const int receive_buffer = 4 << 20;
  ::setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &receive_buffer, sizeof receive_buffer);
  const timeval patience{.tv_sec = kPatienceSeconds, .tv_usec = 0};
  ::setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
  return socket;
}

Socket& Socket::operator=(Socket&& other) noexcept {
  std::swap(fd_, other.fd_);
  std::swap(port_, other.port_);
  std::swap(sequence_, other.sequence_);
  return *this;
}

Socket::~Socket() {
  if (fd_ >= 0) ::close(fd_);
}

Result<void> Socket::join(unsigned group) {
  if (::setsockopt(fd_, SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, &group, sizeof group) < 0) {
    return errno_code(errno);
  }
  return {};
}

void Socket::leave(unsigned group) {
  ::setsockopt(fd_, SOL_NETLINK, NETLINK_DROP_MEMBERSHIP, &group, sizeof group);
}

Result<void> Socket::send(Bytes messages) {
  sockaddr_nl kernel{};
  kernel.nl_family = AF_NETLINK;
  const auto sent = ::sendto(fd_, messages.data(), messages.size(), 0,
                             reinterpret_cast<const sockaddr*>(&kernel), sizeof kernel);
  if (sent < 0) return errno_code(errno);
  return {};
}

Result<Bytes> Socket::receive(int flags) {
  // One for all sockets of a thread: each of many namespaces has several.
  thread_local std::vector<std::uint8_t> buffer(kReceiveBuffer);
  for (;;) {
    const auto size = ::recv(fd_, buffer.data(), buffer.size(), flags);
    if (size >= 0) return Bytes{buffer.data(), static_cast<std::size_t>(size)};
    if (errno != EINTR) return errno_code(errno);
  }
}

Result<Bytes> Socket::receive_ready() {
  auto got = receive(MSG_DONTWAIT);
  if (!got && got.error().value() == EAGAIN) return Bytes{};
  return got;
}

void Socket::drain() {
  for (std::size_t i = 0; i < kMaxDrained; ++i) {
    const auto got = receive_ready();
    if (got && got->empty()) return;
  }
}

ErrorCode Socket::error_of(const Message& message) {
  const auto error = message.fixed<nlmsgerr>();
  if (!error) return errno_code(EBADMSG);
  if (error->error == 0) return {};
  if ((message.header.nlmsg_flags & NLM_F_ACK_TLVS) != 0) {
    detail_ = find(message.attributes(sizeof(nlmsgerr)), NLMSGERR_ATTR_MSG).text();
  }
  return errno_code(-error->error);
}

Result<void> Socket::transact(Bytes messages) {
  ErrorCode first;
  std::string words;
  const auto done = pipeline(messages, [&](std::uint32_t, const ErrorCode& error) {
    if (first) return;
    first = error;
    words = detail_;
  });
  if (!first) return done;
  detail_ = std::move(words);
  return first;
}

Result<void> Socket::pipeline(Bytes messages,
                              const std::function<void(std::uint32_t, const ErrorCode&)>& refused) {
  detail_.clear();
  const auto sent = send(messages);
  if (!sent) return sent.error();
  // The kernel works inside send(), so all of its answer is waiting by now.
  bool answered = false;
  for (;;) {
    const auto got = receive_ready();
    if (!got) return got.error();
    if (got->empty()) break;
    Messages all{*got};
    while (const auto message = all.next()) {
      if (message->header.nlmsg_type != NLMSG_ERROR) continue;
      const ErrorCode error = error_of(*message);
      answered = true;
      if (error) refused(message->header.nlmsg_seq, error);
    }
  }
  if (!answered) return errno_code(ETIMEDOUT);
  return {};
}

Result<void> Socket::request(Bytes request, const std::function<void(const Message&)>& each) {
  detail_.clear();
  const auto sent = send(request);
  if (!sent) return sent.error();
  nlmsghdr asked;
  std::memcpy(&asked, request.data(), sizeof asked);
  bool interrupted = false;
  for (;;) {
    const auto got = receive(0);
    if (!got) return got.error().value() == EAGAIN ? errno_code(ETIMEDOUT) : got.error();
    Messages all{*got};
    while (const auto message = all.next()) {
      if (message->header.nlmsg_seq != asked.nlmsg_seq) continue;  // of a dump given up before
      interrupted = interrupted || (message->header.nlmsg_flags & NLM_F_DUMP_INTR) != 0;
      if (message->header.nlmsg_type == NLMSG_ERROR) {
        const ErrorCode error = error_of(*message);
        if (error) return error;
        return {};
      }
      if (message->header.nlmsg_type == NLMSG_DONE) {
        if (interrupted) return errno_code(EINTR);
        const auto status = message->fixed<std::int32_t>();
        if (status && *status < 0) return errno_code(-*status);
        return {};
      }
      each(*message);
    }
  }
}

}  // namespace muster::lb::netlink
