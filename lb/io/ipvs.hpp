#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/endpoint.hpp"
#include "base/result.hpp"
#include "lb/io/netlink.hpp"

/// IPVS over generic netlink (linux/ip_vs.h). Tables belong to the network namespace of the thread
/// that opens the link. There are no transactions and no notices of changes.
namespace muster::lb::ipvs {

struct VirtualService {
  Vip vip;
  std::string scheduler;
  std::uint32_t affinity_seconds = 0;  // IPVS calls it persistence; 0: none
};

struct Destination {
  Endpoint endpoint;
  std::uint32_t weight = 0;
  std::uint64_t connections = 0;  // ever scheduled; lags by up to 2 s
  std::uint64_t open = 0;         // now, in whatever state
};

struct Change {
  enum class Kind : std::uint8_t {
    put_service,
    set_service,
    drop_service,
    put_backend,
    set_backend,
    drop_backend
  };
  Kind kind;
  Vip vip;
  std::string_view scheduler = {};  // of a service; outlives the commit
  std::uint32_t affinity_seconds = 0;
  std::optional<Endpoint> backend = {};
  std::uint32_t weight = 0;
};

class Link {
 public:
  /// Has the kernel load IPVS if need be. Errors: Errc::no_ipvs, Errc::not_permitted.
  static Result<Link> open();

  /// Tries out, with a service nobody can reach, that we may and that the scheduler is there.
  /// Errors: Errc::not_permitted, Errc::no_scheduler; EAFNOSUPPORT without IPv6.
  Result<void> probe(Family family, std::string_view scheduler);

  /// All services of tcp and udp, by address and port; anybody's.
  Result<std::vector<VirtualService>> services();
  Result<std::vector<Destination>> destinations(const Vip& vip);

  /// Carries out the changes in order. What is there already is put right, what is gone already
  /// is gone; other refusals do not keep the rest from being done, and the first is returned.
  Result<void> commit(const std::vector<Change>& changes);

  /// Connections idle for less than `seconds` are not forgotten; never lowers what is set. IPVS
  /// begins with 900 s, and keepalives come after 7,200 s. For the whole namespace.
  Result<void> raise_tcp_timeout(std::uint32_t seconds);

  const std::string& detail() const noexcept { return detail_; }

 private:
  Link(netlink::Socket socket, std::uint16_t family)
      : socket_{std::move(socket)}, family_{family} {}
  void begin(netlink::Writer& out, std::uint8_t command, int flags);
  void write(netlink::Writer& out, const Change& change);
  Result<void> commit_part(const std::vector<Change>& changes, std::size_t from, std::size_t to,
                           std::vector<Change>& again);

  netlink::Socket socket_;
  std::uint16_t family_;
  std::string detail_;
};

}  // namespace muster::lb::ipvs
