#include "dev/control.hpp"

#include <cerrno>
#include <cstring>
#include <stdexcept>
#include <sys/socket.h>
#include <sys/un.h>
#include <system_error>

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/local/stream_protocol.hpp>
#include <boost/asio/read_until.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/write.hpp>
#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>

#include "base/io/async.hpp"
#include "base/io/task_group.hpp"

namespace muster::dev {

namespace asio = boost::asio;
namespace json = boost::json;
using local = asio::local::stream_protocol;

namespace {

constexpr std::size_t kMaxRequest = 64 << 10;
constexpr std::size_t kMaxDescriptors = 8;  // of one answer
constexpr std::size_t kMaxAnswer = 64U << 20;
constexpr auto kNoThrow = asio::as_tuple(asio::use_awaitable);

socklen_t abstract_address(const std::string& name, sockaddr_un& out) {
  out = {};
  out.sun_family = AF_UNIX;
  const std::string path = "muster-dev-" + name;  // after the leading zero of an abstract name
  if (path.size() + 1 > sizeof out.sun_path) throw std::runtime_error{"--name is too long"};
  std::memcpy(out.sun_path + 1, path.data(), path.size());
  return static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + path.size());
}

/// The first octet carries the descriptors, the rest follows as any stream does.
bool send_first(int socket, const std::string& line, const std::vector<Fd>& descriptors) {
  if (descriptors.empty()) return true;
  alignas(cmsghdr) char space[CMSG_SPACE(kMaxDescriptors * sizeof(int))] = {};
  std::vector<int> plain;
  plain.reserve(descriptors.size());
  for (const Fd& fd : descriptors) plain.push_back(fd.get());
  iovec octet{const_cast<char*>(line.data()), 1};
  msghdr message{};
  message.msg_iov = &octet;
  message.msg_iovlen = 1;
  message.msg_control = space;
  message.msg_controllen = CMSG_SPACE(plain.size() * sizeof(int));
  cmsghdr* header = CMSG_FIRSTHDR(&message);
  header->cmsg_level = SOL_SOCKET;
  header->cmsg_type = SCM_RIGHTS;
  header->cmsg_len = CMSG_LEN(plain.size() * sizeof(int));
  std::memcpy(CMSG_DATA(header), plain.data(), plain.size() * sizeof(int));
  return ::sendmsg(socket, &message, MSG_NOSIGNAL) == 1;
}

bool peer_is_root(int socket) {
  ucred peer{};
  socklen_t size = sizeof peer;
  return ::getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0 && peer.uid == 0;
}

}  // namespace

Fd listen_control(const std::string& name) {
  Fd fd{::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)};
  sockaddr_un address;
  const socklen_t size = abstract_address(name, address);
  if (!fd || ::bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), size) != 0 ||
      ::listen(fd.get(), 16) != 0) {
    throw std::system_error{errno, std::generic_category(), "@muster-dev-" + name};
  }
  return fd;
}

struct ControlServer::Impl {
  Impl(asio::any_io_executor executor, Fd listening, Handler answering)
      : acceptor{executor, local{}, listening.release()},
        handler{std::move(answering)},
        tasks{executor} {
    tasks.spawn(accept_all());
  }

  asio::awaitable<void> accept_all() {
    while (acceptor.is_open()) {
      auto [error, socket] = co_await acceptor.async_accept(kNoThrow);
      if (error == asio::error::operation_aborted || !acceptor.is_open()) co_return;
      if (error || !peer_is_root(socket.native_handle())) continue;
      tasks.spawn(session(std::move(socket)));
    }
  }

