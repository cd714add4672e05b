#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "lb/core/plan.hpp"
#include "lb/core/vip_table.hpp"
#include "lb/io/driver.hpp"

namespace muster::lb {

/// Brings a driver's kernel to what the VipTable says, a step at a time. Balancer says when.
///
/// Believes in its own record of the kernel until told otherwise: by adopt(), after a read, or
/// by an error, after which nothing is written before the next adopt(). So does a refusal that is
/// nobody's fault but the record's heal itself; one that a fresh record does not heal is
/// somebody's: the batch is split until the Vip is found, and the others go on.
class Programmer {
 public:
  /// Element changes in one transaction: some 2 ms of the kernel's time. More are no cheaper.
  static constexpr std::size_t kStepCommands = 250;
  /// Vips looked at in one step, most of which may turn out to be as wanted.
  static constexpr std::size_t kStepVips = 500;

  struct Limits {
    std::size_t step_commands = kStepCommands;
    /// Another schema is not replaced in one transaction, unless there are few Vips.
    bool replace_in_steps = false;
  };

  /// What `table` says is brought there; who changes it tells of it by take() or touch().
  Programmer(Driver& driver, const VipTable& table) : Programmer{driver, table, Limits{}} {}
  Programmer(Driver& driver, const VipTable& table, Limits limits)
      : driver_{driver}, table_{table}, limits_{limits} {}

  const VipTable& table() const noexcept { return table_; }
  const AppliedTable& applied() const noexcept { return applied_; }

  /// Takes `state` for what is there. Returns how many Vips differ from the record.
  std::size_t adopt(KernelState state);

  /// The table has taken in a delta that touched `vips`, and was `complete` or not; nothing is
  /// written yet.
  void take(std::span<const Vip> vips, bool complete);
  /// What is wanted of `vips` may differ, though nobody declared so: the table's advance() or
  /// failed().
  void touch(std::span<const Vip> vips) { dirty_.insert(vips.begin(), vips.end()); }

  /// What has been taken so far is from disk, and may be some seconds older than what the kernel
  /// was told last. Until trust(), where the two differ over a backend of a Vip that the kernel
  /// has, the kernel counts. What is taken from now on is done at once, and of whom it speaks
  /// there is no doubt any more.
  void doubt();
  /// True: there is something to do.
  bool trust();

  enum class Outcome : std::uint8_t {
    idle,      // all is as wanted, or waits for the first complete state
    more,      // a part was done
    must_read  // the record is wrong: read, adopt(), go on
  };
  /// Does one bounded part of what is to be done. Errors are counted, kept in last_error(), and
  /// end in must_read, or in quarantine.
  Outcome step();

  bool knows_kernel() const noexcept { return knows_; }
  /// The table in the kernel is ours, and of this schema.
  bool serving() const noexcept { return knows_ && schema_ == KernelState::Schema::current; }
  /// The cluster's first whole state has come: what it does not name may be pruned.
  bool complete() const noexcept { return complete_; }
  /// Stops believing the record.
  void distrust() noexcept { knows_ = false; }
  /// Gives quarantined Vips another chance.
  void retry_quarantined();

  bool is_quarantined(const Vip& vip) const { return quarantined_.contains(vip); }
  std::size_t quarantined() const noexcept { return quarantined_.size(); }
  const std::string& last_error() const noexcept { return last_error_; }
  std::uint64_t applied_backends() const noexcept { return backends_; }

  /// udp Vips changed since the last call, and whom flows to each may go on to.
  UdpKeep take_udp_changes();

  /// The same for Vips with affinity, and whom remembered clients may go on to.
  UdpKeep take_affinity_changes();

  struct Counts {
    std::uint64_t changes = 0;  // Vips brought to a new state
    std::uint64_t errors = 0;   // refused transactions
  };
  /// Since the last call.
  Counts take_counts();

 private:
  struct Work {
    Vip vip;
    Plan plan;
  };
  using Batch = std::vector<Work>;

  /// A Vip's backends in the kernel against those on disk.
  struct Doubt {
    std::set<Endpoint> only_kernel;
    std::set<Endpoint> only_disk;
    std::vector<Backend> declared;  // when last looked at
  };

  std::optional<Service> wanted(const Vip& vip) const;
  std::vector<Backend> declared(const Vip& vip) const;
  void clear_doubts(const Vip& vip);
  Batch next_batch();
  bool run_hairpin(bool puts);
  enum class Ran : std::uint8_t { all, nothing, half };
  Ran run(const Batch& batch, std::size_t from, std::size_t to);
  void bisect(const Batch& batch, std::size_t from, std::size_t to);
  bool commit(const Transaction& transaction);
  Outcome build_tables();
  Outcome replace_tables();
  void record(const std::vector<Command>& commands);
  void note_wish(const Vip& vip, const std::optional<Service>& service);
  const Applied& applied_of(const Vip& vip) const;
  void finish(const Work& work);

  Driver& driver_;
  const VipTable& table_;
  Limits limits_;
  AppliedTable applied_;
  std::uint64_t backends_ = 0;  // slots' distinct endpoints, summed over applied_
  std::set<IpAddress> applied_hairpin_;
  KernelState::Schema schema_ = KernelState::Schema::absent;
  bool knows_ = false;
  bool complete_ = false;
  std::map<Vip, Doubt> doubts_;
  bool suspicious_ = false;  // the last transaction failed, and the record is fresh since

  std::set<Vip> dirty_;
  std::set<Vip> quarantined_;
  std::set<Vip> udp_changed_;
  std::set<Vip> affinity_changed_;
  /// Whose Vip wants which address in the hairpin set, and how many want it.
  std::map<Vip, std::vector<IpAddress>> hairpin_of_;
  std::map<IpAddress, std::size_t> hairpin_wanted_;
  std::set<IpAddress> hairpin_dirty_;

  ErrorCode last_code_;
  std::string last_error_;
  Counts counts_;
};

}  // namespace muster::lb
