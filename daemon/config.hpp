#pragma once

#include <filesystem>
#include <map>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "base/endpoint.hpp"
#include "base/time.hpp"
#include "dns/core/upstream.hpp"

namespace muster::daemon {

/// What is wrong with a configuration: one line, `file:line: key: what was expected, what is
/// there`. Thrown before the first socket is opened; main() prints it and exits with 2.
class ConfigError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// The daemon's configuration, complete with its defaults. docs/configuration.md is its manual.
struct Config {
  struct Node {
    std::optional<IpAddress> v4;    // `address`: of this node, one per family;
    std::optional<IpAddress> v6;    // empty: found from the kernel's routes
    std::optional<Endpoint> agent;  // of the Mesos agent here; none: `address`, port 5051
  };
  struct Mesos {
    std::vector<std::string> masters;  // URLs; empty only with gossip, or zookeeper
    std::string zookeeper;             // zk://host:port/path, without user and password
    std::string zookeeper_auth;        // user:password; never shown
    std::filesystem::path zk_auth_file;
    bool https = false;             // of the masters that zookeeper names
    std::string observer = "auto";  // or "yes", "no": may this node ask the master?
    bool poll = false;              // `mode = "poll"`
    Duration poll_interval{5000};
    std::string username;
    std::filesystem::path password_file;
    std::filesystem::path token_file;
    std::filesystem::path ca_file;
    std::filesystem::path cert_file;
    std::filesystem::path key_file;
    /// `source = "agent"`: this node asks the agent beside it what runs there.
    bool from_agent = false;
    std::string agent;  // URL; empty: node.agent by http
    std::string agent_username;
    std::filesystem::path agent_password_file;
    std::filesystem::path agent_token_file;
    std::filesystem::path agent_ca_file;
    std::filesystem::path agent_cert_file;
    std::filesystem::path agent_key_file;
  };
  struct Dns {
    bool enabled = true;
    std::vector<Endpoint> listen;
    unsigned workers = 1;
    std::string domain = "mesos";
    std::uint32_t ttl_seconds = 5;
    std::optional<std::vector<muster::dns::Upstream>> upstreams;  // none: the system's
    std::map<std::string, std::vector<muster::dns::Upstream>> zones;
    std::filesystem::path upstream_ca_file;
    // Text where dns/ has the type: checked here, made there.
    bool rfc952 = false;
    std::uint16_t srv_weight = 1;
    std::vector<std::string> ip_sources{"netinfo", "host"};
    std::string soa_mname;
    std::string soa_rname;
    std::uint32_t soa_refresh = 60;
    std::uint32_t soa_retry = 180;
    std::uint32_t soa_expire = 86400;
    std::uint32_t soa_minimum = 1;
    std::vector<IpAddress> public_addresses;
    std::string cluster_key;
    std::map<std::string, std::string> cnames;
    std::optional<std::vector<std::string>> recursion_from;  // none: private networks
    std::vector<std::string> transfer_to;
    std::vector<Endpoint> notify;
    unsigned rate_limit = 0;
    unsigned query_log = 0;
    bool parallel = false;
    std::size_t cache_megabytes = 16;
    bool enumerate = true;
    std::vector<Endpoint> http_listen;  // of Mesos-DNS's HTTP API, besides metrics.listen
  };
  struct Lb {
    bool enabled = true;
    std::string driver = "auto";  // or "ipvs", "nft", "bpf"
    std::string ipvs_scheduler = "wlc";
    Duration ipvs_drain{std::chrono::minutes{10}};
    std::string bpf_cgroup = {};
    bool forward_accept = false;
    std::vector<std::string> namespace_folders{"/var/run/dcos/cni/l4lb"};
    std::string namespace_helper = "/run/muster-netns.sock";
  };
  struct Metrics {
    Endpoint listen{IpAddress{IpAddress::V4{127, 0, 0, 1}}, *Port::from(61421)};
    std::vector<std::string> allowed_hosts;
  };
  struct Gossip {
    bool enabled = false;             // there is a [gossip] section
    std::optional<Endpoint> listen;   // none: the node's address
    std::vector<Endpoint> advertise;  // empty: `listen`
    std::vector<std::string> join;    // address:port or name:port
    std::filesystem::path key_file;   // one key a line; the first one seals
    bool insecure = false;            // beyond loopback without a key
    std::string cluster = "muster";   // nodes of another name are refused
  };
  struct State {
    std::filesystem::path directory = "/var/lib/muster";  // empty: nothing is kept
  };
  struct Control {
    std::filesystem::path socket = "/run/muster/control.sock";  // empty: none
  };
  struct Log {
    std::string level = "info";
    std::string format = "text";
  };

  Node node;
  Mesos mesos;
  Dns dns;
  Lb lb;
  Metrics metrics;
  Gossip gossip;
  State state;
  Control control;
  Log log;

  std::map<std::string, std::string> set;  // what is not left at its default: path and value
};

/// What a new configuration changed: paths of options, separated by commas.
struct ConfigChange {
  std::string applied;
  std::string later;  // needs a restart
};

/// Takes over from `next` what can change while the daemon serves (OptionHelp::live).
ConfigChange take_live_options(Config& config, const Config& next);

/// One thing that can be set, for the manual and for those who ask what is set.
struct OptionHelp {
  std::string path;      // `dns.ttl_seconds`
  std::string fallback;  // the default, in Markdown or as it would stand in the file
  std::string meaning;
  bool live = false;  // SIGHUP applies it
};

/// What is set outside of the file. It goes over the file's; the command line's goes over all.
struct Overrides {
  std::map<std::string, std::string> environment;  // MUSTER_DNS_TTL_SECONDS=10
  std::vector<std::string> set;                    // dns.ttl_seconds=10
  /// Those variables of this process that start with MUSTER_.
  static Overrides from_environment();
};

/// Reads the file at `path`. Throws ConfigError; every key that is not known is an error too.
Config load_config(const std::filesystem::path& path, const Overrides& overrides);

/// Whether nobody but owner and group can read a file that holds a secret, and nobody but the
/// owner write it. False also where it cannot be asked.
bool is_private(const std::filesystem::path& file);
/// Throws ConfigError, which names `key`, where it is not.
void require_private(const std::filesystem::path& file, std::string_view key);

/// The same from text; `name` stands for the file in messages.
Config parse_config(std::string_view text, std::string_view name, const Overrides& overrides = {});

/// Every option that there is, section by section.
std::vector<OptionHelp> config_options();

/// The options as the table of docs/configuration.md.
std::string config_reference();

/// What is in force, as a file that could be read again: what is set, and as comments the defaults.
/// Passwords in URLs are left out. Throws ConfigError as load_config() does.
std::string print_config(const std::filesystem::path& path, const Overrides& overrides);

}  // namespace muster::daemon
