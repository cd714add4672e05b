#include "daemon/only_one.hpp"

#include <algorithm>
#include <cstddef>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include <utility>

#include <boost/system/errc.hpp>

namespace muster::daemon {
namespace {

struct Address {
  sockaddr_un at{};
  socklen_t size = 0;
};

/// Abstract: a zero first, and no file.
Address abstract(const std::string& name) {
  Address address;
  address.at.sun_family = AF_UNIX;
  const std::size_t length = std::min(name.size(), sizeof address.at.sun_path - 1);
  std::copy_n(name.data(), length, address.at.sun_path + 1);
  address.size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + length);
  return address;
}

/// Whoever listens there is root or this very user, whom one could not defend against anyway.
bool is_held_by_us(const Address& address) {
  const int fd = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0) return false;
  ucred holder{};
  socklen_t size = sizeof holder;
  const int connected = ::connect(fd, reinterpret_cast<const sockaddr*>(&address.at), address.size);
  // One whose queue is full of those who asked before (EAGAIN) does not say who it is.
  const bool known =
      connected == 0 && ::getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &holder, &size) == 0;
  ::close(fd);
  return known && (holder.uid == 0 || holder.uid == ::geteuid());
}

}  // namespace

Result<OnlyOne> OnlyOne::take(const std::string& name) {
  const Address address = abstract(name);
  OnlyOne mine{::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)};
  if (mine.fd_ < 0) return mine;
  const auto* at = reinterpret_cast<const sockaddr*>(&address.at);
  if (::bind(mine.fd_, at, address.size) == 0 && ::listen(mine.fd_, SOMAXCONN) == 0) return mine;
  if (is_held_by_us(address)) return make_error_code(boost::system::errc::address_in_use);
  return OnlyOne{-1};
}

OnlyOne::OnlyOne(OnlyOne&& other) noexcept : fd_{std::exchange(other.fd_, -1)} {}

OnlyOne::~OnlyOne() {
  if (fd_ >= 0) ::close(fd_);
}

}  // namespace muster::daemon
