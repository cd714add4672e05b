#pragma once

#include <exception>
#include <optional>
#include <string>
#include <thread>
#include <type_traits>
#include <utility>

namespace muster::testing {

/// Why this process cannot make network namespaces; empty if it can. Tests that need them begin
/// with MUSTER_NEEDS_NETNS().
std::optional<std::string> netns_missing();

/// A network namespace of its own, with `lo` up. It has no name: nothing is left in /run/netns,
/// and it is gone with this object and the sockets opened in it, also when the process dies.
class Netns {
 public:
  Netns();
  Netns(Netns&& other) noexcept : fd_{std::exchange(other.fd_, -1)} {}
  Netns& operator=(Netns&&) = delete;
  ~Netns();

  /// Runs `function` on a new thread inside, waits for it, hands on what it returns or throws.
  /// Sockets and threads made there stay in the namespace. doctest checks may be used inside.
  template <class Function>
  auto run(Function function) const {
    using Value = std::invoke_result_t<Function>;
    std::exception_ptr failure;
    std::conditional_t<std::is_void_v<Value>, std::optional<int>, std::optional<Value>> value;
    std::thread{[&] {
      try {
        enter();
        if constexpr (std::is_void_v<Value>) {
          function();
        } else {
          value.emplace(function());
        }
      } catch (...) {
        failure = std::current_exception();
      }
    }}.join();
    if (failure) std::rethrow_exception(failure);
    if constexpr (!std::is_void_v<Value>) return std::move(*value);
  }

  /// Moves the calling thread inside, for good.
  void enter() const;

  /// Runs a shell command inside; returns what it printed. Throws std::runtime_error, with what it
  /// printed, if it fails.
  std::string shell(const std::string& command) const;

  /// What `ip` takes for this namespace after the word netns, in any process of this user.
  std::string path() const;

 private:
  int fd_ = -1;
};

/// Joins two namespaces by a veth pair, both ends up, with these addresses ("10.0.0.1/24"; more
/// than one may be given, separated by spaces).
struct VethEnd {
  const Netns& netns;
  std::string name;
  std::string addresses;
};
void connect(const VethEnd& a, const VethEnd& b);

}  // namespace muster::testing

/// Leaves a doctest test case, visibly, where namespaces cannot be made. ctest shows it as skipped.
#define MUSTER_NEEDS_NETNS()                                       \
  do {                                                             \
    if (const auto missing = ::muster::testing::netns_missing()) { \
      MESSAGE("SKIPPED: " << *missing);                            \
      return;                                                      \
    }                                                              \
  } while (false)
