#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.hpp"
#include "mesos/io/observer.hpp"

namespace muster::mesos {

/// A master to ask.
struct Target {
  MasterUrl url;
  bool configured = false;  // it is in the list
  bool trusted = false;     // it may see the credentials: in the list, or named by one that is
  friend auto operator<=>(const Target&, const Target&) = default;
};

/// Which master comes next: the one that led last, else those of the list in turn.
class Targets {
 public:
  explicit Targets(std::vector<MasterUrl> list) : list_{std::move(list)} {}

  /// The list must not be empty.
  Target next();
  /// Where `location` (as a master's 307 has it: `//host:port`, or a whole URL) leads to from
  /// `from`; only scheme, host and port count. The error is what is wrong with it.
  Result<Target, std::string> redirect(const Target& from, std::string_view location);
  void leads(const Target& target) { leader_ = target; }
  void forget_leader() { leader_.reset(); }
  /// Another list, to be tried from its start.
  void replace(std::vector<MasterUrl> list);
  /// Another list whose first is the same: whatever is under way goes on.
  void extend(std::vector<MasterUrl> list) { list_ = std::move(list); }
  const std::vector<MasterUrl>& list() const noexcept { return list_; }
  /// A master was tried and left. True if with this the whole list has been gone through.
  bool failed(bool learnt);

 private:
  Target in_list(const MasterUrl& url) const;

  std::vector<MasterUrl> list_;
  std::optional<Target> leader_;
  std::size_t at_ = 0;
  std::size_t tried_ = 0;  // in this round
};

bool is_redirect(unsigned status) noexcept;

/// True for answers to SUBSCRIBE that asking again will not change: not allowed, not known, not
/// understood.
bool refuses_streaming(unsigned status) noexcept;

}  // namespace muster::mesos
