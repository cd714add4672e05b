#pragma once

#include <optional>
#include <string>

#include "base/endpoint.hpp"

namespace muster::cli {

/// What the read-only commands share: which daemon to ask and how to print.
struct Target {
  Endpoint daemon;    // its HTTP address
  bool json = false;  // print the daemon's own JSON instead of a table
};

/// Each prints to stdout and returns the process's exit status: 0, or 1 with one line on stderr
/// when the daemon does not answer or answers with an error.
int status(const Target&);
int vips(const Target&);
int tasks(const Target&);

struct ResolveOptions {
  std::string name;
  std::string type = "A";
  std::optional<Endpoint> server;  // none: the first DNS address the daemon names
};
/// Asks the daemon's DNS server as any client would and prints the reply the way dig does.
/// Exit status: 0 for an answer, 1 when there is none (also NXDOMAIN), 2 for a wrong argument.
int resolve(const Target&, const ResolveOptions&);

}  // namespace muster::cli
