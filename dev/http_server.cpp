#include "dev/http_server.hpp"

#include <algorithm>
#include <ctime>
#include <deque>
#include <list>

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/asio/write.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/core/tcp_stream.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/read.hpp>
#include <boost/beast/http/string_body.hpp>

#include "base/io/task_group.hpp"
#include "dev/http_gzip.hpp"

namespace muster::dev {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = beast::http;
using asio::ip::tcp;

namespace {

constexpr auto kNoThrow = asio::as_tuple(asio::use_awaitable);
constexpr std::size_t kMaxBody = 1 << 20;      // an operator API call is some hundred octets
constexpr std::size_t kMaxConnections = 2000;  // 1000 streams and as many plain ones
constexpr std::size_t kMaxQueued = 64U << 20;  // of one stream; a real master has no bound
constexpr std::size_t kTrickle = 64;           // octets of a slow answer at a time
constexpr std::size_t kGzipFrom = 1024;        // libprocess' GZIP_MINIMUM_BODY_LENGTH
constexpr auto kIdle = std::chrono::minutes{10};

std::string http_date() {
  const std::time_t now = std::time(nullptr);
  std::tm parts{};
  gmtime_r(&now, &parts);
  char text[64];
  return {text, std::strftime(text, sizeof text, "%a, %d %b %Y %H:%M:%S GMT", &parts)};
}

std::string status_line(int status) {
  const auto reason = http::obsolete_reason(static_cast<http::status>(status));
  return "HTTP/1.1 " + std::to_string(status) + " " + std::string{reason} +
         "\r\nDate: " + http_date() + "\r\n";
}

std::string render(ApiResponse response, bool may_gzip) {
  std::string head = status_line(response.status);
  for (const auto& [name, value] : response.headers) head += name + ": " + value + "\r\n";
  if (may_gzip && response.body.size() >= kGzipFrom) {
    response.body = gzip(response.body);
    head += "Content-Encoding: gzip\r\n";
  }
  if (!response.content_type.empty()) head += "Content-Type: " + response.content_type + "\r\n";
  head += "Content-Length: " + std::to_string(response.body.size()) + "\r\n\r\n";
  return head + response.body;
}

std::string chunk(std::string_view record) {
  const std::string framed = recordio(record);
  char size[20];
  std::snprintf(size, sizeof size, "%zx\r\n", framed.size());
  return size + framed + "\r\n";
}

std::optional<std::string> header(const http::request<http::string_body>& request,
                                  http::field field) {
  const auto found = request.find(field);
  if (found == request.end()) return std::nullopt;
  return std::string{found->value()};
}

}  // namespace

struct HttpServer::Impl {
  struct Stream {
    explicit Stream(const asio::any_io_executor& executor) : wake{executor} {}
    std::deque<std::string> queue;  // chunks
    std::size_t queued = 0;
    bool evicted = false;
    asio::steady_timer wake;
  };
  using Sockets = std::list<beast::tcp_stream>;

  Impl(asio::any_io_executor on, Options given)
      : executor{on}, options{std::move(given)}, acceptor{executor}, tasks{executor} {}

  asio::awaitable<void> accept_all();
  asio::awaitable<void> session(Sockets::iterator socket);
  asio::awaitable<void> converse(beast::tcp_stream& socket);
  asio::awaitable<void> stream(beast::tcp_stream& socket, ApiResponse response);
  asio::awaitable<bool> deliver(beast::tcp_stream& socket, std::string bytes, Delivery& how);
  void push(Stream& to, std::string_view record);
  void evict_oldest();

