#pragma once

#include <array>
#include <cstdint>
#include <list>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/read.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/asio/write.hpp>

#include "base/io/task_group.hpp"

namespace muster::mesos::testing {

/// A ZooKeeper of one level of nodes under /mesos, on loopback. Written without the codec it
/// tests: zookeeper_server_test.cpp holds both to the real server.
class ScriptedZooKeeper {
 public:
  explicit ScriptedZooKeeper(boost::asio::io_context& context)
      : acceptor_{context, {boost::asio::ip::address_v4::loopback(), 0}},
        group_{context.get_executor()} {
    group_.spawn(accept());
  }

  std::uint16_t port() const { return acceptor_.local_endpoint().port(); }

  // How it behaves; may be changed at any time.
  std::string auth;                // who must say this to read; empty: anybody
  bool has_path = true;            // /mesos is there
  bool mute = false;               // takes everything and answers nothing
  bool refuse_sessions = false;    // grants no time
  bool vanishing = false;          // the next node that is asked for is gone
  std::optional<std::string> raw;  // sent in place of every answer
  std::int32_t session_ms = 10'000;
  // What it has seen.
  int sessions = 0;
  int pings = 0;
  int closed = 0;  // in order

  /// Replaces the children of /mesos; who watches is told.
  void set(std::map<std::string, std::string> nodes) {
    nodes_ = std::move(nodes);
    for (Client& client : clients_) {
      if (!client.watching) continue;
      client.watching = false;
      const std::string event = number(-1) + number64(-1) + number(0)  // header of a watch event
                                + number(4) + number(3) + text("/mesos");
      boost::system::error_code ignored;
      boost::asio::write(client.socket, boost::asio::buffer(text(event)), ignored);
    }
  }
  /// Every connection breaks.
  void drop() {
    for (Client& client : clients_) {
      boost::system::error_code ignored;
      client.socket.shutdown(Socket::shutdown_both, ignored);
    }
  }

  void stop() {
    acceptor_.close();
    group_.stop();
  }
  boost::asio::awaitable<void> join() { return group_.join(); }

 private:
  using Socket = boost::asio::ip::tcp::socket;
  struct Client {
    explicit Client(Socket&& from) : socket{std::move(from)} {}
    Socket socket;
    bool watching = false;
    bool may_read = false;
  };

  static std::string number(std::int32_t value) {
    std::string out;
    for (int shift = 24; shift >= 0; shift -= 8) {
      out += static_cast<char>(static_cast<std::uint32_t>(value) >> shift & 0xff);
    }
    return out;
  }
  static std::string number64(std::int64_t value) {
    return number(static_cast<std::int32_t>(value >> 32)) +
           number(static_cast<std::int32_t>(value));
  }
  static std::string text(const std::string& value) {
    return number(static_cast<std::int32_t>(value.size())) + value;
  }
  static std::int32_t number_at(const std::string& from, std::size_t at) {
    std::uint32_t out = 0;
    for (std::size_t i = 0; i < 4; ++i) {
      out = out << 8 | static_cast<unsigned char>(from.at(at + i));
    }
    return static_cast<std::int32_t>(out);
  }

  boost::asio::awaitable<void> accept() {
    for (;;) {
      Socket socket = co_await acceptor_.async_accept(boost::asio::use_awaitable);
      clients_.emplace_back(std::move(socket));
      group_.spawn(serve(std::prev(clients_.end())));
    }
  }

  boost::asio::awaitable<void> serve(std::list<Client>::iterator client) {
    struct Gone {
      std::list<Client>& all;
      std::list<Client>::iterator one;
      ~Gone() { all.erase(one); }
    } const gone{clients_, client};
    constexpr auto token = boost::asio::as_tuple(boost::asio::use_awaitable);
    bool greeted = false;
    for (;;) {
      std::string head(4, '\0');
      const auto [error, got] =
          co_await boost::asio::async_read(client->socket, boost::asio::buffer(head), token);
      if (error) co_return;
      std::string frame(static_cast<std::size_t>(number_at(head, 0)), '\0');
      const auto [cut, rest] =
          co_await boost::asio::async_read(client->socket, boost::asio::buffer(frame), token);
      if (cut) co_return;
      std::string reply = greeted ? answer(frame, *client) : greeting();
      greeted = true;
      if (mute || reply.empty()) continue;
      reply = raw ? *raw : text(reply);
      const auto [write_error, written] =
          co_await boost::asio::async_write(client->socket, boost::asio::buffer(reply), token);
      if (write_error) co_return;
    }
  }

  std::string greeting() {
    ++sessions;
    return number(0) + number(refuse_sessions ? 0 : session_ms) + number64(sessions) +
           text(std::string(16, 'p')) + std::string(1, '\0');
  }

  std::string answer(const std::string& frame, Client& client) {
    const std::int32_t xid = number_at(frame, 0);
    const auto reply = [&](std::int32_t error, const std::string& body = {}) {
      return number(xid) + number64(1) + number(error) + body;
    };
    switch (number_at(frame, 4)) {
      case 11:
        ++pings;
        return reply(0);
      case -11:
        ++closed;
        return {};
      case 100: {
        const std::string said = frame.substr(12 + 4 + 6 + 4);  // after type and "digest"
        client.may_read = said == auth;
        return reply(said == "no:way" ? -115 : 0);
      }
      default:
        break;
    }
    if (!auth.empty() && !client.may_read) return reply(-102);
    const std::string path = frame.substr(12, static_cast<std::size_t>(number_at(frame, 8)));
    if (number_at(frame, 4) == 8) {
      if (!has_path || path != "/mesos") return reply(-101);
      client.watching = true;
      std::string body = number(static_cast<std::int32_t>(nodes_.size()));
      for (const auto& [name, content] : nodes_) body += text(name);
      return reply(0, body);
    }
    const auto node = nodes_.find(path.substr(std::string{"/mesos/"}.size()));
    if (vanishing || node == nodes_.end()) {
      vanishing = false;
      return reply(-101);
    }
    return reply(0, text(node->second) + std::string(68, '\0'));
  }

  boost::asio::ip::tcp::acceptor acceptor_;
  std::map<std::string, std::string> nodes_;
  std::list<Client> clients_;
  TaskGroup group_;
};

/// What a master on this port of loopback writes about itself.
inline std::string master_info(std::uint16_t port, const std::string& hostname = "m.example") {
  const std::string number = std::to_string(port);
  return R"({"address":{"hostname":")" + hostname + R"(","ip":"127.0.0.1","port":)" + number +
         R"(},"hostname":")" + hostname + R"(","id":"x","ip":16777343,"pid":"master@127.0.0.1:)" +
         number + R"(","port":)" + number + R"(,"version":"1.11.0"})";
}

}  // namespace muster::mesos::testing
