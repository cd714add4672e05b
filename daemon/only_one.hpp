#pragma once

#include <string>

#include "base/result.hpp"

namespace muster::daemon {

/// That no other muster balances in this network namespace: two would undo each other's rules for
/// ever. It is the listening on an abstract unix socket, which belongs to the namespace, leaves
/// nothing behind and ends with the process.
class OnlyOne {
 public:
  /// Errors: address_in_use, where another one of root's or of this user's is there: refuse to
  /// start. Any user can take the name, so one taken by somebody else proves nothing, and is no
  /// error; nor is a kernel without such sockets. `name`: of the socket.
  static Result<OnlyOne> take(const std::string& name = "muster-balances-here");
  OnlyOne(OnlyOne&& other) noexcept;
  OnlyOne& operator=(OnlyOne&&) = delete;
  ~OnlyOne();
  /// False: it was not to be had, for a reason that is none not to serve.
  bool taken() const noexcept { return fd_ >= 0; }

 private:
  explicit OnlyOne(int fd) noexcept : fd_{fd} {}
  int fd_;
};

}  // namespace muster::daemon
