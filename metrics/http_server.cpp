#include "metrics/http_server.hpp"

#include <algorithm>
#include <array>
#include <list>
#include <sstream>
#include <string_view>

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/cancellation_state.hpp>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/experimental/channel.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ip/v6_only.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/beast/core/buffers_prefix.hpp>
#include <boost/beast/core/buffers_suffix.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/core/tcp_stream.hpp>
#include <boost/beast/http.hpp>
#include <prometheus/counter.h>
#include <prometheus/gauge.h>

#include "base/assert.hpp"
#include "base/io/task_group.hpp"
#include "base/io/to_asio.hpp"
#include "metrics/http_request.hpp"

namespace muster::metrics {
namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = boost::beast::http;
using asio::ip::tcp;
namespace {

constexpr auto kToken = asio::as_tuple(asio::use_awaitable);
constexpr std::size_t kReadBytes = 4096;
constexpr std::size_t kWriteBytes =
    std::size_t{256} * 1024;  // one write's size: progress is seen in these steps
constexpr int kBacklog = 128;
constexpr Duration kAcceptPause{100};  // when descriptors ran out: until some are closed
// What a client still sends after an error is read for this long: closing with unread octets
// sends a reset, and that would take the answer away from it.
constexpr Duration kLingerTime{1000};
constexpr std::size_t kLingerBytes = std::size_t{64} * 1024;

IpAddress from_asio(const asio::ip::address& address) {
  if (address.is_v4()) return IpAddress{address.to_v4().to_bytes()};
  const auto v6 = address.to_v6();
  if (v6.is_v4_mapped()) {
    return IpAddress{asio::ip::make_address_v4(asio::ip::v4_mapped, v6).to_bytes()};
  }
  return IpAddress{v6.to_bytes()};
}

HttpResponse plain(unsigned status, std::string text) {
  HttpResponse response;
  response.status = status;
  response.content_type = "text/plain; charset=utf-8";
  response.body = std::move(text) + "\n";
  return response;
}

HttpResponse guarded(const std::function<HttpResponse()>& work) {
  try {
    return work();
  } catch (const std::exception&) {
    return plain(500, "the answer could not be made");
  }
}

/// Runs `work` on the pool and resumes on the caller's executor. Not cancellable: it ends when
/// the work does, so what the work uses may be destroyed once the caller has been joined.
asio::awaitable<HttpResponse> on_pool(asio::thread_pool& pool, std::function<HttpResponse()> work) {
  const auto executor = co_await asio::this_coro::executor;
  const auto initiate = [&pool, executor](auto handler, std::function<HttpResponse()> job) {
    asio::post(pool, [handler = std::move(handler), job = std::move(job),
                      guard = asio::make_work_guard(executor)]() mutable {
      HttpResponse response = guarded(job);
      asio::post(guard.get_executor(),
                 [handler = std::move(handler), response = std::move(response)]() mutable {
                   std::move(handler)(std::move(response));
                 });
    });
  };
  const asio::use_awaitable_t<> token;
  HttpResponse response =
      co_await asio::async_initiate<const asio::use_awaitable_t<>, void(HttpResponse)>(
          initiate, token, std::move(work));
  co_return response;
}

bool is_header_safe(std::string_view text) {
  return std::none_of(text.begin(), text.end(), [](char c) { return c == '\r' || c == '\n'; });
}

std::string head_of(const HttpResponse& response, unsigned version, bool keep_alive) {
  http::response<http::empty_body> head{static_cast<http::status>(response.status), version};
  head.set(http::field::server, "muster");
  head.set(http::field::content_type, response.content_type);
  head.set(http::field::cache_control, "no-store");
  head.set("X-Content-Type-Options", "nosniff");
  for (const auto& [name, value] : response.headers) {
    if (is_header_safe(name) && is_header_safe(value)) head.set(name, value);
  }
  head.content_length(response.body.size());
  head.keep_alive(keep_alive);
  std::ostringstream text;
  text << head.base();
  return std::move(text).str();
}

struct Connection {
  explicit Connection(tcp::socket socket)
      : stream{std::move(socket)}, waiting_since{Clock::now()} {}
  beast::tcp_stream stream;
  std::optional<TimePoint> waiting_since;  // set while the client owes us a request
  bool evicted = false;
};

/// What is to be answered to one request, and whether the connection goes on.
struct Reply {
  std::function<HttpResponse()> work;  // empty: `ready` it is
  HttpResponse ready;
  unsigned version = 11;
  bool keep_alive = false;
  bool head = false;
};

Reply refuse(unsigned version, HttpResponse response) {
  Reply reply;
  reply.ready = std::move(response);
  reply.version = version;
  return reply;
}

}  // namespace

struct HttpServer::Impl {
  using Request = http::request<http::empty_body>;
  using Parser = http::request_parser<http::empty_body>;
  using Slots = asio::experimental::channel<void(ErrorCode)>;

