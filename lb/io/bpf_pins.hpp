#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/result.hpp"

/// Where the bpf driver's maps and attachments are kept while no process holds them: one folder of
/// the BPF file system for each network namespace. Needs no libbpf.
namespace muster::lb::bpf {

inline constexpr const char* kFileSystem = "/sys/fs/bpf";

/// What the kernel calls the calling thread's network namespace; never given twice in a boot.
/// Errors: before Linux 5.14 there is no such thing.
Result<std::uint64_t> namespace_cookie();

/// The folder for `table` and the calling thread's namespace, whether it is there or not.
Result<std::string> pin_folder(const std::string& table);

/// True if a BPF file system is mounted at kFileSystem.
bool has_file_system();

/// True if there is anything of ours for the calling thread's namespace.
bool pinned(const std::string& table);

/// Takes away what pinned() finds: programs are detached with it, and VIPs are nftables' at once.
/// Says what it removed, one line each. Errors: the file system's.
Result<std::vector<std::string>> unpin(const std::string& table);

/// The real root of the cgroup2 hierarchy. Empty: there is none, or this process sees only a part
/// of it (a cgroup namespace), under which others' processes would not be seen.
std::string cgroup_root();

}  // namespace muster::lb::bpf
