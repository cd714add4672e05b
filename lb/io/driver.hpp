#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <boost/system/error_category.hpp>

#include "base/endpoint.hpp"
#include "base/result.hpp"
#include "base/time.hpp"
#include "lb/core/forward.hpp"
#include "lb/core/plan.hpp"
#include "lb/core/prefix.hpp"

namespace muster::lb {

/// Why the load balancer cannot work here at all; message() is for people.
enum class Errc {
  not_permitted = 1,  // CAP_NET_ADMIN is missing
  no_nftables,        // the kernel has no nf_tables
  no_ipvs,            // the kernel has no IPVS
  no_scheduler,       // it has, but not this scheduler
  bad_driver,         // no such driver
  missing_feature,    // it has, but not all that is needed: see status().last_error
  bad_range,          // a Vip range is not `address/length`
  no_bpf_build,       // muster was built without the bpf driver
  no_bpf,             // the kernel cannot run its programs: see Driver::detail()
  no_bpf_fs,          // no BPF file system at /sys/fs/bpf
  no_cgroup2,         // no cgroup2 hierarchy, or not its root
  bpf_not_permitted,  // CAP_BPF is missing, or the BPF file system is not ours to write
};
const boost::system::error_category& error_category() noexcept;
inline ErrorCode make_error_code(Errc code) noexcept {
  return {static_cast<int>(code), error_category()};
}

struct DriverConfig {
  std::string table = "muster";
  std::optional<Prefix> range_v4;
  std::optional<Prefix> range_v6;
  Policy policy = Policy::random;  // what services will mostly ask for
  /// IPVS: the scheduler that stands for Policy::random. It spreads no worse, and wlc also looks
  /// at how many connections are open.
  std::string scheduler = "wlc";
  /// IPVS: how long connections to a backend that has left may go on. It cannot let them go on
  /// without keeping the backend; the other drivers can, and do.
  Duration drain{std::chrono::minutes{10}};
  /// bpf: the cgroup2 folder whose processes are served without nftables. Empty: all, the root's.
  std::string bpf_cgroup = {};
  /// open() finds out what there is, and changes no settings.
  bool check_only = false;
};

struct Capabilities {
  std::string driver;
  bool syn_failover = false;  // a dead backend costs a client one retransmission, not the connect
  std::string syn_failover_missing;  // why not; empty if it is there
  /// Why backends that do not answer are not noticed; empty if they are, or SYN failover is
  /// missing.
  std::string ejection_missing = {};
  std::string passed_over;  // driver auto: why not a better one; empty if there is none
};

/// Rules that are there once some Vip has needed them.
struct SizeClass {
  Family family;
  Protocol protocol;
  Selector selector;
  friend auto operator<=>(const SizeClass&, const SizeClass&) = default;
};

/// What is there of ours.
struct KernelState {
  enum class Schema : std::uint8_t { absent, current, other };
  Schema schema = Schema::absent;
  AppliedTable vips = {};
  std::set<IpAddress> hairpin = {};
  std::set<SizeClass> classes = {};
  /// New connections counted by each slot, as AppliedTable numbers them.
  std::map<Vip, std::vector<std::uint64_t>> connections = {};
  /// The same where the kernel counts by backend and knows of no slots.
  std::map<Vip, std::map<Endpoint, std::uint64_t>> backend_connections = {};
  /// The ruleset's, while this was read; 0: there was more than one, or there is none.
  std::uint32_t generation = 0;
  /// What the driver itself wants to know of its own read once it is adopted.
  struct Own {
    virtual ~Own() = default;
  };
  std::shared_ptr<Own> own = {};
};

/// One all-or-nothing change. Hairpin entries and slots may come in any order within it.
struct Transaction {
  /// Puts an empty table of the current schema in the place of whatever is there, in the same
  /// instant as `commands`.
  bool reset = false;
  std::vector<Command> commands = {};
};

/// The source addresses of our routes; none: no route of that family.
struct RouteSources {
  std::optional<IpAddress> v4;
  std::optional<IpAddress> v6;
  friend auto operator<=>(const RouteSources&, const RouteSources&) = default;
};

/// For each Vip the backends that old udp flows, or remembered clients, may still go to; those of
/// any other are stale.
using UdpKeep = std::map<Vip, std::set<Endpoint>>;

/// What keep_forward() found and did. Chains are named as nft(8) names them: `ip filter FORWARD`.
struct ForwardOutcome {
  std::size_t changed = 0;            // rules put in or taken out
  std::vector<std::string> standing;  // chains that hold all of ours
  /// Chains that drop whatever no rule of theirs accepts, and do not hold ours, of families that
  /// this node forwards.
  std::vector<std::string> dropping;
  std::vector<std::string> refused;  // chains that could not be changed, each with the reason
  std::size_t beyond = 0;            // chains and Vips there was no room for
};

/// A tcp connection that got no answer.
struct Unanswered {
  Vip vip;
  Endpoint backend;
};

/// New connections that one slot has counted.
struct SlotCount {
  Vip vip;
  std::uint32_t index = 0;
  Endpoint backend;
  std::uint64_t connections = 0;
};

/// One way to balance in a kernel, in the network namespace it was opened in.
///
/// adopt(), apply(), publish_routes() and what is watched belong to the control thread. read(),
/// read_counts(), flush_udp(), forget_clients(), keep_forward() and retire_others() use sockets of
/// their own and may run on one other thread at the same time.
class Driver {
 public:
  virtual ~Driver() = default;

