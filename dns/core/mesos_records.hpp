#pragma once

#include <cstdint>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "base/observation.hpp"
#include "base/task.hpp"
#include "dns/core/record.hpp"

namespace muster::dns {

/// Where a task's addresses are taken from: its newest RUNNING status, or its agent.
enum class IpSource : std::uint8_t { netinfo, host };

/// What of Mesos-DNS's configuration changes the records themselves.
struct Naming {
  bool rfc952 = false;  // EnforceRFC952: labels of at most 24 octets that start with a letter
  std::uint16_t srv_weight = 1;  // SRVRecordDefaultWeight
  /// IPSources: the first that has an address gives all of its addresses.
  std::vector<IpSource> ip_sources{IpSource::netinfo, IpSource::host};
};

/// The apexes that records of the cluster go under, in wire form, and how labels are made.
struct Suffixes {
  std::string mesos;  // the configured domain
  std::string agentip;
  std::string containerip;
  std::string autoip;
  std::string dcos;
  std::string l4lb;
  std::string zk;
  Naming naming{};
};

/// Thirteen records a task and more with each port; a task whose name or framework leaves no
/// label has none. Each function's output is a pure function of its argument, sorted, without
/// duplicates, so that a change is the difference of two of them. What is skipped goes into
/// `problems`, which may be null.
///
/// Names are Mesos-DNS's (records/generator.go) and DC/OS's (dcos_dns_mesos.erl). Different on
/// purpose: an SRV record points at a name that has the address its port is reachable at; labels
/// over 63 octets are shortened so that they can be served; "tcp,udp" means both.
std::vector<Record> task_records(const Task&, const Suffixes&, std::vector<Problem>* problems);
std::vector<Record> agent_records(const Agent&, const Suffixes&);
std::vector<Record> framework_records(const Framework&, const Suffixes&);
std::vector<Record> vip_records(const VipAllocation&, const Suffixes&,
                                std::vector<Problem>* problems);

/// masterN is numbered in order of the endpoint, so every node numbers alike.
std::vector<Record> master_records(const std::set<Master>&, const Suffixes&);

/// `T-H-S`, the label that names one task among all of its name; at most 63 octets.
std::string instance_label(std::string_view name_label, const TaskId&, const AgentId&);

/// A task's or a framework's name as it goes into names: dns_label() and domain_fragment(), or
/// their RFC 952 forms.
std::string name_label(std::string_view text, const Naming&);
std::string framework_labels(std::string_view text, const Naming&);

/// `1.0.0.10.in-addr.arpa` and `….ip6.arpa` (RFC 1035 §3.5, RFC 3596 §2.5) in wire form.
std::string reverse_name(const IpAddress&);

/// Labels above a suffix in wire form; empty if a label is empty or over 63 octets, or if the
/// whole is over 255.
std::string join(std::initializer_list<std::string_view> labels, std::string_view suffix);

/// Dotted text, taken literally (no escapes), above a suffix; empty as join() is.
std::string join_dotted(std::string_view dotted, std::string_view suffix);

}  // namespace muster::dns
