#include <fstream>
#include <string>

#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>

#include "lb/io/driver_choice.hpp"
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
       "sees the bridge's address instead of the client's",
       "modprobe br_netfilter; sysctl -w net.bridge.bridge-nf-call-iptables=1"});
}

/// `ip filter FORWARD`, as Docker sets it up: what no rule accepts is dropped.
void check_firewalls(std::vector<Finding>& findings) {
  auto socket = netlink::Socket::open(NETLINK_NETFILTER);
  if (!socket) return;
  netlink::Writer out;
  nft::begin(out, NFT_MSG_GETCHAIN, NLM_F_DUMP, socket->next_sequence(), NFPROTO_UNSPEC);
  out.end();
  const auto done = socket->request(out.bytes(), [&](const netlink::Message& message) {
    const netlink::Bytes chain = message.attributes(sizeof(nfgenmsg));
    const auto policy = netlink::find(chain, NFTA_CHAIN_POLICY).u32_be();
    const auto hook =
        netlink::find(netlink::find(chain, NFTA_CHAIN_HOOK).value, NFTA_HOOK_HOOKNUM).u32_be();
    if (policy != NF_DROP || (hook != NF_INET_FORWARD && hook != NF_INET_LOCAL_IN)) return;
    const std::string name = std::string{netlink::find(chain, NFTA_CHAIN_TABLE).text()} + " " +
                             std::string{netlink::find(chain, NFTA_CHAIN_NAME).text()};
    const bool input = hook == NF_INET_LOCAL_IN;
    findings.push_back(
        {Level::advice,
         "the firewall chain " + name + " drops what it does not know" +
             (input ? ": with driver ipvs it must accept what containers send to VIPs"
                    : ": it must accept what containers send to backends, and the answers"),
         "a rule there that accepts by the VIP range, such as: iptables -I " +
             std::string{input ? "INPUT -d" : "FORWARD -m conntrack --ctorigdst"} +
             " 11.0.0.0/8 -j ACCEPT"});
  });
  if (!done) return;
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
  check_firewalls(findings);
  return findings;
}

}  // namespace muster::lb
