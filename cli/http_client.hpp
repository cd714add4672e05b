#pragma once

#include <string>

#include "base/endpoint.hpp"
#include "base/result.hpp"
#include "base/time.hpp"

namespace muster::cli {

struct HttpReply {
  unsigned status = 0;
  std::string body;
};

/// GETs `path` from the daemon at `server`; blocks, for at most `limit`.
/// Errors: what the connection or the transfer ended with, e.g. connection_refused, timed_out. The
/// reply is bounded to 1 GiB.
Result<HttpReply> http_get(const Endpoint& server, const std::string& path, Duration limit);

}  // namespace muster::cli
