#include "cluster/core/own_agent.hpp"

#include <limits>
#include <utility>

namespace muster::cluster {
namespace {

/// An agent names the tasks that ended: one that is merely missing is doubted however few it has.
HoldDownOptions strict(HoldDownOptions options) {
  options.min_weight = 1;
  return options;
}

}  // namespace

OwnAgent::OwnAgent(HoldDownOptions hold_down, AgentId agent, std::string node,
                   std::span<const RecordWrite> known, TimePoint now, WallTime wall)
    : agent_{std::move(agent)},
      node_{std::move(node)},
      publisher_{{.hold_down = strict(hold_down), .vips = {}, .own_agent = true}} {
  publisher_.adopt(known, now, wall);
}

std::vector<RecordWrite> OwnAgent::observe(const Observation& observation, TimePoint now,
                                           WallTime wall) {
  publisher_.begin(&observation, now);
  auto writes = publisher_.step(std::numeric_limits<std::size_t>::max(), now, wall);
  while (publisher_.busy()) {
    for (RecordWrite& more : publisher_.step(1, now, wall)) writes.push_back(std::move(more));
  }
  if (!std::exchange(spoken_, true)) {
    // Last: who has read it has read all of them.
    if (auto encoded = encode(SpeakerRecord{node_, false})) {
      writes.push_back({shard(), speaker_key(), std::move(*encoded)});
    }
  }
  return writes;
}

std::vector<RecordWrite> OwnAgent::on_timer(TimePoint now, WallTime wall) {
  return publisher_.on_timer(now, wall);
}

}  // namespace muster::cluster
