#include "base/io/log_once.hpp"

#include <spdlog/spdlog.h>

#include "base/time.hpp"

namespace muster {

bool LogOnce::warn(std::string_view message) {
  if (said_.contains(std::string{message})) return false;
  const long long minute =
      std::chrono::duration_cast<std::chrono::minutes>(Clock::now().time_since_epoch()).count();
  if (minute != minute_) {
    if (left_out_ > 0) spdlog::warn("{} further warnings were left out", left_out_);
    minute_ = minute;
    this_minute_ = 0;
    left_out_ = 0;
  }
  if (this_minute_ >= kMaxPerMinute) {
    ++left_out_;
    return false;
  }
  ++this_minute_;
  if (said_.size() >= kMaxRemembered) said_.clear();
  said_.emplace(message);
  spdlog::warn("{}", message);
  return true;
}

}  // namespace muster
