#include "dev/serve.hpp"

#include <array>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <list>
#include <stdexcept>
#include <unistd.h>

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ip/udp.hpp>
#include <boost/asio/signal_set.hpp>
#include <boost/asio/write.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/core/tcp_stream.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/read.hpp>
#include <boost/beast/http/string_body.hpp>

#include "base/io/async.hpp"
#include "base/io/task_group.hpp"

namespace muster::dev {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = beast::http;
using asio::ip::tcp;
using asio::ip::udp;

namespace {

constexpr auto kNoThrow = asio::as_tuple(asio::use_awaitable);
constexpr std::size_t kMaxConnections = 4096;
constexpr std::size_t kMaxBody = 64 << 10;
constexpr auto kIdle = std::chrono::seconds{60};
// A request under way when the end is asked for has this long.
constexpr auto kDrain = std::chrono::seconds{2};

std::string variable(const char* name, const char* otherwise) {
  const char* value = std::getenv(name);
  return value != nullptr && *value != '\0' ? value : otherwise;
}

std::string host_name() {
  std::array<char, 256> name{};
  ::gethostname(name.data(), name.size() - 1);
  return name.data();
}

template <class EndpointType>
std::string peer_text(const EndpointType& peer) {
  std::string address = peer.address().to_string();
  if (address.starts_with("::ffff:")) address.erase(0, 7);  // one socket for both families
  return address + ":" + std::to_string(peer.port());
}

class Server {
 public:
  explicit Server(const ServeOptions& options)
      : options_{options},
        task_{variable("MESOS_TASK_ID", "none")},
        node_{host_name() + " " + variable("HOST", "-")},
        acceptor_{io_},
        udp_{io_},
        signals_{io_, SIGTERM, SIGINT},
        tasks_{io_.get_executor()} {}

  void run() {
    if (options_.http) {
      const tcp::endpoint any{tcp::v6(), *options_.http};  // IPv4 too, as Linux has it
      acceptor_.open(any.protocol());
      acceptor_.set_option(tcp::acceptor::reuse_address{true});
      acceptor_.bind(any);
      acceptor_.listen();
      tasks_.spawn(accept_all());
    }
    if (options_.udp) {
      udp_.open(udp::v6());
      udp_.bind({udp::v6(), *options_.udp});
      tasks_.spawn(echo());
    }
    tasks_.spawn(until_signal());
    io_.run();
  }

 private:
  std::string who(const std::string& peer) const {
    std::string out = "task " + task_ + "\nnode " + node_ + "\npeer " + peer + "\n";
    if (!options_.text.empty()) out += "text " + options_.text + "\n";
    return out;
  }

  asio::awaitable<void> accept_all() {
    for (;;) {
      auto [error, socket] = co_await acceptor_.async_accept(kNoThrow);
      if (!acceptor_.is_open()) co_return;
      if (error || open_ >= kMaxConnections) continue;
      ++open_;
      tasks_.spawn(session(beast::tcp_stream{std::move(socket)}));
    }
  }

  asio::awaitable<void> session(beast::tcp_stream stream) {
    struct Closed {
      std::size_t& open;
      ~Closed() { --open; }
    } const closed{open_};
    ErrorCode error;
    const auto remote = stream.socket().remote_endpoint(error);
    const std::string peer = error ? "gone" : peer_text(remote);
    beast::flat_buffer buffer;
    bool more = true;
    while (more) {
      http::request_parser<http::string_body> parser;
      parser.body_limit(kMaxBody);
      stream.expires_after(draining_ ? kDrain : kIdle);
      const auto [read_error, octets] = co_await http::async_read(stream, buffer, parser, kNoThrow);
      if (read_error) co_return;
      if (options_.delay_ms > 0) {
        asio::steady_timer pause{io_, std::chrono::milliseconds{options_.delay_ms}};
        co_await pause.async_wait(asio::use_awaitable);
      }
      more = parser.get().keep_alive() && !draining_;
      const std::string bytes = answer(std::string{parser.get().target()}, peer, more);
      const auto [write_error, written] =
          co_await asio::async_write(stream, asio::buffer(bytes), kNoThrow);
      if (write_error) co_return;
    }
    stream.socket().shutdown(tcp::socket::shutdown_send, error);
  }

  std::string answer(const std::string& target, const std::string& peer, bool keep) const {
    std::string status = "200 OK";
    std::string body = who(peer);
    if (target == "/health" && !options_.health_file.empty()) {
      std::error_code ignored;
      const bool good = std::filesystem::exists(options_.health_file, ignored);
      if (!good) status = "503 Service Unavailable";
      body = good ? "healthy\n" : "unhealthy: no " + options_.health_file + "\n";
    }
    return "HTTP/1.1 " + status + "\r\nContent-Type: text/plain\r\nX-Task-Id: " + task_ +
           "\r\nContent-Length: " + std::to_string(body.size()) +
           (keep ? "" : "\r\nConnection: close") + "\r\n\r\n" + body;
  }

  asio::awaitable<void> echo() {
    std::array<char, 2048> packet;
    for (;;) {
      udp::endpoint from;
      const auto [error, size] =
          co_await udp_.async_receive_from(asio::buffer(packet), from, kNoThrow);
      if (!udp_.is_open()) co_return;
      if (error) continue;
      const std::string reply = who(peer_text(from)) + std::string{packet.data(), size};
      co_await udp_.async_send_to(asio::buffer(reply), from, kNoThrow);
    }
  }

  asio::awaitable<void> until_signal() {
    co_await signals_.async_wait(asio::use_awaitable);
    asio::steady_timer pause{io_, std::chrono::seconds{options_.linger_seconds}};
    co_await pause.async_wait(asio::use_awaitable);
    draining_ = true;
    ErrorCode ignored;
    acceptor_.close(ignored);
    udp_.close(ignored);
    const TimePoint until = Clock::now() + kDrain;
    while (open_ > 0 && Clock::now() < until) {
      pause.expires_after(std::chrono::milliseconds{10});
      co_await pause.async_wait(asio::use_awaitable);
    }
    io_.stop();
  }

  ServeOptions options_;
  std::string task_;
  std::string node_;
  asio::io_context io_;
  tcp::acceptor acceptor_;
  udp::socket udp_;
  asio::signal_set signals_;
  std::size_t open_ = 0;
  bool draining_ = false;
  TaskGroup tasks_;
};

}  // namespace

int run_serve(const ServeOptions& options) {
  if (!options.http && !options.udp) throw std::runtime_error{"give --http PORT or --udp PORT"};
  Server server{options};
  server.run();
  std::_Exit(0);  // connections that would not end are the kernel's to close
}

}  // namespace muster::dev
