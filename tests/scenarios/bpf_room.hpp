#pragma once

#include <cerrno>
#include <cstring>
#include <fstream>
#include <sched.h>
#include <string>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lb/io/bpf_pins.hpp"

namespace muster::testing {

/// A cgroup that holds this process only, and a BPF file system that only it sees: what the bpf
/// driver attaches touches nothing else, and is gone with the process. Made once, by the thread
/// that all others are made by.
class BpfRoom {
 public:
  static const BpfRoom& get() {
    static const BpfRoom room;
    return room;
  }
  BpfRoom(const BpfRoom&) = delete;
  BpfRoom& operator=(const BpfRoom&) = delete;
  ~BpfRoom() {
    if (!missing_.empty() || ::getpid() != owner_) return;
    move_to(root_);
    ::rmdir(cgroup_.c_str());
  }

  /// Why there can be none; empty if there is one.
  const std::string& missing() const noexcept { return missing_; }
  const std::string& cgroup() const noexcept { return cgroup_; }

 private:
  BpfRoom() : owner_{::getpid()}, root_{lb::bpf::cgroup_root()} {
    if (root_.empty()) {
      missing_ = "no cgroup2 hierarchy";
      return;
    }
    ::mkdir(lb::bpf::kFileSystem, 0755);
    if (::unshare(CLONE_NEWNS) != 0 ||
        ::mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0 ||
        ::mount("bpf", lb::bpf::kFileSystem, "bpf", 0, nullptr) != 0) {
      missing_ = std::string{"no BPF file system of our own: "} + std::strerror(errno);
      return;
    }
    cgroup_ = root_ + "/muster-test-" + std::to_string(owner_);
    if (::mkdir(cgroup_.c_str(), 0755) != 0 || !move_to(cgroup_)) {
      missing_ = cgroup_ + ": " + std::strerror(errno);
      ::rmdir(cgroup_.c_str());
    }
  }
  bool move_to(const std::string& cgroup) const {
    std::ofstream procs{cgroup + "/cgroup.procs"};
    procs << owner_ << std::flush;
    return procs.good();
  }

  pid_t owner_;
  std::string root_;
  std::string cgroup_;
  std::string missing_;
};

}  // namespace muster::testing