  asio::awaitable<void> session(local::socket socket) {
    std::string text;
    const auto [error, octets] = co_await asio::async_read_until(
        socket, asio::dynamic_buffer(text, kMaxRequest), '\n', kNoThrow);
    if (error) co_return;
    ControlAnswer answer;
    json::error_code bad;
    json::value request = json::parse(std::string_view{text}.substr(0, octets), bad);
    if (bad || !request.is_object()) {
      answer.body["error"] = "not a request";
    } else {
      // Progress is for a person who waits: what does not fit the socket now is not worth waiting.
      const Progress progress = [&socket](std::string line) {
        const std::string bytes = json::serialize(json::object{{"progress", line}}) + "\n";
        ::send(socket.native_handle(), bytes.data(), bytes.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
      };
      answer = co_await handler(std::move(request.get_object()), progress);
    }
    std::string line = json::serialize(answer.body) + "\n";
    if (!send_first(socket.native_handle(), line, answer.descriptors)) co_return;
    if (!answer.descriptors.empty()) line.erase(0, 1);
    co_await asio::async_write(socket, asio::buffer(line), kNoThrow);
  }

  local::acceptor acceptor;
  Handler handler;
  TaskGroup tasks;
};

ControlServer::ControlServer(asio::any_io_executor executor, Fd listening, Handler handler)
    : impl_{std::make_unique<Impl>(executor, std::move(listening), std::move(handler))} {}
ControlServer::~ControlServer() = default;

void ControlServer::close() {
  boost::system::error_code ignored;
  impl_->acceptor.close(ignored);
  impl_->tasks.stop();
}

asio::awaitable<void> ControlServer::join() {
  return impl_->tasks.join();
}

ControlClient::ControlClient(const std::string& name)
    : socket_{::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)} {
  sockaddr_un address;
  const socklen_t size = abstract_address(name, address);
  if (::connect(socket_.get(), reinterpret_cast<const sockaddr*>(&address), size) != 0) {
    throw std::runtime_error{
        errno == ECONNREFUSED
            ? "no cluster named \"" + name + "\" runs here; start one: muster-dev examples/web.json"
            : std::string{"cannot reach the cluster: "} + std::strerror(errno)};
  }
}

ControlAnswer ControlClient::call(const json::object& request,
                                  const std::function<void(const std::string&)>& progress) {
  const std::string line = json::serialize(request) + "\n";
  if (::send(socket_.get(), line.data(), line.size(), MSG_NOSIGNAL) !=
      static_cast<ssize_t>(line.size())) {
    throw std::runtime_error{"the cluster closed the connection; are you root?"};
  }
  ControlAnswer out;
  for (;;) {
    const std::size_t end = pending_.find('\n');
    if (end != std::string::npos) {
      json::object body = json::parse(std::string_view{pending_}.substr(0, end)).as_object();
      pending_.erase(0, end + 1);
      if (const json::value* note = body.if_contains("progress")) {
        if (progress) progress(std::string{note->as_string()});
        continue;
      }
      if (const json::value* error = body.if_contains("error")) {
        throw std::runtime_error{std::string{error->as_string()}};
      }
      out.body = std::move(body);
      return out;
    }
    char octets[16384];
    alignas(cmsghdr) char space[CMSG_SPACE(kMaxDescriptors * sizeof(int))] = {};
    iovec into{octets, sizeof octets};
    msghdr message{};
    message.msg_iov = &into;
    message.msg_iovlen = 1;
    message.msg_control = space;
    message.msg_controllen = sizeof space;
    const ssize_t got = ::recvmsg(socket_.get(), &message, MSG_CMSG_CLOEXEC);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0 || pending_.size() > kMaxAnswer) {
      throw std::runtime_error{"the cluster has gone away"};
    }
    for (cmsghdr* header = CMSG_FIRSTHDR(&message); header != nullptr;
         header = CMSG_NXTHDR(&message, header)) {
      if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS) continue;
      const std::size_t count = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
      for (std::size_t i = 0; i < count; ++i) {
        int fd = -1;
        std::memcpy(&fd, CMSG_DATA(header) + i * sizeof(int), sizeof fd);
        out.descriptors.emplace_back(fd);
      }
    }
    pending_.append(octets, static_cast<std::size_t>(got));
  }
}

}  // namespace muster::dev
