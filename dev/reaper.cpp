#include "dev/reaper.hpp"

#include <sys/wait.h>

namespace muster::dev {

void Reaper::wait() {
  signals_.async_wait([this](const boost::system::error_code& error, int) {
    if (error) return;
    reap();
    wait();
  });
}

void Reaper::reap() {
  for (;;) {
    int status = 0;
    const int pid = ::waitpid(-1, &status, WNOHANG);
    if (pid <= 0) return;
    const auto found = watched_.find(pid);
    if (found == watched_.end()) continue;
    const auto ended = std::move(found->second);
    watched_.erase(found);
    ended(status);
  }
}

}  // namespace muster::dev
