#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/assert.hpp"
#include "mesos/core/agent_state.hpp"
#include "mesos/core/snapshot.hpp"

using namespace muster;
using namespace muster::mesos;

namespace {

void check(const Result<Snapshot, ParseError>& parsed) {
  if (!parsed) return;
  MUSTER_ASSERT(parsed->problems.kept().size() <= Problems::kMaxKept);
  std::size_t tasks = 0;
  for (const auto& [framework, of_framework] : parsed->tables.tasks) tasks += of_framework.size();
  MUSTER_ASSERT(tasks == parsed->observation.tasks.size() + parsed->tables.waiting.size());
  for (const Task& task : parsed->observation.tasks) {
    MUSTER_ASSERT(!is_terminal(task.state));
    MUSTER_ASSERT(task.addresses.size() <= kMaxAddresses);
    MUSTER_ASSERT(task.host_ports.size() <= kMaxHostPorts);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view json{reinterpret_cast<const char*>(data), size};
  check(parse_state(json));
  check(parse_get_state(json));
  check(parse_agent_state(json, {}));
  // One input for both answers: half of it each.
  check(parse_agent_get_state(json, json, {}));
  check(parse_agent_get_state(json.substr(0, size / 2), json.substr(size / 2), {}));
  return 0;
}
