#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/endpoint.hpp"
#include "lb/core/plan.hpp"
#include "lb/core/prefix.hpp"

/// Which rules of ours other programs' firewalls are to hold, so that they let through what they
/// forward on its way to Vips. A packet is dropped by whoever drops it first: an accept in a table
/// of our own would not help.
namespace muster::lb::forward {

/// Chains that ours may stand in. A node has one or two; what makes more is not worth following.
inline constexpr std::size_t kMaxChains = 16;
/// Vips outside the ranges, each of which costs every forwarded packet a rule.
inline constexpr std::size_t kMaxServices = 32;

/// Connections that were opened to one of these, in both directions, by what their clients dialled.
struct Accepted {
  Prefix to;
  /// Without it all of `to` is Vips.
  std::optional<std::pair<Protocol, Port>> service = {};
  friend auto operator<=>(const Accepted&, const Accepted&) = default;
};

struct Acceptance {
  std::vector<Accepted> all;
  std::size_t beyond = 0;  // Vips there was no room for
  /// What is forwarded to a Vip has been translated before it comes there: so all drivers do but
  /// ipvs, where answers alone are forwarded.
  bool translated = false;
  bool empty() const noexcept { return all.empty(); }
  friend bool operator==(const Acceptance&, const Acceptance&) = default;
};
/// The ranges, and what is served outside of them.
Acceptance accept(const std::optional<Prefix>& range_v4, const std::optional<Prefix>& range_v6,
                  const AppliedTable& served);

/// What a rule of ours says of itself, and is known by: `muster: VIPs 11.0.0.0/8`. `tag` is the
/// name of our table.
std::string note_of(std::string_view tag, const Accepted& accepted);
bool is_note(std::string_view tag, std::string_view text);

/// A chain of somebody else's.
struct Chain {
  bool on_forward = false;    // a base chain of type filter there
  bool policy_drops = false;  // what comes to its end is dropped
  bool drops = false;         // a rule drops or rejects
  bool drops_rest = false;    // a rule does so whatever comes
  /// Ahead of those a rule accepts all that anybody has translated: firewalld's first but one.
  bool accepts_translated = false;
  std::set<std::string> jumps;
  std::set<std::string> jumps_always;
  /// The same in order, each once, up to where it jumps to kDockerUser whatever comes.
  std::vector<std::string> ways;
  /// Rules of ours by what they say of themselves; a copy has a handle of its own.
  std::multimap<std::string, std::uint64_t> ours;
  /// How many of `ways` come before each of them, by its handle.
  std::map<std::uint64_t, std::size_t> passed;
};

enum class Kind : std::uint8_t { ip, ip6, inet };
std::string_view to_string(Kind kind) noexcept;

struct Table {
  Kind kind = Kind::ip;
  std::string name;
  std::map<std::string, Chain> chains;
};

/// Docker jumps there before it looks at anything, and never changes what is in it.
inline constexpr std::string_view kDockerUser = "DOCKER-USER";

struct Edit {
  std::size_t table = 0;  // by its index
  std::string chain;
  std::vector<Accepted> add;  // at the head, in this order
  std::vector<std::uint64_t> remove;
};

struct Plan {
  std::vector<Edit> edits;
  /// Chains that hold ours once the edits are carried out.
  std::vector<std::pair<std::size_t, std::string>> standing;
  /// Chains that drop what they do not know, and are not among those.
  std::vector<std::pair<std::size_t, std::string>> dropping;
  std::size_t beyond = 0;  // chains there was no room for
};

/// Ours stand in each base chain that can drop, and in Docker's chain for its users beside it; in
/// no other one. With nothing accepted they stand nowhere. Where Docker has put what drops ahead of
/// both, ours are put ahead of it. A chain that accepts what is translated
/// cannot drop it.
Plan plan(const std::vector<Table>& tables, const Acceptance& acceptance, std::string_view tag);

}  // namespace muster::lb::forward
