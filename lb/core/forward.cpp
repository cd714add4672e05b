#include "lb/core/forward.hpp"

#include <algorithm>
#include <iterator>

namespace muster::lb::forward {
namespace {

/// Whether `says` holds for a chain that packets get to from `from`, over `ways`.
bool anywhere(const Table& table, const std::string& from, bool Chain::*says,
              std::set<std::string> Chain::*ways) {
  std::set<std::string> seen{from};
  std::vector<std::string> next{from};
  while (!next.empty()) {
    const auto chain = table.chains.find(next.back());
    next.pop_back();
    if (chain == table.chains.end()) continue;
    if (chain->second.*says) return true;
    for (const std::string& to : chain->second.*ways) {
      if (seen.insert(to).second) next.push_back(to);
    }
  }
  return false;
}

bool fits(const Accepted& accepted, Kind kind) {
  return kind == Kind::inet || (accepted.to.address.is_v4() ? kind == Kind::ip : kind == Kind::ip6);
}

/// Ours in a base chain that come after something that can drop, where they would have been passed
/// in Docker's chain for its users: a Docker that starts while its containers run (live-restore)
/// puts its isolation ahead of everything, that chain too.
std::set<std::uint64_t> behind(const Table& table, const Chain& chain) {
  std::set<std::uint64_t> found;
  if (!chain.on_forward || !table.chains.contains(std::string{kDockerUser})) return found;
  const auto drops =
      std::find_if(chain.ways.begin(), chain.ways.end(), [&table](const std::string& way) {
        return anywhere(table, way, &Chain::drops, &Chain::jumps);
      });
  const auto before = static_cast<std::size_t>(drops - chain.ways.begin());
  for (const auto& [handle, passed] : chain.passed) {
    if (passed > before) found.insert(handle);
  }
  return found;
}

/// What is missing in one chain, and what is too much. Empty `wanted`: all of ours is.
std::optional<Edit> edit(const Chain& chain, const std::vector<Accepted>& wanted,
                         std::string_view tag, const std::set<std::uint64_t>& behind) {
  Edit edit;
  std::set<std::string> notes;
  for (const Accepted& accepted : wanted) notes.insert(note_of(tag, accepted));
  std::set<std::string_view> kept;
  for (const auto& [note, handle] : chain.ours) {
    const bool stays = notes.contains(note) && !behind.contains(handle) && kept.insert(note).second;
    if (!stays) edit.remove.push_back(handle);
  }
  for (const Accepted& accepted : wanted) {
    if (!kept.contains(note_of(tag, accepted))) edit.add.push_back(accepted);
  }
  if (edit.add.empty() && edit.remove.empty()) return std::nullopt;
  return edit;
}

}  // namespace

std::string_view to_string(Kind kind) noexcept {
  return kind == Kind::ip ? "ip" : kind == Kind::ip6 ? "ip6" : "inet";
}

Acceptance accept(const std::optional<Prefix>& range_v4, const std::optional<Prefix>& range_v6,
                  const AppliedTable& served) {
  Acceptance acceptance;
  for (const auto* range : {&range_v4, &range_v6}) {
    if (*range) acceptance.all.push_back({.to = **range});
  }
  std::size_t services = 0;
  // Most are in a range, side by side.
  for (auto next = served.begin(); next != served.end();) {
    const auto& [vip, applied] = *next;
    const auto& range = vip.endpoint.address.is_v4() ? range_v4 : range_v6;
    if (range && range->contains(vip.endpoint.address)) {
      next = served.upper_bound({vip.protocol, {range->last(), *Port::from(65535)}});
      continue;
    }
    ++next;
    if (!applied.selector) continue;
    if (++services > kMaxServices) {
      ++acceptance.beyond;
      continue;
    }
    acceptance.all.push_back({.to = Prefix::whole(vip.endpoint.address),
                              .service = std::pair{vip.protocol, vip.endpoint.port}});
  }
  return acceptance;
}

std::string note_of(std::string_view tag, const Accepted& accepted) {
  std::string note{tag};
  if (!accepted.service) return note + ": VIPs " + accepted.to.to_string();
  const auto& [protocol, port] = *accepted.service;
  return note + ": VIP " + to_string(Vip{protocol, {accepted.to.address, port}});
}

bool is_note(std::string_view tag, std::string_view text) {
  return text.starts_with(tag) && text.substr(tag.size()).starts_with(": VIP");
}

Plan plan(const std::vector<Table>& tables, const Acceptance& acceptance, std::string_view tag) {
  Plan plan;
  for (std::size_t i = 0; i < tables.size(); ++i) {
    const Table& table = tables[i];
    std::set<std::string> stand;
    std::vector<Accepted> wanted;
    std::copy_if(acceptance.all.begin(), acceptance.all.end(), std::back_inserter(wanted),
                 [&](const Accepted& accepted) { return fits(accepted, table.kind); });
    for (const auto& [name, chain] : table.chains) {
      if (!chain.on_forward) continue;
      if (acceptance.translated && chain.accepts_translated) continue;
      const bool can_drop =
          chain.policy_drops || anywhere(table, name, &Chain::drops, &Chain::jumps);
      const bool by_default =
          chain.policy_drops || anywhere(table, name, &Chain::drops_rest, &Chain::jumps_always);
      if (can_drop && !wanted.empty()) {
        stand.insert(name);
        if (table.chains.contains(std::string{kDockerUser})) stand.emplace(kDockerUser);

      } else if (by_default) {
        plan.dropping.emplace_back(i, name);
      }
    }
    for (const auto& [name, chain] : table.chains) {
      bool stands = stand.contains(name);
      if (stands && plan.standing.size() == kMaxChains) {
        ++plan.beyond;
        stands = false;
        if (chain.on_forward) plan.dropping.emplace_back(i, name);
      }
      if (stands) plan.standing.emplace_back(i, name);
      auto change =
          edit(chain, stands ? wanted : std::vector<Accepted>{}, tag, behind(table, chain));
      if (!change) continue;
      change->table = i;
      change->chain = name;
      plan.edits.push_back(*std::move(change));
    }
  }
  return plan;
}

}  // namespace muster::lb::forward
