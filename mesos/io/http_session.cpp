#include "mesos/io/http_session.hpp"

#include <algorithm>
#include <utility>

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ssl/host_name_verification.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/core/tcp_stream.hpp>
#include <boost/beast/http/buffer_body.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/read.hpp>
#include <boost/beast/http/string_body.hpp>
#include <boost/beast/http/write.hpp>
#include <boost/beast/ssl/ssl_stream.hpp>

#include "base/assert.hpp"
#include "base/io/to_asio.hpp"
#include "mesos/io/certificates.hpp"

namespace muster::mesos {
namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = beast::http;
namespace {

constexpr auto kToken = asio::as_tuple(asio::use_awaitable);
constexpr std::uint32_t kMaxHeader = 32 * 1024;
constexpr std::size_t kMaxHeaderValue = 400;

std::string host_header(const MasterUrl& url) {
  const std::string whole = to_string(url);
  return whole.substr(whole.find("//") + 2);
}

std::string value_of(const http::response_header<>& head, http::field field) {
  const auto value = head[field];
  return std::string{value.substr(0, kMaxHeaderValue)};
}

}  // namespace

class HttpSession::Impl {
 public:
  using Tls = beast::ssl_stream<beast::tcp_stream>;

  Impl(const asio::any_io_executor& executor, MasterUrl url, asio::ssl::context* tls)
      : url_{std::move(url)} {
    if (url_.tls) {
      MUSTER_ASSERT(tls != nullptr);
      tls_.emplace(beast::tcp_stream{executor}, *tls);
    } else {
      plain_.emplace(executor);
    }
    parser_.header_limit(kMaxHeader);
    parser_.body_limit(boost::none);  // whoever reads the pieces has a limit of its own
  }

  beast::tcp_stream& lowest() { return tls_ ? tls_->next_layer() : *plain_; }

  asio::awaitable<Result<void>> connect(std::vector<IpAddress> addresses, Duration limit) {
    std::vector<asio::ip::tcp::endpoint> endpoints;
    endpoints.reserve(addresses.size());
    for (const IpAddress& address : addresses)
      endpoints.push_back(to_asio<asio::ip::tcp::endpoint>({address, url_.port}));
    lowest().expires_after(limit);
    const auto [error, endpoint] = co_await lowest().async_connect(endpoints, kToken);
    if (error) co_return error;
    ErrorCode ignored;
    lowest().socket().set_option(asio::ip::tcp::no_delay{true}, ignored);
    lowest().socket().set_option(asio::socket_base::keep_alive{true}, ignored);
    if (!tls_) co_return Result<void>{};
    tls_->set_verify_mode(asio::ssl::verify_peer);
    tls_->set_verify_callback(asio::ssl::host_name_verification{url_.host});
    // RFC 6066 §3: names only, no addresses.
    if (!IpAddress::parse(url_.host) &&
        SSL_ctrl(tls_->native_handle(), SSL_CTRL_SET_TLSEXT_HOSTNAME, TLSEXT_NAMETYPE_host_name,
                 url_.host.data()) != 1) {
      co_return ErrorCode{asio::error::invalid_argument};
    }
    const auto [shaken] = co_await tls_->async_handshake(asio::ssl::stream_base::client, kToken);
    if (shaken) co_return shaken;
    co_return Result<void>{};
  }

  asio::awaitable<Result<HttpHead>> ask(HttpRequest request, Duration limit) {
    if (tls_) co_return co_await ask_on(*tls_, std::move(request), limit);
    co_return co_await ask_on(*plain_, std::move(request), limit);
  }

  asio::awaitable<Result<std::size_t>> read_some(std::span<char> into, Duration limit) {
    if (tls_) co_return co_await read_on(*tls_, into, limit);
    co_return co_await read_on(*plain_, into, limit);
  }

  std::optional<std::int64_t> peer_expiry() {
    if (!tls_) return std::nullopt;
    return expiry_of(SSL_get0_peer_certificate(tls_->native_handle()));
  }