  Impl(asio::any_io_executor executor, asio::thread_pool& pool, HttpOptions http_options,
       prometheus::Registry& registry, Handler request_handler);

  asio::awaitable<void> run();
  asio::awaitable<void> serve(std::unique_ptr<Connection> owned);
  asio::awaitable<bool> read_first_bytes(Connection&, beast::flat_buffer&, Duration limit);
  asio::awaitable<ErrorCode> read_header(Connection&, beast::flat_buffer&, Parser&);
  asio::awaitable<HttpResponse> make(Reply);
  asio::awaitable<bool> write(Connection&, const HttpResponse&, std::string head, bool with_body);
  asio::awaitable<void> say_goodbye(Connection&);
  Reply decide(const Parser&, const Connection&);
  bool make_room();
  void count_closed(const char* reason) { closed.Add({{"reason", reason}}).Increment(); }
  void count_answer(unsigned status) {
    requests.Add({{"code", std::to_string(status)}}).Increment();
  }

  asio::any_io_executor control;
  asio::thread_pool& workers;
  HttpOptions options;
  Handler handler;
  tcp::acceptor acceptor;
  std::optional<Endpoint> bound;
  std::list<Connection*> connections;
  std::size_t unsent = 0;
  Slots rendering;  // a semaphore: one element for each response being made

