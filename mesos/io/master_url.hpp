#pragma once

#include <compare>
#include <string>
#include <string_view>

#include "base/endpoint.hpp"
#include "base/result.hpp"

namespace muster::mesos {

/// Where one Mesos master, or an agent, is asked.
struct MasterUrl {
  bool tls = false;
  std::string host;  // a name or an address, without brackets
  Port port;

  /// Parses `http://host:port`, `https://[v6]:port`; a path other than "/" is refused, and so is
  /// zk://. The error is one sentence for the person who wrote the configuration.
  static Result<MasterUrl, std::string> parse(std::string_view text);

  friend auto operator<=>(const MasterUrl&, const MasterUrl&) = default;
};

/// `https://host:port`, as parse() takes it.
std::string to_string(const MasterUrl&);

/// As whom, and how it is told that the other end is who it should be.
struct Access {
  std::string basic_user;  // both empty: no Basic authentication
  std::string basic_secret;
  std::string bearer_token;  // used instead of Basic where it is set
  std::string ca_file;       // PEM; empty: the system's certificates
  std::string cert_file;     // PEM, shown to a server that asks; empty: none
  std::string key_file;      // PEM, its key
};

}  // namespace muster::mesos
