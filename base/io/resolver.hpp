#pragma once

#include <memory>
#include <string>
#include <vector>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>

#include "base/endpoint.hpp"
#include "base/result.hpp"
#include "base/time.hpp"

namespace muster {

/// Host names to addresses, by c-ares on an io_context: /etc/hosts, then DNS. For the few names
/// muster itself needs (masters, agents, upstreams); nothing is cached.
///
/// Single executor. Literal addresses are answered at once. May be
/// destroyed while a resolve() waits: that one then still ends, by answer or limit.
class Resolver {
 public:
  /// Of one answer; the rest is left out.
  static constexpr std::size_t kMaxAddresses = 64;
  /// Names being looked up at a time; one more is refused with no_buffer_space.
  static constexpr std::size_t kMaxPending = 1024;

  struct Options {
    std::vector<Endpoint> servers;  // none: those of /etc/resolv.conf
  };

  explicit Resolver(boost::asio::any_io_executor executor);
  Resolver(boost::asio::any_io_executor executor, Options options);
  Resolver(const Resolver&) = delete;
  Resolver& operator=(const Resolver&) = delete;
  ~Resolver();

  /// The addresses of `host`, IPv4 first, without duplicates; never empty.
  ///
  /// Errors: host_not_found (no such name, or no address), timed_out after `limit`, and
  /// host_not_found_try_again where no server gave an answer one can use.
  boost::asio::awaitable<Result<std::vector<IpAddress>>> resolve(std::string host, Duration limit);

 private:
  class Impl;
  std::shared_ptr<Impl> impl_;
};

}  // namespace muster
