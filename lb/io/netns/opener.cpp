#include "lb/io/netns/opener.hpp"

#include <cerrno>
#include <dirent.h>
#include <fcntl.h>
#include <memory>
#include <optional>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <thread>

#include <linux/magic.h>
#include <linux/netlink.h>
#include <linux/nsfs.h>

namespace muster::lb::netns {
namespace {

/// Nobody but root can have put it there.
bool is_roots(const struct stat& found) {
  return found.st_uid == 0 && (found.st_mode & (S_IWGRP | S_IWOTH)) == 0;
}

/// Opens what an O_PATH descriptor refers to, whatever its path leads to by now.
Handle reopen(const Handle& path) {
  const std::string link = "/proc/self/fd/" + std::to_string(path.get());
  return Handle{::open(link.c_str(), O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC)};
}

bool is_namespace_file(const Handle& path) {
  struct statfs found {};
  return ::fstatfs(path.get(), &found) == 0 && found.f_type == NSFS_MAGIC;
}

std::optional<Identity> own_namespace() {
  struct stat own {};
  if (::stat("/proc/thread-self/ns/net", &own) != 0) return std::nullopt;
  return Identity{own.st_dev, own.st_ino};
}

/// What a file led to.
struct Found {
  Verdict verdict = Verdict::failed;
  Identity id = {};
  Handle ns = {};
};

Found check_namespace(const Handle& path) {
  if (!is_namespace_file(path)) return {.verdict = Verdict::not_a_namespace};
  Handle ns = reopen(path);
  if (!ns) return {.verdict = Verdict::unreachable};
  if (::ioctl(ns.get(), NS_GET_NSTYPE) != CLONE_NEWNET) {
    return {.verdict = Verdict::not_a_namespace};
  }
  struct stat found {};
  const auto own = own_namespace();
  if (!own || ::fstat(ns.get(), &found) != 0) return {.verdict = Verdict::failed};
  const Identity id{found.st_dev, found.st_ino};
  if (id == *own) return {.verdict = Verdict::own_namespace};
  return {.verdict = Verdict::good, .id = id, .ns = std::move(ns)};
}

Found follow(const Handle& file) {
  const Handle readable = reopen(file);
  if (!readable) return {.verdict = Verdict::gone};
  std::string content(kMaxPath + 2, '\0');  // and a line's end
  const auto size = ::read(readable.get(), content.data(), content.size());
  if (size < 0) return {.verdict = Verdict::failed};
  content.resize(static_cast<std::size_t>(size));
  const auto path = path_in(content);
  if (!path) return {.verdict = Verdict::bad_path};
  // Without opening it: who knows what a device does.
  const Handle target{::open(path->c_str(), O_PATH | O_CLOEXEC)};
  if (!target) return {.verdict = Verdict::unreachable};
  return check_namespace(target);
}

Found find(const Handle& folder, const std::string& name) {
  const Handle file{::openat(folder.get(), name.c_str(), O_PATH | O_NOFOLLOW | O_CLOEXEC)};
  if (!file) return {.verdict = Verdict::gone};
  if (is_namespace_file(file)) return check_namespace(file);
  struct stat found {};
  if (::fstat(file.get(), &found) != 0) return {.verdict = Verdict::failed};
  if (!S_ISREG(found.st_mode)) return {.verdict = Verdict::not_a_file};
  if (!is_roots(found)) return {.verdict = Verdict::bad_owner};
  if (found.st_size > static_cast<off_t>(kMaxPath + 1)) return {.verdict = Verdict::too_large};
  return follow(file);
}

struct Folder {
  Verdict verdict = Verdict::failed;
  Handle handle = {};
};

Folder open_folder(const std::string& path) {
  Handle handle{::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)};
  if (!handle) return {.verdict = errno == ENOENT ? Verdict::no_folder : Verdict::bad_folder};
  struct stat found {};
  if (::fstat(handle.get(), &found) != 0 || !is_roots(found)) {
    return {.verdict = Verdict::bad_folder};
  }
  return {.verdict = Verdict::good, .handle = std::move(handle)};
}

struct Names {
  std::vector<std::string> names;
  std::uint32_t beyond = 0;
};

Names list(const Handle& folder) {
  Names found;
  const int again = ::openat(folder.get(), ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (again < 0) return found;
  const std::unique_ptr<DIR, int (*)(DIR*)> entries{::fdopendir(again), ::closedir};
  if (!entries) {
    ::close(again);
    return found;
  }
  while (const dirent* entry = ::readdir(entries.get())) {
    const std::string name{&entry->d_name[0]};
    if (!is_file_name(name)) continue;
    if (found.names.size() < kMaxEntries) {
      found.names.push_back(name);
    } else {
      ++found.beyond;
    }
  }
  return found;
}

/// On a thread of its own: one that has been elsewhere is not to be trusted with anything more.
std::vector<Handle> sockets_in(const Handle& ns) {
  std::vector<Handle> sockets;
  std::thread{[&] {
    if (::setns(ns.get(), CLONE_NEWNET) != 0) return;
    for (std::size_t i = 0; i < kSockets; ++i) {
      const int protocol = i < kNetfilterSockets ? NETLINK_NETFILTER : NETLINK_ROUTE;
      Handle socket{::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, protocol)};
      if (!socket) break;
      sockets.push_back(std::move(socket));
    }
  }}.join();
  if (sockets.size() < kSockets) sockets.clear();
  return sockets;
}

}  // namespace

void look(const std::vector<std::string>& folders, const std::function<void(const Answer&)>& each) {
  for (std::size_t i = 0; i < folders.size() && i < kMaxFolders; ++i) {
    const auto number = static_cast<std::uint16_t>(i);
    const Folder folder = open_folder(folders[i]);
    Names found;
    if (folder.verdict == Verdict::good) found = list(folder.handle);
    each({.kind = Answer::Kind::folder,
          .verdict = folder.verdict,
          .folder = number,
          .beyond = found.beyond,
          .name = folders[i]});
    for (const std::string& name : found.names) {
      const Found file = find(folder.handle, name);
      each({.kind = Answer::Kind::entry,
            .verdict = file.verdict,
            .folder = number,
            .id = file.id,
            .name = name});
    }
  }
  each({.kind = Answer::Kind::end});
}

Opened open(const std::vector<std::string>& folders, const Request& request) {
  if (request.folder >= folders.size() || !is_file_name(request.name)) {
    return {.verdict = Verdict::bad_request};
  }
  const Folder folder = open_folder(folders[request.folder]);
  if (folder.verdict != Verdict::good) return {.verdict = folder.verdict};
  const Found file = find(folder.handle, request.name);
  if (file.verdict != Verdict::good) return {.verdict = file.verdict};
  std::vector<Handle> sockets = sockets_in(file.ns);
  const Verdict verdict = sockets.empty() ? Verdict::failed : Verdict::good;
  return {.verdict = verdict, .id = file.id, .sockets = std::move(sockets)};
}

}  // namespace muster::lb::netns
