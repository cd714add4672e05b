#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/assert.hpp"
#include "mesos/core/master_state.hpp"

using namespace muster;
using namespace muster::mesos;

namespace {

void check(const Observation& seen) {
  for (const Task& task : seen.tasks) {
    MUSTER_ASSERT(!task.id.empty() && !task.framework_id.empty() && !task.agent_id.empty());
    MUSTER_ASSERT(!is_terminal(task.state));
    MUSTER_ASSERT(task.ports.size() <= 2 * kMaxPorts);
    for (const TaskPort& port : task.ports) {
      MUSTER_ASSERT(port.vips.size() <= 2 * kMaxVipsPerPort + kMaxPorts);
    }
  }
}

}  // namespace

// Lines are the events of one stream. Whatever they say, the mirror keeps its counts together and
// a snapshot can be taken at any time.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  std::string_view rest{reinterpret_cast<const char*>(data), size};
  MasterState state;
  Problems problems;
  while (!rest.empty()) {
    const std::size_t end = rest.find('\n');
    const auto seen = state.apply_event(rest.substr(0, end), {}, problems);
    if (seen) check(*seen);
    MUSTER_ASSERT(state.waiting() <= state.tasks());
    rest.remove_prefix(end == std::string_view::npos ? rest.size() : end + 1);
  }
  for (const auto& host : state.unresolved_hosts()) {
    check(state.resolved(host, {*IpAddress::parse("10.0.0.1")}));
  }
  return 0;
}
