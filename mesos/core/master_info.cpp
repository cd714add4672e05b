#include "mesos/core/master_info.hpp"

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <optional>
#include <utility>

#include "mesos/core/elements.hpp"
#include "mesos/core/json_scan.hpp"

namespace muster::mesos {
namespace {

constexpr std::string_view kLabel = "json.info_";
constexpr std::size_t kMaxHostname = 253;

std::optional<std::uint64_t> sequence_of(std::string_view child) {
  if (!child.starts_with(kLabel)) return std::nullopt;
  child.remove_prefix(kLabel.size());
  std::uint64_t number = 0;
  const auto [end, error] = std::from_chars(child.data(), child.data() + child.size(), number);
  if (error != std::errc{} || end != child.data() + child.size()) return std::nullopt;
  return number;
}

}  // namespace

Result<MasterInfo, std::string> parse_master_info(std::string_view json) {
  std::string_view ip, port, hostname, pid;
  JsonScan scan{json};
  const bool is_object = scan.object([&](std::string_view key) {
    if (key == "address" && scan.peek() == '{') {
      scan.object([&](std::string_view inner) {
        if (inner == "ip") ip = scan.skip();
        if (inner == "port") port = scan.skip();
      });
    } else if (key == "hostname") {
      hostname = scan.skip();
    } else if (key == "pid") {
      pid = scan.skip();
    }
  });
  if (!is_object || !scan.finish()) return std::string{"expected a MasterInfo as JSON"};
  Problems ignored;
  ElementParser elements{ignored};
  std::string name = elements.text(hostname).value_or(std::string{});
  if (name.size() > kMaxHostname) name.clear();
  std::optional<Endpoint> found;
  const auto address = IpAddress::parse(elements.text(ip).value_or(std::string{}));
  const auto number = elements.number(port);
  const bool is_port = number && *number >= 1 && *number <= 65535;
  const auto valid =
      is_port ? Port::from(static_cast<std::uint16_t>(*number)) : std::optional<Port>{};
  if (address && valid) found = Endpoint{*address, *valid};
  if (!found) found = endpoint_of_pid(elements.text(pid).value_or(std::string{}));
  if (!found || !found->address.is_unicast()) {
    return std::string{"expected address.ip and address.port, or a pid like master@10.0.0.1:5050"};
  }
  return MasterInfo{*found, std::move(name)};
}

std::vector<std::string> master_nodes(const std::vector<std::string>& children) {
  std::vector<std::pair<std::uint64_t, std::string>> masters;
  for (const std::string& child : children) {
    if (const auto number = sequence_of(child)) masters.emplace_back(*number, child);
  }
  std::sort(masters.begin(), masters.end());
  if (masters.size() > kMaxMasters) masters.resize(kMaxMasters);
  std::vector<std::string> names;
  names.reserve(masters.size());
  for (auto& [number, name] : masters) names.push_back(std::move(name));
  return names;
}

}  // namespace muster::mesos
