#pragma once

#include <functional>
#include <string>
#include <vector>

#include "dev/fd.hpp"

/// Namespaces and processes in them. Linux only, root only; everything throws std::system_error
/// or std::runtime_error with a sentence for the user. Call from one thread: namespaces are
/// entered and left again on the calling one.
namespace muster::dev {

/// What a process is put into. Borrowed descriptors; -1 leaves the caller's.
struct Entry {
  int net = -1;
  int mount = -1;
  int uts = -1;
};

struct Namespaces {
  Fd net;
  Fd mount;
  Fd uts;
  Entry entry() const noexcept {
    return {.net = net.get(), .mount = mount.get(), .uts = uts.get()};
  }
};

/// A new network namespace, with nothing in it but a loopback that is down.
Fd make_network_namespace();

/// New network, mount and UTS namespaces. `prepare` runs in them, in a child process, and may
/// mount and set what it likes; what it throws comes out here.
Namespaces make_namespaces(const std::function<void()>& prepare);

struct Command {
  std::vector<std::string> argv;         // argv[0] is looked up in PATH of `environment`
  std::vector<std::string> environment;  // "NAME=value"
  std::string directory = "/";
  Entry entry;
  int output = -1;  // stdout and stderr; -1: /dev/null
};

/// Starts `command` in a session of its own, with default signals and no descriptor but the three
/// standard ones. Returns its pid once exec has succeeded.
int spawn(const Command& command);

/// Runs `argv` in `entry` with `input` on its stdin and waits. Throws with what it printed to
/// stderr if it fails. For tools that are done in milliseconds.
void run_tool(const std::vector<std::string>& argv, const std::string& input, const Entry& entry);

/// A TCP socket that listens on `address`:`port` in the namespace `net`.
Fd listen_in(int net, const std::string& address, std::uint16_t port);
/// An unconnected, non-blocking TCP socket in the namespace `net`.
Fd socket_in(int net);

/// Sends `signal` to every process of the session `session`.
void signal_session(int session, int signal);

/// The pid the host knows process `pid` by, through an open `/proc` of the host's; -1 if unknown.
/// `own_host_pid` is the caller's own pid there.
int host_pid(int host_proc, int own_host_pid, int pid);

}  // namespace muster::dev