  /// Must succeed before anything else is called. Errors: Errc, or what the kernel said.
  virtual Result<Capabilities> open(const DriverConfig& config) = 0;

  /// May be torn if the table changes meanwhile; the caller knows of its own changes, and the
  /// monitor tells of others'.
  virtual Result<KernelState> read() = 0;

  /// The slots that have counted anything, in any order: a part of what read() brings, for a
  /// third of its price. One may be missing, or come twice, while the table changes.
  virtual Result<std::vector<SlotCount>> read_counts() { return std::vector<SlotCount>{}; }

  /// Takes what read() brought for what is there, as the caller does from now on; may empty `own`.
  virtual void adopt(const KernelState& state) = 0;

  /// Nobody but apply() has changed any table since what adopt() was given was read: another read
  /// would bring nothing new. False also where that is not known.
  virtual bool untouched() { return false; }

  /// Carries out all of `transaction` or nothing; where a kernel has no transactions (IPVS), what
  /// does not fit is refused as a whole, and what the kernel then refuses may leave a part behind.
  /// After an error read again and plan anew, except that a batch may be split to find out which
  /// Vip the kernel objects to: carrying out a part twice is harmless.
  virtual Result<void> apply(const Transaction& transaction) = 0;

  /// Makes our routes, and what else depends on this node's addresses and bridges, exactly this;
  /// returns how many things had to be changed.
  virtual Result<std::size_t> publish_routes(const RouteSources& sources) = 0;

  /// The address this node talks to others with, by its routing table; none: no such family.
  virtual RouteSources find_sources() = 0;

  /// Forgets the stale flows of these Vips; returns how many there were.
  virtual Result<std::size_t> flush_udp(const UdpKeep& keep) = 0;

  /// Lets go the clients with affinity (Selector) of these Vips whose backend is not kept; returns
  /// how many there were.
  virtual Result<std::size_t> forget_clients(const UdpKeep&) { return std::size_t{0}; }

  /// Becomes readable when take_unanswered() has something; -1: never.
  virtual int unanswered_fd() const noexcept { return -1; }
  virtual std::vector<Unanswered> take_unanswered() { return {}; }

  /// Becomes readable when something of ours may have been changed by somebody else; -1: never.
  virtual int monitor_fd() const noexcept = 0;
  /// Reads what there is; true if a foreign change was among it, or news were lost.
  virtual bool drain_monitor() = 0;

  /// Keeps rules in other programs' firewalls that accept forwarded connections to `accepted`, and
  /// no others of ours there; empty: takes all of ours away. Like read(), with a socket of its own.
  virtual Result<ForwardOutcome> keep_forward(const forward::Acceptance&) {
    return ForwardOutcome{};
  }
  /// Whether drain_monitor() has met a change to other programs' chains or rules since the last
  /// call.
  virtual bool take_firewall_change() { return false; }

  /// All that is wanted is in place, and the cluster's state is complete: takes away what another
  /// driver has left behind, once no connection needs it. Returns how much that was.
  virtual Result<std::size_t> retire_others() { return std::size_t{0}; }

  /// How many tables and routes of this driver's are in the kernel. Needs no open().
  virtual Result<std::size_t> present() = 0;

  /// Connections that cleanup() would break. Needs no open().
  virtual Result<std::size_t> held_connections() { return std::size_t{0}; }

  /// Removes what is ours; see lb::cleanup(). Needs no open().
  virtual Result<std::vector<std::string>> cleanup() = 0;

  /// The kernel's own words about the last error, if it had any.
  virtual std::string detail() const = 0;
};

}  // namespace muster::lb

template <>
struct boost::system::is_error_code_enum<muster::lb::Errc> : std::true_type {};
