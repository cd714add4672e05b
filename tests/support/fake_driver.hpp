#pragma once

#include <cerrno>
#include <cstddef>
#include <functional>
#include <mutex>
#include <set>
#include <string>
#include <sys/eventfd.h>
#include <unistd.h>
#include <utility>
#include <variant>
#include <vector>

#include "lb/io/driver.hpp"

namespace muster::testing {

/// A kernel in memory; it outlives the drivers opened on it, as a real one does.
class FakeKernel {
 public:
  FakeKernel() : news_{::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)} {}
  FakeKernel(const FakeKernel&) = delete;
  FakeKernel& operator=(const FakeKernel&) = delete;
  ~FakeKernel() { ::close(news_); }

  lb::KernelState state;
  lb::RouteSources routes;
  std::size_t routes_changed = 0;
  std::vector<lb::UdpKeep> flushes;
  int flushes_to_refuse = 0;
  int routes_to_refuse = 0;
  std::size_t writes = 0;  // transactions that were carried out
  std::size_t calls = 0;   // everything that can fail
  std::size_t reads = 0;

  /// This call fails, counted from 1; 0: none does.
  std::size_t fail_at = 0;
  int fail_with = EBUSY;
  /// Any transaction that names one of these is refused.
  std::set<Vip> poison;
  /// Seen by the tests after each transaction.
  std::function<void(const lb::KernelState&)> after_write = [](const lb::KernelState&) {};
  std::mutex mutex;  // read() and flush_udp() come from another thread

  /// Somebody else takes everything away.
  void flush_all() {
    {
      const std::scoped_lock lock{mutex};
      state = {};
    }
    ::eventfd_write(news_, 1);
  }
  int news() const { return news_; }

 private:
  int news_;
};

class FakeDriver final : public lb::Driver {
 public:
  explicit FakeDriver(FakeKernel& kernel) : kernel_{kernel} {}

  Result<lb::Capabilities> open(const lb::DriverConfig&) override {
    return lb::Capabilities{
        .driver = "fake", .syn_failover = true, .syn_failover_missing = {}, .passed_over = {}};
  }

  Result<lb::KernelState> read() override {
    const std::scoped_lock lock{kernel_.mutex};
    ++kernel_.reads;
    if (fails()) return error(kernel_.fail_with);
    return kernel_.state;
  }

  void adopt(const lb::KernelState&) override {}

  Result<void> apply(const lb::Transaction& transaction) override {
    const std::scoped_lock lock{kernel_.mutex};
    if (!transaction.reset && transaction.commands.empty()) return {};
    if (fails()) return error(kernel_.fail_with);
    lb::KernelState next = transaction.reset
                               ? lb::KernelState{.schema = lb::KernelState::Schema::current}
                               : kernel_.state;
    if (next.schema != lb::KernelState::Schema::current) return error(ENOENT);
    for (const lb::Command& command : transaction.commands) {
      if (!carry_out(command, next)) return error(EEXIST);
    }
    kernel_.state = std::move(next);
    ++kernel_.writes;
    kernel_.after_write(kernel_.state);
    return {};
  }

  Result<std::size_t> publish_routes(const lb::RouteSources& sources) override {
    const std::scoped_lock lock{kernel_.mutex};
    if (fails()) return error(kernel_.fail_with);
    if (kernel_.routes_to_refuse > 0) {
      --kernel_.routes_to_refuse;
      return error(EINVAL);
    }
    const std::size_t changed = kernel_.routes == sources ? 0 : 1;
    kernel_.routes = sources;
    kernel_.routes_changed += changed;
    return changed;
  }

  lb::RouteSources find_sources() override { return {}; }

  Result<std::size_t> flush_udp(const lb::UdpKeep& keep) override {
    const std::scoped_lock lock{kernel_.mutex};
    if (kernel_.flushes_to_refuse > 0) {
      --kernel_.flushes_to_refuse;
      return error(EBUSY);
    }
    kernel_.flushes.push_back(keep);
    return std::size_t{0};
  }

  int monitor_fd() const noexcept override { return kernel_.news(); }
  bool drain_monitor() override {
    eventfd_t count = 0;
    return ::eventfd_read(kernel_.news(), &count) == 0;
  }

  Result<std::size_t> present() override {
    const std::scoped_lock lock{kernel_.mutex};
    return std::size_t{kernel_.state.schema != lb::KernelState::Schema::absent ? 1U : 0U};
  }

  Result<std::vector<std::string>> cleanup() override {
    const std::scoped_lock lock{kernel_.mutex};
    kernel_.state = {};
    kernel_.routes = {};
    return std::vector<std::string>{"everything"};
  }

  std::string detail() const override { return {}; }

 private:
  static ErrorCode error(int number) { return {number, boost::system::system_category()}; }
  bool fails() { return ++kernel_.calls == kernel_.fail_at; }

  bool carry_out(const lb::Command& command, lb::KernelState& next) {
    if (const auto* put = std::get_if<lb::PutHairpin>(&command)) {
      return next.hairpin.insert(put->address).second;
    }
    if (const auto* drop = std::get_if<lb::DropHairpin>(&command)) {
      return next.hairpin.erase(drop->address) == 1;
    }
    const bool poisoned = std::visit(
        [this](const auto& c) {
          if constexpr (requires { c.vip; }) return kernel_.poison.contains(c.vip);
          return false;
        },
        command);
    return !poisoned && lb::apply(command, next.vips);
  }

  FakeKernel& kernel_;
};

}  // namespace muster::testing
