#include "dns/io/client.hpp"

#include <algorithm>
#include <array>
#include <cstdint>
#include <span>

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/buffer.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ip/udp.hpp>
#include <boost/asio/read.hpp>
#include <boost/asio/write.hpp>

#include "base/io/async.hpp"
#include "base/io/to_asio.hpp"
#include "dns/core/reply.hpp"
#include "dns/core/types.hpp"

namespace muster::dns {
namespace {

namespace asio = boost::asio;
using Bytes = std::vector<std::byte>;
constexpr auto kUse = asio::as_tuple(asio::use_awaitable);

asio::awaitable<Result<Bytes>> udp_exchange(Endpoint server, Bytes query) {
  const auto executor = co_await asio::this_coro::executor;
  const auto to = to_asio<asio::ip::udp::endpoint>(server);
  asio::ip::udp::socket socket{executor};
  ErrorCode error;
  socket.open(to.protocol(), error);
  // Connected: the kernel passes only what comes from there, on a port of its random choice.
  if (!error) socket.connect(to, error);
  if (error) co_return error;
  const auto [send_error, sent] = co_await socket.async_send(asio::buffer(query), kUse);
  if (send_error) co_return send_error;
  Bytes reply(kMaxMessageSize);
  for (;;) {
    const auto [receive_error, size] = co_await socket.async_receive(asio::buffer(reply), kUse);
    if (receive_error) co_return receive_error;
    if (!answers_question(std::span{reply}.first(size), query)) continue;
    reply.resize(size);
    co_return reply;
  }
}

asio::awaitable<Result<Bytes>> tcp_exchange(Endpoint server, Bytes query) {
  const auto executor = co_await asio::this_coro::executor;
  asio::ip::tcp::socket socket{executor};
  const auto to = to_asio<asio::ip::tcp::endpoint>(server);
  const auto [connect_error] = co_await socket.async_connect(to, kUse);
  if (connect_error) co_return connect_error;
  // Length and message in one write (RFC 7766 §8).
  Bytes framed(2 + query.size());
  framed[0] = static_cast<std::byte>(query.size() >> 8);
  framed[1] = static_cast<std::byte>(query.size() & 0xFF);
  std::copy(query.begin(), query.end(), framed.begin() + 2);
  const auto [write_error, written] =
      co_await asio::async_write(socket, asio::buffer(framed), kUse);
  if (write_error) co_return write_error;
  std::array<std::uint8_t, 2> length{};
  const auto [head_error, head] = co_await asio::async_read(socket, asio::buffer(length), kUse);
  if (head_error) co_return head_error;
  Bytes reply(static_cast<std::size_t>(length[0] << 8 | length[1]));
  const auto [read_error, size] = co_await asio::async_read(socket, asio::buffer(reply), kUse);
  if (read_error) co_return read_error;
  if (!answers_question(reply, query)) {
    co_return boost::system::errc::make_error_code(boost::system::errc::bad_message);
  }
  co_return reply;
}

}  // namespace

asio::awaitable<Result<Bytes>> ask(Endpoint server, Bytes query, Duration limit) {
  const TimePoint start = Clock::now();
  auto over_udp = with_timeout(udp_exchange(server, query), limit);
  Result<Bytes> reply = co_await std::move(over_udp);
  if (!reply) co_return reply;
  const bool truncated = (reply->at(2) & std::byte{flag::kTruncated >> 8}) != std::byte{0};
  if (!truncated) co_return reply;
  const auto used = std::chrono::duration_cast<Duration>(Clock::now() - start);
  const Duration left = limit > used ? limit - used : Duration{0};
  auto over_tcp = ask_tcp(server, std::move(query), left);
  Result<Bytes> whole = co_await std::move(over_tcp);
  co_return whole ? std::move(whole) : std::move(reply);
}

asio::awaitable<Result<Bytes>> ask_tcp(Endpoint server, Bytes query, Duration limit) {
  auto exchange = with_timeout(tcp_exchange(server, std::move(query)), limit);
  Result<Bytes> reply = co_await std::move(exchange);
  co_return reply;
}

}  // namespace muster::dns
