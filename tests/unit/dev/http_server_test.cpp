#include "dev/http_server.hpp"

#include <chrono>
#include <memory>
#include <thread>

#include <boost/asio/connect.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/read.hpp>
#include <boost/asio/read_until.hpp>
#include <boost/asio/write.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/read.hpp>
#include <boost/beast/http/string_body.hpp>
#include <boost/beast/zlib/inflate_stream.hpp>
#include <doctest/doctest.h>

#include "base/io/task_group.hpp"

namespace asio = boost::asio;
namespace http = boost::beast::http;
using asio::ip::tcp;
using namespace muster::dev;

namespace {

/// A server on a free port of the loopback, in a thread of its own, that knows three paths.
class Served {
 public:
  explicit Served(std::size_t max_streams = 1000, double heartbeat_seconds = 3600) {
    HttpServer::Options options;
    options.handler = [](const ApiRequest& request) {
      ApiResponse out;
      out.content_type = "text/plain";
      if (request.target == "/stream") {
        out.stream = true;
      } else {
        out.body = request.target == "/long" ? std::string(5000, 'x') : request.method;
      }
      return out;
    };
    options.stream_head = [] { return std::vector<std::string>{"head", "beat"}; };
    options.heartbeat = "beat";
    options.heartbeat_seconds = heartbeat_seconds;
    options.max_streams = max_streams;
    server_ = std::make_unique<HttpServer>(io_.get_executor(), std::move(options));
    tcp::acceptor acceptor{io_, {asio::ip::address_v4::loopback(), 0}};
    to_ = acceptor.local_endpoint();
    server_->listen(acceptor.release());
    thread_ = std::thread{[this] { io_.run(); }};
  }
  Served(const Served&) = delete;
  Served& operator=(const Served&) = delete;
  ~Served() {
    on_server([](HttpServer& server) { server.close(); });
    thread_.join();  // run() returns when the last connection's coroutine has
  }

  template <class Action>
  void on_server(Action action) {
    asio::post(io_, [this, action] { action(*server_); });
  }

  tcp::socket connect() {
    tcp::socket socket{client_};
    socket.connect(to_);
    return socket;
  }

 private:
  asio::io_context io_;
  asio::io_context client_;
  tcp::endpoint to_;
  std::unique_ptr<HttpServer> server_;
  std::thread thread_;
};

void send(tcp::socket& socket, const std::string& text) {
  asio::write(socket, asio::buffer(text));
}

std::string ask(const std::string& target, const std::string& headers = "") {
  return "GET " + target + " HTTP/1.1\r\nHost: x\r\n" + headers + "\r\n";
}

std::string read_past(tcp::socket& socket, std::string& buffer, const std::string& end) {
  const std::size_t size = asio::read_until(socket, asio::dynamic_buffer(buffer), end);
  std::string out = buffer.substr(0, size);
  buffer.erase(0, size);
  return out;
}

}  // namespace

TEST_CASE("requests sent together are answered in order on one connection") {
  Served served;
  tcp::socket socket = served.connect();
  send(socket, ask("/a") + ask("/long") + "HEAD /b HTTP/1.1\r\nHost: x\r\n\r\n");
  boost::beast::flat_buffer buffer;
  for (const std::string& body :
       {std::string{"GET"}, std::string(5000, 'x'), std::string{"HEAD"}}) {
    http::response<http::string_body> response;
    http::read(socket, buffer, response);
    CHECK(response.result_int() == 200);
    CHECK(response.body() == body);  // libprocess sends one even for HEAD
  }
}

TEST_CASE("long bodies are packed for those who ask, and unpack to themselves") {
  Served served;
  tcp::socket socket = served.connect();
  send(socket, ask("/long", "Accept-Encoding: gzip\r\n") + ask("/a", "Accept-Encoding: gzip\r\n"));
  boost::beast::flat_buffer buffer;
  http::response<http::string_body> packed;
  http::read(socket, buffer, packed);
  REQUIRE(packed[http::field::content_encoding] == "gzip");
  CHECK(packed.body().size() < 200);
  boost::beast::zlib::inflate_stream inflate;
  boost::beast::zlib::z_params params;
  std::string out(6000, '\0');
  params.next_in = packed.body().data() + 10;  // the gzip header
  params.avail_in = packed.body().size() - 18;
  params.next_out = out.data();
  params.avail_out = out.size();
  boost::beast::error_code error;
  inflate.write(params, boost::beast::zlib::Flush::sync, error);
  CHECK(out.substr(0, params.total_out) == std::string(5000, 'x'));
  http::response<http::string_body> plain;
  http::read(socket, buffer, plain);
  CHECK(plain.count(http::field::content_encoding) == 0);
}

TEST_CASE("garbage ends its connection and nobody else's") {
  Served served;
  tcp::socket bad = served.connect();
  send(bad, "\x16\x03\x01 what\r\n\r\n");
  std::string rest;
  boost::system::error_code error;
  asio::read(bad, asio::dynamic_buffer(rest), error);
  CHECK(rest.empty());
  tcp::socket good = served.connect();
  send(good, ask("/a"));
  std::string buffer;
  CHECK(read_past(good, buffer, "GET").starts_with("HTTP/1.1 200 OK\r\n"));
}

TEST_CASE("a stream sends one record a chunk, and ends without a last chunk when the master dies") {
  Served served;
  tcp::socket socket = served.connect();
  send(socket, ask("/stream"));
  std::string buffer;
  const std::string head = read_past(socket, buffer, "\r\n\r\n");
  CHECK(head.find("Transfer-Encoding: chunked") != std::string::npos);
  CHECK(head.find("Content-Length") == std::string::npos);
  CHECK(read_past(socket, buffer, "beat\r\n") == "6\r\n4\nhead\r\n6\r\n4\nbeat\r\n");
  served.on_server([](HttpServer& server) { server.publish({"one", std::string(20, 'y')}); });
  CHECK(read_past(socket, buffer, "y\r\n") ==
        "5\r\n3\none\r\n17\r\n20\n" + std::string(20, 'y') + "\r\n");
  served.on_server([](HttpServer& server) { server.close(); });
  boost::system::error_code error;
  asio::read(socket, asio::dynamic_buffer(buffer), error);
  CHECK(error == asio::error::eof);
  CHECK(buffer.empty());
}

TEST_CASE("a stream beats by itself") {
  Served served{1000, 0.02};
  tcp::socket socket = served.connect();
  send(socket, ask("/stream"));
  std::string buffer;
  for (int beats = 0; beats < 4; ++beats) read_past(socket, buffer, "beat\r\n");
  CHECK(buffer.find("head") == std::string::npos);
}

TEST_CASE("one stream too many ends the oldest properly") {
  Served served{1};
  tcp::socket oldest = served.connect();
  send(oldest, ask("/stream"));
  std::string buffer;
  read_past(oldest, buffer, "beat\r\n");
  tcp::socket newest = served.connect();
  send(newest, ask("/stream"));
  std::string other;
  read_past(newest, other, "beat\r\n");
  CHECK(read_past(oldest, buffer, "0\r\n\r\n") == "0\r\n\r\n");
}
