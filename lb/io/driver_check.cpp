#include <fstream>
#include <string>
#include <tuple>

#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>

#include "lb/io/driver_choice.hpp"
#include "lb/io/firewall.hpp"
#include "lb/io/netlink.hpp"
#include "lb/io/nft_rules.hpp"
#include "lb/io/routes.hpp"

namespace muster::lb {
namespace {

using Level = Finding::Level;

bool is_on(const char* path) {
  std::ifstream file{path};
  int on = 0;
  return file >> on && on != 0;
}

void check_forwarding(const DriverConfig& config, std::vector<Finding>& findings) {
  struct Forwarding {
    bool wanted;
    const char* path;
    const char* key;
  };
  for (const auto& [wanted, path, key] :
       {Forwarding{config.range_v4.has_value(), "/proc/sys/net/ipv4/ip_forward",
                   "net.ipv4.ip_forward"},
        Forwarding{config.range_v6.has_value(), "/proc/sys/net/ipv6/conf/all/forwarding",
                   "net.ipv6.conf.all.forwarding"}}) {
    if (!wanted) continue;
    if (is_on(path)) {
      findings.push_back({Level::good, std::string{key} + " is on"});
    } else {
      findings.push_back({Level::advice,
                          std::string{key} + " is off: containers with addresses of their own "
                                             "cannot reach VIPs, processes of the node can",
                          "sysctl -w " + std::string{key} + "=1"});
    }
  }
}

void check_bridges(std::vector<Finding>& findings) {
  auto socket = netlink::Socket::open(NETLINK_ROUTE);
  if (!socket) return;
  const auto bridges = routes::bridges(*socket);
  if (!bridges || bridges->empty() || is_on("/proc/sys/net/bridge/bridge-nf-call-iptables")) return;
  findings.push_back(
      {Level::advice,
       "br_netfilter is off: where client and backend are on one bridge, the backend "
       "sees the bridge's address instead of the client's; with it on, a container reaches itself "
       "through a VIP only if its port of the bridge is in hairpin mode",
       "modprobe br_netfilter; sysctl -w net.bridge.bridge-nf-call-iptables=1"});
}

std::string range_of(const DriverConfig& config, forward::Kind kind) {
  const auto& range = kind == forward::Kind::ip6 ? config.range_v6 : config.range_v4;
  return range ? range->to_string() : "RANGE";
}

/// The rule that somebody would write who does not want muster to.
std::string rule_by_hand(const DriverConfig& config, const forward::Table& table,
                         const std::string& chain) {
  const std::string range = range_of(config, table.kind);
  if (chain == "FORWARD" && table.kind != forward::Kind::inet) {
    return std::string{table.kind == forward::Kind::ip ? "iptables" : "ip6tables"} +
           " -I FORWARD -m conntrack --ctorigdst " + range + " -j ACCEPT";
  }
  return "nft insert rule " + std::string{forward::to_string(table.kind)} + " " + table.name + " " +
         chain + " ct original " + (table.kind == forward::Kind::ip6 ? "ip6" : "ip") + " daddr " +
         range + " accept";
}

/// `ip filter FORWARD`, as Docker sets it up: what no rule accepts is dropped.
void check_forward_chains(netlink::Socket& socket, const DriverConfig& config,
                          const std::string& driver, std::vector<Finding>& findings) {
  const auto tables = firewall::read(socket, config.table);
  if (!tables) return;
  const forward::Acceptance nothing{.all = {}, .beyond = 0, .translated = driver != "ipvs"};
  for (const auto& [index, name] : forward::plan(*tables, nothing, config.table).dropping) {
    const forward::Table& table = (*tables)[index];
    const std::string where =
        std::string{forward::to_string(table.kind)} + " " + table.name + " " + name;
    if (!table.chains.at(name).ours.empty()) {
      findings.push_back({Level::good, "the firewall chain " + where +
                                           " drops what it does not know, and accepts VIP traffic "
                                           "by muster's rules"});
      continue;
    }
    findings.push_back(
        {Level::advice,
         "the firewall chain " + where +
             " drops what it does not know of forwarded packets, and so what "
             "containers with addresses of their own send to VIPs",
         "lb.forward_accept = true, or a rule of your own: " + rule_by_hand(config, table, name)});
  }
}

/// They are no tables of nf_tables, and out of our reach. Only root may see whether there are any.
void check_legacy(const DriverConfig& config, std::vector<Finding>& findings) {
  for (const auto& [path, program, kind] :
       {std::tuple{"/proc/net/ip_tables_names", "iptables-legacy", forward::Kind::ip},
        std::tuple{"/proc/net/ip6_tables_names", "ip6tables-legacy", forward::Kind::ip6}}) {
    std::ifstream names{path};
    for (std::string name; names >> name;) {
      if (name != "filter") continue;
      const std::string command{program};
      findings.push_back({Level::advice,
                          command +
                              " has rules here, which muster can neither see nor change: if "
                              "`" +
                              command +
                              " -S FORWARD` says DROP or REJECT, containers "
                              "with addresses of their own cannot reach VIPs",
                          command + " -I FORWARD -m conntrack --ctorigdst " +
                              range_of(config, kind) + " -j ACCEPT"});
    }
  }
}

/// Driver ipvs takes forwarded packets in where the node takes its own.
void check_input_chains(netlink::Socket& socket, const DriverConfig& config,
                        std::vector<Finding>& findings) {
  netlink::Writer out;
  nft::begin(out, NFT_MSG_GETCHAIN, NLM_F_DUMP, socket.next_sequence(), NFPROTO_UNSPEC);
  out.end();
  const auto done = socket.request(out.bytes(), [&](const netlink::Message& message) {
    const netlink::Bytes chain = message.attributes(sizeof(nfgenmsg));
    const auto policy = netlink::find(chain, NFTA_CHAIN_POLICY).u32_be();
    const auto hook =
        netlink::find(netlink::find(chain, NFTA_CHAIN_HOOK).value, NFTA_HOOK_HOOKNUM).u32_be();
    if (policy != NF_DROP || hook != NF_INET_LOCAL_IN) return;
    const std::string name = std::string{netlink::find(chain, NFTA_CHAIN_TABLE).text()} + " " +
                             std::string{netlink::find(chain, NFTA_CHAIN_NAME).text()};
    findings.push_back(
        {Level::advice,
         "the firewall chain " + name +
             " drops what it does not know: with driver ipvs it must accept what "
             "containers send to VIPs",
         "a rule there that accepts by the VIP range, such as: iptables -I INPUT -d " +
             range_of(config, forward::Kind::ip) + " -j ACCEPT"});
  });
  if (!done) return;
}

void check_firewalls(const DriverConfig& config, const std::string& driver,
                     std::vector<Finding>& findings) {
  auto socket = netlink::Socket::open(NETLINK_NETFILTER);
  if (!socket) return;
  check_forward_chains(*socket, config, driver, findings);
  check_input_chains(*socket, config, findings);
  check_legacy(config, findings);
}

}  // namespace

std::vector<Finding> check_driver(std::string_view name, const DriverConfig& config) {
  DriverConfig only = config;
  only.check_only = true;
  const auto driver = make_driver(name, config.table);
  if (!driver) return {{Level::missing, driver.error().message(), "lb.driver = \"auto\""}};
  const auto opened = (*driver)->open(only);
  if (!opened) {
    const std::string detail = (*driver)->detail();
    return {{Level::missing, detail.empty() ? std::string{"the driver cannot start"} : detail,
             opened.error().message()}};
  }
  std::vector<Finding> findings;
  findings.push_back({Level::good, "driver " + opened->driver + " works on this kernel"});
  if (!opened->passed_over.empty()) {
    findings.push_back({Level::advice, opened->passed_over,
                        "nothing, unless least-connection scheduling is wanted"});
  }
  if (opened->driver == "nft" && !opened->syn_failover) {
    findings.push_back({Level::advice, opened->syn_failover_missing,
                        "load or enable CONFIG_NF_CT_NETLINK_TIMEOUT; without it a connect() that "
                        "meets a dead backend fails"});
  }
  check_forwarding(config, findings);
  check_bridges(findings);
  check_firewalls(config, opened->driver, findings);
  return findings;
}

}  // namespace muster::lb
