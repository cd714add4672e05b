#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <unistd.h>
#include <utility>
#include <vector>

#include "lb/core/netns.hpp"

/// The code that runs with CAP_SYS_ADMIN: in `muster-netns`, or in a daemon that has it itself.
/// Nothing else of muster needs that capability.
namespace muster::lb::netns {

/// A descriptor that is closed with it.
class Handle {
 public:
  Handle() = default;
  explicit Handle(int fd) noexcept : fd_{fd} {}
  Handle(Handle&& other) noexcept : fd_{std::exchange(other.fd_, -1)} {}
  Handle& operator=(Handle&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  ~Handle() {
    if (fd_ >= 0) ::close(fd_);
  }
  int get() const noexcept { return fd_; }
  int release() noexcept { return std::exchange(fd_, -1); }
  explicit operator bool() const noexcept { return fd_ >= 0; }

 private:
  int fd_ = -1;
};

/// The netlink sockets of one namespace: for tables from two threads, what is heard of tables and
/// of connections, routes, and what is heard of those.
inline constexpr std::size_t kNetfilterSockets = 4;
inline constexpr std::size_t kRouteSockets = 2;
inline constexpr std::size_t kSockets = kNetfilterSockets + kRouteSockets;

struct Opened {
  Verdict verdict = Verdict::failed;
  Identity id = {};
  std::vector<Handle> sockets = {};  // kSockets of them if it is good, else none
};

/// Looks into `folders`, each an absolute path, and calls `each` with what it finds: for every
/// folder itself first, then its files, in the order the folder has them. What is not root's, or
/// can be written by others, is refused, and what a file says is not trusted.
void look(const std::vector<std::string>& folders, const std::function<void(const Answer&)>& each);

/// Makes sockets inside the namespace that a file of a folder names. Needs CAP_SYS_ADMIN, and
/// CAP_NET_ADMIN for what is to be done with them: the kernel asks it of who made a socket, too.
/// The calling thread stays where it is.
Opened open(const std::vector<std::string>& folders, const Request& request);

}  // namespace muster::lb::netns
