#include "cli/http_client.hpp"

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/core/tcp_stream.hpp>
#include <boost/beast/http.hpp>

#include "base/io/async.hpp"
#include "base/io/to_asio.hpp"

namespace muster::cli {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = beast::http;

constexpr std::uint64_t kMaxReply = 1ULL << 30;
constexpr auto kToken = asio::as_tuple(asio::use_awaitable);

asio::awaitable<Result<HttpReply>> exchange(Endpoint server, std::string path) {
  beast::tcp_stream stream{co_await asio::this_coro::executor};
  const auto at = to_asio<asio::ip::tcp::endpoint>(server);
  const auto [connect_error] = co_await stream.async_connect(at, kToken);
  if (connect_error) co_return connect_error;

  http::request<http::empty_body> request{http::verb::get, path, 11};
  request.set(http::field::host, to_string(server));
  request.set(http::field::user_agent, "muster");
  request.keep_alive(false);
  const auto [write_error, written] = co_await http::async_write(stream, request, kToken);
  if (write_error) co_return write_error;

  beast::flat_buffer buffer;
  http::response_parser<http::string_body> parser;
  parser.body_limit(kMaxReply);
  const auto [read_error, size] = co_await http::async_read(stream, buffer, parser, kToken);
  if (read_error) co_return read_error;
  co_return HttpReply{parser.get().result_int(), std::move(parser.get().body())};
}

}  // namespace

Result<HttpReply> http_get(const Endpoint& server, const std::string& path, Duration limit) {
  asio::io_context context;
  Result<HttpReply> reply = asio::error::make_error_code(asio::error::timed_out);
  std::exception_ptr failure;
  asio::co_spawn(context, with_timeout(exchange(server, path), limit),
                 [&](std::exception_ptr error, Result<HttpReply> value) {
                   failure = error;
                   reply = std::move(value);
                 });
  context.run();
  if (failure) std::rethrow_exception(failure);
  return reply;
}

}  // namespace muster::cli
