#pragma once

#include <filesystem>
#include <string>

namespace muster::cli {

struct KeysOptions {
  std::string action = "list";  // list, new, add, use, drop
  std::string id;               // of the key, for use and drop
  std::filesystem::path socket = "/run/muster/control.sock";
  bool force = false;  // though other nodes would not understand this one, or it them
  bool json = false;
};

/// The ring of keys that seals gossip. `list` shows this node's and who else has them; `new` prints
/// a fresh key; `add` reads one from stdin; `use` makes one the key that seals; `drop` forgets one.
/// The last three edit the daemon's key file, which stays the one truth, and have it read again.
/// Returns an exit status; kTrouble: refused, because a node would be cut off.
int keys(const KeysOptions&);

/// The text of a key file with one more key behind the others, with that of `id` first, without
/// it. Comments stay where they are. "" says there is no such key, or that it is there already.
std::string with_key(const std::string& file, const std::string& key);
std::string with_key_first(const std::string& file, const std::string& id);
std::string without_key(const std::string& file, const std::string& id);

}  // namespace muster::cli
