#include "lb/io/netns/client.hpp"

#include <array>
#include <cerrno>
#include <cstring>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>
#include <utility>

#include <linux/capability.h>

namespace muster::lb::netns {
namespace {

constexpr int kPatienceSeconds = 5;
constexpr std::size_t kMaxAnswers = kMaxFolders * (kMaxEntries + 1) + 1;

class OwnGate final : public Gate {
 public:
  explicit OwnGate(std::vector<std::string> folders) : folders_{std::move(folders)} {}

  Result<std::vector<Answer>> look() override {
    std::vector<Answer> found;
    netns::look(folders_, [&](const Answer& answer) {
      if (answer.kind != Answer::Kind::end) found.push_back(answer);
    });
    return found;
  }
  Result<Opened> open(const Request& request) override { return netns::open(folders_, request); }

 private:
  std::vector<std::string> folders_;
};

/// Asks muster-netns; a connection for each question, so that there is none to lose.
class HelperGate final : public Gate {
 public:
  explicit HelperGate(std::string socket) : path_{std::move(socket)} {}

  Result<std::vector<Answer>> look() override {
    const auto connection = ask({});
    if (!connection) return connection.error();
    std::vector<Answer> found;
    while (found.size() <= kMaxAnswers) {
      auto answer = receive(*connection, nullptr);
      if (!answer) return answer.error();
      if (answer->kind == Answer::Kind::end) {
        if (answer->verdict != Verdict::good) return netlink::errno_code(EPROTO);
        return found;
      }
      found.push_back(std::move(*answer));
    }
    return netlink::errno_code(EMSGSIZE);
  }

  Result<Opened> open(const Request& request) override {
    const auto connection = ask(request);
    if (!connection) return connection.error();
    Opened opened;
    const auto answer = receive(*connection, &opened.sockets);
    if (!answer) return answer.error();
    opened.verdict = answer->verdict;
    opened.id = answer->id;
    const bool whole = opened.sockets.size() == kSockets;
    if (opened.verdict == Verdict::good && !whole) return netlink::errno_code(EPROTO);
    return opened;
  }

 private:
  Result<Handle> ask(const Request& request) const;
  static Result<Answer> receive(const Handle& from, std::vector<Handle>* sockets);

  std::string path_;
};

Result<Handle> HelperGate::ask(const Request& request) const {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path_.size() >= sizeof address.sun_path) return netlink::errno_code(ENAMETOOLONG);
  std::memcpy(&address.sun_path[0], path_.data(), path_.size());
  Handle socket{::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0)};
  if (!socket) return netlink::errno_code(errno);
  const timeval patience{.tv_sec = kPatienceSeconds, .tv_usec = 0};
  ::setsockopt(socket.get(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
  ::setsockopt(socket.get(), SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
  const auto bytes = encode(request);
  if (::connect(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) < 0 ||
      ::send(socket.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL) < 0) {
    return netlink::errno_code(errno);
  }
  return socket;
}

void take_descriptors(msghdr& message, std::vector<Handle>* to) {
  for (cmsghdr* part = CMSG_FIRSTHDR(&message); part != nullptr;
       part = CMSG_NXTHDR(&message, part)) {
    if (part->cmsg_level != SOL_SOCKET || part->cmsg_type != SCM_RIGHTS) continue;
    for (std::size_t at = 0; CMSG_LEN(at + sizeof(int)) <= part->cmsg_len; at += sizeof(int)) {
      int fd = -1;
      std::memcpy(&fd, CMSG_DATA(part) + at, sizeof fd);
      Handle handle{fd};
      if (to != nullptr) to->push_back(std::move(handle));
    }
  }
}

Result<Answer> HelperGate::receive(const Handle& from, std::vector<Handle>* sockets) {
  std::array<std::uint8_t, kMaxAnswer + 1> bytes{};
  alignas(cmsghdr) std::array<char, CMSG_SPACE(kSockets * sizeof(int))> control{};
  iovec part{.iov_base = bytes.data(), .iov_len = bytes.size()};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control.data();
  message.msg_controllen = control.size();
  const auto size = ::recvmsg(from.get(), &message, MSG_CMSG_CLOEXEC);
  if (size < 0) return netlink::errno_code(errno == EAGAIN ? ETIMEDOUT : errno);
  take_descriptors(message, sockets);
  if (size == 0) return netlink::errno_code(ECONNRESET);
  auto answer =
      decode_answer(std::span<const std::uint8_t>{bytes}.first(static_cast<std::size_t>(size)));
  if (!answer) return netlink::errno_code(EPROTO);
  return *std::move(answer);
}

class HandedSockets final : public netlink::Source {
 public:
  explicit HandedSockets(std::vector<Handle> sockets) : sockets_{std::move(sockets)} {}

  Result<netlink::Socket> open(int protocol) override {
    for (Handle& socket : sockets_) {
      int domain = 0;
      int found = 0;
      socklen_t size = sizeof found;
      if (!socket || ::getsockopt(socket.get(), SOL_SOCKET, SO_DOMAIN, &domain, &size) < 0 ||
          ::getsockopt(socket.get(), SOL_SOCKET, SO_PROTOCOL, &found, &size) < 0) {
        continue;
      }
      if (domain == AF_NETLINK && found == protocol) {
        return netlink::Socket::adopt(socket.release());
      }
    }
    return netlink::errno_code(EMFILE);
  }

 private:
  std::vector<Handle> sockets_;
};

}  // namespace

bool may_enter() {
  __user_cap_header_struct header{.version = _LINUX_CAPABILITY_VERSION_3, .pid = 0};
  std::array<__user_cap_data_struct, _LINUX_CAPABILITY_U32S_3> data{};
  if (::syscall(SYS_capget, &header, data.data()) != 0) return false;
  const auto has = [&](unsigned capability) {
    return (data[capability / 32].effective >> (capability % 32) & 1U) != 0;
  };
  return has(CAP_SYS_ADMIN) && has(CAP_NET_ADMIN);
}

std::unique_ptr<Gate> make_gate(std::vector<std::string> folders, std::string socket) {
  if (may_enter()) return std::make_unique<OwnGate>(std::move(folders));
  return std::make_unique<HelperGate>(std::move(socket));
}

Result<std::vector<Answer>> ask_helper(const std::string& socket) {
  return HelperGate{socket}.look();
}

std::unique_ptr<netlink::Source> make_source(std::vector<Handle> sockets) {
  return std::make_unique<HandedSockets>(std::move(sockets));
}

}  // namespace muster::lb::netns