  std::optional<Endpoint> peer() {
    ErrorCode error;
    const auto remote = lowest().socket().remote_endpoint(error);
    const auto port = Port::from(remote.port());
    if (error || !port) return std::nullopt;
    if (remote.address().is_v4()) {
      return Endpoint{IpAddress{remote.address().to_v4().to_bytes()}, *port};
    }
    return Endpoint{IpAddress{remote.address().to_v6().to_bytes()}, *port};
  }

 private:
  template <class Stream>
  asio::awaitable<Result<HttpHead>> ask_on(Stream& stream, HttpRequest request, Duration limit) {
    http::request<http::string_body> message;
    message.version(11);
    message.method(request.post ? http::verb::post : http::verb::get);
    message.target(request.target);
    message.set(http::field::host, host_header(url_));
    message.set(http::field::user_agent, "muster");
    // Mesos compares these as text: a charset parameter is 415, application/recordio 406.
    message.set(http::field::accept, "application/json");
    if (request.post) message.set(http::field::content_type, "application/json");
    if (!request.post) message.set(http::field::connection, "close");
    if (!request.authorization.empty()) {
      message.set(http::field::authorization, request.authorization);
    }
    message.body() = std::move(request.body);
    message.prepare_payload();
    lowest().expires_after(limit);
    const auto [write_error, written] = co_await http::async_write(stream, message, kToken);
    if (write_error) co_return write_error;
    const auto [error, size] = co_await http::async_read_header(stream, buffer_, parser_, kToken);
    if (error) co_return error;
    HttpHead head;
    head.status = parser_.get().result_int();
    head.location = value_of(parser_.get(), http::field::location);
    head.www_authenticate = value_of(parser_.get(), http::field::www_authenticate);
    if (const auto length = parser_.content_length()) head.content_length = *length;
    co_return head;
  }

  template <class Stream>
  asio::awaitable<Result<std::size_t>> read_on(Stream& stream, std::span<char> into,
                                               Duration limit) {
    auto& body = parser_.get().body();
    body.data = into.data();
    body.size = into.size();
    lowest().expires_after(limit);
    while (!parser_.is_done() && body.size == into.size()) {
      const auto [error, size] = co_await http::async_read_some(stream, buffer_, parser_, kToken);
      if (error && error != http::error::need_buffer) {
        // What came with the end of the connection is still worth having.
        if (body.size < into.size()) break;
        co_return error;
      }
    }
    co_return into.size() - body.size;
  }

  MasterUrl url_;
  std::optional<beast::tcp_stream> plain_;  // one of the two
  std::optional<Tls> tls_;
  beast::flat_buffer buffer_;
  http::response_parser<http::buffer_body> parser_;
};

HttpSession::HttpSession(asio::any_io_executor executor, MasterUrl url, asio::ssl::context* tls)
    : impl_{std::make_unique<Impl>(executor, std::move(url), tls)} {}
HttpSession::HttpSession(HttpSession&&) noexcept = default;
HttpSession& HttpSession::operator=(HttpSession&&) noexcept = default;
HttpSession::~HttpSession() = default;

asio::awaitable<Result<void>> HttpSession::connect(std::vector<IpAddress> addresses,
                                                   Duration limit) {
  return impl_->connect(std::move(addresses), limit);
}
asio::awaitable<Result<HttpHead>> HttpSession::ask(HttpRequest request, Duration limit) {
  return impl_->ask(std::move(request), limit);
}
asio::awaitable<Result<std::size_t>> HttpSession::read_some(std::span<char> into, Duration limit) {
  return impl_->read_some(into, limit);
}
std::optional<Endpoint> HttpSession::peer() const {
  return impl_->peer();
}
std::optional<std::int64_t> HttpSession::peer_expiry() const {
  return impl_->peer_expiry();
}

}  // namespace muster::mesos
