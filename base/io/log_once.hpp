#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <unordered_set>

namespace muster {

/// Says a thing in the log the first time only, so that input that is wrong in every poll costs
/// one line. Control thread only.
///
/// Bound: remembers kMaxRemembered messages, then forgets all and starts again; a flood of ever
/// new messages is cut to kMaxPerMinute lines a minute, and what was left out is summed up.
class LogOnce {
 public:
  static constexpr std::size_t kMaxRemembered = 4096;
  static constexpr std::size_t kMaxPerMinute = 60;

  /// Writes `message` as a warning unless it was written before. True if it was written.
  bool warn(std::string_view message);

 private:
  std::unordered_set<std::string> said_;
  std::size_t this_minute_ = 0;
  std::size_t left_out_ = 0;
  long long minute_ = 0;
};

}  // namespace muster
