#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "base/endpoint.hpp"
#include "base/result.hpp"

namespace muster::mesos {

/// A master as it announces itself in ZooKeeper (mesos.proto, MasterInfo, as JSON).
struct MasterInfo {
  Endpoint endpoint;
  std::string hostname;  // may be empty, and need not be resolvable
  friend auto operator<=>(const MasterInfo&, const MasterInfo&) = default;
};

/// Reads the content of a `json.info_…` node. `address.ip` is preferred, then `pid`; the number
/// `ip`, which has the octets in the byte order of whoever wrote it, is not read. The error is
/// what was expected.
Result<MasterInfo, std::string> parse_master_info(std::string_view json);

/// More masters than this are left out; nobody runs more than seven.
inline constexpr std::size_t kMaxMasters = 32;

/// Those of a ZooKeeper node's children that are masters, by their sequence number: the first one
/// leads (Mesos zookeeper/detector.cpp). Others, such as `log_replicas` and `info_…` of Mesos
/// before 0.24, are passed over. At most kMaxMasters.
std::vector<std::string> master_nodes(const std::vector<std::string>& children);

}  // namespace muster::mesos
