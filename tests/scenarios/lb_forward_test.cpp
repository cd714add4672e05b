#include <string>
#include <vector>

#include <doctest/doctest.h>

#include "tests/scenarios/lb_fixture.hpp"

/// Firewalls of other programs that drop what a node forwards.
namespace muster::lb {
namespace {

/// Topology, but the client is behind a bridge, as containers are.
struct Bridged : Topology {
  Bridged() {
    node.shell(
        "ip link add br0 type bridge; ip addr flush dev c0; ip link set c0 master br0; "
        "ip link set br0 address 02:00:00:00:00:01; "  // now: it would change with its ports
        "ip addr add 10.1.0.1/24 dev br0; ip addr add fd00:1::1/64 dev br0 nodad; "
        "ip link set br0 up; ip link set c0 up");
  }
};

Task web() {
  return task("1", {named("web.marathon", 80)}, {"10.2.0.1:8080", "[fd00:2::1]:8080"});
}

struct Firewall {
  const char* what;
  std::string set_up;  // for a shell
  std::string chain;   // that drops
};

const Firewall kIptables{"iptables", "iptables-nft -P FORWARD DROP; ip6tables-nft -P FORWARD DROP",
                         "ip filter FORWARD"};
const Firewall kOwnTable{
    "a table of its own",
    "nft 'table inet mine { chain forwarded { type filter hook forward priority 0; "
    "policy drop; ct state invalid drop; }; }'",
    "inet mine forwarded"};

const std::vector<Firewall>& firewalls() {
  static const std::vector<Firewall> all{
      kIptables,
      kOwnTable,
      {"like firewalld: the last word is a rule's",
       "nft 'table inet firewalld { chain filter_FORWARD { type filter hook forward priority 10; "
       "policy accept; ct state invalid drop; jump rest; }; "
       "chain rest { reject with icmpx admin-prohibited; }; }'",
       "inet firewalld filter_FORWARD"},
      {"like Docker: it comes first, and drops between bridges",
       "iptables-nft -P FORWARD DROP; iptables-nft -N DOCKER-USER; iptables-nft -N ISOLATION; "
       "iptables-nft -A ISOLATION -i br0 ! -o br0 -j DROP; "
       "iptables-nft -A ISOLATION ! -i br0 -o br0 -j DROP; "
       "iptables-nft -A FORWARD -j DOCKER-USER; iptables-nft -A FORWARD -j ISOLATION; "
       "iptables-nft -A DOCKER-USER -j RETURN; ip6tables-nft -P FORWARD DROP",
       "ip filter FORWARD"}};
  return all;
}

BalancerOptions accepting(bool accept = true) {
  BalancerOptions options;
  options.forward_accept = accept;
  return options;
}

constexpr std::chrono::milliseconds kDropped{700};  // nothing came by then

std::string ask_from(const Netns& from, const char* to,
                     std::chrono::milliseconds limit = std::chrono::seconds{5}) {
  return from.run([&] { return ask_tcp(at(to), limit); });
}
bool reaches(const Netns& from, const char* to) {
  return ask_from(from, to, kDropped).find("error") == std::string::npos;
}
bool eventually_reaches(const Netns& from, const char* to) {
  return eventually([&] { return reaches(from, to); });
}
bool names(const std::vector<std::string>& chains, const std::string& chain) {
  return std::find(chains.begin(), chains.end(), chain) != chains.end();
}
std::string ruleset(const Netns& netns) {
  return netns.shell("nft -s list ruleset 2>/dev/null");  // without the warning about iptables
}

TEST_CASE("containers reach VIPs through a firewall that drops what is forwarded") {
  MUSTER_NEEDS_NETNS();
  for (const Firewall& firewall : firewalls()) {
    CAPTURE(firewall.what);
    Bridged net;
    const auto server = net.serve("10.2.0.1:8080");
    const auto server6 = net.serve("[fd00:2::1]:8080");
    const auto names_too = net.serve("10.2.0.1:53");
    net.node.shell(firewall.set_up);
    const std::string before = ruleset(net.node);
    const auto apply = [](Node& node) {
      node.allocate(allocation("web.marathon", "11.0.0.1", "fd01:c::1"));
      node.add(web());
      node.add(task("2", {literal("11.0.0.2", 53, Protocol::udp)}, {"10.2.0.1:53"}));
    };
    {
      Node node{net.node};
      apply(node);
      CHECK(eventually([&] { return names(node.status().dropping, firewall.chain); }));
      CHECK(node.metric("muster_lb_forward_chains_dropping") >= 1);
      CHECK_FALSE(reaches(net.client, "11.0.0.1:80"));
      CHECK_FALSE(reaches(net.client, "[fd01:c::1]:80"));
      CHECK(reaches(net.node, "11.0.0.1:80"));
    }
    {
      Node node{net.node, accepting()};
      apply(node);
      CHECK(eventually_reaches(net.client, "11.0.0.1:80"));
      CHECK(node.status().dropping.empty());
      CHECK(node.metric("muster_lb_forward_chains_dropping") == 0);
      CHECK(node.metric("muster_lb_forward_chains_accepting") >= 1);
      CHECK(eventually_reaches(net.client, "[fd01:c::1]:80"));
      net.client.run([] { CHECK(ask_udp(at("11.0.0.2:53")) == "10.2.0.1:53"); });
      // Nothing else is let through: the backend itself, and whoever comes the other way.
      CHECK_FALSE(reaches(net.client, "10.2.0.1:8080"));
      const auto inside = net.client.run(
          [] { return std::make_unique<NameServer>(at("10.1.0.2:8080"), "container"); });
      CHECK_FALSE(reaches(net.backends, "10.1.0.2:8080"));
      CHECK(node.metric("muster_lb_foreign_changes_total") == 0);
    }
    // Stopping withdraws nothing; cleaning up leaves what was there before to the letter.
    CHECK(reaches(net.client, "11.0.0.1:80"));
    CHECK(ruleset(net.node) != before);
    net.node.run([] { REQUIRE(cleanup().has_value()); });
    CHECK(ruleset(net.node) == before);
  }
}

TEST_CASE("a firewall that accepts what is translated is neither changed nor said to drop") {
  MUSTER_NEEDS_NETNS();
  MUSTER_EXCEPT_IPVS("what it sends on is not conntrack's translation");
  struct Row {
    const char* what;
    std::string head;  // of the chain
    bool accepts;
    bool known;  // to muster, which does not weigh what comes first
  };
  for (const Row& row :
       {Row{"firewalld's", "ct state { established, related } accept; ct status dnat accept; ",
            true, true},
        Row{"counted", "ct status dnat counter accept; ", true, true},
        Row{"after a drop", "ct state invalid drop; ct status dnat accept; ", true, false},
        Row{"of some", "iifname \"lo\" ct status dnat accept; ", false, false},
        Row{"another status", "ct status snat accept; ", false, false},
        Row{"the others", "ct status & dnat == 0 accept; ", false, false},
        Row{"dropped", "ct status dnat drop; ", false, false}}) {
    CAPTURE(row.what);
    Bridged net;
    const auto server = net.serve("10.2.0.1:8080");
    net.node.shell(
        "nft 'table inet theirs { chain forwarded { type filter hook forward priority 10; "
        "policy accept; " +
        row.head + "ct state invalid drop; reject with icmpx admin-prohibited; }; }'");
    for (const bool accept : {false, true}) {
      CAPTURE(accept);
      Node node{net.node, accepting(accept)};
      node.add(task("1", {literal("11.0.0.1", 80)}, {"10.2.0.1:8080"}));
      CHECK(eventually(
          [&] { return reaches(net.client, "11.0.0.1:80") == (row.accepts || accept); }));
      CHECK(eventually([&] {
        return names(node.status().dropping, "inet theirs forwarded") == (!row.known && !accept);
      }));
      CHECK((ruleset(net.node).find("muster: VIPs") != std::string::npos) ==
            (accept && !row.known));
    }
  }
}

TEST_CASE("iptables goes on listing the table that holds our rules, and can save and restore it") {
  MUSTER_NEEDS_NETNS();
  Bridged net;
  const auto server = net.serve("10.2.0.1:8080");
  net.node.shell(kIptables.set_up);
  Node node{net.node, accepting()};
  node.add(task("1", {literal("11.0.0.1", 80), literal("10.99.0.1", 443)}, {"10.2.0.1:8080"}));
  CHECK(eventually_reaches(net.client, "10.99.0.1:443"));
  const std::string wanted =
      "-P INPUT ACCEPT\n-P FORWARD DROP\n-P OUTPUT ACCEPT\n"
      "-A FORWARD -m conntrack --ctorigdst 11.0.0.0/8 -m comment --comment \"muster: VIPs "
      "11.0.0.0/8\" -j ACCEPT\n"
      "-A FORWARD -m conntrack --ctproto 6 --ctorigdst 10.99.0.1 --ctorigdstport 443 -m comment "
      "--comment \"muster: VIP tcp/10.99.0.1:443\" -j ACCEPT\n";
  const auto list = [&] { return net.node.shell("iptables-nft -S"); };
  CHECK(eventually([&] { return list() == wanted; }));
  CHECK(net.node.shell("ip6tables-nft -S FORWARD").find("--ctorigdst fd01:c::/64") !=
        std::string::npos);
  CHECK(net.node.shell("iptables-nft -vnL FORWARD").find("ACCEPT") != std::string::npos);
  // What is restored is known for ours: neither doubled nor left behind.
  net.node.shell(
      "iptables-nft-save >/tmp/muster-saved.$$; iptables-nft-restore --noflush "
      "</tmp/muster-saved.$$; iptables-nft-restore </tmp/muster-saved.$$; "
      "rm /tmp/muster-saved.$$");
  CHECK(eventually([&] { return list() == wanted; }));
  net.node.shell(
      "iptables-nft -A FORWARD -m conntrack --ctorigdst 11.0.0.0/8 -m comment "
      "--comment 'muster: VIPs 11.0.0.0/8' -j ACCEPT");
  CHECK(eventually([&] { return list() == wanted; }));
  net.node.run([] { REQUIRE(cleanup().has_value()); });
}

TEST_CASE("rules of ours that somebody takes out of a firewall are put back at once") {
  MUSTER_NEEDS_NETNS();
  struct Harm {
    const Firewall& firewall;
    std::string does;
  };
  const std::string again = "; " + kOwnTable.set_up;
  for (const Harm& harm :
       {Harm{kIptables, "iptables-nft -F FORWARD"}, Harm{kIptables, "iptables-nft -F"},
        Harm{kIptables, "iptables-nft -D FORWARD 1"},
        Harm{kIptables, "nft delete table ip filter 2>/dev/null; iptables-nft -P FORWARD DROP"},
        Harm{kIptables,
             "iptables-nft -P FORWARD ACCEPT; iptables-nft -F FORWARD; "
             "iptables-nft -A FORWARD -j REJECT"},
        Harm{kOwnTable, "nft flush chain inet mine forwarded"},
        Harm{kOwnTable, "nft delete table inet mine" + again},
        Harm{kOwnTable, "nft flush ruleset" + again}}) {
    CAPTURE(harm.does);
    Bridged net;
    const auto server = net.serve("10.2.0.1:8080");
    net.node.shell(harm.firewall.set_up);
    Node node{net.node, accepting()};
    node.add(task("1", {literal("11.0.0.1", 80)}, {"10.2.0.1:8080"}));
    REQUIRE(eventually_reaches(net.client, "11.0.0.1:80"));
    net.node.shell(harm.does);
    const auto began = std::chrono::steady_clock::now();
    const auto ours = [&] {
      return ruleset(net.node).find("11.0.0.0/8  counter accept") != std::string::npos ||
             ruleset(net.node).find("comment \"muster: VIPs") != std::string::npos;
    };
    CHECK(eventually(ours));
    const auto took = std::chrono::steady_clock::now() - began;
    MESSAGE(harm.does << ": mended in "
                      << std::chrono::duration_cast<std::chrono::milliseconds>(took).count()
                      << " ms");
    CHECK(eventually_reaches(net.client, "11.0.0.1:80"));
  }
}

TEST_CASE("what Docker puts ahead of its users' chain does not keep VIP traffic out") {
  MUSTER_NEEDS_NETNS();
  Bridged net;
  const auto server = net.serve("10.2.0.1:8080");
  net.node.shell(firewalls().back().set_up);
  Node node{net.node, accepting()};
  node.add(task("1", {literal("11.0.0.1", 80)}, {"10.2.0.1:8080"}));
  REQUIRE(eventually_reaches(net.client, "11.0.0.1:80"));
  const auto forward = [&] { return net.node.shell("iptables-nft -S FORWARD"); };
  const auto after_policy = [&] { return forward().substr(forward().find('\n') + 1); };
  // It starts while its containers run.
  net.node.shell("iptables-nft -D FORWARD -j ISOLATION; iptables-nft -I FORWARD -j ISOLATION");
  CHECK(eventually([&] { return after_policy().starts_with("-A FORWARD -m conntrack"); }));
  CHECK(reaches(net.client, "11.0.0.1:80"));
  // It makes a network: ours are passed in its users' chain, and stay where they are.
  net.node.shell(
      "printf '*filter\\n-D FORWARD -j ISOLATION\\n-I FORWARD -j ISOLATION\\n"
      "-D FORWARD -j DOCKER-USER\\n-I FORWARD -j DOCKER-USER\\nCOMMIT\\n' | "
      "iptables-nft-restore --noflush");
  CHECK(eventually_reaches(net.client, "11.0.0.1:80"));
  CHECK(eventually([&] { return after_policy().starts_with("-A FORWARD -j DOCKER-USER\n"); }));
  const std::string settled = forward();
  net.node.shell("iptables-nft -D DOCKER-USER 1");
  CHECK(eventually([&] {
    return net.node.shell("iptables-nft -S DOCKER-USER").find("muster: VIPs") != std::string::npos;
  }));
  CHECK(forward() == settled);
}

TEST_CASE("rules of ours leave a firewall that drops no more, and all of them once switched off") {
  MUSTER_NEEDS_NETNS();
  Bridged net;
  const auto server = net.serve("10.2.0.1:8080");
  net.node.shell(kIptables.set_up + "; " + kOwnTable.set_up);
  const std::string before = ruleset(net.node);
  const Task outside = task("2", {literal("10.99.0.1", 443)}, {"10.2.0.1:8080"});
  const auto has = [&](const char* what) {
    return ruleset(net.node).find(what) != std::string::npos;
  };
  {
    Node node{net.node, accepting()};
    node.add(task("1", {literal("11.0.0.1", 80)}, {"10.2.0.1:8080"}));
    node.add(outside);
    CHECK(eventually_reaches(net.client, "10.99.0.1:443"));
    // The rule goes with the VIP.
    CHECK(eventually([&] { return has("muster: VIP tcp/10.99.0.1:443"); }));
    node.remove(outside);
    CHECK(eventually([&] { return !has("muster: VIP tcp/10.99.0.1:443"); }));
    net.node.shell("iptables-nft -P FORWARD ACCEPT");
    CHECK(eventually(
        [&] { return net.node.shell("iptables-nft -S FORWARD") == "-P FORWARD ACCEPT\n"; }));
    CHECK(has("muster: VIPs 11.0.0.0/8"));
    CHECK(eventually_reaches(net.client, "11.0.0.1:80"));
    net.node.shell("iptables-nft -P FORWARD DROP");
    CHECK(eventually_reaches(net.client, "11.0.0.1:80"));
  }
  {
    Node node{net.node, accepting(false)};
    node.add(task("1", {literal("11.0.0.1", 80)}, {"10.2.0.1:8080"}));
    CHECK(eventually([&] { return !has("muster: VIP"); }));
    CHECK(eventually([&] { return names(node.status().dropping, "inet mine forwarded"); }));
    CHECK_FALSE(reaches(net.client, "11.0.0.1:80"));
  }  // or it would mend what is cleaned up
  net.node.run([] { REQUIRE(cleanup().has_value()); });
  CHECK(ruleset(net.node) == before);
}

}  // namespace
}  // namespace muster::lb
