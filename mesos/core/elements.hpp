#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "mesos/core/event.hpp"
#include "mesos/core/problems.hpp"
#include "mesos/core/task_info.hpp"

namespace muster::mesos {

/// Parses the parts of Mesos' documents, each from its own extent: /state's spelling and that of
/// the operator API alike (`"id":"x"` and `"task_id":{"value":"x"}`, flat labels and nested ones).
///
/// Keeps its buffers from one call to the next; one thread at a time. What cannot be used comes
/// back empty with a Problem; what is wrong inside, such as one label, is a Problem alone.
class ElementParser {
 public:
  explicit ElementParser(Problems& problems);
  ElementParser(const ElementParser&) = delete;
  ElementParser& operator=(const ElementParser&) = delete;
  ~ElementParser();

  std::optional<std::pair<TaskKey, TaskInfo>> task(std::string_view json);
  /// Only who a task is, whatever else is wrong with it.
  std::optional<TaskKey> task_key(std::string_view json);
  /// The content of `task_updated`.
  std::optional<TaskUpdated> task_updated(std::string_view json);
  /// An entry of `slaves`, `agents` or `recovered_agents`.
  std::optional<Agent> agent(std::string_view json);
  /// An entry of `frameworks`, without its tasks, or a `framework_info`.
  std::optional<Framework> framework(std::string_view json);
  /// `{"value":"x"}` or `"x"`.
  std::optional<std::string> id(std::string_view json);
  /// A JSON string, unescaped; nothing if it is something else.
  std::optional<std::string> text(std::string_view json);
  std::optional<double> number(std::string_view json);

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

/// `slave(1)@10.0.0.1:5051` (libprocess' UPID): what follows the last '@'.
std::optional<Endpoint> endpoint_of_pid(std::string_view pid);

}  // namespace muster::mesos
