#pragma once

#include <cstdint>
#include <string>

namespace muster::dev {

struct LoadOptions {
  bool udp = false;
  std::string host;
  std::uint16_t port = 80;
  std::string path = "/";
  double rate = 100;  // a second
  double seconds = 10;
  double timeout_seconds = 5;
  bool json = false;
};

/// Takes "http://NAME:PORT/PATH" apart; throws std::runtime_error with what was expected.
void parse_url(const std::string& url, LoadOptions& into);
/// "NAME:PORT" for UDP.
void parse_udp_target(const std::string& target, LoadOptions& into);

/// Open loop: a request is sent when it is due, whatever became of the ones before, each on a
/// connection of its own with a lookup of its own, none is retried. Prints the report on stdout.
/// Returns 0 if every request was answered, 1 if not.
int run_load(const LoadOptions& options);

}  // namespace muster::dev
