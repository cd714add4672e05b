#include "metrics/http_server.hpp"

#include <atomic>
#include <future>
#include <mutex>
#include <string>
#include <sys/socket.h>
#include <sys/time.h>
#include <thread>

#include <boost/asio/connect.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/read.hpp>
#include <boost/asio/write.hpp>
#include <doctest/doctest.h>
#include <prometheus/metric_family.h>

#include "base/io/task_group.hpp"

using namespace muster;
using namespace muster::metrics;
namespace asio = boost::asio;
using asio::ip::tcp;

namespace {

HttpOptions local_options() {
  HttpOptions options{.listen = *Endpoint::parse("127.0.0.1:1"), .allowed_hosts = {"node.test"}};
  options.any_port = true;
  return options;
}

std::function<HttpResponse()> handle(const HttpRequest& request) {
  if (request.path == "/missing") return {};
  if (request.path == "/throws") throw std::runtime_error{"no"};
  if (request.path == "/fails") return []() -> HttpResponse { throw std::runtime_error{"no"}; };
  if (request.path == "/big") {
    return [] { return HttpResponse{.body = std::string(32U << 20, 'x')}; };
  }
  if (request.path == "/split") {
    return [] { return HttpResponse{.body = "{}", .headers = {{"X-A", "b\r\nX-Evil: 1"}}}; };
  }
  std::string body = request.method + " " + request.path;
  for (const auto& [key, value] : request.query) body += " " + key + "=" + value;
  return [body] { return HttpResponse{.body = body, .headers = {{"X-Kind", "echo"}}}; };
}

/// A server with its own control thread.
class Server {
 public:
  explicit Server(HttpOptions options = local_options(), Handler handler = handle)
      : server{context.get_executor(), pool, std::move(options), registry, std::move(handler)} {
    REQUIRE(server.start());
    group.spawn(server.run());
    thread = std::thread{[this] { context.run(); }};
  }
  ~Server() { stop(); }
  void stop() {
    if (!thread.joinable()) return;
    asio::post(context, [this] { group.stop(); });
    thread.join();
  }
  double metric(const std::string& name, const std::string& label = {}) const {
    double sum = 0;
    for (const auto& family : registry.Collect()) {
      if (family.name != name) continue;
      for (const auto& one : family.metric) {
        if (!label.empty() && (one.label.empty() || one.label.front().value != label)) continue;
        sum += one.counter.value + one.gauge.value;
      }
    }
    return sum;
  }

