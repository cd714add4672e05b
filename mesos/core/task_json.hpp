#pragma once

#include <optional>
#include <simdjson.h>
#include <string>
#include <string_view>
#include <utility>

#include "mesos/core/task_info.hpp"

// Reading of parsed elements; only elements.cpp and task_json.cpp see simdjson.
namespace muster::mesos {

/// The member as text; empty if it is absent or something else.
std::string_view text_member(simdjson::dom::object object, std::string_view key);
/// `"x"` or `{"value":"x"}`; nothing if absent, empty or longer than kMaxText.
std::optional<std::string> id_value(simdjson::dom::element element);
std::optional<std::string> id_member(simdjson::dom::object object, std::string_view key);
std::optional<TaskState> state_member(simdjson::dom::object object, std::string_view key);

/// Of a task in either spelling; nothing if a part of it is missing.
std::optional<TaskKey> task_key_from_json(simdjson::dom::object task);
std::optional<std::pair<TaskKey, TaskInfo>> task_from_json(simdjson::dom::object task,
                                                           Problems& problems);
/// `task` is its id, for Problems.
StatusInfo status_from_json(simdjson::dom::object status, std::string_view task,
                            Problems& problems);

}  // namespace muster::mesos
