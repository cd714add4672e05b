#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include <boost/asio/awaitable.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/steady_timer.hpp>

#include "base/endpoint.hpp"
#include "base/io/task_group.hpp"
#include "base/time.hpp"

namespace muster::dns {

/// Tells secondaries that zones have changed (RFC 1996): at once, then at most once in kPause,
/// each until it answers or kTries have gone by. Lives on one io_context, one thread.
class Notifier {
 public:
  static constexpr Duration kPause{1000};
  static constexpr Duration kPatience{2000};
  static constexpr int kTries = 3;

  /// `apexes` are the zones' names in wire form.
  Notifier(boost::asio::io_context&, std::vector<Endpoint> secondaries,
           std::vector<std::string> apexes);

  void changed();
  /// Ends what is under way; the io_context then runs out of it.
  void stop();

 private:
  void send();
  static boost::asio::awaitable<void> tell(Endpoint secondary, std::string apex);

  boost::asio::io_context& context_;
  std::vector<Endpoint> secondaries_;
  std::vector<std::string> apexes_;
  boost::asio::steady_timer pause_;
  TaskGroup under_way_;
  bool pausing_ = false;
  bool again_ = false;
  bool stopping_ = false;
};

}  // namespace muster::dns
