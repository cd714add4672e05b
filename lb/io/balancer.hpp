#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>
#include <prometheus/collectable.h>
#include <prometheus/registry.h>

#include "base/cluster_delta.hpp"
#include "base/endpoint.hpp"
#include "base/result.hpp"
#include "base/time.hpp"
#include "lb/core/service.hpp"
#include "lb/io/driver.hpp"

namespace muster::lb {

struct BalancerOptions {
  /// Source address of connections from this node to a Vip. None: asked of the routing table.
  std::optional<IpAddress> node_v4;
  std::optional<IpAddress> node_v6;
  /// All named Vips. What is sent there and not balanced is refused. Prefixes, `address/length`.
  std::string vip_range_v4 = "11.0.0.0/8";
  std::string vip_range_v6 = "fd01:c::/64";
  Duration reconcile_interval{30000};
  std::string table = "muster";
  Policy policy = Policy::random;
  /// IPVS: see DriverConfig.
  std::string ipvs_scheduler = "wlc";
  Duration ipvs_drain{std::chrono::minutes{10}};
  /// Keep rules in other programs' firewalls that accept what containers send to Vips, where those
  /// would drop it. Without: take away what an earlier run has left of them.
  bool forward_accept = false;
  /// bpf: see DriverConfig.
  std::string bpf_cgroup = {};
  /// Folders whose files name further network namespaces to serve, each an absolute path.
  std::vector<std::string> namespace_folders = {};
  /// Where muster-netns listens, for a process that may not enter namespaces itself.
  std::string namespace_helper = "/run/muster-netns.sock";
};

/// Keeps the kernel's load balancing equal to the cluster's state. Control thread only, but for
/// the metrics, which any thread may collect.
///
/// Order: construct, start(), spawn run(), then apply() each delta as it comes. Destroying it, or
/// ending run(), leaves the kernel as it is: connections go on, and the next start adopts.
class Balancer {
 public:
  /// `registry` must outlive this object.
  Balancer(boost::asio::any_io_executor control, std::unique_ptr<Driver> driver,
           const BalancerOptions& options, prometheus::Registry& registry);
  Balancer(const Balancer&) = delete;
  Balancer& operator=(const Balancer&) = delete;
  ~Balancer();

  /// Checks what the kernel can do and that we may, and takes over what an earlier run left.
  /// Changes nothing that is being served. Errors: lb::Errc (driver.hpp), whose message() says
  /// what to do about it and is meant to be shown; status().last_error has the detail.
  Result<void> start();

  /// How long the kernel is believed more than the disk: others have said by then what is true.
  static constexpr Duration kTrustDisk{4000};

  /// What was kept on disk; once, after start() and before the first apply(). It may be some
  /// seconds older than what the kernel was told last by an earlier run. So a backend that stands
  /// in one of the two only stays as the kernel has it, for kTrustDisk; Vips that the kernel
  /// has nothing of are served at once.
  void restore(const ClusterDelta& delta);

  /// Takes in what changed. Small changes are in the kernel when this returns; large ones follow
  /// in steps that do not hold the control thread up. What the kernel refuses is tried again by
  /// run(). Nothing is removed before a delta that is `complete` has been seen.
  void apply(const ClusterDelta& delta);

  /// Watches for foreign changes, retries, reconciles. Runs until cancelled; withdraws nothing.
  boost::asio::awaitable<void> run();

  struct VipStatus {
    std::string name;
    Vip vip;
    struct B {
      Endpoint endpoint;
      /// As declared, where the kernel sends it new connections; else 0, whatever is wanted.
      std::uint16_t weight = 0;
      /// New connections since this node knows the backend; refreshed at most every 10 s, those of
      /// namespaces beside the node's own less often.
      std::uint64_t connections = 0;
      bool rests = false;   // did not answer, and gets no connections for a while
      bool starts = false;  // is new, and has less than its share yet
      /// The kernel does not have it as it should: yet to be put there, or yet to go. Of a
      /// backend that nobody declares any more the weight is 1.
      bool pending = false;
    };
    std::vector<B> backends;
    bool quarantined = false;  // the kernel refuses this Vip, and only this one
  };
  /// What is declared, beside what the kernel has of it as far as is known: it is never claimed
  /// of a backend that it takes connections before it can get one.
  std::vector<VipStatus> vips() const;

  /// Network namespaces beside the node's own.
  struct NamespaceStatus {
    struct Trouble {
      std::string where;  // a file, or a folder
      std::string why;
    };
    std::size_t served = 0;
    std::size_t opening = 0;
    std::vector<Trouble> trouble = {};  // what is not served, or not as it should be
    std::size_t more = 0;               // that are not named here
    std::string error = {};             // why none can be served
  };

  struct Status {
    std::string driver;
    bool healthy = false;
    std::string last_error;  // empty while healthy
    std::uint64_t applied_vips = 0;
    std::uint64_t applied_backends = 0;
    TimePoint last_reconcile;
    /// Firewall chains that drop what they do not know of what this node forwards, without a rule
    /// of ours: `ip filter FORWARD`.
    std::vector<std::string> dropping;
    std::optional<NamespaceStatus> namespaces;  // none: no folders are named
  };
  Status status() const;

  /// Connections per Vip for the metrics port: register it beside the registry. Outlives this.
  std::shared_ptr<prometheus::Collectable> connections() const;

 private:
  class Impl;
  std::shared_ptr<Impl> impl_;
};

/// Removes what muster owns and nothing else, whichever driver made it: its tables, its IPVS
/// services, its BPF programs and maps, and the routes that carry its protocol numbers. Says what
/// it removed, one line each; removing nothing is a success. Also in the namespaces that files in
/// `namespace_folders` name.
Result<std::vector<std::string>> cleanup(const std::string& table = "muster",
                                         const std::vector<std::string>& namespace_folders = {},
                                         const std::string& namespace_helper = {});

}  // namespace muster::lb
