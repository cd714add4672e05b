#include "dev/health.hpp"

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/read_until.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/write.hpp>

#include "base/io/async.hpp"

namespace muster::dev {

namespace asio = boost::asio;
using asio::ip::tcp;

namespace {

constexpr std::size_t kMaxStatusLine = 1024;
constexpr auto kNoThrow = asio::as_tuple(asio::use_awaitable);

Duration limit(double seconds) {
  return std::chrono::duration_cast<Duration>(std::chrono::duration<double>{seconds});
}

asio::awaitable<Result<unsigned>> exchange(tcp::socket& socket, std::uint16_t port,
                                           std::optional<std::string> path) {
  const tcp::endpoint to{asio::ip::address_v4::loopback(), port};
  const auto [connect_error] = co_await socket.async_connect(to, kNoThrow);
  if (connect_error) co_return connect_error;
  if (!path) co_return 200U;
  const std::string request = "GET " + *path +
                              " HTTP/1.1\r\nHost: 127.0.0.1:" + std::to_string(port) +
                              "\r\nUser-Agent: muster-dev\r\nConnection: close\r\n\r\n";
  const auto [write_error, put] =
      co_await asio::async_write(socket, asio::buffer(request), kNoThrow);
  if (write_error) co_return write_error;
  std::string answer;
  const auto [read_error, got] = co_await asio::async_read_until(
      socket, asio::dynamic_buffer(answer, kMaxStatusLine), "\r\n", kNoThrow);
  if (read_error) co_return read_error;
  // "HTTP/1.1 200 OK"
  const std::size_t space = answer.find(' ');
  if (!answer.starts_with("HTTP/") || space == std::string::npos) co_return 0U;
  co_return static_cast<unsigned>(std::strtoul(answer.c_str() + space, nullptr, 10));
}

asio::awaitable<unsigned> ask(int descriptor, std::uint16_t port, std::optional<std::string> path,
                              double timeout_seconds) {
  const auto executor = co_await asio::this_coro::executor;
  tcp::socket socket{executor, tcp::v4(), descriptor};
  const auto answer =
      co_await with_timeout(exchange(socket, port, std::move(path)), limit(timeout_seconds));
  co_return answer.has_value() ? *answer : 0U;
}

}  // namespace

HealthState::Verdict HealthState::result(bool passed, double age_seconds) noexcept {
  if (passed) {
    const bool news = last_ != true;
    last_ = true;
    failures_ = 0;
    return {.report = news, .healthy = true, .kill = false};
  }
  if (!last_ && age_seconds < check_.grace_period_seconds) return {};
  last_ = false;
  ++failures_;
  const bool kill =
      check_.max_consecutive_failures > 0 && failures_ >= check_.max_consecutive_failures;
  return {.report = true, .healthy = false, .kill = kill};
}

asio::awaitable<bool> probe_port(int socket, std::uint16_t port, bool http, std::string path,
                                 double timeout_seconds) {
  std::optional<std::string> asked;
  if (http) asked = std::move(path);
  const unsigned status = co_await ask(socket, port, std::move(asked), timeout_seconds);
  co_return status >= 200 && status < 400;
}

asio::awaitable<unsigned> probe_http(int socket, std::uint16_t port, std::string path,
                                     double timeout_seconds) {
  return ask(socket, port, std::move(path), timeout_seconds);
}

}  // namespace muster::dev
