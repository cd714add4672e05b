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

struct FoundIdentity {
  Identity identity;
  std::string problem;  // for the log; empty: it was read and stored as it should be
};

/// From `directory`, or made up; the epoch is above every earlier one that can be known, and stored
/// before this returns. An empty `directory` keeps nothing: a new identity with each start. Blocks
/// on the disk. A disk that is full, read-only or damaged is no reason not to serve: what cannot be
/// read is made up anew (to the others, a new node at an old one's address), what cannot be written
/// is not, and `problem` says so. Should others know a higher epoch of this id, it is raised then.
FoundIdentity load_identity(const std::filesystem::path& directory);
Result<void> store_identity(const std::filesystem::path& directory, const Identity&);

/// The members known last, in the file `members`: whom to ask first after a restart. An
/// unreadable file is none.
std::vector<Endpoint> load_members(const std::filesystem::path& directory);
Result<void> store_members(const std::filesystem::path& directory, const std::vector<Endpoint>&);

/// The address this host sends from towards others, by the kernel's routes; nothing is sent.
std::optional<IpAddress> own_address();

}  // namespace muster::daemon
