#pragma once

#include <chrono>
#include <cstdio>
#include <deque>
#include <functional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/read.hpp>
#include <boost/asio/read_until.hpp>
#include <boost/asio/ssl/context.hpp>
#include <boost/asio/ssl/stream.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/asio/write.hpp>

#include "base/io/task_group.hpp"

namespace muster::mesos::testing {

/// What a scripted master does with one connection: reads a request, sends the pieces one by one,
/// then closes or says nothing more.
struct Reply {
  std::vector<std::string> pieces;
  bool hang = false;
  std::chrono::milliseconds delay{0};    // before the first piece
  std::chrono::milliseconds between{0};  // before each further one
};

/// An HTTP server on loopback that answers its connections from a script, one reply each; the last
/// reply is repeated. Plain TCP underneath: it says byte for byte what it is told.
class ScriptedMaster {
 public:
  /// With `tls` it speaks https; the context must outlive it.
  explicit ScriptedMaster(boost::asio::io_context& context,
                          boost::asio::ssl::context* tls = nullptr)
      : tls_{tls},
        acceptor_{context, {boost::asio::ip::address_v4::loopback(), 0}},
        group_{context.get_executor()} {
    group_.spawn(accept());
  }

  std::uint16_t port() const { return acceptor_.local_endpoint().port(); }
  std::string url() const {
    return (tls_ != nullptr ? "https://127.0.0.1:" : "http://127.0.0.1:") + std::to_string(port());
  }

  std::deque<Reply> script;
  std::vector<std::string> requests;  // head and body
  std::vector<std::string> sni;       // the host name each TLS client asked for; empty: none
  std::string shown;                  // subject of the certificate the last client showed

  /// Sends to whoever is kept hanging.
  void say(std::string text) {
    said_ += text;
    more_.cancel();
  }

  void stop() {
    acceptor_.close();
    group_.stop();
  }
  boost::asio::awaitable<void> join() { return group_.join(); }

 private:
  using Socket = boost::asio::ip::tcp::socket;

  boost::asio::awaitable<void> accept() {
    for (;;) {
      Socket socket = co_await acceptor_.async_accept(boost::asio::use_awaitable);
      group_.spawn(serve(std::move(socket)));
    }
  }

  boost::asio::awaitable<void> serve(Socket socket) {
    if (tls_ == nullptr) {
      co_await converse(socket);
      co_return;
    }
    boost::asio::ssl::stream<Socket> stream{std::move(socket), *tls_};
    const auto [error] = co_await stream.async_handshake(
        boost::asio::ssl::stream_base::server, boost::asio::as_tuple(boost::asio::use_awaitable));
    if (error) co_return;
    const char* name = SSL_get_servername(stream.native_handle(), TLSEXT_NAMETYPE_host_name);
    sni.emplace_back(name != nullptr ? name : "");
    if (const X509* peer = SSL_get0_peer_certificate(stream.native_handle())) {
      char text[200] = {};
      X509_NAME_oneline(X509_get_subject_name(peer), text, sizeof text);
      shown = text;
    }
    co_await converse(stream);
  }

  template <class Stream>
  boost::asio::awaitable<void> converse(Stream& socket) {
    constexpr auto token = boost::asio::as_tuple(boost::asio::use_awaitable);
    std::string text;
    const auto [head_error, head] = co_await boost::asio::async_read_until(
        socket, boost::asio::dynamic_buffer(text), "\r\n\r\n", token);
    if (head_error) co_return;
    const auto at = text.find("Content-Length: ");
    const std::size_t body = at < head ? std::stoul(text.substr(at + 16)) : 0;
    if (text.size() < head + body) {
      co_await boost::asio::async_read(socket, boost::asio::dynamic_buffer(text),
                                       boost::asio::transfer_exactly(head + body - text.size()),
                                       token);
    }
    requests.push_back(text);
    if (script.empty()) co_return;
    const Reply reply = script.front();
    if (script.size() > 1) script.pop_front();
    boost::asio::steady_timer wait{socket.get_executor(), reply.delay};
    co_await wait.async_wait(token);
    for (const std::string& piece : reply.pieces) {
      if (&piece != &reply.pieces.front() && reply.between.count() > 0) {
        wait.expires_after(reply.between);
        co_await wait.async_wait(token);
      }
      const auto [error, written] =
          co_await boost::asio::async_write(socket, boost::asio::buffer(piece), token);
      if (error) co_return;
    }
    if (!reply.hang) co_return;
    for (;;) {
      co_await more_.async_wait(token);
      const std::string more = std::exchange(said_, {});
      const auto [error, written] =
          co_await boost::asio::async_write(socket, boost::asio::buffer(more), token);
      if (error) co_return;
    }
  }

  boost::asio::ssl::context* tls_;
  boost::asio::ip::tcp::acceptor acceptor_;
  boost::asio::steady_timer more_{acceptor_.get_executor(),
                                  boost::asio::steady_timer::time_point::max()};
  std::string said_;
  TaskGroup group_;
};

inline std::string chunk(std::string_view data) {
  char size[20];
  std::snprintf(size, sizeof size, "%zx\r\n", data.size());
  return size + std::string{data} + "\r\n";
}

inline std::string stream_head() {
  return "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Type: application/json\r\n\r\n";
}

inline std::string answer(std::string_view status, std::string_view headers,
                          std::string_view body) {
  return "HTTP/1.1 " + std::string{status} + "\r\n" + std::string{headers} +
         "Content-Length: " + std::to_string(body.size()) + "\r\n\r\n" + std::string{body};
}

}  // namespace muster::mesos::testing
