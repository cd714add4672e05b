#pragma once

#include <cstddef>
#include <filesystem>
#include <span>
#include <vector>

#include "base/result.hpp"

namespace muster {

/// Replaces the file as one: whoever reads `path` at any instant, also after a power cut, finds
/// either the old or the new content whole. Writes `<path>.new` beside it (mode 0600, or owner and
/// mode of the file that is there, as far as this process may give them), syncs it, renames it,
/// syncs the folder. Blocks on the disk: for a worker thread, one writer per path. Errors: the
/// failed call's errno; the old content stays and no temporary file is left behind.
Result<void> replace_file(const std::filesystem::path& path, std::span<const std::byte> content);

/// The whole file. Blocks on the disk. Errors: no_such_file_or_directory (usual at a first
/// start), file_too_large above `max_bytes`, not a regular file: invalid_argument; else errno.
Result<std::vector<std::byte>> read_file(const std::filesystem::path& path, std::size_t max_bytes);

}  // namespace muster
