#pragma once

#include <cstddef>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/thread_pool.hpp>
#include <prometheus/registry.h>

#include "base/endpoint.hpp"
#include "base/result.hpp"
#include "base/time.hpp"

namespace muster::metrics {

struct HttpRequest {
  std::string method;  // "GET" or "HEAD"
  /// Percent-decoded and normalised: starts with '/', no empty, "." or ".." segment, and no '/'
  /// at the end unless it is all there is.
  std::string path;
  std::map<std::string, std::string> query;  // of a key given twice, the first value
};

struct HttpResponse {
  unsigned status = 200;
  std::string content_type = "application/json";
  std::string body = {};
  std::vector<std::pair<std::string, std::string>> headers = {};
};

/// Runs on the control thread and must be quick: it takes what it needs and returns the work of
/// serialising it, which then runs on the worker pool. Either may throw: the client gets a 500.
/// An empty function means 404. HEAD is answered like GET, without the body.
using Handler = std::function<std::function<HttpResponse()>(const HttpRequest&)>;

struct HttpOptions {
  Endpoint listen;
  /// Host names clients may use besides localhost, 127.0.0.1, [::1], the listen address and the
  /// address a connection came in on; ".mesos" stands for all names below. Anything else is DNS
  /// rebinding, and refused (421).
  std::vector<std::string> allowed_hosts = {};
  /// Take any free port in place of listen.port; see bound().
  bool any_port = false;

  std::size_t max_connections = 64;     // the one idle longest makes room for a new one
  std::size_t max_header_bytes = 8192;  // request line and headers together: 431 above
  Duration idle_timeout{75'000};        // between requests; longer than a 60 s scrape interval
  Duration header_timeout{10'000};      // from a request's first byte to the end of its headers
  Duration write_timeout{10'000};       // without any progress of the client
  Duration response_timeout{60'000};    // for a whole response, so that trickling has an end
  std::size_t max_rendering = 4;        // responses being made at once; others wait their turn
  std::size_t max_unsent_bytes = 128U << 20;  // of all responses together: 503 above
};

/// The read-only HTTP server behind /metrics, /v1/* and the status page: GET and HEAD, no request
/// bodies, keep-alive and pipelining (answered in order). A malformed request costs its own
/// connection only. Control thread only; sockets and timers run on the control executor.
///
/// Registers muster_http_*: requests_total{code}, malformed_requests_total, connections,
/// connections_closed_total{reason}, unsent_bytes. Several servers with one registry share them.
class HttpServer {
 public:
  /// `workers` and `registry` must outlive run(); the pool must not be stopped before run() ends.
  HttpServer(boost::asio::any_io_executor control, boost::asio::thread_pool& workers, HttpOptions,
             prometheus::Registry& registry, Handler);
  HttpServer(const HttpServer&) = delete;
  HttpServer& operator=(const HttpServer&) = delete;
  ~HttpServer();

  /// Binds and listens. Errors: what bind(2) says, e.g. address_in_use; nothing is left open.
  Result<void> start();
  /// Where it listens; valid after a successful start().
  Endpoint bound() const;
  /// Serves until cancelled; then closes every connection, waits for work that is still on the
  /// pool, and returns.
  boost::asio::awaitable<void> run();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace muster::metrics
