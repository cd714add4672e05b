#pragma once

#include <string>
#include <vector>

#include "base/endpoint.hpp"
#include "base/time.hpp"

namespace muster::cli {

/// How a connection attempt went.
struct Probe {
  bool accepted = false;
  double milliseconds = 0;
  std::string error;   // empty: accepted
  std::string source;  // our own address in it
};

/// Connects to each by TCP, all at once, and closes again; blocks for at most `limit`.
std::vector<Probe> connect_to(const std::vector<Endpoint>& targets, Duration limit);

/// The address this machine would send from; empty with an error if there is no route. Nothing
/// is sent.
Probe route_to(const Endpoint& target);

/// What the machine's own resolver (resolv.conf, nsswitch) makes of a host name; blocks as long as
/// that is configured to take. Empty: nothing.
std::vector<IpAddress> system_resolve(const std::string& host);

}  // namespace muster::cli
