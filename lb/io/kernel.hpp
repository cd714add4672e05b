#pragma once

// Private to balancer*.cpp and namespaces*.cpp.

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/thread_pool.hpp>

#include "base/io/log_once.hpp"
#include "lb/core/vip_table.hpp"
#include "lb/io/balancer.hpp"
#include "lb/io/balancer_metrics.hpp"
#include "lb/io/connections.hpp"
#include "lb/io/limits.hpp"
#include "lb/io/programmer.hpp"

namespace muster::lb {

namespace asio = boost::asio;

inline constexpr Duration kFirstBackoff{100};
/// A route is refused while its source address is not there, or not yet tried for duplicates.
inline constexpr Duration kFirstRouteRetry{250};

/// What all kernels of a Balancer have in common: what is wanted, and who hears of trouble.
struct Shared {
  asio::any_io_executor control;
  BalancerOptions options;
  BalancerMetrics metrics;
  VipTable table;
  LogOnce log = {};
  bool complete = false;  // the cluster's first whole state has come
  std::optional<Prefix> range_v4 = {};
  std::optional<Prefix> range_v6 = {};
};

/// One kernel's tables and routes, brought to what the shared VipTable says and kept so: reading,
/// comparing, backing off, routes, what follows a change. The node's own network namespace is one,
/// each namespace that is served beside it another. Control thread only.
class Kernel : public std::enable_shared_from_this<Kernel> {
 public:
  struct Traits {
    std::string name = {};  // in messages; empty: the node's own
    std::size_t step_commands = Programmer::kStepCommands;
    /// Its table is rebuilt in steps rather than replaced in one long one.
    bool in_steps = false;
    /// It is not read as long as the driver knows that nobody else has changed anything.
    bool trusts_generation = false;
    /// Who changes what is ours again and again waits longer and longer: it is not to be trusted.
    bool tires = false;
    /// Its addresses may come after us: routes that lack a source are looked for again.
    bool awaits_sources = false;
  };
  enum class Turn : std::uint8_t { blocked, more, idle };

  /// `worker` has one thread, and is joined before this is destroyed.
  Kernel(Shared& shared, asio::thread_pool& worker, std::unique_ptr<Driver> driver, Traits traits);
  Kernel(const Kernel&) = delete;
  Kernel& operator=(const Kernel&) = delete;
  virtual ~Kernel() = default;

  Driver& driver() noexcept { return *driver_; }
  Programmer& programmer() noexcept { return programmer_; }
  const Programmer& programmer() const noexcept { return programmer_; }
  const std::string& name() const noexcept { return traits_.name; }

  /// Takes over what the first read brought.
  void begin(KernelState state);

  /// Does a bounded part of what there is to do.
  Turn step();
  /// After the last step: whether all that is wanted is in the kernel, and then what comes next.
  bool may_settle() const noexcept { return !exclusive_ && programmer_.serving(); }
  void settle();
  /// Does what is due.
  void tick(TimePoint now);
  TimePoint next_due(TimePoint now) const;

  /// Somebody else changed what is ours.
  void foreign_change();
  /// Reads at once, or after a while if it is not the first time.
  void read_later();
  void start_read(bool exclusive);
  RouteSources find_sources();
  /// Nothing is done any more; the driver is the caller's, once the worker is done with it.
  std::unique_ptr<Driver> retire();
  bool retired() const noexcept { return driver_ == nullptr; }

  bool serving() const noexcept { return programmer_.serving(); }
  bool healthy() const { return programmer_.knows_kernel() && programmer_.quarantined() == 0; }
  std::string last_error() const;
  void keep_error(std::string error) { last_error_ = std::move(error); }
  TimePoint last_reconcile() const noexcept { return last_reconcile_; }
  bool routes_published() const noexcept { return routes_published_; }

 protected:
  /// What a read on the worker brings back.
  struct ReadResult {
    Result<KernelState> state = ErrorCode{};
    std::shared_ptr<const ConnectionTotals> totals = {};
    std::vector<Limit> limits = {};
  };

  virtual void work() = 0;  // there is something to step()
  virtual void wake() = 0;  // next_due() may be sooner
  /// Further sources, or others.
  virtual void adjust(RouteSources&) {}
  virtual void on_settled() {}
  virtual void read_beside(ReadResult&) {}  // on the worker
  virtual void on_read(ReadResult&) {}
  virtual void on_adopted(ReadResult&) {}
  virtual void on_compared() {}
  virtual void at_rest(TimePoint) {}  // nothing is being read, nor has to be

 private:
  /// Whose old flows and remembered clients are to be looked through.
  struct Stale {
    UdpKeep udp;
    UdpKeep clients;
    bool empty() const noexcept { return udp.empty() && clients.empty(); }
  };
  struct Flushed {
    Result<std::size_t> udp = std::size_t{0};
    Result<std::size_t> clients = std::size_t{0};
  };

  std::string line(const std::string& what) const;
  void error(const std::string& kind) { shared_.metrics.error(kind_prefix() + kind); }
  std::string kind_prefix() const { return traits_.name.empty() ? "" : "namespace_"; }
  void failed();
  void publish_routes();
  void flush();
  void flushed(const Flushed& result, const Stale& stale);
  void finish_read(ReadResult result, std::uint64_t epoch, bool exclusive);

  Shared& shared_;
  asio::thread_pool& worker_;
  std::unique_ptr<Driver> driver_;
  Traits traits_;
  Programmer programmer_;
  RouteSources sources_;
  std::string last_error_;
  bool routes_published_ = false;

  /// Goes up with every write; a read that began before one tells nothing about now.
  std::uint64_t epoch_ = 0;
  bool reading_ = false;
  bool exclusive_ = false;  // nothing is written before the read is done
  bool read_wanted_ = false;
  TimePoint not_before_{};  // for the next read that is wanted
  Duration backoff_{kFirstBackoff};
  Duration route_backoff_{kFirstRouteRetry};
  std::optional<TimePoint> routes_due_;  // again
  TimePoint last_reconcile_{};
  Duration foreign_pause_{0};
  TimePoint last_foreign_{};  // when the latest foreign change was, or will be, answered
  Stale pending_;
  bool flushing_ = false;
};

}  // namespace muster::lb
