#pragma once

#include <filesystem>
#include <functional>
#include <string>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/local/stream_protocol.hpp>
#include <boost/json/object.hpp>

#include "base/io/task_group.hpp"
#include "base/result.hpp"
#include "base/time.hpp"

namespace muster::daemon {

inline constexpr std::size_t kMaxControlLine = 4096;
inline constexpr std::size_t kMaxControlConnections = 8;

/// The socket over which what changes something is asked of the daemon: one JSON object on one
/// line asks, one answers, and the connection ends. Who may connect is who may write to the
/// socket file: mode 0660. Control executor only; stop by cancelling run().
class Control {
 public:
  struct Peer {
    unsigned uid = 0;
    int pid = 0;
  };
  /// `request` has a text `do`. The answer is sent as it is; {"ok": false, "error": TEXT} says no.
  using Handler = std::function<boost::json::object(const boost::json::object& request, Peer)>;

  Control(boost::asio::any_io_executor executor, std::filesystem::path path, Handler handler);
  ~Control();
  Control(const Control&) = delete;
  Control& operator=(const Control&) = delete;

  /// Makes the socket, and the folder it is in; a socket that nobody listens on any more is
  /// replaced. Errors: address_in_use (another daemon's), file_exists (no socket), else errno.
  Result<void> start();
  boost::asio::awaitable<void> run();

 private:
  using Protocol = boost::asio::local::stream_protocol;
  boost::asio::awaitable<void> serve(Protocol::socket socket);
  std::string answer(std::string_view line, Peer peer) const;

  std::filesystem::path path_;
  Handler handler_;
  Protocol::acceptor acceptor_;
  bool bound_ = false;
  std::size_t connections_ = 0;
  TaskGroup tasks_;
};

}  // namespace muster::daemon
