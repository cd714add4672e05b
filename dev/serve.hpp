#pragma once

#include <cstdint>
#include <optional>
#include <string>

namespace muster::dev {

struct ServeOptions {
  std::optional<std::uint16_t> http;
  std::optional<std::uint16_t> udp;
  std::string text;
  /// /health answers 200 while this file exists; without it always.
  std::string health_file;
  unsigned delay_ms = 0;  // before each HTTP answer
  /// Once asked to end it takes new connections for so long, as apps do whose clients take their
  /// time to learn that they go.
  unsigned linger_seconds = 0;
};

/// A tiny server that says which task answers: `task <id>`, `node <name> <address>`,
/// `peer <address>`, and `text <text>` if there is one. Over UDP the same, then what was sent.
/// Ends on SIGTERM or SIGINT, after `linger_seconds`, and once the requests it has accepted are
/// answered. Returns 0.
int run_serve(const ServeOptions& options);

}  // namespace muster::dev
