#pragma once

#include <memory>
#include <string>
#include <vector>

#include "base/result.hpp"
#include "lb/io/netlink.hpp"
#include "lb/io/netns/opener.hpp"

namespace muster::lb::netns {

/// Who looks into the folders and opens what they name. Calls block, some seconds at worst: not
/// for the control thread. One thread at a time.
class Gate {
 public:
  virtual ~Gate() = default;
  /// What is in all folders. Folders in it are numbered as open() wants them.
  virtual Result<std::vector<Answer>> look() = 0;
  virtual Result<Opened> open(const Request& request) = 0;
};

/// Whether this process may enter namespaces itself.
bool may_enter();

/// This process' own, if it may; else `muster-netns` at `socket`, which has folders of its own.
std::unique_ptr<Gate> make_gate(std::vector<std::string> folders, std::string socket);

/// What muster-netns at `socket` sees.
Result<std::vector<Answer>> ask_helper(const std::string& socket);

/// The sockets of a namespace, for a driver.
std::unique_ptr<netlink::Source> make_source(std::vector<Handle> sockets);

}  // namespace muster::lb::netns
