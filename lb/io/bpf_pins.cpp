#include "lb/io/bpf_pins.hpp"

#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <sys/socket.h>
#include <sys/vfs.h>
#include <system_error>
#include <unistd.h>

#include <linux/magic.h>

#include "lb/io/netlink.hpp"

#ifndef SO_NETNS_COOKIE
#define SO_NETNS_COOKIE 71
#endif

namespace muster::lb::bpf {
namespace {

namespace fs = std::filesystem;

ErrorCode code_of(const std::error_code& error) {
  return netlink::errno_code(error.value());
}

}  // namespace

Result<std::uint64_t> namespace_cookie() {
  const int fd = ::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return netlink::errno_code(errno);
  std::uint64_t cookie = 0;
  socklen_t size = sizeof cookie;
  const int done = ::getsockopt(fd, SOL_SOCKET, SO_NETNS_COOKIE, &cookie, &size);
  const int error = errno;
  ::close(fd);
  if (done != 0) return netlink::errno_code(error);
  return cookie;
}

Result<std::string> pin_folder(const std::string& table) {
  const auto cookie = namespace_cookie();
  if (!cookie) return cookie.error();
  return std::string{kFileSystem} + "/" + table + "/netns-" + std::to_string(*cookie);
}

bool has_file_system() {
  struct statfs about {};
  return ::statfs(kFileSystem, &about) == 0 &&
         static_cast<std::uint64_t>(about.f_type) == std::uint64_t{BPF_FS_MAGIC};
}

bool pinned(const std::string& table) {
  const auto folder = pin_folder(table);
  std::error_code error;
  return folder && fs::exists(*folder, error);
}

Result<std::vector<std::string>> unpin(const std::string& table) {
  std::vector<std::string> removed;
  if (!pinned(table)) return removed;
  const fs::path folder = *pin_folder(table);
  std::error_code error;
  // Attachments before the maps they look into.
  for (const bool links : {true, false}) {
    for (fs::directory_iterator entry{folder, error}, end; !error && entry != end;
         entry.increment(error)) {
      if (links != entry->path().filename().string().starts_with("link-")) continue;
      if (!fs::remove(entry->path(), error)) break;
    }
    if (error) return code_of(error);
  }
  fs::remove(folder, error);
  if (error) return code_of(error);
  removed.push_back("BPF programs and maps in " + folder.string());
  fs::remove(folder.parent_path(), error);  // unless another namespace's are there
  return removed;
}

std::string cgroup_root() {
  std::ifstream mounts{"/proc/self/mountinfo"};
  for (std::string line; std::getline(mounts, line);) {
    const std::size_t dash = line.find(" - cgroup2 ");
    if (dash == std::string::npos) continue;
    std::istringstream words{line};
    std::string skipped;
    std::string root;
    std::string folder;
    words >> skipped >> skipped >> skipped >> root >> folder;
    // Every cgroup but the root has a type, also one that a namespace shows as "/".
    std::error_code error;
    if (root == "/" && !fs::exists(folder + "/cgroup.type", error)) return folder;
  }
  return {};
}

}  // namespace muster::lb::bpf