  prometheus::Registry registry;
  asio::thread_pool pool{2};
  asio::io_context context;
  HttpServer server;
  TaskGroup group{context.get_executor()};
  std::thread thread;
};

class Client {
 public:
  explicit Client(const Server& server) : socket_{context_} {
    socket_.connect({asio::ip::address_v4::loopback(), server.server.bound().port.number()});
    const timeval limit{20, 0};  // so that a wrong server fails a test and does not hang it
    ::setsockopt(socket_.native_handle(), SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
  }
  void send(const std::string& text) {
    boost::system::error_code ignored;  // the server may have closed already; receive() tells
    asio::write(socket_, asio::buffer(text), ignored);
  }
  /// One response: status line and headers, and the body they announce.
  std::string receive(bool with_body = true) {
    while (pending_.find("\r\n\r\n") == std::string::npos) {
      if (!more()) return {};
    }
    const std::size_t end = pending_.find("\r\n\r\n") + 4;
    std::size_t length = 0;
    const std::size_t at = pending_.find("Content-Length: ");
    if (with_body && at < end) length = std::stoul(pending_.substr(at + 16));
    while (pending_.size() < end + length) {
      if (!more()) return {};
    }
    const std::string response = pending_.substr(0, end + length);
    pending_.erase(0, end + length);
    return response;
  }
  bool closed() { return pending_.empty() && !more(); }
  void shutdown_send() { socket_.shutdown(tcp::socket::shutdown_send); }
  tcp::socket& socket() { return socket_; }

 private:
  bool more() {
    char chunk[65536];
    // Not Asio's read: it would wait in poll(2) and not mind the socket's time limit.
    const auto size = ::recv(socket_.native_handle(), chunk, sizeof chunk, 0);
    if (size <= 0) return false;
    pending_.append(chunk, static_cast<std::size_t>(size));
    return true;
  }
  asio::io_context context_;
  tcp::socket socket_;
  std::string pending_;
};

std::string status_of(const std::string& response) {
  return response.size() < 12 ? "none" : response.substr(9, 3);
}

bool contains(const std::string& text, const std::string& what) {
  return text.find(what) != std::string::npos;
}

}  // namespace

TEST_SUITE_BEGIN("metrics/http_server");

TEST_CASE("what is not a proper read-only request is refused with a clear status") {
  Server server;
  struct Row {
    std::string what;
    std::string request;
    std::string status;
    bool stays_open;
  };
  const std::string host = "Host: localhost\r\n";
  const std::vector<Row> rows{
      {"not HTTP", "hello\r\n\r\n", "400", false},
      {"binary", std::string("\x16\x03\x01\x00\xA5\x01\x00\x00", 8) + "\r\n\r\n", "400", false},
      {"an unknown version", "GET / HTTP/3.7\r\n" + host + "\r\n", "400", false},
      {"a header without a colon", "GET / HTTP/1.1\r\n" + host + "bad header\r\n\r\n", "400",
       false},
      {"two content lengths",
       "GET / HTTP/1.1\r\n" + host + "Content-Length: 1\r\nContent-Length: 2\r\n\r\n", "400",
       false},
      {"a target that climbs", "GET /../x HTTP/1.1\r\n" + host + "\r\n", "400", false},
      {"no Host", "GET / HTTP/1.1\r\n\r\n", "400", false},
      {"two Hosts", "GET / HTTP/1.1\r\n" + host + host + "\r\n", "400", false},
      {"a foreign Host", "GET / HTTP/1.1\r\nHost: evil.example.com\r\n\r\n", "421", false},
      {"a foreign Host in the target", "GET http://evil.example.com/ HTTP/1.1\r\n" + host + "\r\n",
       "421", false},
      {"an empty Host", "GET / HTTP/1.1\r\nHost:\r\n\r\n", "421", false},
      {"POST", "POST / HTTP/1.1\r\n" + host + "\r\n", "405", true},
      {"POST with a body", "POST / HTTP/1.1\r\n" + host + "Content-Length: 3\r\n\r\nabc", "405",
       false},
      {"DELETE", "DELETE /v1/vips HTTP/1.1\r\n" + host + "\r\n", "405", true},
      {"OPTIONS", "OPTIONS / HTTP/1.1\r\n" + host + "\r\n", "405", true},
      {"GET with a body", "GET / HTTP/1.1\r\n" + host + "Content-Length: 3\r\n\r\nabc", "413",
       false},
      {"GET with a chunked body",
       "GET / HTTP/1.1\r\n" + host + "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
       "413", false},
      {"too long a target", "GET /" + std::string(9000, 'a') + " HTTP/1.1\r\n" + host + "\r\n",
       "431", false},
      {"too many headers",
       "GET / HTTP/1.1\r\n" + host + "X: " + std::string(9000, 'a') + "\r\n\r\n", "431", false},
      {"nothing there", "GET /missing HTTP/1.1\r\n" + host + "\r\n", "404", true},
      {"a handler that throws", "GET /throws HTTP/1.1\r\n" + host + "\r\n", "500", true},
      {"work that throws", "GET /fails HTTP/1.1\r\n" + host + "\r\n", "500", true},
      {"a good one", "GET /x HTTP/1.1\r\n" + host + "\r\n", "200", true},
      {"an allowed name", "GET /x HTTP/1.1\r\nHost: NODE.test:61421\r\n\r\n", "200", true},
      {"HTTP/1.0 without a Host", "GET /x HTTP/1.0\r\n\r\n", "200", false},
      {"asked to close", "GET /x HTTP/1.1\r\n" + host + "Connection: close\r\n\r\n", "200", false},
      {"empty lines in front", "\r\n\r\nGET /x HTTP/1.1\r\n" + host + "\r\n", "200", true},
  };
  for (const Row& row : rows) {
    CAPTURE(row.what);
    Client client{server};
    client.send(row.request);
    const std::string response = client.receive();
    CHECK(status_of(response) == row.status);
    if (status_of(response) == "405") CHECK(contains(response, "Allow: GET, HEAD\r\n"));
    if (row.stays_open) {
      client.send("GET /again HTTP/1.1\r\n" + host + "\r\n");
      CHECK(contains(client.receive(), "GET /again"));
    } else {
      CHECK(client.closed());
    }
  }
  CHECK(server.metric("muster_http_malformed_requests_total") == 10);
  CHECK(server.metric("muster_http_requests_total", "421") == 3);
}

TEST_CASE("a malformed request costs nobody else anything") {
  Server server;
  Client good{server};
  good.send("GET /one HTTP/1.1\r\nHost: localhost\r\n\r\n");
  CHECK(contains(good.receive(), "GET /one"));
  Client bad{server};
  bad.send("\r\n\r\n}{\r\n\r\n");
  CHECK(status_of(bad.receive()) == "400");
  good.send("GET /two?a=b%20c HTTP/1.1\r\nHost: localhost\r\n\r\n");
  const std::string response = good.receive();
  CHECK(contains(response, "GET /two a=b c"));
  CHECK(contains(response, "X-Kind: echo\r\n"));
  CHECK(contains(response, "Content-Type: application/json\r\n"));
}

TEST_CASE("pipelined requests are answered in order, also when they come in pieces") {
  Server server;
  Client client{server};
  std::string all;
  for (int i = 0; i < 20; ++i) {
    all += "GET /" + std::to_string(i) + " HTTP/1.1\r\nHost: localhost\r\n\r\n";
  }
  client.send(all.substr(0, 101));
  client.send(all.substr(101));
  for (int i = 0; i < 20; ++i) CHECK(contains(client.receive(), "GET /" + std::to_string(i)));
}

TEST_CASE("HEAD says how long the body would be and sends none") {
  Server server;
  Client client{server};
  client.send("HEAD /abc HTTP/1.1\r\nHost: localhost\r\n\r\n");
  client.send("GET /next HTTP/1.1\r\nHost: localhost\r\n\r\n");
  const std::string head = client.receive(false);
  CHECK(contains(head, "Content-Length: 9\r\n"));  // "HEAD /abc"
  CHECK(contains(client.receive(), "GET /next"));
}

TEST_CASE("a header with a line end in it is left out") {
  Server server;
  Client client{server};
  client.send("GET /split HTTP/1.1\r\nHost: localhost\r\n\r\n");
  const std::string response = client.receive();
  CHECK(status_of(response) == "200");
  CHECK_FALSE(contains(response, "Evil"));
}

TEST_CASE("a client that goes away after half a request leaves nothing behind") {
  Server server;
  {
    Client client{server};
    client.send("GET /x HTT");
    client.shutdown_send();
    CHECK((client.receive().empty() || client.closed()));
  }
  Client next{server};
  next.send("GET /x HTTP/1.1\r\nHost: localhost\r\n\r\n");
  CHECK(status_of(next.receive()) == "200");
}

TEST_CASE("silent and slow clients are cut off by their time limits") {
  HttpOptions options = local_options();
  options.header_timeout = Duration{50};
  options.idle_timeout = Duration{50};
  Server server{options};
  Client silent{server};
  CHECK(silent.closed());
  Client slow{server};
  slow.send("GET /x HT");
  CHECK(slow.closed());
  Client idle{server};
  idle.send("GET /x HTTP/1.1\r\nHost: localhost\r\n\r\n");
  CHECK(status_of(idle.receive()) == "200");
  CHECK(idle.closed());
  // The socket is closed an instant before the reason is counted.
  const auto counted = [&](const char* reason, double times) {
    while (server.metric("muster_http_connections_closed_total", reason) < times) {
      std::this_thread::yield();
    }
  };
  counted("idle", 2);
  counted("slow_request", 1);
}

TEST_CASE("a client that does not read is cut off, and holds no memory after that") {
  HttpOptions options = local_options();
  options.write_timeout = Duration{100};
  Server server{options};
  Client stuck{server};
  stuck.send("GET /big HTTP/1.1\r\nHost: localhost\r\n\r\n");
  while (server.metric("muster_http_connections_closed_total", "slow_reader") == 0) {
    std::this_thread::yield();
  }
  while (server.metric("muster_http_unsent_bytes") > 0) std::this_thread::yield();
}

TEST_CASE("while others have much to take, a large answer is refused, and given afterwards") {
  HttpOptions options = local_options();
  options.max_unsent_bytes = 40U << 20;
  Server server{options};
  auto stuck = std::make_unique<Client>(server);
  stuck->send("GET /big HTTP/1.1\r\nHost: localhost\r\n\r\n");
  while (server.metric("muster_http_unsent_bytes") == 0) std::this_thread::yield();
  Client second{server};
  second.send("GET /big HTTP/1.1\r\nHost: localhost\r\n\r\n");
  const std::string refused = second.receive();
  CHECK(status_of(refused) == "503");
  CHECK(contains(refused, "Retry-After: 1\r\n"));
  stuck.reset();
  while (server.metric("muster_http_unsent_bytes") > 0) std::this_thread::yield();
  second.send("GET /big HTTP/1.1\r\nHost: localhost\r\n\r\n");
  CHECK(second.receive().size() > (32U << 20));
}

TEST_CASE("when all connections are taken, the one idle longest makes room") {
  HttpOptions options = local_options();
  options.max_connections = 3;
  Server server{options};
  std::vector<std::unique_ptr<Client>> clients;
  for (int i = 0; i < 4; ++i) {
    clients.push_back(std::make_unique<Client>(server));
    clients.back()->send("GET /x HTTP/1.1\r\nHost: localhost\r\n\r\n");
    CHECK(status_of(clients.back()->receive()) == "200");
  }
  CHECK(clients[0]->closed());
  for (std::size_t i = 1; i < 4; ++i) {
    clients[i]->send("GET /y HTTP/1.1\r\nHost: localhost\r\n\r\n");
    CHECK(status_of(clients[i]->receive()) == "200");
  }
  CHECK(server.metric("muster_http_connections_closed_total", "evicted") == 1);
}

TEST_CASE("when every connection is at work, a new one is turned away") {
  std::promise<void> release;
  std::shared_future<void> released = release.get_future().share();
  std::atomic<int> started = 0;
  HttpOptions options = local_options();
  options.max_connections = 1;
  Server server{options, [&](const HttpRequest&) {
                  return [&, released] {
                    ++started;
                    released.wait();
                    return HttpResponse{.body = "done"};
                  };
                }};
  Client first{server};
  first.send("GET /x HTTP/1.1\r\nHost: localhost\r\n\r\n");
  while (started == 0) std::this_thread::yield();
  Client second{server};
  CHECK(second.closed());
  release.set_value();
  CHECK(contains(first.receive(), "done"));
}

TEST_CASE("no more responses are made at once than allowed, and all are answered") {
  std::atomic<int> now = 0;
  std::atomic<int> most = 0;
  HttpOptions options = local_options();
  options.max_rendering = 1;
  Server server{options, [&](const HttpRequest&) {
                  return [&] {
                    const int running = ++now;
                    int seen = most;
                    while (running > seen && !most.compare_exchange_weak(seen, running)) {
                    }
                    std::this_thread::yield();
                    --now;
                    return HttpResponse{.body = "ok"};
                  };
                }};
  std::vector<std::unique_ptr<Client>> clients;
  for (int i = 0; i < 16; ++i) {
    clients.push_back(std::make_unique<Client>(server));
    clients.back()->send("GET /x HTTP/1.1\r\nHost: localhost\r\n\r\n");
  }
  for (auto& client : clients) CHECK(status_of(client->receive()) == "200");
  CHECK(most == 1);
}

TEST_CASE("stopping in the middle of everything waits for the work and leaves no connection") {
  std::promise<void> release;
  std::shared_future<void> released = release.get_future().share();
  std::atomic<int> started = 0;
  HttpOptions options = local_options();
  options.max_rendering = 1;
  Server server{options, [&](const HttpRequest& request) -> std::function<HttpResponse()> {
                  if (request.path == "/quick") return handle(request);
                  return [&, released] {
                    ++started;
                    released.wait();
                    return HttpResponse{.body = "done"};
                  };
                }};
  Client idle{server};
  Client half{server};
  half.send("GET /x");
  Client working{server};
  working.send("GET /x HTTP/1.1\r\nHost: localhost\r\n\r\n");
  while (started == 0) std::this_thread::yield();
  Client queued{server};
  queued.send("GET /x HTTP/1.1\r\nHost: localhost\r\n\r\n");
  std::thread stopper{[&] { server.stop(); }};
  CHECK(idle.closed());  // closed while the work is still going on
  release.set_value();
  stopper.join();
  CHECK(server.metric("muster_http_connections") == 0);
}

TEST_CASE("a port that is taken is an error at start, and nothing else") {
  Server server;
  asio::io_context context;
  asio::thread_pool pool{1};
  prometheus::Registry registry;
  HttpServer second{context.get_executor(), pool,
                    HttpOptions{.listen = server.server.bound(), .allowed_hosts = {}}, registry,
                    handle};
  const auto started = second.start();
  REQUIRE_FALSE(started);
  CHECK(started.error() == boost::system::errc::address_in_use);
}

TEST_SUITE_END();
