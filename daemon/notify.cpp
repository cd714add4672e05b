#include "daemon/notify.hpp"

#include <charconv>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <string>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/use_awaitable.hpp>

namespace muster::daemon {
namespace {

template <class Number>
Number number_of(const char* variable) {
  const char* text = std::getenv(variable);
  Number value = 0;
  if (text != nullptr) std::from_chars(text, text + std::strlen(text), value);
  return value;
}

}  // namespace

void notify(std::string_view state) {
  const char* path = std::getenv("NOTIFY_SOCKET");
  if (path == nullptr || (path[0] != '/' && path[0] != '@')) return;
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  const std::size_t size = std::strlen(path);
  if (size >= sizeof address.sun_path) return;
  std::memcpy(address.sun_path, path, size);
  if (path[0] == '@') address.sun_path[0] = '\0';  // the abstract namespace
  const int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0) return;
  const auto length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + size);
  (void)sendto(fd, state.data(), state.size(), MSG_NOSIGNAL,
               reinterpret_cast<const sockaddr*>(&address), length);
  close(fd);
}

boost::asio::awaitable<void> keep_watchdog() {
  const auto limit = std::chrono::microseconds{number_of<std::int64_t>("WATCHDOG_USEC")};
  const auto pid = number_of<pid_t>("WATCHDOG_PID");  // set for another process: not for us
  if (limit.count() <= 0 || (pid != 0 && pid != getpid())) co_return;
  boost::asio::steady_timer timer{co_await boost::asio::this_coro::executor};
  for (;;) {
    notify("WATCHDOG=1");
    timer.expires_after(limit / 2);
    const auto [error] =
        co_await timer.async_wait(boost::asio::as_tuple(boost::asio::use_awaitable));
    if (error) co_return;
  }
}

}  // namespace muster::daemon
