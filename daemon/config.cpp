#include "daemon/config.hpp"

#include <algorithm>
#include <cctype>
#include <fstream>
#include <sstream>

#include "base/parse_endpoint.hpp"
#include "daemon/config_section.hpp"
#include "daemon/config_values.hpp"
#include "mesos/core/zk_url.hpp"

namespace muster::daemon {
namespace {

constexpr std::size_t kMaxFileSize = 1 << 20;
constexpr std::size_t kMaxScheduler = 16;  // linux/ip_vs.h, IP_VS_SCHEDNAME_MAXLEN
constexpr std::uint16_t kGossipPort = 61420;
constexpr std::uint16_t kAgentPort = 5051;

void read_node(Section node, Config::Node& out) {
  node.each_text("address", "one IPv4 and/or one IPv6 address of this node",
                 {"this node's address, or a list of one IPv4 and one IPv6 address; the source of "
                  "local connections to VIPs",
                  "from the kernel's routes"},
                 [&](const std::string& text) {
                   const auto address = IpAddress::parse(text);
                   if (!address || !address->is_unicast()) return false;
                   auto& slot = address->is_v4() ? out.v4 : out.v6;
                   if (slot) return false;
                   slot = address;
                   return true;
                 });
  node.each_text("agent", "an address and port like \"10.0.0.1:5051\"",
                 {"the Mesos agent on this node: asked, before this node is believed dead, whether "
                  "its host still answers",
                  "`node.address`, port 5051"},
                 [&](const std::string& text) {
                   out.agent = parse_endpoint(text, kAgentPort);
                   return out.agent && out.agent->address.is_unicast();
                 });
  node.finish();
}

// The one zk:// there may be; what is secret in it is kept apart.
bool take_zookeeper(const std::string& text, Config::Mesos& out) {
  auto url = mesos::ZkUrl::parse(text);
  if (!url || !out.zookeeper.empty()) return false;
  out.zookeeper = to_string(*url);
  out.zookeeper_auth = url->auth;
  return true;
}

// The agent beside this node: what it is asked with goes to nobody else.
void read_mesos_agent(Section& mesos, Config::Mesos& out) {
  mesos.text("agent", out.agent,
             {"with `source = \"agent\"`: URL of this node's agent, like `https://10.0.0.1:5051`",
              "`http://` and `node.agent`"});
  mesos.text("agent_username", out.agent_username,
             {"for Basic authentication with the agent; the masters' is not used there", "none"});
  mesos.path("agent_password_file", out.agent_password_file,
             {"a file whose first line is the password for the agent", "none"});
  mesos.path("agent_token_file", out.agent_token_file,
             {"a file whose first line is a bearer token for the agent, instead of Basic", "none"});
  mesos.path("agent_ca_file", out.agent_ca_file,
             {"PEM file that an `https://` agent is verified against", "the system's"});
  mesos.path("agent_cert_file", out.agent_cert_file,
             {"PEM file of the certificate to show to an `https://` agent", "none"});
  mesos.path("agent_key_file", out.agent_key_file, {"PEM file of its key, not encrypted", "none"});
}

void read_mesos(Section mesos, Config::Mesos& out) {
  mesos.each_text("masters",
                  "URLs like \"http://10.0.0.1:5050\", or one like \"zk://10.0.0.1:2181/mesos\"",
                  {"URLs of masters, `http://` or `https://`; any of them leads to the leader by "
                   "its redirect. Or one `zk://host1:2181,host2:2181/mesos`: below",
                   "none, needed without gossip"},
                  [&](const std::string& text) {
                    const bool http = text.starts_with("http://") || text.starts_with("https://");
                    if (http) out.masters.push_back(text);
                    return http || take_zookeeper(text, out);
                  });
  mesos.choice("observer", {"auto", "yes", "no"}, out.observer,
               {"may this node ask the master for all: `\"auto\"` where masters are named, "
                "`\"yes\"`, `\"no\"`. With gossip one node does and one stands by; name three "
                "nodes in a large cluster and say `\"no\"` on the others"});
  std::string mode = out.poll ? "poll" : "stream";
  mesos.choice("mode", {"stream", "poll"}, mode,
               {"`\"stream\"` subscribes to the operator API and polls only where that is refused; "
                "`\"poll\"` reads `/state`"});
  out.poll = mode == "poll";
  mesos.duration("poll_interval", std::chrono::seconds{1}, std::chrono::hours{1}, out.poll_interval,
                 {"at least this long between polls, `1s` to `1h`; a slow master is asked less "
                  "often"});
  mesos.path("zk_auth_file", out.zk_auth_file,
             {"a file whose first line is `user:password` for ZooKeeper (digest)", "none"});
  mesos.boolean("https", out.https,
                {"with `zk://`: the masters it names are asked by https, each by its host name"});
  mesos.text("username", out.username, {"for Basic authentication", "none"});
  mesos.path("password_file", out.password_file,
             {"a file whose first line is the password", "none"});
  mesos.path("token_file", out.token_file,
             {"a file whose first line is a bearer token, instead of Basic", "none"});
  mesos.path("ca_file", out.ca_file,
             {"PEM file that `https://` masters are verified against; verification cannot be "
              "switched off",
              "the system's"});
  mesos.path("cert_file", out.cert_file,
             {"PEM file of the certificate to show to `https://` masters; renewed files are taken "
              "with the next connection",
              "none"});
  mesos.path("key_file", out.key_file, {"PEM file of its key, not encrypted", "none"});
  std::string source = out.from_agent ? "agent" : "master";
  mesos.choice("source", {"master", "agent"}, source,
               {"who says what runs on this node: `\"master\"`, or `\"agent\"`: this node asks the "
                "Mesos agent beside it, and its tasks reach all nodes without a master. Below"});
  out.from_agent = source == "agent";
  read_mesos_agent(mesos, out);
  mesos.finish();
}

void read_gossip(Section gossip, bool there, Config::Gossip& out) {
  out.enabled = there;
  gossip.boolean(
      "enabled", out.enabled,
      {"off: this node observes the master for itself", "`true` with a `[gossip]` section"});
  gossip.each_text("listen", "an address like \"10.0.0.1\" or \"10.0.0.1:61420\"",
                   {"UDP and TCP", "`node.address`, port 61420"}, [&](const std::string& text) {
                     out.listen = parse_endpoint(text, kGossipPort);
                     return out.listen.has_value();
                   });
  gossip.each_text("advertise", "an address like \"10.0.0.1:61420\", or a list of them",
                   {"where others reach it, if that differs", "`gossip.listen`"},
                   [&](const std::string& text) {
                     const auto endpoint = parse_endpoint(text, kGossipPort);
                     const bool good = endpoint && endpoint->address.is_unicast();
                     if (good) out.advertise.push_back(*endpoint);
                     return good;
                   });
  gossip.each_text(
      "join", "an address or name like \"10.0.0.1\" or \"node1.example:61420\"",
      {"addresses or names of some nodes, port 61420 if none is given; tried for ever, "
       "and the members known last are too. Without: this node looks among the agents that the "
       "master lists",
       "none"},
      [&](std::string text) {
        const bool good = is_join(text, kGossipPort);
        if (good) out.join.push_back(std::move(text));
        return good;
      });
  gossip.path(
      "key_file", out.key_file,
      {"a file with the cluster's key, 64 hexadecimal digits (`openssl rand -hex 32`); "
       "further lines are keys that are accepted but not used to seal. What is in it is read "
       "again at SIGHUP",
       "none"});
  gossip.boolean("insecure", out.insecure,
                 {"without a key gossip listens on loopback only; `true` allows more"});
  gossip.each_text("cluster", "a name of 1 to 64 characters",
                   {"nodes of another name are refused", "`\"muster\"`"},
                   [&](const std::string& text) {
                     out.cluster = text;
                     return !text.empty() && text.size() <= 64;
                   });
  gossip.finish();
}

/// As many as muster-netns takes.
constexpr std::size_t kMaxNamespaceFolders = 16;

void read_lb(Section lb, Config::Lb& out) {
  lb.boolean("enabled", out.enabled, {"balance in this node's kernel"});
  lb.choice("driver", {"auto", "ipvs", "nft", "bpf"}, out.driver,
            {"`\"auto\"`, `\"ipvs\"`, `\"nft\"` or `\"bpf\"`: data-plane.md"});
  lb.each_text("ipvs_scheduler", "the name of an IPVS scheduler like \"wlc\" or \"rr\"",
               {"any scheduler the kernel has", "`\"wlc\"`"}, [&](const std::string& text) {
                 out.ipvs_scheduler = text;
                 return !text.empty() && text.size() < kMaxScheduler &&
                        std::all_of(text.begin(), text.end(), [](char c) {
                          return std::islower(static_cast<unsigned char>(c)) != 0;
                        });
               });
  lb.duration("ipvs_drain", std::chrono::seconds{0}, std::chrono::hours{24}, out.ipvs_drain,
              {"with ipvs: how long connections to a backend that has left may go on"});
  lb.text("bpf_cgroup", out.bpf_cgroup,
          {"with bpf: the cgroup2 folder whose processes it serves", "the root: all processes"});
  lb.boolean("forward_accept", out.forward_accept,
             {"keep rules in the host's firewalls that accept what containers send to VIPs, where "
              "those drop forwarded packets: data-plane.md"});
  if (lb.has("namespace_folders")) out.namespace_folders.clear();
  lb.each_text("namespace_folders", "an absolute path or a list of at most 16",
               {"folders whose files name network namespaces to serve, those of containers that "
                "bypass the node's own; `[]`: none. muster-netns.service has its own list of them: "
                "data-plane.md",
                "`[\"/var/run/dcos/cni/l4lb\"]`"},
               [&](const std::string& text) {
                 out.namespace_folders.push_back(text);
                 return text.starts_with('/') && text.size() > 1 && !text.ends_with('/') &&
                        out.namespace_folders.size() <= kMaxNamespaceFolders;
               });
  lb.text("namespace_helper", out.namespace_helper,
          {"the socket of muster-netns, for a daemon without CAP_SYS_ADMIN"});
  lb.finish();
}

void read_rest(Section& root, Config& config) {
  Section metrics = root.table("metrics");
  metrics.each_text("listen", "an address and port like \"127.0.0.1:61421\"",
                    {"address and port of the HTTP server", "`\"127.0.0.1:61421\"`"},
                    [&](const std::string& text) {
                      const auto endpoint = Endpoint::parse(text);
                      if (endpoint) config.metrics.listen = *endpoint;
                      return endpoint.has_value();
                    });
  metrics.each_text("allowed_hosts", "a host name or a list of them",
                    {"further host names that requests may use; others are refused, which keeps "
                     "web pages from reading this port",
                     "none"},
                    [&](const std::string& text) {
                      if (!text.empty()) config.metrics.allowed_hosts.push_back(text);
                      return !text.empty();
                    });
  metrics.finish();

  Section state = root.table("state");
  state.path("directory", config.state.directory,
             {"where the last state is kept, so that a restart serves before a master answers; "
              "`\"\"` keeps nothing"});
  state.finish();

  Section control = root.table("control");
  control.path("socket", config.control.socket,
               {"the socket for what changes something (`muster keys`), mode 0660; `\"\"`: none"});
  control.finish();

  Section log = root.table("log");
  log.choice("level", {"debug", "info", "warn", "error"}, config.log.level,
             {"`\"debug\"`, `\"info\"`, `\"warn\"`, `\"error\"`", {}, true});
  log.choice("format", {"text", "json"}, config.log.format,
             {"`\"text\"` or `\"json\"`, one line a message, to stderr"});
  log.finish();
}

Config read(ConfigDocument& document) {
  Config config;
  Section root{document};
  read_node(root.table("node"), config.node);
  read_mesos(root.table("mesos"), config.mesos);
  read_dns(root.table("dns"), config.dns);
  read_gossip(root.table("gossip"), root.has("gossip"), config.gossip);
  read_lb(root.table("lb"), config.lb);
  read_rest(root, config);
  root.finish();
  return config;
}

// What no single key can be blamed for; said only once every key is right by itself.
void check_together(const Config& config, std::string_view file) {
  const bool others_observe = config.gossip.enabled && config.mesos.observer != "yes";
  const Config::Mesos& mesos = config.mesos;
  const auto fail = [&](const char* what) { throw ConfigError{std::string{file} + ": " + what}; };
  if (!mesos.masters.empty() && !mesos.zookeeper.empty()) {
    fail("mesos.masters: expected masters or one zk:// URL, not both");
  }
  if (!mesos.zookeeper_auth.empty() && !mesos.zk_auth_file.empty()) {
    fail("mesos: expected user and password in the zk:// URL or in zk_auth_file, not in both");
  }
  if (mesos.zookeeper.empty() && (mesos.https || !mesos.zk_auth_file.empty())) {
    fail("mesos: https and zk_auth_file go with a zk:// URL in masters");
  }
  if (mesos.cert_file.empty() != mesos.key_file.empty()) {
    fail("mesos: expected both or none of cert_file and key_file");
  }
  if (mesos.masters.empty() && mesos.zookeeper.empty() && !others_observe) {
    throw ConfigError{std::string{file} +
                      ": mesos.masters: expected at least one URL like \"http://10.0.0.1:5050\""};
  }
  if (config.mesos.username.empty() != config.mesos.password_file.empty()) {
    throw ConfigError{std::string{file} +
                      ": mesos: expected both or none of username and password_file"};
  }
  if (mesos.agent_username.empty() != mesos.agent_password_file.empty()) {
    fail("mesos: expected both or none of agent_username and agent_password_file");
  }
  if (mesos.agent_cert_file.empty() != mesos.agent_key_file.empty()) {
    fail("mesos: expected both or none of agent_cert_file and agent_key_file");
  }
  const bool asks = !mesos.agent.empty() || !mesos.agent_username.empty() ||
                    !mesos.agent_token_file.empty() || !mesos.agent_ca_file.empty() ||
                    !mesos.agent_cert_file.empty();
  if (asks && !mesos.from_agent) {
    fail("mesos: agent and agent_* go with source = \"agent\"");
  }
}

ConfigDocument parse(std::string_view text, std::string_view name, const Overrides& overrides) {
  ConfigDocument document;
  document.file = name;
  try {
    document.table = toml::parse(text, name);
  } catch (const toml::parse_error& error) {
    throw ConfigError{std::string{name} + ':' + std::to_string(error.source().begin.line) +
                      ": not TOML: " + std::string{error.description()}};
  }
  apply_overrides(document, overrides, config_options());
  return document;
}

std::string read_text(const std::filesystem::path& path) {
  std::ifstream in{path, std::ios::binary};
  if (!in) throw ConfigError{path.string() + ": cannot be read; expected a TOML file"};
  std::string text(kMaxFileSize + 1, '\0');
  in.read(text.data(), static_cast<std::streamsize>(text.size()));
  text.resize(static_cast<std::size_t>(in.gcount()));
  if (text.size() > kMaxFileSize) {
    throw ConfigError{path.string() + ": expected at most 1 MiB of TOML"};
  }
  return text;
}

// As it could stand in the file, on one line.
std::string text_of(const toml::node& node) {
  std::ostringstream out;
  if (const auto* table = node.as_table()) {
    toml::table inlined = *table;
    inlined.is_inline(true);
    out << inlined;
  } else {
    node.visit([&](const auto& typed) { out << typed; });
  }
  return out.str();
}

// `zk://user:password@host` without what is before the @.
std::string without_passwords(std::string text) {
  for (std::size_t at = 0; (at = text.find("://", at)) != std::string::npos; at += 3) {
    const std::size_t end = text.find_first_of("\"'", at + 3);  // a password may have slashes
    const std::size_t sign = text.rfind('@', end);
    if (sign != std::string::npos && sign > at) text.replace(at + 3, sign - at - 3, "***");
  }
  return text;
}

}  // namespace

Config parse_config(std::string_view text, std::string_view name, const Overrides& overrides) {
  ConfigDocument document = parse(text, name, overrides);
  Config config = read(document);
  check_together(config, name);
  for (const OptionHelp& option : document.options) {
    if (const toml::node* node = find_path(document.table, option.path)) {
      config.set.emplace(option.path, text_of(*node));
    }
  }
  return config;
}

ConfigChange take_live_options(Config& config, const Config& next) {
  ConfigChange change;
  for (const OptionHelp& option : config_options()) {
    const auto now = next.set.find(option.path);
    const auto before = config.set.find(option.path);
    const bool set = now != next.set.end();
    const bool was_set = before != config.set.end();
    if (set ? was_set && before->second == now->second : !was_set) continue;
    std::string& list = option.live ? change.applied : change.later;
    list += (list.empty() ? "" : ", ") + option.path;
    if (!option.live) continue;
    if (set) {
      config.set[option.path] = now->second;
    } else {
      config.set.erase(before);
    }
  }
  config.log.level = next.log.level;
  config.dns.upstreams = next.dns.upstreams;
  config.dns.zones = next.dns.zones;
  config.dns.upstream_ca_file = next.dns.upstream_ca_file;
  config.dns.parallel = next.dns.parallel;
  config.dns.cache_megabytes = next.dns.cache_megabytes;
  config.dns.recursion_from = next.dns.recursion_from;
  config.dns.transfer_to = next.dns.transfer_to;
  config.dns.rate_limit = next.dns.rate_limit;
  config.dns.query_log = next.dns.query_log;
  return change;
}

bool is_private(const std::filesystem::path& file) {
  using std::filesystem::perms;
  std::error_code error;
  const auto mode = std::filesystem::status(file, error).permissions();
  const auto others = perms::others_all | perms::group_write;
  return !error && (mode & others) == perms::none;
}

void require_private(const std::filesystem::path& file, std::string_view key) {
  if (is_private(file)) return;
  throw ConfigError{file.string() + ": " + std::string{key} +
                    ": expected a file that others cannot read: chmod 640"};
}

Config load_config(const std::filesystem::path& path, const Overrides& overrides) {
  const std::string text = read_text(path);
  Config config = parse_config(text, path.string(), overrides);
  const std::string& secret = config.mesos.zookeeper_auth;
  if (!secret.empty() && text.find(secret) != std::string::npos && !is_private(path)) {
    throw ConfigError{path.string() +
                      ": holds ZooKeeper's password and others can read it: use "
                      "mesos.zk_auth_file, or chmod 640"};
  }
  return config;
}

std::vector<OptionHelp> config_options() {
  ConfigDocument nothing;
  (void)read(nothing);
  return std::move(nothing.options);
}

std::string config_reference() {
  std::string out = "| key | default | SIGHUP | meaning |\n|---|---|---|---|\n";
  for (const OptionHelp& option : config_options()) {
    const bool value = option.fallback.find_first_of("\"0123456789") == 0 ||
                       option.fallback == "true" || option.fallback == "false";
    const std::string mark = value ? "`" : "";
    out += "| `" + option.path + "` | " + mark + option.fallback + mark + " | " +
           (option.live ? "applies it" : "") + " | " + option.meaning + " |\n";
  }
  return out;
}

std::string print_config(const std::filesystem::path& path, const Overrides& overrides) {
  ConfigDocument document = parse(read_text(path), path.string(), overrides);
  check_together(read(document), path.string());
  std::ostringstream out;
  std::string section;
  for (const OptionHelp& option : document.options) {
    const std::size_t dot = option.path.rfind('.');
    if (option.path.substr(0, dot) != section) {
      section = option.path.substr(0, dot);
      // A section may mean something by being there.
      const bool there = find_path(document.table, section) != nullptr;
      out << (out.tellp() == 0 ? "" : "\n") << (there ? "[" : "# [") << section << "]\n";
    }
    const std::string key = option.path.substr(dot + 1);
    const toml::node* node = find_path(document.table, option.path);
    if (node == nullptr) {
      std::string fallback = option.fallback;
      std::erase(fallback, '`');
      out << "# " << key << " = " << fallback << '\n';
      continue;
    }
    out << key << " = " << without_passwords(text_of(*node));
    const auto origin = document.origins.find(option.path);
    if (origin != document.origins.end()) out << "  # " << origin->second;
    out << '\n';
  }
  return out.str();
}

}  // namespace muster::daemon
