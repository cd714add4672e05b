#include "dev/port_pool.hpp"

namespace muster::dev {

std::optional<std::uint16_t> PortPool::take() {
  for (int tries = 0; tries <= kLast - kFirst; ++tries) {
    const std::uint16_t port = next_;
    next_ = next_ == kLast ? kFirst : static_cast<std::uint16_t>(next_ + 1);
    if (taken_.insert(port).second) return port;
  }
  return std::nullopt;
}

bool PortPool::take(std::uint16_t port) {
  return taken_.insert(port).second;
}

void PortPool::give_back(std::uint16_t port) {
  taken_.erase(port);
}

}  // namespace muster::dev
