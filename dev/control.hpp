#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/json/object.hpp>

#include "dev/fd.hpp"

/// How subcommands talk to a running cluster: one JSON object a line, over a SOCK_STREAM abstract
/// unix socket @muster-dev-NAME, root only. An answer may carry descriptors; lines with
/// "progress" may come before it.
namespace muster::dev {

/// Binds @muster-dev-NAME. Throws std::system_error; address_in_use means that NAME runs.
Fd listen_control(const std::string& name);

struct ControlAnswer {
  boost::json::object body;
  std::vector<Fd> descriptors;
};

class ControlServer {
 public:
  using Progress = std::function<void(std::string)>;
  using Handler =
      std::function<boost::asio::awaitable<ControlAnswer>(boost::json::object, Progress)>;

  /// Takes over `listening`. Peers other than root are refused.
  ControlServer(boost::asio::any_io_executor executor, Fd listening, Handler handler);
  ~ControlServer();
  void close();
  boost::asio::awaitable<void> join();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

/// The subcommands' end. Blocking; throws std::runtime_error with a sentence for the user, also
/// when the answer is {"error": ...}.
class ControlClient {
 public:
  explicit ControlClient(const std::string& name);
  ControlAnswer call(const boost::json::object& request,
                     const std::function<void(const std::string&)>& progress = {});

 private:
  Fd socket_;
  std::string pending_;
};

}  // namespace muster::dev
