#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/observation.hpp"

namespace muster::mesos {

/// Why a whole document was refused. What is wrong inside one task, agent, framework or label is
/// a Problem instead and costs only that one.
enum class ParseError {
  not_json,          // not a JSON object, or cut short
  unexpected_shape,  // JSON, but not the document that was asked for
};

std::string_view to_string(ParseError) noexcept;

/// Collects what was skipped. Bounded: a document in which everything is wrong keeps the first
/// kMaxKept Problems and counts the rest under their kind "more".
class Problems {
 public:
  static constexpr std::size_t kMaxKept = 1000;

  void add(std::string_view kind, std::string where, std::string what);

  void append(const Problems& others);

  const std::vector<Problem>& kept() const noexcept { return kept_; }
  std::size_t left_out() const noexcept { return left_out_; }
  bool empty() const noexcept { return kept_.empty(); }

 private:
  std::vector<Problem> kept_;
  std::size_t left_out_ = 0;
};

/// `text` in double quotes for a Problem or a log: control characters and what is not ASCII as
/// \xNN, at most 120 octets of it.
std::string in_quotes(std::string_view text);

}  // namespace muster::mesos
