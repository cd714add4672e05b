#include "lb/core/forward.hpp"

#include <doctest/doctest.h>

#include "tests/support/lb_samples.hpp"

namespace muster::lb::forward {
namespace {

using namespace testing;

const std::optional<Prefix> kV4 = Prefix::parse("11.0.0.0/8");
const std::optional<Prefix> kV6 = Prefix::parse("fd01:c::/64");

Applied balanced() {
  return {.selector = Selector{Policy::random, 1, 0}, .refuses = false, .slots = {}};
}

Table table_of(Kind kind, std::map<std::string, Chain> chains) {
  return {kind, "filter", std::move(chains)};
}
Chain base(bool policy_drops) {
  Chain chain;
  chain.on_forward = true;
  chain.policy_drops = policy_drops;
  return chain;
}

std::vector<std::string> notes(const std::vector<Accepted>& all) {
  std::vector<std::string> texts;
  for (const Accepted& accepted : all) texts.push_back(note_of("muster", accepted));
  return texts;
}

TEST_CASE("what is accepted is the ranges, and what is served outside of them") {
  AppliedTable served;
  served[tcp("11.0.0.1:80")] = balanced();
  served[tcp("11.255.255.255:65535")] = balanced();
  served[tcp("10.1.2.3:80")] = balanced();
  served[tcp("12.0.0.0:80")] = balanced();
  served[tcp("[fd01:c::7]:80")] = balanced();
  served[tcp("[fd01:d::7]:80")] = balanced();
  served[udp("10.1.2.3:53")] = balanced();
  served[udp("10.1.2.4:53")] = {.selector = {}, .refuses = true, .slots = {}};
  const auto acceptance = accept(kV4, kV6, served);
  CHECK(notes(acceptance.all) ==
        std::vector<std::string>{"muster: VIPs 11.0.0.0/8", "muster: VIPs fd01:c::/64",
                                 "muster: VIP tcp/10.1.2.3:80", "muster: VIP tcp/12.0.0.0:80",
                                 "muster: VIP tcp/[fd01:d::7]:80", "muster: VIP udp/10.1.2.3:53"});
  CHECK(acceptance.beyond == 0);
}

TEST_CASE("of VIPs outside the ranges so many are accepted, and the rest is counted") {
  AppliedTable served;
  for (std::size_t i = 0; i < kMaxServices + 3; ++i) {
    served[tcp("10.1.0." + std::to_string(i) + ":80")] = balanced();
  }
  const auto acceptance = accept(kV4, {}, served);
  CHECK(acceptance.all.size() == 1 + kMaxServices);
  CHECK(acceptance.beyond == 3);
}

TEST_CASE("notes are told from other people's comments") {
  CHECK(is_note("muster", "muster: VIPs 11.0.0.0/8"));
  CHECK(is_note("muster", "muster: VIP tcp/10.1.2.3:80"));
  for (const char* other : {"", "muster", "muster2: VIPs 11.0.0.0/8", "musters: VIP", "VIPs"}) {
    CAPTURE(other);
    CHECK_FALSE(is_note("muster", other));
  }
}

TEST_CASE("rules stand where something can be dropped, and nowhere else") {
  const auto acceptance = accept(kV4, kV6, {});
  Chain dropping;
  dropping.drops = true;
  Chain rejecting = dropping;
  rejecting.drops_rest = true;
  const auto jumping = [](const char* to, bool always) {
    Chain chain = base(false);
    chain.jumps.insert(to);
    if (always) chain.jumps_always.insert(to);
    return chain;
  };
  Chain loop;  // no kernel would have it
  loop.jumps.insert("FORWARD");
  Chain elsewhere;
  elsewhere.policy_drops = true;
  struct Row {
    const char* what;
    std::map<std::string, Chain> chains;
    bool stands;
    bool drops_by_default;
  };
  for (const Row& row : {
           Row{"no chain", {}, false, false},
           Row{"accepts all", {{"FORWARD", base(false)}}, false, false},
           Row{"policy", {{"FORWARD", base(true)}}, true, true},
           Row{"a jump to some drop",
               {{"FORWARD", jumping("x", true)}, {"x", dropping}},
               true,
               false},
           Row{"a jump to the last word",
               {{"FORWARD", jumping("x", true)}, {"x", rejecting}},
               true,
               true},
           Row{"a jump of some to it",
               {{"FORWARD", jumping("x", false)}, {"x", rejecting}},
               true,
               false},
           Row{"a jump to nowhere", {{"FORWARD", jumping("x", true)}}, false, false},
           Row{"a loop", {{"FORWARD", jumping("x", true)}, {"x", loop}}, false, false},
           Row{"a drop that nobody comes to",
               {{"FORWARD", base(false)}, {"x", rejecting}},
               false,
               false},
       }) {
    CAPTURE(row.what);
    const std::vector<Table> tables{table_of(Kind::ip, row.chains)};
    const Plan with = plan(tables, acceptance, "muster");
    CHECK(with.standing.size() == (row.stands ? 1 : 0));
    CHECK(with.edits.size() == (row.stands ? 1 : 0));
    CHECK(with.dropping.empty());
    const Plan without = plan(tables, {}, "muster");
    CHECK(without.edits.empty());
    CHECK(without.dropping.size() == (row.drops_by_default ? 1 : 0));
  }
}

TEST_CASE("a chain that accepts what is translated cannot drop it, whatever it says then") {
  Chain like_firewalld = base(false);
  like_firewalld.drops = like_firewalld.drops_rest = like_firewalld.accepts_translated = true;
  const std::vector<Table> tables{table_of(Kind::inet, {{"filter_FORWARD", like_firewalld}})};
  for (const bool asked : {true, false}) {
    CAPTURE(asked);
    Acceptance acceptance = asked ? accept(kV4, kV6, {}) : Acceptance{};
    const Plan with_ipvs = plan(tables, acceptance, "muster");
    CHECK(with_ipvs.standing.size() == (asked ? 1 : 0));
    CHECK(with_ipvs.dropping.size() == (asked ? 0 : 1));
    acceptance.translated = true;
    const Plan with_nft = plan(tables, acceptance, "muster");
    CHECK(with_nft.standing.empty());
    CHECK(with_nft.dropping.empty());
  }
}

TEST_CASE("each family of tables gets the rules it can hold") {
  const auto acceptance = accept(kV4, kV6, {});
  const auto added = [&](Kind kind) {
    const Plan made = plan({table_of(kind, {{"FORWARD", base(true)}})}, acceptance, "muster");
    REQUIRE(made.edits.size() == 1);
    return notes(made.edits[0].add).size();
  };
  CHECK(added(Kind::ip) == 1);
  CHECK(added(Kind::ip6) == 1);
  CHECK(added(Kind::inet) == 2);
  const Plan none =
      plan({table_of(Kind::ip6, {{"FORWARD", base(true)}})}, accept(kV4, {}, {}), "muster");
  CHECK(none.edits.empty());
  CHECK(none.dropping.size() == 1);
}

TEST_CASE(
    "Docker's chain for its users holds them too, so that what Docker puts ahead does not matter") {
  const Plan made = plan({table_of(Kind::ip, {{"FORWARD", base(true)}, {"DOCKER-USER", {}}})},
                         accept(kV4, {}, {}), "muster");
  REQUIRE(made.standing.size() == 2);
  CHECK(made.standing[0].second == "DOCKER-USER");
  CHECK(made.standing[1].second == "FORWARD");
}

TEST_CASE(
    "ours are put ahead of what Docker puts ahead of its users' chain, and moved by nobody else") {
  const auto acceptance = accept(kV4, {}, {});
  Chain isolation;
  isolation.drops = true;
  Chain users;
  users.ours = {{"muster: VIPs 11.0.0.0/8", 7}};
  const auto edits = [&](std::vector<std::string> ways, std::size_t passed, bool docker) {
    Chain chain = base(true);
    chain.ways = std::move(ways);
    chain.jumps = {chain.ways.begin(), chain.ways.end()};
    chain.ours = {{"muster: VIPs 11.0.0.0/8", 5}};
    chain.passed = {{5, passed}};
    std::map<std::string, Chain> chains{
        {"FORWARD", chain}, {"ISOLATION", isolation}, {"DOCKER", Chain{}}};
    if (docker) chains["DOCKER-USER"] = users;
    return plan({table_of(Kind::ip, chains)}, acceptance, "muster").edits;
  };
  CHECK(edits({}, 0, true).empty());
  CHECK(edits({"ISOLATION"}, 0, true).empty());
  CHECK(edits({"DOCKER"}, 1, true).empty());
  CHECK(edits({"DOCKER", "ISOLATION"}, 1, true).empty());
  CHECK(edits({"ISOLATION"}, 1, false).empty());  // somebody else's order is their affair
  const auto moved = edits({"DOCKER", "ISOLATION"}, 2, true);
  REQUIRE(moved.size() == 1);
  CHECK(moved[0].chain == "FORWARD");
  CHECK(notes(moved[0].add) == std::vector<std::string>{"muster: VIPs 11.0.0.0/8"});
  CHECK(moved[0].remove == std::vector<std::uint64_t>{5});
}

TEST_CASE("what is there stays, copies and what is not wanted any more go") {
  const auto acceptance = accept(kV4, {}, {});
  Chain chain = base(true);
  chain.ours = {{"muster: VIPs 11.0.0.0/8", 5}};
  CHECK(plan({table_of(Kind::ip, {{"FORWARD", chain}})}, acceptance, "muster").edits.empty());
  chain.ours = {{"muster: VIPs 11.0.0.0/8", 5},
                {"muster: VIPs 11.0.0.0/8", 6},
                {"muster: VIP tcp/10.1.2.3:80", 7}};
  const Plan made = plan({table_of(Kind::ip, {{"FORWARD", chain}})}, acceptance, "muster");
  REQUIRE(made.edits.size() == 1);
  CHECK(made.edits[0].add.empty());
  CHECK(std::set<std::uint64_t>(made.edits[0].remove.begin(), made.edits[0].remove.end()) ==
        std::set<std::uint64_t>{6, 7});
  // Switched off, or nothing to drop any more: all of them go, from wherever they are.
  chain.policy_drops = false;
  Chain other;
  other.ours = {{"muster: VIPs 11.0.0.0/8", 9}};
  const std::vector<Table> tables{table_of(Kind::ip, {{"FORWARD", chain}, {"other", other}})};
  CHECK(plan(tables, acceptance, "muster").edits.size() == 2);
  CHECK(plan(tables, {}, "muster").edits.size() == 2);
}

TEST_CASE("more chains than there is room for are left, and said to drop") {
  std::map<std::string, Chain> chains;
  for (std::size_t i = 0; i < kMaxChains + 2; ++i) {
    chains["chain" + std::to_string(i)] = base(true);
  }
  const Plan made = plan({table_of(Kind::ip, chains)}, accept(kV4, {}, {}), "muster");
  CHECK(made.standing.size() == kMaxChains);
  CHECK(made.edits.size() == kMaxChains);
  CHECK(made.dropping.size() == 2);
  CHECK(made.beyond == 2);
}

TEST_CASE("the last address of a range is in it, and the next one is not") {
  for (const char* text :
       {"11.0.0.0/8", "10.1.2.3/32", "10.1.2.0/23", "fd01:c::/64", "fd01:c::1/128"}) {
    CAPTURE(text);
    const auto prefix = Prefix::parse(text);
    REQUIRE(prefix.has_value());
    CHECK(prefix->contains(prefix->address));
    CHECK(prefix->contains(prefix->last()));
  }
  CHECK(Prefix::parse("10.1.2.0/23")->last() == ip("10.1.3.255"));
  CHECK(Prefix::parse("fd01:c::/64")->last() == ip("fd01:c::ffff:ffff:ffff:ffff"));
  CHECK_FALSE(Prefix::parse("10.1.2.0/23")->contains(ip("10.1.4.0")));
  CHECK_FALSE(Prefix::parse("10.1.2.0/23")->contains(ip("fd01:c::")));
}

}  // namespace
}  // namespace muster::lb::forward
