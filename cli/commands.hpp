#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "base/endpoint.hpp"
#include "base/result.hpp"

namespace muster::cli {

// What every command exits with.
inline constexpr int kGood = 0;
inline constexpr int kFailed = 1;   // no answer, or nothing of that name
inline constexpr int kUsage = 2;    // wrong arguments
inline constexpr int kTrouble = 3;  // answered, and what it shows is not as it should be

/// What the read-only commands share: which daemon to ask and how to print.
struct Target {
  Endpoint daemon;    // its HTTP address
  bool json = false;  // print JSON instead of a table
};

/// Each prints to stdout and returns the process's exit status; on kFailed there is one line on
/// stderr. status(): kTrouble while the node is not ready. members(): kTrouble if a node is down.
int status(const Target&);
int vips(const Target&);
int tasks(const Target&);
int members(const Target&);
int changes(const Target&);
/// DNS records whose name contains `part`; empty: all.
int records(const Target&, const std::string& part);

/// Everything about the VIPs that `name` may mean: `web`, `web.marathon`, `web.marathon:80`, the
/// whole domain name, or an address; each backend with why it gets connections or does not.
/// kTrouble: one of them has no backend that takes connections.
int vip(const Target&, const std::string& name);

/// What the kernel of this machine holds for a VIP: the backends new connections go to. Error: in
/// words, when it cannot be looked at.
struct KernelView {
  bool balanced = false;           // there is a rule that picks a backend
  std::vector<Endpoint> backends;  // each once
  std::string problem;             // not empty: could not look; nothing else is set
};

struct TraceOptions {
  std::string what;  // NAME:PORT or NAME:PORT/udp
  /// Looks into the kernel the way the daemon's driver (`lb.driver` of /v1/status) holds it.
  std::function<KernelView(const Vip&, const std::string& driver)> kernel;
};
/// Follows a connection from the label to the backend and says at each step whether it is right.
/// kTrouble: some step is not.
int trace(const Target&, const TraceOptions&);

struct TopOptions {
  unsigned interval_seconds = 2;
  unsigned count = 0;  // samples; 0: until interrupted
  unsigned rows = 0;   // VIPs shown; 0: as many as the terminal has room for
};
/// The busiest VIPs, again and again.
int top(const Target&, const TopOptions&);

struct ResolveOptions {
  std::string name;
  std::string type = "A";
  std::optional<Endpoint> server;  // none: the first DNS address the daemon names
};
/// Asks the daemon's DNS server as any client would and prints the reply the way dig does.
/// kGood for an answer, kFailed when there is none (also NXDOMAIN), kUsage for a wrong argument.
int resolve(const Target&, const ResolveOptions&);

/// The first DNS address that the daemon says it listens on; a wildcard means this machine.
std::optional<Endpoint> dns_server_of(const Endpoint& daemon);
/// One query over UDP, TCP if it is cut; blocks for some seconds at most.
Result<std::vector<std::byte>> ask_dns(const Endpoint& server, std::vector<std::byte> query);

}  // namespace muster::cli
