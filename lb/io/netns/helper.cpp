// muster-netns FOLDER…: makes netlink sockets inside the network namespaces that files in these
// folders name, for a daemon that may not enter them itself. systemd gives it the socket it
// listens on (sd_listen_fds(3)); it ends when nobody has asked for a while. It answers one at a
// time, and keeps nothing.

#include <array>
#include <cerrno>
#include <charconv>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <poll.h>
#include <string>
#include <string_view>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>
#include <vector>

#include "lb/io/netns/opener.hpp"

namespace muster::lb::netns {
namespace {

constexpr int kListenFd = 3;  // SD_LISTEN_FDS_START
constexpr int kIdleMilliseconds = 60'000;
constexpr int kPatienceSeconds = 2;  // with one who asks, or does not read
constexpr int kMaxRequests = 4096;   // of one connection

bool send_message(int to, const Answer& answer, const std::vector<Handle>& sockets = {}) {
  std::vector<std::uint8_t> bytes = encode(answer);
  iovec part{.iov_base = bytes.data(), .iov_len = bytes.size()};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  alignas(cmsghdr) std::array<char, CMSG_SPACE(kSockets * sizeof(int))> control{};
  if (!sockets.empty()) {
    message.msg_control = control.data();
    message.msg_controllen = control.size();
    cmsghdr* rights = CMSG_FIRSTHDR(&message);
    rights->cmsg_level = SOL_SOCKET;
    rights->cmsg_type = SCM_RIGHTS;
    rights->cmsg_len = CMSG_LEN(kSockets * sizeof(int));
    for (std::size_t i = 0; i < kSockets; ++i) {
      const int fd = sockets[i].get();
      std::memcpy(CMSG_DATA(rights) + i * sizeof fd, &fd, sizeof fd);
    }
  }
  return ::sendmsg(to, &message, MSG_NOSIGNAL) >= 0;
}

bool answer_open(int to, const std::vector<std::string>& folders, const Request& request) {
  const Opened opened = open(folders, request);
  std::fprintf(stderr, "%s/%s: %s\n", folders[request.folder].c_str(), request.name.c_str(),
               std::string{to_string(opened.verdict)}.c_str());
  return send_message(to,
                      {.kind = Answer::Kind::entry,
                       .verdict = opened.verdict,
                       .folder = request.folder,
                       .id = opened.id,
                       .name = request.name},
                      opened.sockets);
}

/// False: no more is to be said to this one.
bool answer(int to, const std::vector<std::string>& folders,
            const std::optional<Request>& request) {
  if (!request || request->folder >= folders.size()) {
    send_message(to, {.kind = Answer::Kind::end, .verdict = Verdict::bad_request});
    return false;
  }
  if (request->kind == Request::Kind::open) return answer_open(to, folders, *request);
  bool sent = true;
  look(folders, [&](const Answer& found) { sent = sent && send_message(to, found); });
  return sent;
}

void serve(const Handle& connection, const std::vector<std::string>& folders) {
  const timeval patience{.tv_sec = kPatienceSeconds, .tv_usec = 0};
  ::setsockopt(connection.get(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
  ::setsockopt(connection.get(), SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
  std::array<std::uint8_t, kMaxRequest + 1> bytes{};
  for (int i = 0; i < kMaxRequests; ++i) {
    // Descriptors that somebody sends along are dropped by the kernel: there is no room for any.
    const auto size = ::recv(connection.get(), bytes.data(), bytes.size(), 0);
    if (size <= 0) return;
    const auto request =
        decode_request(std::span<const std::uint8_t>{bytes}.first(static_cast<std::size_t>(size)));
    if (!answer(connection.get(), folders, request)) return;
  }
}

/// systemd has given this process, and not a parent of it, exactly one socket.
bool was_given_socket() {
  const auto number = [](const char* name) {
    const char* text = std::getenv(name);
    long value = -1;
    if (text != nullptr) std::from_chars(text, text + std::strlen(text), value);
    return value;
  };
  return number("LISTEN_PID") == ::getpid() && number("LISTEN_FDS") == 1;
}

int run(const std::vector<std::string>& folders) {
  for (;;) {
    pollfd listener{.fd = kListenFd, .events = POLLIN, .revents = 0};
    const int ready = ::poll(&listener, 1, kIdleMilliseconds);
    if (ready == 0) return 0;
    if (ready < 0 && errno != EINTR) return 1;
    if (ready < 0) continue;
    const Handle connection{::accept4(kListenFd, nullptr, nullptr, SOCK_CLOEXEC)};
    if (connection) {
      serve(connection, folders);
    } else if (errno != EINTR && errno != ECONNABORTED) {
      return 1;
    }
  }
}

}  // namespace
}  // namespace muster::lb::netns

int main(int argc, char** argv) {
  namespace netns = muster::lb::netns;
  const std::vector<std::string> folders{argv + 1, argv + argc};
  bool good = !folders.empty() && folders.size() <= netns::kMaxFolders;
  for (const std::string& folder : folders) good = good && netns::path_in(folder) == folder;
  if (!good) {
    std::fprintf(stderr, "usage: muster-netns FOLDER…, 1 to %zu absolute paths\n",
                 netns::kMaxFolders);
    return 2;
  }
  if (!netns::was_given_socket()) {
    std::fprintf(stderr, "muster-netns: expected a socket from systemd (muster-netns.socket)\n");
    return 2;
  }
  return netns::run(folders);
}
