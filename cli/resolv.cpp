#include "cli/resolv.hpp"

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <optional>
#include <sstream>
#include <sys/stat.h>
#include <vector>

#include "cli/ask.hpp"
#include "cli/commands.hpp"
#include "cli/probe.hpp"

namespace muster::cli {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kMark = "# Written by `muster resolv install`";
constexpr const char* kDropIn = "etc/systemd/resolved.conf.d/muster.conf";
constexpr const char* kResolvConf = "etc/resolv.conf";
constexpr const char* kFormer = "etc/resolv.conf.before-muster";
constexpr std::size_t kMaxServers = 3;  // MAXNS of glibc
constexpr const char* kProbeName = "thisnode.thisdcos.directory";

std::optional<std::string> read(const fs::path& path) {
  std::ifstream in{path};
  if (!in) return std::nullopt;
  return std::string{std::istreambuf_iterator<char>{in}, {}};
}

// As one, so that nobody reads half a file; readable by all, as every program needs it.
bool replace(const fs::path& path, const std::string& content) {
  const fs::path fresh = path.string() + ".new";
  std::ofstream out{fresh};
  out << content;
  out.close();
  if (!out || chmod(fresh.c_str(), 0644) != 0) return false;
  if (std::rename(fresh.c_str(), path.c_str()) == 0) return true;
  const int error = errno;
  fs::remove(fresh);
  errno = error;
  return false;
}

int failed(const fs::path& path) {
  return complain("cannot write " + path.string() + ": " + std::strerror(errno) +
                  " (is this root?)");
}

// Whether systemd-resolved answers this machine's queries, going by where resolv.conf leads.
bool resolved_manages(const fs::path& root) {
  std::error_code error;
  const fs::path target = fs::read_symlink(root / kResolvConf, error);
  if (!error && target.string().find("systemd/resolve") != std::string::npos) return true;
  const auto text = read(root / kResolvConf);
  return text && text->find("nameserver 127.0.0.53") != std::string::npos;
}

void reload_resolved(const fs::path& root) {
  if (root != "/") return;
  if (std::system("systemctl try-reload-or-restart systemd-resolved >/dev/null 2>&1") != 0) {
    print("systemd-resolved could not be restarted: do it by hand\n");
  }
}

int install_drop_in(const ResolvOptions& options) {
  const fs::path path = options.root / kDropIn;
  const std::string content =
      std::string{kMark} +
      "; `muster resolv remove` removes it.\n[Resolve]\nDNS=" + options.server.to_string() +
      "\nDomains=~" + options.domain +
      " ~thisdcos.directory ~dcos.directory ~spartan ~zk ~global\n";
  if (read(path) == content) {
    print(path.string() + " is there already\n");
    return kGood;
  }
  std::error_code ignored;
  fs::create_directories(path.parent_path(), ignored);
  if (!replace(path, content)) return failed(path);
  print("wrote " + path.string() + ": the cluster's names are asked of muster\n");
  reload_resolved(options.root);
  return kGood;
}

}  // namespace

std::string resolv_conf_with(const std::string& former, const IpAddress& server) {
  std::string out = std::string{kMark} +
                    "; `muster resolv remove` puts the former one back.\nnameserver " +
                    server.to_string() + '\n';
  std::string settings;
  std::string kept;
  std::size_t servers = 1;
  std::istringstream lines{former};
  for (std::string line; std::getline(lines, line);) {
    std::istringstream words{line};
    std::string key;
    std::string word;
    words >> key;
    if (key == "nameserver") {
      words >> word;
      if (word == server.to_string() || servers >= kMaxServers) continue;
      ++servers;
      out += "nameserver " + word + '\n';
    } else if (key == "search" || key == "domain" || key == "sortlist") {
      settings += line + '\n';
    } else if (key == "options") {
      while (words >> word) {
        const bool ours =
            word.starts_with("timeout:") || word.starts_with("attempts:") || word == "rotate";
        if (!ours) kept += ' ' + word;
      }
    }
  }
  return out + settings + "options timeout:1 attempts:3" + kept + '\n';
}

int resolv_install(const ResolvOptions& options) {
  if (resolved_manages(options.root)) return install_drop_in(options);
  const fs::path path = options.root / kResolvConf;
  const std::string former = read(path).value_or("");
  if (former.starts_with(kMark)) {
    print(path.string() + " asks muster already\n");
    return kGood;
  }
  const fs::path backup = options.root / kFormer;
  std::error_code error;
  fs::remove(backup, error);
  if (fs::is_symlink(fs::symlink_status(path, error))) {
    fs::copy_symlink(path, backup, error);
  } else if (!replace(backup, former)) {
    return failed(backup);
  }
  if (error) return complain("cannot write " + backup.string() + ": " + error.message());
  if (!replace(path, resolv_conf_with(former, options.server))) return failed(path);
  print("wrote " + path.string() + ": muster is asked first; the former one is " + backup.string() +
        '\n');
  return kGood;
}

int resolv_remove(const ResolvOptions& options) {
  bool found = false;
  if (const fs::path path = options.root / kDropIn; read(path).value_or("").starts_with(kMark)) {
    found = true;
    std::error_code error;
    if (!fs::remove(path, error))
      return complain("cannot remove " + path.string() + ": " + error.message());
    print("removed " + path.string() + '\n');
    reload_resolved(options.root);
  }
  const fs::path path = options.root / kResolvConf;
  const fs::path backup = options.root / kFormer;
  std::error_code error;
  const bool kept = fs::exists(fs::symlink_status(backup, error));
  if (read(path).value_or("").starts_with(kMark) && kept) {
    found = true;
    fs::rename(backup, path, error);
    if (error) return complain("cannot put " + path.string() + " back: " + error.message());
    print("put the former " + path.string() + " back\n");
  } else if (kept) {
    found = true;
    fs::remove(backup, error);
    print("somebody has changed " + path.string() + " since: left as it is\n");
  }
  if (!found) print("nothing of muster's was there\n");
  return kGood;
}

int resolv_check(const ResolvOptions& options) {
  const auto text = read(options.root / kResolvConf).value_or("");
  std::istringstream lines{text};
  std::string servers;
  for (std::string line; std::getline(lines, line);) {
    if (!line.starts_with("nameserver ")) continue;
    servers += (servers.empty() ? "" : ", ") + line.substr(11);
  }
  print("resolv.conf names " + (servers.empty() ? "no server" : servers) +
        (resolved_manages(options.root) ? " (systemd-resolved)" : "") + '\n');
  if (!system_resolve(kProbeName).empty()) {
    print(std::string{kProbeName} + " is found: this machine's programs ask muster\n");
    return kGood;
  }
  print(std::string{kProbeName} +
        " is not found: this machine's programs do not ask muster, or it does not answer; `muster "
        "status` "
        "says whether it serves, `muster resolv install` makes it the first to be asked\n");
  return kTrouble;
}

}  // namespace muster::cli
