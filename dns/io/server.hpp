#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <boost/asio/any_io_executor.hpp>
#include <prometheus/collectable.h>
#include <prometheus/registry.h>

#include "base/cluster_delta.hpp"
#include "base/endpoint.hpp"
#include "base/result.hpp"
#include "base/time.hpp"
#include "dns/core/access.hpp"
#include "dns/core/catalog.hpp"
#include "dns/core/query_log.hpp"
#include "dns/core/upstream.hpp"
#include "dns/io/zone_builder.hpp"

namespace muster::dns {

class ZoneSnapshot;

struct ServerOptions {
  std::vector<Endpoint> listen;
  bool any_port = false;  // take a free port for each of `listen` instead of the one it names
  unsigned workers = 1;
  std::string domain = "mesos";
  std::uint32_t ttl_seconds = 5;
  std::vector<Upstream> upstreams;  // empty: queries outside our zones are REFUSED
  std::map<std::string, std::vector<Upstream>> zone_upstreams;
  /// Whose certificates are believed of upstreams with TLS: PEM; empty: the system's.
  std::string upstream_ca_file{};
  std::optional<IpAddress> node_address;  // for thisnode.thisdcos.directory and the ns names

  // What Mesos-DNS and DC/OS let be configured; see CatalogOptions.
  Naming naming{};
  SoaTimes soa{};
  std::string soa_mname{};
  std::string soa_rname{};
  std::vector<IpAddress> public_addresses{};
  std::string cluster_key{};
  std::map<std::string, std::string> cnames{};

  /// Whose queries for names of others are forwarded; this machine's always are.
  std::vector<Prefix> recursion_from = private_networks();
  std::vector<Prefix> transfer_to{};     // who may have whole zones (AXFR)
  std::vector<Endpoint> notify{};        // who is told when they change
  unsigned rate_limit = 0;               // replies a second to one network over UDP; 0: no limit
  unsigned parallel_upstreams = 1;       // asked at once; 2 is what DC/OS did
  std::size_t cache_octets = 16U << 20;  // of each worker, for forwarded answers; 0: no cache
  unsigned query_log = 0;                // each worker logs every so-manieth query; 0: none
  QueryLog::Sink query_sink{};           // where to: called on the workers' threads
};

/// DNS for the node: UDP and TCP on every address of `listen`, answered by worker threads from
/// snapshots that the control thread publishes.
///
/// All calls on the control thread. Order: construct, start(), apply() as often as the cluster
/// changes, stop(), destroy. `builder` is where large deltas are built, one step at a time and with
/// nothing else of the server's beside; it may be a pool of threads, or `control`.
class Server {
 public:
  static constexpr std::size_t kInlineChanges = ZoneBuilder::kInlineChanges;
  static constexpr std::size_t kInlineVips = ZoneBuilder::kInlineVips;
  static constexpr Duration kBatch = ZoneBuilder::kBatch;

  Server(boost::asio::any_io_executor control, boost::asio::any_io_executor builder, ServerOptions,
         prometheus::Registry&);
  ~Server();
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;

  /// Binds every socket, and reads upstream_ca_file if an upstream has TLS. Call it before
  /// privileges are dropped. On failure nothing is bound, and status().last_error names the address
  /// or file and the reason. Queries wait in the sockets until serve().
  Result<void> bind();

  /// Starts the workers once what was applied before is whole, so that a state from disk answers
  /// the first query too. Once, after bind().
  void serve();

  /// bind() and serve().
  Result<void> start();

  /// Where it listens, with real ports; the same one for UDP and TCP.
  std::vector<Endpoint> bound() const;

  /// Takes over what changed. A delta of up to kInlineChanges (and kInlineVips) is visible to every
  /// worker when this returns, unless one was published less than kBatch ago, a larger one is still
  /// being worked off, or the names outgrow their table; one that takes names of VIPs away never
  /// waits for a batch. A larger one goes in steps on `builder`, in order, and what comes meanwhile
  /// waits for it; until its last step a first state does not count as complete, so that what is
  /// still missing is SERVFAIL and not NXDOMAIN.
  void apply(const ClusterDelta&);

  /// Goes by another policy from now on, without losing a query: upstreams, zone_upstreams,
  /// upstream_ca_file, parallel_upstreams, cache_octets, recursion_from, transfer_to, rate_limit
  /// and query_log are taken over, the rest of the options stays as it was. The caches begin empty.
  /// After start(). Where an upstream has TLS, once `builder` has read the certificates; if it
  /// cannot, all stays as it was, and status().last_error says why.
  void reconfigure(const ServerOptions&);

  struct Status {
    std::uint64_t names = 0;
    std::uint64_t records = 0;
    std::uint32_t serial = 0;
    bool ready = false;  // a complete state is being served
    /// What could not be done; else what is wrong now with an upstream that has TLS.
    std::string last_error;
  };
  Status status() const;

  /// What is being answered from, for whoever wants to read it on another thread.
  std::shared_ptr<const ZoneSnapshot> snapshot() const;

  /// How the names are made.
  const Suffixes& suffixes() const noexcept;

  /// Per-query counters, summed over the workers when collected. Any thread may collect, also
  /// after this server is gone.
  std::shared_ptr<prometheus::Collectable> collectable() const;

  /// Stops and joins the workers, and waits for a step of a build: some 100 ms. Idempotent.
  void stop();

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

/// The name servers of a resolv.conf, port 53, without `own` and without duplicates: forwarding
/// to ourselves is a loop. Empty if the file cannot be read.
std::vector<Endpoint> system_upstreams(const std::vector<Endpoint>& own,
                                       const std::string& file = "/etc/resolv.conf");

}  // namespace muster::dns
