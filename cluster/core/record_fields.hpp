#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "cluster/core/records.hpp"

/// The numbers on the wire, for the two who write and read them.
namespace muster::cluster {

/// Per record. A number never changes its meaning and is never used again.
namespace task_field {
enum : std::uint64_t { name = 1, discovery_name, state, health, address, host_ports, port, end };
}
namespace port_field {
enum : std::uint64_t { name = 1, protocol, number, not_discovery, container_port, endpoint, vip };
}
namespace vip_label_field {
enum : std::uint64_t {
  address = 1,
  name,
  port,
  protocol,
  spread,
  locality,
  affinity,
  no_ejection,
  slow_start
};
}
namespace agent_field {
enum : std::uint64_t { hostname = 1, address, port, zone };
}
namespace framework_field {
enum : std::uint64_t { name = 1, hostname, endpoint };
}
namespace master_field {
enum : std::uint64_t { hostname = 1, leading };
}
namespace vip_field {
enum : std::uint64_t {
  v4 = 1,
  v6,
  term,
  sequence,
  since_seconds,
  unused_since_seconds,
  former,
  former_until_seconds,
};
}
namespace complete_field {
enum : std::uint64_t { agents = 1, speakers };
}
namespace speaker_field {
enum : std::uint64_t { node = 1, resigned };
}

constexpr std::uint64_t bit(std::uint64_t number) {
  return std::uint64_t{1} << number;
}

inline bool valid_id(std::string_view id) {
  return !id.empty() && id.size() <= kMaxIdBytes && id.find('\0') == std::string_view::npos;
}

}  // namespace muster::cluster
