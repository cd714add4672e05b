#pragma once

namespace muster::daemon {

/// The project's version, from CMake.
inline constexpr const char* kVersion = MUSTER_VERSION;

}  // namespace muster::daemon
