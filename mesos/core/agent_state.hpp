#pragma once

#include <optional>
#include <string_view>

#include "base/endpoint.hpp"
#include "base/result.hpp"
#include "mesos/core/problems.hpp"
#include "mesos/core/snapshot.hpp"

/// What an agent says of itself, as `snapshot.hpp` has it of a master: one agent, its frameworks
/// and its tasks. An agent knows how each task ended: those are in `tasks_gone`, as explicit ends.
///
/// `observation.agents` is empty while the agent has no id, which is before it has registered for
/// the first time: then nothing is known yet. `at` is where the agent was asked, for one that
/// does not tell its address. Pure, any thread; each task is parsed by itself.
namespace muster::mesos {

/// Parses GET /state of an agent. A master's is ParseError::unexpected_shape.
Result<Snapshot, ParseError> parse_agent_state(std::string_view json,
                                               const std::optional<IpAddress>& at);

/// Parses the answers to the operator API's GET_STATE and GET_AGENT, asked in that order.
Result<Snapshot, ParseError> parse_agent_get_state(std::string_view state, std::string_view agent,
                                                   const std::optional<IpAddress>& at);

}  // namespace muster::mesos
