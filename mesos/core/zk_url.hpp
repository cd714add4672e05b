#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "base/endpoint.hpp"
#include "base/result.hpp"

namespace muster::mesos {

/// Where Mesos' masters announce themselves: `zk://user:password@host1:2181,host2/mesos`.
struct ZkUrl {
  static constexpr std::size_t kMaxServers = 32;

  struct Server {
    std::string host;  // a name or an address, without brackets
    Port port;
    friend auto operator<=>(const Server&, const Server&) = default;
  };

  std::vector<Server> servers;  // at least one
  std::string path;             // "/mesos"; "/" is the root
  std::string auth;             // "user:password" for the scheme digest; empty: none

  /// Ports default to 2181. The error is one sentence for the person who wrote the configuration;
  /// it never holds user and password.
  static Result<ZkUrl, std::string> parse(std::string_view text);

  friend auto operator<=>(const ZkUrl&, const ZkUrl&) = default;
};

/// `zk://host1:2181,host2:2181/mesos`: without user and password, fit for logs.
std::string to_string(const ZkUrl&);

/// `text` with what stands between "://" and "@" replaced, for messages.
std::string without_credentials(std::string_view text);

}  // namespace muster::mesos
