#pragma once

#include "daemon/config.hpp"

namespace muster::daemon {

/// Sends spdlog's default logger to stderr, one line a message: time in UTC, level, text; or with
/// `format = "json"` one JSON object a line. Control characters in messages are escaped, so that
/// nothing from outside can forge a line. Call once, before threads start.
void set_up_logging(const Config::Log& log);

}  // namespace muster::daemon
