#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/ssl/context.hpp>

#include "base/endpoint.hpp"
#include "base/result.hpp"
#include "base/time.hpp"
#include "mesos/io/master_url.hpp"

namespace muster::mesos {

struct HttpRequest {
  bool post = false;
  std::string target;         // "/state"
  std::string body;           // JSON, where post
  std::string authorization;  // whole value of the header; empty: none
  bool aside = false;         // a question beside what Observer::status() tells of
};

/// The head of an answer; header values are cut to what a log line bears.
struct HttpHead {
  unsigned status = 0;
  std::string location;
  std::string www_authenticate;
  std::optional<std::uint64_t> content_length;
};

/// One connection, one request, one answer read piece by piece. Any wait that takes longer than
/// its limit closes the connection and gives beast::error::timeout.
class HttpSession {
 public:
  /// `tls` must outlive the session; it is needed where url.tls.
  HttpSession(boost::asio::any_io_executor executor, MasterUrl url, boost::asio::ssl::context* tls);
  HttpSession(HttpSession&&) noexcept;
  HttpSession& operator=(HttpSession&&) noexcept;
  ~HttpSession();

  /// Tries the addresses in turn; with TLS, shakes hands and verifies the certificate against the
  /// URL's host.
  boost::asio::awaitable<Result<void>> connect(std::vector<IpAddress> addresses, Duration limit);
  boost::asio::awaitable<Result<HttpHead>> ask(HttpRequest request, Duration limit);
  /// The next octets of the body, its chunks already joined; 0 at its proper end. A connection
  /// that ends before that is an error.
  boost::asio::awaitable<Result<std::size_t>> read_some(std::span<char> into, Duration limit);
  /// The master's end of the connection.
  std::optional<Endpoint> peer() const;
  /// Unix time at which the master's certificate ends; nothing without TLS.
  std::optional<std::int64_t> peer_expiry() const;

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace muster::mesos
