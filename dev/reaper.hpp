#pragma once

#include <functional>
#include <map>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/signal_set.hpp>

namespace muster::dev {

/// Waits for children; as pid 1 of the cluster's pid namespace also for orphans nobody asked
/// about. One per process.
class Reaper {
 public:
  explicit Reaper(boost::asio::any_io_executor executor) : signals_{executor, SIGCHLD} { wait(); }
  /// `ended` is called once, on the executor, with the status of waitpid(2). Register in the same
  /// turn of the loop as the child is started in.
  void watch(int pid, std::function<void(int)> ended) { watched_[pid] = std::move(ended); }
  void forget(int pid) { watched_.erase(pid); }
  void stop() { signals_.cancel(); }

 private:
  void wait();
  void reap();

  boost::asio::signal_set signals_;
  std::map<int, std::function<void(int)>> watched_;
};

}  // namespace muster::dev