  asio::any_io_executor executor;
  Options options;
  tcp::acceptor acceptor;
  Sockets sockets;
  std::list<Stream> streams;  // the oldest first
  TaskGroup tasks;
};

HttpServer::HttpServer(asio::any_io_executor executor, Options options)
    : impl_{std::make_unique<Impl>(executor, std::move(options))} {}
HttpServer::~HttpServer() = default;

void HttpServer::listen(int listening_socket) {
  impl_->acceptor.assign(tcp::v4(), listening_socket);
  impl_->tasks.spawn(impl_->accept_all());
}

void HttpServer::publish(const std::vector<std::string>& records) {
  for (Impl::Stream& stream : impl_->streams) {
    for (const std::string& record : records) impl_->push(stream, record);
    stream.wake.cancel();
  }
}

void HttpServer::hang_up() {
  for (Impl::Stream& stream : impl_->streams) {
    stream.evicted = true;
    stream.wake.cancel();
  }
}

void HttpServer::close() {
  boost::system::error_code ignored;
  impl_->acceptor.close(ignored);
  for (beast::tcp_stream& socket : impl_->sockets) socket.close();
  impl_->tasks.stop();
}

asio::awaitable<void> HttpServer::join() {
  return impl_->tasks.join();
}

asio::awaitable<void> HttpServer::Impl::accept_all() {
  while (acceptor.is_open()) {
    auto [error, socket] = co_await acceptor.async_accept(kNoThrow);
    if (error == asio::error::operation_aborted || error == asio::error::bad_descriptor) co_return;
    if (error) {  // out of descriptors, say: give those who have them time to finish
      asio::steady_timer pause{executor, std::chrono::milliseconds{100}};
      co_await pause.async_wait(asio::use_awaitable);
      continue;
    }
    if (sockets.size() >= kMaxConnections) continue;
    sockets.emplace_back(std::move(socket));
    tasks.spawn(session(std::prev(sockets.end())));
  }
}

asio::awaitable<void> HttpServer::Impl::session(Sockets::iterator socket) {
  struct Gone {
    Sockets& all;
    Sockets::iterator one;
    ~Gone() { all.erase(one); }
  } const gone{sockets, socket};
  co_await converse(*socket);
}

asio::awaitable<void> HttpServer::Impl::converse(beast::tcp_stream& socket) {
  beast::flat_buffer buffer;
  for (;;) {
    http::request_parser<http::string_body> parser;
    parser.body_limit(kMaxBody);
    socket.expires_after(kIdle);
    const auto [error, octets] = co_await http::async_read(socket, buffer, parser, kNoThrow);
    if (error) co_return;
    const auto& request = parser.get();
    ApiResponse response =
        options.handler({.method = std::string{request.method_string()},
                         .target = std::string{request.target()},
                         .content_type = header(request, http::field::content_type),
                         .accept = header(request, http::field::accept),
                         .body = request.body()});
    if (response.stream) {
      socket.expires_never();
      co_await stream(socket, std::move(response));
      co_return;
    }
    Delivery how = response.delivery;
    const auto coding = header(request, http::field::accept_encoding);
    const bool may_gzip = coding && coding->find("gzip") != std::string::npos;
    std::string bytes = render(std::move(response), may_gzip);
    const bool whole = co_await deliver(socket, std::move(bytes), how);
    if (!whole) co_return;
    if (!request.keep_alive()) {
      boost::system::error_code ignored;
      socket.socket().shutdown(tcp::socket::shutdown_send, ignored);
      co_return;
    }
  }
}

/// Sends, as a fault may have it. False: the connection is of no more use.
asio::awaitable<bool> HttpServer::Impl::deliver(beast::tcp_stream& socket, std::string bytes,
                                                Delivery& how) {
  const bool cut = how.octets && *how.octets < bytes.size();
  if (cut) bytes.resize(*how.octets);
  if (how.octets) *how.octets -= bytes.size();
  const std::size_t piece = how.pause_ms > 0 ? kTrickle : bytes.size();
  asio::steady_timer pause{executor};
  for (std::size_t at = 0; at < bytes.size(); at += piece) {
    if (how.pause_ms > 0) {
      pause.expires_after(std::chrono::milliseconds{how.pause_ms});
      co_await pause.async_wait(kNoThrow);
    }
    socket.expires_after(kIdle);
    const auto [error, written] = co_await asio::async_write(
        socket, asio::buffer(bytes.data() + at, std::min(piece, bytes.size() - at)), kNoThrow);
    if (error) co_return false;
  }
  if (cut && how.stalls) {
    char octet;  // until the other end has had enough
    socket.expires_after(kIdle);
    co_await socket.async_read_some(asio::buffer(&octet, 1), kNoThrow);
  }
  co_return !cut;
}

asio::awaitable<void> HttpServer::Impl::stream(beast::tcp_stream& socket, ApiResponse response) {
  if (streams.size() >= options.max_streams) evict_oldest();
  streams.emplace_back(executor);
  const auto self = std::prev(streams.end());
  struct Gone {
    std::list<Stream>& all;
    std::list<Stream>::iterator one;
    ~Gone() { all.erase(one); }
  } const gone{streams, self};
  for (std::string record : options.stream_head()) {
    for (const auto& [find, with] : response.replacements) replace_all(record, find, with);
    push(*self, record);
  }
  std::string bytes =
      status_line(200) + "Transfer-Encoding: chunked\r\nContent-Type: application/json\r\n\r\n";
  const auto interval = std::chrono::duration_cast<asio::steady_timer::duration>(
      std::chrono::duration<double>{options.heartbeat_seconds});
  auto next_heartbeat = asio::steady_timer::clock_type::now() + interval;
  while (socket.socket().is_open()) {
    const bool whole = co_await deliver(socket, std::move(bytes), response.delivery);
    if (!whole) co_return;
    socket.expires_never();
    if (self->queue.empty() && !self->evicted) {
      self->wake.expires_at(next_heartbeat);
      co_await self->wake.async_wait(kNoThrow);
      if (asio::steady_timer::clock_type::now() >= next_heartbeat) {
        push(*self, options.heartbeat);
        next_heartbeat += interval;  // a fixed beat: other events do not delay it
      }
    }
    bytes.clear();
    if (!self->queue.empty()) {
      bytes = std::move(self->queue.front());
      self->queue.pop_front();
      self->queued -= bytes.size();
    } else if (self->evicted) {
      bytes = "0\r\n\r\n";
      co_await asio::async_write(socket, asio::buffer(bytes), kNoThrow);
      co_return;
    }
  }
}

void HttpServer::Impl::push(Stream& to, std::string_view record) {
  to.queue.push_back(chunk(record));
  to.queued += to.queue.back().size();
  if (to.queued > kMaxQueued) to.evicted = true;
}

void HttpServer::Impl::evict_oldest() {
  for (Stream& stream : streams) {
    if (stream.evicted) continue;
    stream.evicted = true;
    stream.wake.cancel();
    return;
  }
}

}  // namespace muster::dev
