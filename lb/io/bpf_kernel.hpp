#pragma once

#include <cstdint>
#include <string>
#include <utility>

#include "base/result.hpp"
#include "lb/io/driver.hpp"

/// The bpf driver's programs in the kernel (lb/bpf/balance.bpf.c), by libbpf.
namespace muster::lb::bpf {

/// A descriptor of its own.
class Fd {
 public:
  Fd() = default;
  explicit Fd(int fd) noexcept : fd_{fd} {}
  Fd(Fd&& other) noexcept : fd_{std::exchange(other.fd_, -1)} {}
  Fd& operator=(Fd&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  ~Fd();
  int get() const noexcept { return fd_; }
  explicit operator bool() const noexcept { return fd_ >= 0; }

 private:
  int fd_ = -1;
};

/// The maps of programs that are attached. They stay when this object goes.
struct Maps {
  Fd vips;
  Fd slots;
  Fd dialled;
};

/// Attaches the programs to `cgroup` (a folder of cgroup2) for the calling thread's network
/// namespace, and pins all of it; or takes over what an earlier run has pinned, if that is the same
/// programs at the same cgroup. Other programs of ours are replaced: nftables serves meanwhile.
/// Errors: lb::Errc; `detail` says more.
Result<Maps> attach(const std::string& table, const std::string& cgroup, std::string& detail);

/// Whether attach() would find what it needs, and the kernel accepts the programs. Attaches
/// nothing.
Result<void> probe(const std::string& cgroup, std::string& detail);

}  // namespace muster::lb::bpf
