#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>

#include "dev/master_api.hpp"

namespace muster::dev {

/// Speaks HTTP the way libprocess does: keep-alive, pipelining, gzip when asked for, a body even
/// for HEAD, and an event stream whose records are one chunk each. Knows nothing of Mesos: what
/// to answer is the handler's business.
///
/// Single-threaded, on its executor. close(), then join(), then destroy.
class HttpServer {
 public:
  struct Options {
    std::function<ApiResponse(const ApiRequest&)> handler;
    /// The records every new event stream starts with.
    std::function<std::vector<std::string>()> stream_head;
    std::string heartbeat;  // a record
    double heartbeat_seconds = 15;
    /// Mesos' --max_operator_event_stream_subscribers: the oldest leaves for a newcomer.
    std::size_t max_streams = 1000;
  };

  HttpServer(boost::asio::any_io_executor executor, Options options);
  ~HttpServer();
  HttpServer(const HttpServer&) = delete;
  HttpServer& operator=(const HttpServer&) = delete;

  /// Takes over a listening TCP socket, made in whatever network namespace it should answer in.
  void listen(int listening_socket);
  /// Sends each record to every event stream.
  void publish(const std::vector<std::string>& records);
  /// Ends every event stream properly, as a master does to one of too many.
  void hang_up();
  /// Closes the listening socket and every connection, streams without their last chunk: what
  /// clients see when a master is killed. listen() may follow.
  void close();
  boost::asio::awaitable<void> join();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace muster::dev
