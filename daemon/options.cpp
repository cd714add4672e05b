#include "daemon/options.hpp"

#include <filesystem>
#include <fstream>
#include <random>
#include <spdlog/spdlog.h>
#include <string>
#include <string_view>
#include <vector>

#include "daemon/identity.hpp"

namespace muster::daemon {
namespace {

constexpr std::uint16_t kAgentPort = 5051;
constexpr std::size_t kMaxSecret = std::size_t{64} * 1024;

// The first line of a file that holds a password or token. Read at start, as configuration is.
std::string read_secret(const std::filesystem::path& path, std::string_view key) {
  if (path.empty()) return {};
  std::ifstream in{path};
  if (in) require_private(path, key);
  std::string secret;
  if (!std::getline(in, secret) || secret.empty() || secret.size() > kMaxSecret) {
    throw ConfigError{path.string() + ": " + std::string{key} +
                      ": expected a readable file with the secret on its first line"};
  }
  return secret;
}

void add_dns_names(const Config::Dns& from, dns::ServerOptions& to) {
  to.naming.rfc952 = from.rfc952;
  to.naming.srv_weight = from.srv_weight;
  to.naming.ip_sources.clear();
  for (const std::string& source : from.ip_sources) {
    to.naming.ip_sources.push_back(source == "host" ? dns::IpSource::host : dns::IpSource::netinfo);
  }
  to.soa = {from.soa_refresh, from.soa_retry, from.soa_expire, from.soa_minimum};
  to.soa_mname = from.soa_mname;
  to.soa_rname = from.soa_rname;
  to.public_addresses = from.public_addresses;
  to.cluster_key = from.cluster_key;
  to.cnames = from.cnames;
  dns::CatalogOptions named;
  named.domain = from.domain;
  for (const auto& [name, target] : from.cnames) {
    const std::string problem = dns::cname_problem(named, name, target);
    if (!problem.empty()) throw ConfigError{"dns.cnames: " + problem};
  }
}

std::vector<dns::Prefix> prefixes(const std::vector<std::string>& texts, const char* key) {
  std::vector<dns::Prefix> out;
  for (const std::string& text : texts) {
    const auto prefix = dns::Prefix::parse(text);
    if (!prefix) {
      throw ConfigError{std::string{key} +
                        ": expected a network whose address ends in zeros after "
                        "its length, got \"" +
                        text + '"'};
    }
    out.push_back(*prefix);
  }
  return out;
}

void add_dns_limits(const Config::Dns& from, dns::ServerOptions& to) {
  if (from.recursion_from) {
    to.recursion_from = prefixes(*from.recursion_from, "dns.recursion_from");
  }
  to.transfer_to = prefixes(from.transfer_to, "dns.transfer_to");
  to.notify = from.notify;
  to.rate_limit = from.rate_limit;
  to.query_log = from.query_log;
  to.query_sink = [](const std::string& line) { spdlog::info(line); };
  to.parallel_upstreams = from.parallel ? 2 : 1;
  to.cache_octets = from.cache_megabytes << 20;
}

}  // namespace

mesos::ObserverOptions observer_options(const Config::Mesos& config) {
  mesos::ObserverOptions options;
  for (const std::string& text : config.masters) {
    const auto url = mesos::MasterUrl::parse(text);
    if (!url) throw ConfigError{"mesos.masters: " + url.error()};
    options.masters.push_back(*url);
  }
  if (!config.zookeeper.empty()) {
    options.zookeeper = *mesos::ZkUrl::parse(config.zookeeper);
    options.zookeeper->auth = config.zk_auth_file.empty()
                                  ? config.zookeeper_auth
                                  : read_secret(config.zk_auth_file, "mesos.zk_auth_file");
    if (!config.zk_auth_file.empty() && options.zookeeper->auth.find(':') == std::string::npos) {
      throw ConfigError{config.zk_auth_file.string() +
                        ": mesos.zk_auth_file: expected user:password on its first line"};
    }
    options.zookeeper_https = config.https;
  }
  options.mode =
      config.poll ? mesos::ObserverOptions::Mode::poll : mesos::ObserverOptions::Mode::stream;
  options.poll_interval = config.poll_interval;
  options.access = {.basic_user = config.username,
                    .basic_secret = read_secret(config.password_file, "mesos.password_file"),
                    .bearer_token = read_secret(config.token_file, "mesos.token_file"),
                    .ca_file = config.ca_file.string(),
                    .cert_file = config.cert_file.string(),
                    .key_file = config.key_file.string()};
  if (!config.key_file.empty()) require_private(config.key_file, "mesos.key_file");
  options.seed = std::random_device{}();  // nodes that lost one master must not return in step
  return options;
}

mesos::AgentPollerOptions agent_options(const Config& config) {
  const Config::Mesos& from = config.mesos;
  std::optional<Endpoint> at = config.node.agent;
  if (!at) {
    const std::optional<IpAddress> own = config.node.v4   ? config.node.v4
                                         : config.node.v6 ? config.node.v6
                                                          : own_address();
    if (own) at = Endpoint{*own, *Port::from(kAgentPort)};
  }
  if (from.agent.empty() && !at) {
    throw ConfigError{
        "mesos.agent: expected a URL like \"http://10.0.0.1:5051\": this node has no "
        "address by which to find its agent"};
  }
  const auto url =
      mesos::MasterUrl::parse(from.agent.empty() ? "http://" + to_string(*at) : from.agent);
  if (!url) throw ConfigError{"mesos.agent: " + url.error()};
  mesos::AgentPollerOptions options{.agent = *url};
  if (at) options.at = at->address;
  options.access = {
      .basic_user = from.agent_username,
      .basic_secret = read_secret(from.agent_password_file, "mesos.agent_password_file"),
      .bearer_token = read_secret(from.agent_token_file, "mesos.agent_token_file"),
      .ca_file = from.agent_ca_file.string(),
      .cert_file = from.agent_cert_file.string(),
      .key_file = from.agent_key_file.string()};
  if (!from.agent_key_file.empty()) require_private(from.agent_key_file, "mesos.agent_key_file");
  options.seed = std::random_device{}();
  return options;
}

cluster::ClusterOptions cluster_options(const Config& config) {
  cluster::ClusterOptions options;
  options.replicated = config.gossip.enabled;
  options.speaks = config.mesos.from_agent;
  return options;
}

dns::ServerOptions dns_options(const Config& config) {
  dns::ServerOptions options;
  options.listen = config.dns.listen;
  options.workers = config.dns.workers;
  options.domain = config.dns.domain;
  options.ttl_seconds = config.dns.ttl_seconds;
  if (config.dns.upstreams) {
    options.upstreams = *config.dns.upstreams;
  } else {
    const std::vector<Endpoint> system = dns::system_upstreams(config.dns.listen);
    options.upstreams.assign(system.begin(), system.end());
  }
  options.zone_upstreams = config.dns.zones;
  options.upstream_ca_file = config.dns.upstream_ca_file.string();
  options.node_address = config.node.v4 ? config.node.v4 : config.node.v6;
  add_dns_names(config.dns, options);
  add_dns_limits(config.dns, options);
  return options;
}

}  // namespace muster::daemon
