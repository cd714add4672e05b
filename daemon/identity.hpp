#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "base/endpoint.hpp"
#include "base/id.hpp"
#include "base/result.hpp"

namespace muster::daemon {

/// What a node must remember of itself, in the file `node` of the state directory: who it is, and
/// which of its lives this is.
struct Identity {
  NodeId id;  // a UUID
  std::uint32_t epoch = 0;
};

/// From `directory`, or made up; the epoch is above every earlier one, and stored before this
/// returns. An empty `directory` keeps nothing: a new identity with each start. Blocks on the
/// disk. Errors: a file that is there and cannot be read or is not one of ours
/// (invalid_argument), or one that cannot be written; the caller refuses to start, because a
/// second node with a forgotten past would be taken for an impostor of the first.
Result<Identity> load_identity(const std::filesystem::path& directory);
Result<void> store_identity(const std::filesystem::path& directory, const Identity&);

/// The members known last, in the file `members`: whom to ask first after a restart. An
/// unreadable file is none.
std::vector<Endpoint> load_members(const std::filesystem::path& directory);
Result<void> store_members(const std::filesystem::path& directory, const std::vector<Endpoint>&);

/// The address this host sends from towards others, by the kernel's routes; nothing is sent.
std::optional<IpAddress> own_address();

}  // namespace muster::daemon
