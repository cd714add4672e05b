#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "lb/io/driver.hpp"

namespace muster::lb {

/// `auto` (ipvs where the kernel has it, else nft), `ipvs`, `nft` or `bpf`.
bool is_driver_name(std::string_view name) noexcept;

/// The driver of that name; its open() says whether this kernel can.
///
/// If the other driver has served before, it goes on serving until this one has all of the
/// cluster's state in place, and is removed then: no connection notices. Connections that stand
/// stay; IPVS's services wait for theirs to end, DriverConfig::drain at most. Errors:
/// Errc::bad_driver.
Result<std::unique_ptr<Driver>> make_driver(std::string_view name,
                                            const std::string& table = "muster");

/// One line of the preflight.
struct Finding {
  enum class Level : std::uint8_t { good, advice, missing };
  Level level = Level::good;
  std::string what;
  std::string remedy = {};  // what would mend it; empty if nothing need be
};

/// What this kernel and namespace have for the driver of that name (auto: for the one it would
/// take), and what would mend what they have not. Leaves nothing behind. A driver works if nothing
/// is `missing`.
std::vector<Finding> check_driver(std::string_view name, const DriverConfig& config);

/// The same for serving the network namespaces that files in `folders` name, by the helper at
/// `socket` unless this process may enter them itself.
std::vector<Finding> check_namespaces(const std::vector<std::string>& folders,
                                      const std::string& socket);

}  // namespace muster::lb
