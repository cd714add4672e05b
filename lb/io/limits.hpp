#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <prometheus/gauge.h>
#include <prometheus/registry.h>

#include "base/endpoint.hpp"
#include "base/io/log_once.hpp"

/// What runs out when a node opens very many connections, seen before it has run out: the kernel
/// then fails connect() with EADDRNOTAVAIL, or drops packets, and names no reason.
namespace muster::lb {

/// One bound of the kernel, and how much of it is used.
struct Limit {
  std::string_view name;  // of the metric's label: `ports`, `conntrack`, …
  std::uint64_t used = 0;
  std::uint64_t most = 0;
  std::string what = {};    // for people: what runs out, and for whom
  std::string remedy = {};  // what mends it
  double ratio() const noexcept {
    return most == 0 ? 0 : static_cast<double>(used) / static_cast<double>(most);
  }
};

/// Counts source ports by where they are connected to: one can be used once for each remote
/// endpoint, also after its connection was closed here (TIME_WAIT, 60 s).
class PortUse {
 public:
  /// Remote endpoints counted; a node that talks to more has its ports spread anyway.
  static constexpr std::size_t kMaxRemotes = 200'000;

  PortUse(std::uint16_t first, std::uint16_t last) noexcept : first_{first}, last_{last} {}
  void add(std::uint16_t local_port, const Endpoint& remote);
  /// The remote endpoint that uses most, and how many; none: nobody is connected.
  std::optional<std::pair<Endpoint, std::uint64_t>> busiest() const;
  std::uint64_t ports() const noexcept { return last_ < first_ ? 0 : last_ - first_ + 1U; }

 private:
  std::uint16_t first_;
  std::uint16_t last_;
  std::map<Endpoint, std::uint64_t> remotes_;
};

/// The limits of the calling thread's network namespace that could be read. Takes as long as the
/// kernel needs to list its tcp sockets: some 10 ms for 50,000.
std::vector<Limit> read_limits();

/// Shows limits as `muster_lb_limit_used_ratio`, and warns of each once. Control thread only.
class LimitWatch {
 public:
  /// From here on it is warned of; so does deploy/alerts.yml.
  static constexpr double kWarn = 0.8;

  explicit LimitWatch(prometheus::Registry& registry);
  void publish(const std::vector<Limit>& limits, LogOnce& log);

 private:
  prometheus::Family<prometheus::Gauge>& ratios_;
};

}  // namespace muster::lb
