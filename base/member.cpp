#include "base/member.hpp"

namespace muster {

std::string_view to_string(MemberStatus status) noexcept {
  switch (status) {
    case MemberStatus::alive:
      return "alive";
    case MemberStatus::left:
      return "left";
    case MemberStatus::daemon_down:
      return "daemon_down";
    case MemberStatus::host_down:
      return "host_down";
  }
  return "unknown";
}

}  // namespace muster
