#pragma once

#include <map>
#include <string>
#include <vector>

#include "lb/io/netns/opener.hpp"

namespace muster::lb::netns {

/// Hears of changes in folders, and of folders that appear: their nearest parent is watched until
/// they do. A folder that this process may not read is not heard of; somebody has to look.
class FolderWatch {
 public:
  explicit FolderWatch(std::vector<std::string> folders);

  /// Becomes readable with news; -1: there is no inotify.
  int fd() const noexcept { return inotify_.get(); }
  /// Reads news away, and watches what is there by now. Bounded: what it leaves keeps fd()
  /// readable.
  void drain();
  /// One of the folders is there, and has something in it as far as can be seen.
  bool something_there() const;

 private:
  void arm();
  void arm(const std::string& folder);

  std::vector<std::string> folders_;
  Handle inotify_;
  std::map<std::string, int> watched_;  // folder -> what watches it, or a parent of it
};

}  // namespace muster::lb::netns