  prometheus::Family<prometheus::Counter>& requests;
  prometheus::Family<prometheus::Counter>& closed;
  prometheus::Counter& malformed;
  prometheus::Gauge& open;
  prometheus::Gauge& unsent_bytes;
};

HttpServer::Impl::Impl(asio::any_io_executor executor, asio::thread_pool& pool,
                       HttpOptions http_options, prometheus::Registry& registry,
                       Handler request_handler)
    : control{executor},
      workers{pool},
      options{std::move(http_options)},
      handler{std::move(request_handler)},
      acceptor{executor},
      rendering{executor, std::max<std::size_t>(options.max_rendering, 1)},
      requests{prometheus::BuildCounter()
                   .Name("muster_http_requests_total")
                   .Help("HTTP requests answered.")
                   .Register(registry)},
      closed{prometheus::BuildCounter()
                 .Name("muster_http_connections_closed_total")
                 .Help("HTTP connections this side ended.")
                 .Register(registry)},
      malformed{prometheus::BuildCounter()
                    .Name("muster_http_malformed_requests_total")
                    .Help("HTTP requests that could not be read.")
                    .Register(registry)
                    .Add({})},
      open{prometheus::BuildGauge()
               .Name("muster_http_connections")
               .Help("HTTP connections open now.")
               .Register(registry)
               .Add({})},
      unsent_bytes{prometheus::BuildGauge()
                       .Name("muster_http_unsent_bytes")
                       .Help("Octets of HTTP responses that clients have not taken yet.")
                       .Register(registry)
                       .Add({})} {}

HttpServer::HttpServer(asio::any_io_executor control, asio::thread_pool& workers,
                       HttpOptions options, prometheus::Registry& registry, Handler handler)
    : impl_{std::make_unique<Impl>(std::move(control), workers, std::move(options), registry,
                                   std::move(handler))} {}

HttpServer::~HttpServer() = default;

Result<void> HttpServer::start() {
  auto at = to_asio<tcp::endpoint>(impl_->options.listen);
  if (impl_->options.any_port) at.port(0);
  tcp::acceptor acceptor{impl_->control};
  ErrorCode error;
  acceptor.open(at.protocol(), error);
  if (!error) acceptor.set_option(tcp::acceptor::reuse_address{true}, error);
  if (!error && at.protocol() == tcp::v6()) acceptor.set_option(asio::ip::v6_only{true}, error);
  if (!error) acceptor.bind(at, error);
  if (!error) acceptor.listen(kBacklog, error);
  if (error) return error;
  const tcp::endpoint local = acceptor.local_endpoint(error);
  if (error) return error;
  const auto port = Port::from(local.port());
  MUSTER_ASSERT(port.has_value());  // the kernel never binds port 0
  impl_->bound = Endpoint{impl_->options.listen.address, *port};
  impl_->acceptor = std::move(acceptor);
  return {};
}

Endpoint HttpServer::bound() const {
  MUSTER_ASSERT(impl_->bound.has_value());
  return *impl_->bound;
}

asio::awaitable<void> HttpServer::run() {
  return impl_->run();
}

asio::awaitable<void> HttpServer::Impl::run() {
  MUSTER_ASSERT(bound.has_value());
  co_await asio::this_coro::throw_if_cancelled(false);
  TaskGroup group{control};
  asio::steady_timer pause{control};
  for (;;) {
    auto [error, socket] = co_await acceptor.async_accept(kToken);
    const auto state = co_await asio::this_coro::cancellation_state;
    if (state.cancelled() != asio::cancellation_type::none) break;
    if (error) {
      pause.expires_after(kAcceptPause);
      const auto [stopped] = co_await pause.async_wait(kToken);
      if (stopped) break;
      continue;
    }
    if (!make_room()) {
      count_closed("full");
      continue;  // the socket goes out of scope
    }
    ErrorCode ignored;  // a connection without it is merely slower
    socket.set_option(tcp::no_delay{true}, ignored);
    group.spawn(serve(std::make_unique<Connection>(std::move(socket))));
  }
  co_await asio::this_coro::reset_cancellation_state(asio::disable_cancellation());
  ErrorCode ignored;
  acceptor.close(ignored);
  for (Connection* connection : connections) connection->stream.close();
  group.stop();
  co_await group.join();
}

bool HttpServer::Impl::make_room() {
  if (connections.size() < options.max_connections) return true;
  Connection* idlest = nullptr;
  std::size_t evicted = 0;
  for (Connection* connection : connections) {
    if (connection->evicted) ++evicted;
    if (connection->evicted || !connection->waiting_since) continue;
    if (idlest == nullptr || connection->waiting_since < idlest->waiting_since) {
      idlest = connection;
    }
  }
  // Those on their way out are not counted, but they too have a bound.
  if (connections.size() - evicted < options.max_connections) {
    return connections.size() < 2 * options.max_connections;
  }
  if (idlest == nullptr) return false;
  idlest->evicted = true;
  idlest->stream.close();
  count_closed("evicted");
  return true;
}

asio::awaitable<void> HttpServer::Impl::serve(std::unique_ptr<Connection> owned) {
  Connection& connection = *owned;
  struct Listed {  // also when cancellation unwinds
    Impl& impl;
    std::list<Connection*>::iterator self;
    ~Listed() {
      impl.connections.erase(self);
      impl.open.Decrement();
    }
  };
  open.Increment();
  const Listed listed{*this, connections.insert(connections.end(), &connection)};
  beast::flat_buffer buffer{2 * options.max_header_bytes + kReadBytes};
  for (bool first = true;; first = false) {
    connection.waiting_since = Clock::now();
    const Duration limit = first ? options.header_timeout : options.idle_timeout;
    const bool something = co_await read_first_bytes(connection, buffer, limit);
    if (!something) co_return;
    Parser parser;
    parser.header_limit(static_cast<std::uint32_t>(options.max_header_bytes));
    parser.body_limit(boost::none);  // a body is never read: decide() refuses it
    const ErrorCode error = co_await read_header(connection, buffer, parser);
    connection.waiting_since.reset();
    Reply reply;
    if (error == http::error::header_limit || error == http::error::buffer_overflow) {
      malformed.Increment();
      reply = refuse(11, plain(431, "the request's headers are too large"));
    } else if (error.category() == http::make_error_code(http::error::bad_line_ending).category() &&
               error != http::error::end_of_stream && error != http::error::partial_message) {
      malformed.Increment();
      reply = refuse(11, plain(400, "not an HTTP request: " + error.message()));
    } else if (error) {
      co_return;
    } else {
      reply = decide(parser, connection);
    }
    const bool keep_alive = reply.keep_alive;
    const bool with_body = !reply.head;
    const unsigned version = reply.version;
    const HttpResponse response = co_await make(std::move(reply));
    count_answer(response.status);
    std::string head = head_of(response, version, keep_alive);
    const bool sent = co_await write(connection, response, std::move(head), with_body);
    if (!sent) co_return;
    if (!keep_alive) break;
  }
  co_await say_goodbye(connection);
}

asio::awaitable<bool> HttpServer::Impl::read_first_bytes(Connection& connection,
                                                         beast::flat_buffer& buffer,
                                                         Duration limit) {
  connection.stream.expires_after(limit);
  for (;;) {
    // RFC 9112 §2.2: empty lines before a request line are to be ignored.
    while (buffer.size() > 0) {
      const char c = *static_cast<const char*>(buffer.data().data());
      if (c != '\r' && c != '\n') co_return true;
      buffer.consume(1);
    }
    const auto space = buffer.prepare(kReadBytes);
    const auto [error, size] = co_await connection.stream.async_read_some(space, kToken);
    if (error == beast::error::timeout) count_closed("idle");
    if (error) co_return false;
    buffer.commit(size);
  }
}

asio::awaitable<ErrorCode> HttpServer::Impl::read_header(Connection& connection,
                                                         beast::flat_buffer& buffer,
                                                         Parser& parser) {
  connection.stream.expires_after(options.header_timeout);
  const auto [error, size] =
      co_await http::async_read_header(connection.stream, buffer, parser, kToken);
  if (error == beast::error::timeout) count_closed("slow_request");
  co_return error;
}

Reply HttpServer::Impl::decide(const Parser& parser, const Connection& connection) {
  const auto& request = parser.get();
  const unsigned version = request.version();
  const auto bad = [&](const char* why) {
    malformed.Increment();
    return refuse(version, plain(400, why));
  };
  auto target = parse_target({request.target().data(), request.target().size()});
  if (!target) return bad("the request's target is not a valid path");
  const auto hosts = request.count(http::field::host);
  if (hosts > 1 || (hosts == 0 && version >= 11)) return bad("exactly one Host header is needed");
  const auto header = request[http::field::host];
  const std::string_view given = target->authority.empty()
                                     ? std::string_view{header.data(), header.size()}
                                     : std::string_view{target->authority};
  ErrorCode unknown;
  const auto local = connection.stream.socket().local_endpoint(unknown);
  std::vector<IpAddress> own{options.listen.address};
  if (!unknown) own.push_back(from_asio(local.address()));
  // Without a Host header (HTTP/1.0) it is no browser, and so no rebinding.
  const bool has_host = hosts > 0 || !target->authority.empty();
  if (has_host && !is_own_host(host_of(given), own, options.allowed_hosts)) {
    return refuse(version, plain(421,
                                 "this host name is not served here: use localhost, the listen "
                                 "address, or a name from the allowed hosts of the configuration"));
  }
  const auto method = request.method();
  const bool has_body = parser.chunked() || parser.content_length_remaining().value_or(0) > 0;
  if (method != http::verb::get && method != http::verb::head) {
    Reply reply = refuse(version, plain(405, "read-only: GET and HEAD"));
    reply.ready.headers.emplace_back("Allow", "GET, HEAD");
    reply.keep_alive = request.keep_alive() && !has_body;
    return reply;
  }
  if (has_body) return refuse(version, plain(413, "a request must not have a body here"));
  Reply reply;
  reply.version = version;
  reply.keep_alive = request.keep_alive();
  reply.head = method == http::verb::head;
  target->request.method = reply.head ? "HEAD" : "GET";
  try {
    reply.work = handler(target->request);
    if (!reply.work) reply.ready = plain(404, "there is nothing at this path");
  } catch (const std::exception&) {
    reply.ready = plain(500, "the answer could not be made");
  }
  return reply;
}

asio::awaitable<HttpResponse> HttpServer::Impl::make(Reply reply) {
  if (!reply.work) co_return std::move(reply.ready);
  // No limit on this wait: it ends with the work of those in front, which is computing only.
  const auto [stopped] = co_await rendering.async_send(ErrorCode{}, kToken);
  if (stopped) co_return plain(503, "shutting down");
  struct Slot {
    Slots& slots;
    ~Slot() {
      slots.try_receive([](ErrorCode) {});
    }
  };
  const Slot slot{rendering};
  HttpResponse response = co_await on_pool(workers, std::move(reply.work));
  if (unsent > 0 && unsent + response.body.size() > options.max_unsent_bytes) {
    response = plain(503, "too much is being sent already");
    response.headers.emplace_back("Retry-After", "1");
  }
  co_return response;
}

asio::awaitable<bool> HttpServer::Impl::write(Connection& connection, const HttpResponse& response,
                                              std::string head, bool with_body) {
  struct Unsent {
    Impl& impl;
    std::size_t size;
    Unsent(Impl& owner, std::size_t bytes) : impl{owner}, size{bytes} { add(); }
    ~Unsent() {
      impl.unsent -= size;
      impl.unsent_bytes.Decrement(static_cast<double>(size));
    }
    void add() {
      impl.unsent += size;
      impl.unsent_bytes.Increment(static_cast<double>(size));
    }
  };
  const Unsent unsent_now{*this, response.body.size()};
  const std::array<asio::const_buffer, 2> parts{
      asio::buffer(head), with_body ? asio::buffer(response.body) : asio::const_buffer{}};
  beast::buffers_suffix<std::array<asio::const_buffer, 2>> rest{parts};
  const TimePoint deadline = Clock::now() + options.response_timeout;
  while (asio::buffer_size(rest) > 0) {
    connection.stream.expires_at(std::min(deadline, Clock::now() + options.write_timeout));
    const auto piece = beast::buffers_prefix(kWriteBytes, rest);
    const auto [error, size] = co_await connection.stream.async_write_some(piece, kToken);
    if (error == beast::error::timeout) count_closed("slow_reader");
    if (error) co_return false;
    rest.consume(size);
  }
  co_return true;
}

asio::awaitable<void> HttpServer::Impl::say_goodbye(Connection& connection) {
  ErrorCode ignored;
  connection.stream.socket().shutdown(tcp::socket::shutdown_send, ignored);
  connection.stream.expires_after(kLingerTime);
  std::array<char, kReadBytes> scrap{};
  for (std::size_t total = 0; total < kLingerBytes;) {
    const auto space = asio::buffer(scrap);
    const auto [error, size] = co_await connection.stream.async_read_some(space, kToken);
    if (error) co_return;
    total += size;
  }
}

}  // namespace muster::metrics
