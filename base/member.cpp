#include "base/member.hpp"

#include <algorithm>

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

void erase_replaced(std::vector<Member>& members) {
  // The dead are few: what they have is what is looked for.
  std::map<Endpoint, std::uint32_t> epochs;  // of the latest that lives there; 0: nobody
  for (const Member& member : members) {
    if (member.status != MemberStatus::alive && !member.endpoints.empty()) {
      epochs.emplace(member.endpoints.front(), 0);
    }
  }
  if (epochs.empty()) return;
  for (const Member& member : members) {
    if (member.status != MemberStatus::alive || member.endpoints.empty()) continue;
    const auto place = epochs.find(member.endpoints.front());
    if (place != epochs.end()) place->second = std::max(place->second, member.epoch);
  }
  std::erase_if(members, [&](const Member& member) {
    return member.status != MemberStatus::alive && !member.endpoints.empty() &&
           member.epoch < epochs.at(member.endpoints.front());
  });
}

}  // namespace muster
