#include "dev/daemons.hpp"

#include <csignal>
#include <cstring>
#include <fcntl.h>
#include <filesystem>
#include <fstream>
#include <iomanip>
#include <random>
#include <sstream>
#include <sys/wait.h>

namespace muster::dev {

std::string daemon_config(unsigned node, std::size_t nodes, const std::string& source,
                          const std::string& extra) {
  const std::string address = node_address(node);
  // Any two know the rest; one by itself has nobody to wait for.
  const std::string join =
      nodes < 2 ? "" : "join = [\"" + node_address(1) + "\", \"" + node_address(2) + "\"]\n";
  return "[node]\naddress = \"" + address +
         "\"\n"
         "[mesos]\nmasters = [\"http://" +
         master_address() + ":" + std::to_string(kMasterPort) + "\"]\nsource = \"" + source +
         "\"\n"
         "[dns]\nlisten = [\"127.0.0.1:53\", \"" +
         address + ":53\"]\nupstreams = []\nhttp_listen = \"" + address +
         ":8123\"\n"
         "[metrics]\nlisten = \"127.0.0.1:61421\"\n"
         "[gossip]\nkey_file = \"/run/muster-dev/gossip.key\"\n" +
         join + "[state]\ndirectory = \"/run/muster-dev/state\"\n" + extra;
}

void Daemons::start_all() {
  daemons_.resize(context_.nodes.size());
  std::random_device entropy;
  std::ostringstream key;
  for (int word = 0; word < 8; ++word) {
    key << std::hex << std::setw(8) << std::setfill('0') << entropy();
  }
  for (const Node& node : context_.nodes) {
    std::ofstream{node.root + "/muster-dev/muster.toml"} << daemon_config(
        node.number, context_.nodes.size(), context_.source, context_.extra_config);
    const std::string key_file = node.root + "/muster-dev/gossip.key";
    std::ofstream{key_file} << key.str() << '\n';
    using std::filesystem::perms;
    std::filesystem::permissions(key_file, perms::owner_read | perms::owner_write);
    start(node.number);
  }
}

std::string Daemons::log_of(unsigned node) const {
  return context_.nodes[node - 1].root + "/muster-dev/muster.log";
}

bool Daemons::start(unsigned number) {
  Daemon& daemon = daemons_[number - 1];
  if (daemon.pid != 0) return false;
  const Fd log{::open(log_of(number).c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644)};
  try {
    daemon.pid =
        spawn({.argv = {context_.muster, "agent", "--config", "/run/muster-dev/muster.toml"},
               .environment = {"PATH=" + context_.path, "HOME=/root", "LANG=C.UTF-8"},
               .directory = "/",
               .entry = context_.nodes[number - 1].spaces.entry(),
               .output = log.get()});
  } catch (const std::exception& error) {
    daemon.note = error.what();
    context_.report("node" + std::to_string(number) + ": " + error.what());
    return true;
  }
  daemon.note = "running";
  context_.reaper.watch(daemon.pid, [this, number](int status) { ended(number, status); });
  return true;
}

bool Daemons::kill(unsigned number, bool restart) {
  Daemon& daemon = daemons_[number - 1];
  if (daemon.pid == 0) return false;
  daemon.restart = restart;
  daemon.note = "killed";
  ::kill(daemon.pid, SIGKILL);
  return true;
}

void Daemons::ended(unsigned number, int status) {
  Daemon& daemon = daemons_[number - 1];
  signal_session(daemon.pid, SIGKILL);  // its helpers, as systemd would
  daemon.pid = 0;
  if (daemon.note != "killed") {
    daemon.note = WIFSIGNALED(status) ? std::string{"died: "} + ::strsignal(WTERMSIG(status))
                                      : "exited with status " + std::to_string(WEXITSTATUS(status));
    context_.report("node" + std::to_string(number) + ": muster " + daemon.note +
                    "; its output: muster-dev logs " + std::to_string(number));
  }
  if (std::exchange(daemon.restart, false)) start(number);
}

}  // namespace muster::dev
