#include "lb/io/netns/folder_watch.hpp"

#include <array>
#include <cerrno>
#include <dirent.h>
#include <memory>
#include <string_view>
#include <sys/inotify.h>

namespace muster::lb::netns {
namespace {

constexpr std::uint32_t kInside = IN_CREATE | IN_CLOSE_WRITE | IN_DELETE | IN_MOVED_TO |
                                  IN_MOVED_FROM | IN_ATTRIB | IN_DELETE_SELF | IN_MOVE_SELF |
                                  IN_ONLYDIR;
/// Of a parent only what may bring the folder: it may be a busy one.
constexpr std::uint32_t kParent =
    IN_CREATE | IN_MOVED_TO | IN_DELETE_SELF | IN_MOVE_SELF | IN_ONLYDIR;
constexpr int kMaxReads = 64;  // 64 × 16 KiB, some 500 events each

}  // namespace

FolderWatch::FolderWatch(std::vector<std::string> folders)
    : folders_{std::move(folders)}, inotify_{::inotify_init1(IN_NONBLOCK | IN_CLOEXEC)} {
  arm();
}

void FolderWatch::arm(const std::string& folder) {
  int watch = ::inotify_add_watch(inotify_.get(), folder.c_str(), kInside);
  std::string parent = folder;
  while (watch < 0 && errno == ENOENT && parent.size() > 1) {
    const std::size_t slash = parent.rfind('/');
    parent = slash == 0 || slash == std::string::npos ? "/" : parent.substr(0, slash);
    watch = ::inotify_add_watch(inotify_.get(), parent.c_str(), kParent | IN_MASK_ADD);
  }
  auto& before = watched_.try_emplace(folder, -1).first->second;
  const int former = std::exchange(before, watch);
  if (former < 0 || former == watch) return;
  for (const auto& [other, used] : watched_) {
    if (used == former) return;
  }
  ::inotify_rm_watch(inotify_.get(), former);
}

void FolderWatch::arm() {
  if (!inotify_) return;
  // Twice: one may have come between the look at it and the watch of its parent.
  for (int pass = 0; pass < 2; ++pass) {
    for (const std::string& folder : folders_) arm(folder);
  }
}

void FolderWatch::drain() {
  alignas(inotify_event) std::array<char, 16'384> events{};
  for (int i = 0; i < kMaxReads; ++i) {
    if (::read(inotify_.get(), events.data(), events.size()) <= 0) break;
  }
  arm();
}

bool FolderWatch::something_there() const {
  for (const std::string& folder : folders_) {
    const std::unique_ptr<DIR, int (*)(DIR*)> open{::opendir(folder.c_str()), ::closedir};
    if (!open && errno != ENOENT) return true;  // who knows
    while (const dirent* entry = open ? ::readdir(open.get()) : nullptr) {
      const std::string_view name{&entry->d_name[0]};
      if (name != "." && name != "..") return true;
    }
  }
  return false;
}

}  // namespace muster::lb::netns
