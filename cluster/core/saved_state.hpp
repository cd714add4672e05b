#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "base/result.hpp"
#include "cluster/core/records.hpp"

namespace muster::cluster {

/// What SaveJob wrote.
struct SavedState {
  bool complete = false;
  std::vector<RecordWrite> writes;
  std::size_t unreadable = 0;  // records of it
};

/// Errors: the bytes as a whole are wrong (truncated, trailing_bytes, bad_kind, bad_checksum,
/// too_long, unsupported_version).
Result<SavedState, DecodeError> read_state(std::span<const std::byte>);

}  // namespace muster::cluster
