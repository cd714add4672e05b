#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <sys/socket.h>
#include <utility>
#include <vector>

#include "base/endpoint.hpp"
#include "base/result.hpp"

namespace muster::dns {

/// A file descriptor that is closed unless released.
class FileDescriptor {
 public:
  FileDescriptor() = default;
  explicit FileDescriptor(int fd) noexcept : fd_{fd} {}
  FileDescriptor(FileDescriptor&& other) noexcept : fd_{std::exchange(other.fd_, -1)} {}
  FileDescriptor& operator=(FileDescriptor&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  ~FileDescriptor();
  int get() const noexcept { return fd_; }
  int release() noexcept { return std::exchange(fd_, -1); }

 private:
  int fd_ = -1;
};

struct SocketAddress {
  sockaddr_storage storage{};
  socklen_t size = 0;
  const sockaddr* get() const noexcept { return reinterpret_cast<const sockaddr*>(&storage); }
};

/// Port 0 where `port` is empty.
SocketAddress to_socket_address(const IpAddress&, std::optional<Port> port);
std::optional<IpAddress> address_of(const sockaddr_storage&);
/// The address's 4 or 16 octets where they are; empty for another family.
std::span<const std::byte> octets_of(const sockaddr_storage&) noexcept;
IpAddress address_of(std::span<const std::byte> octets) noexcept;

/// What one worker listens with on one address.
struct ListenSockets {
  Endpoint endpoint;
  bool wildcard = false;  // replies need the address a query came to (IP_PKTINFO)
  FileDescriptor udp;
  FileDescriptor tcp;
};

/// Binds UDP and TCP of one address for `workers` workers that share it by SO_REUSEPORT, all on
/// one port: the given one, or for none a free one. The first socket is bound without sharing, so
/// that an address another program has is address_in_use and not silently shared with it.
Result<std::vector<ListenSockets>> bind_listeners(const IpAddress& address,
                                                  std::optional<Port> port, unsigned workers);

/// All addresses of this machine's interfaces: what a wildcard socket answers to.
std::vector<IpAddress> local_addresses();

}  // namespace muster::dns
