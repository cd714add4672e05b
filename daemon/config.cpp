#include "daemon/config.hpp"

#include <algorithm>
#include <cctype>
#include <charconv>
#include <fstream>
#include <functional>
#include <sstream>
#include <toml++/toml.h>

#include "base/label.hpp"

namespace muster::daemon {
namespace {

constexpr std::size_t kMaxFileSize = 1 << 20;
constexpr std::uint16_t kDnsPort = 53;
constexpr std::size_t kMaxScheduler = 16;  // linux/ip_vs.h, IP_VS_SCHEDNAME_MAXLEN
constexpr std::uint16_t kGossipPort = 61420;
constexpr std::uint16_t kAgentPort = 5051;

std::string in_quotes(std::string_view text) {
  return '"' + std::string{text} + '"';
}

// How a value looks to the person who wrote it.
std::string shown(const toml::node& node) {
  if (const auto text = node.value<std::string>(); text && node.is_string())
    return in_quotes(*text);
  std::ostringstream out;
  node.visit([&](const auto& typed) { out << typed; });
  return out.str();
}

// One table of the file. It hands out values by key and knows, at the end, which keys nobody asked
// for.
class Section {
 public:
  Section(const toml::table* table, std::string path, std::string_view file)
      : table_{table}, path_{std::move(path)}, file_{file} {}

  [[noreturn]] void fail(const toml::node& node, std::string_view key,
                         std::string_view expected) const {
    throw ConfigError{where(node) + full(key) + ": expected " + std::string{expected} + ", got " +
                      shown(node)};
  }

  const toml::node* find(std::string_view key) {
    known_.emplace_back(key);
    return table_ == nullptr ? nullptr : table_->get(key);
  }

  Section table(std::string_view key) {
    const toml::node* node = find(key);
    if (node != nullptr && !node->is_table()) fail(*node, key, "a table");
    return Section{node == nullptr ? nullptr : node->as_table(), full(key), file_};
  }

  void text(std::string_view key, std::string& out) {
    const toml::node* node = find(key);
    if (node == nullptr) return;
    if (!node->is_string()) fail(*node, key, "a string");
    out = **node->as_string();
  }

  void path(std::string_view key, std::filesystem::path& out) {
    std::string value = out.string();
    text(key, value);
    out = value;
  }

  void boolean(std::string_view key, bool& out) {
    const toml::node* node = find(key);
    if (node == nullptr) return;
    if (!node->is_boolean()) fail(*node, key, "true or false");
    out = **node->as_boolean();
  }

  template <class Number>
  void integer(std::string_view key, std::int64_t low, std::int64_t high, Number& out) {
    const toml::node* node = find(key);
    if (node == nullptr) return;
    const auto* value = node->as_integer();
    if (value == nullptr || **value < low || **value > high) {
      fail(*node, key,
           "a whole number from " + std::to_string(low) + " to " + std::to_string(high));
    }
    out = static_cast<Number>(**value);
  }

  /// A duration such as "500ms", "5s", "10m", "24h".
  void duration(std::string_view key, Duration low, Duration high, Duration& out);

  /// One string or a list of strings, each taken by `take`, which says if it is right.
  void each_text(std::string_view key, std::string_view expected,
                 const std::function<bool(const std::string&)>& take) {
    const toml::node* node = find(key);
    if (node == nullptr) return;
    const auto one = [&](const toml::node& item) {
      if (!item.is_string() || !take(**item.as_string())) fail(item, key, expected);
    };
    if (!node->is_array()) return one(*node);
    for (const toml::node& item : *node->as_array()) one(item);
  }

  /// The keys of a table that is a map with names of the user's own.
  std::vector<std::string> keys() const {
    std::vector<std::string> names;
    if (table_ == nullptr) return names;
    for (const auto& [key, value] : *table_) names.emplace_back(key.str());
    return names;
  }

  /// Throws for the first key that was never asked for.
  void finish() const {
    if (table_ == nullptr) return;
    for (const auto& [key, value] : *table_) {
      if (std::ranges::find(known_, key.str()) != known_.end()) continue;
      std::string list;
      for (const std::string& name : known_) list += (list.empty() ? "" : ", ") + name;
      throw ConfigError{
          where(value) + full(key.str()) + ": unknown key; " +
          (path_.empty() ? std::string{"the sections are "} : "[" + path_ + "] has ") + list};
    }
  }

 private:
  std::string full(std::string_view key) const {
    return path_.empty() ? std::string{key} : path_ + '.' + std::string{key};
  }
  std::string where(const toml::node& node) const {
    return std::string{file_} + ':' + std::to_string(node.source().begin.line) + ": ";
  }

  const toml::table* table_;
  std::string path_;
  std::string_view file_;
  std::vector<std::string> known_;
};

std::optional<Duration> parse_duration(std::string_view text) {
  std::int64_t count = 0;
  const char* const end = text.data() + text.size();
  const auto [next, error] = std::from_chars(text.data(), end, count);
  if (error != std::errc{} || count < 0 || count > 1'000'000'000) return std::nullopt;
  const std::string_view unit{next, static_cast<std::size_t>(end - next)};
  if (unit == "ms") return Duration{count};
  if (unit == "s") return std::chrono::seconds{count};
  if (unit == "m") return std::chrono::minutes{count};
  if (unit == "h") return std::chrono::hours{count};
  return std::nullopt;
}

void Section::duration(std::string_view key, Duration low, Duration high, Duration& out) {
  const toml::node* node = find(key);
  if (node == nullptr) return;
  const auto value = node->is_string() ? parse_duration(**node->as_string()) : std::nullopt;
  if (!value || *value < low || *value > high) {
    fail(*node, key,
         "a duration like \"500ms\", \"5s\" or \"10m\", from " + std::to_string(low.count()) +
             "ms to " + std::to_string(high.count()) + "ms");
  }
  out = *value;
}

// `a.b.c.d`, `v6`, `a.b.c.d:port` or `[v6]:port`.
std::optional<Endpoint> endpoint_of(const std::string& text, std::uint16_t default_port) {
  if (const auto address = IpAddress::parse(text)) {
    return Endpoint{*address, *Port::from(default_port)};
  }
  return Endpoint::parse(text);
}

bool is_zone_name(std::string_view text) {
  if (!text.empty() && text.back() == '.') text.remove_suffix(1);
  if (text.empty() || text.size() > 253) return false;
  std::istringstream in{std::string{text}};
  for (std::string label; std::getline(in, label, '.');) {
    if (label.empty() || label.size() > 63) return false;
    for (const char c : label) {
      if (std::isalnum(static_cast<unsigned char>(c)) == 0 && c != '-' && c != '_') return false;
    }
  }
  return text.back() != '.';
}

void read_node(Section node, Config& config) {
  node.each_text("address", "one IPv4 and/or one IPv6 address of this node",
                 [&](const std::string& text) {
                   const auto address = IpAddress::parse(text);
                   if (!address || !address->is_unicast()) return false;
                   auto& slot = address->is_v4() ? config.node.v4 : config.node.v6;
                   if (slot) return false;
                   slot = address;
                   return true;
                 });
  node.each_text("agent", "an address and port like \"10.0.0.1:5051\"",
                 [&](const std::string& text) {
                   config.node.agent = endpoint_of(text, kAgentPort);
                   return config.node.agent && config.node.agent->address.is_unicast();
                 });
  node.finish();
}

void read_mesos(Section mesos, Config& config) {
  Config::Mesos& out = config.mesos;
  mesos.each_text("masters", "a URL like \"http://10.0.0.1:5050\" or a list of them",
                  [&](const std::string& text) {
                    const bool http = text.starts_with("http://") || text.starts_with("https://");
                    if (http) out.masters.push_back(text);
                    return http;
                  });
  mesos.each_text("mode", "\"stream\" or \"poll\"", [&](const std::string& text) {
    out.poll = text == "poll";
    return out.poll || text == "stream";
  });
  mesos.each_text("observer", "\"auto\", \"yes\" or \"no\"", [&](const std::string& text) {
    out.observer = text;
    return text == "auto" || text == "yes" || text == "no";
  });
  mesos.duration("poll_interval", std::chrono::seconds{1}, std::chrono::hours{1},
                 out.poll_interval);
  mesos.text("username", out.username);
  mesos.path("password_file", out.password_file);
  mesos.path("token_file", out.token_file);
  mesos.path("ca_file", out.ca_file);
  mesos.finish();
}

// What no single key can be blamed for; said only once every key is right by itself.
void check_together(const Config& config, std::string_view file) {
  const bool others_observe = config.gossip.enabled && config.mesos.observer != "yes";
  if (config.mesos.masters.empty() && !others_observe) {
    throw ConfigError{std::string{file} +
                      ": mesos.masters: expected at least one URL like \"http://10.0.0.1:5050\""};
  }
  if (config.mesos.username.empty() != config.mesos.password_file.empty()) {
    throw ConfigError{std::string{file} +
                      ": mesos: expected both or none of username and password_file"};
  }
}

// `a.b.c.d`, `v6`, either with `/bits`.
bool is_prefix(const std::string& text) {
  const std::size_t slash = text.find('/');
  const auto address = IpAddress::parse(text.substr(0, slash));
  if (!address || slash == std::string::npos) return address.has_value();
  unsigned bits = 0;
  const char* const from = text.data() + slash + 1;
  const char* const end = text.data() + text.size();
  const auto [next, error] = std::from_chars(from, end, bits);
  return error == std::errc{} && next == end && from != end &&
         bits <= (address->is_v4() ? 32U : 128U);
}

// What Mesos-DNS and DC/OS let be said about names and records.
void read_dns_names(Section& dns, Config::Dns& out) {
  dns.boolean("rfc952", out.rfc952);
  dns.integer("srv_weight", 0, 65535, out.srv_weight);
  if (dns.find("ip_sources") != nullptr) out.ip_sources.clear();
  dns.each_text("ip_sources", "\"netinfo\", \"host\" or a list of them",
                [&](const std::string& text) {
                  out.ip_sources.push_back(text);
                  return text == "netinfo" || text == "host";
                });
  Section soa = dns.table("soa");
  const auto name = [&](std::string_view key, std::string& to) {
    soa.each_text(key, "a domain name like \"ns1.mesos\"", [&](const std::string& text) {
      to = text;
      return is_zone_name(text);
    });
  };
  name("mname", out.soa_mname);
  name("rname", out.soa_rname);
  constexpr std::int64_t kMaxTime = 2147483647;  // RFC 2181 §8
  soa.integer("refresh", 1, kMaxTime, out.soa_refresh);
  soa.integer("retry", 1, kMaxTime, out.soa_retry);
  soa.integer("expire", 1, kMaxTime, out.soa_expire);
  soa.integer("minimum", 0, kMaxTime, out.soa_minimum);
  soa.finish();
  dns.each_text("public_address", "an address of this node or a list of them",
                [&](const std::string& text) {
                  const auto address = IpAddress::parse(text);
                  if (address) out.public_addresses.push_back(*address);
                  return address.has_value();
                });
  dns.each_text("cluster_key", "one DNS label", [&](const std::string& text) {
    out.cluster_key = text;
    return is_zone_name(text) && text.find('.') == std::string::npos;
  });
  Section cnames = dns.table("cnames");
  for (const std::string& key : cnames.keys()) cnames.text(key, out.cnames[key]);
}

void read_dns_limits(Section& dns, Config::Dns& out) {
  const auto prefixes = [&](std::string_view key, std::vector<std::string>& list) {
    dns.each_text(key, "a network like \"10.0.0.0/8\" or a list of them",
                  [&](const std::string& text) {
                    list.push_back(text);
                    return is_prefix(text);
                  });
  };
  if (dns.find("recursion_from") != nullptr)
    prefixes("recursion_from", out.recursion_from.emplace());
  prefixes("transfer_to", out.transfer_to);
  dns.each_text("notify", "an address like \"10.0.0.9\" or \"10.0.0.9:53\", or a list of them",
                [&](const std::string& text) {
                  const auto endpoint = endpoint_of(text, kDnsPort);
                  if (endpoint) out.notify.push_back(*endpoint);
                  return endpoint.has_value();
                });
  dns.integer("rate_limit", 0, 1'000'000, out.rate_limit);
  dns.each_text("forward", "\"hedged\" or \"parallel\"", [&](const std::string& text) {
    out.parallel = text == "parallel";
    return out.parallel || text == "hedged";
  });
  dns.integer("cache_megabytes", 0, 4096, out.cache_megabytes);
  dns.boolean("enumerate", out.enumerate);
}

void read_dns(Section dns, Config& config) {
  Config::Dns& out = config.dns;
  dns.boolean("enabled", out.enabled);
  dns.each_text("listen", "an address like \"127.0.0.1\" or \"127.0.0.1:53\", or a list of them",
                [&](const std::string& text) {
                  const auto endpoint = endpoint_of(text, kDnsPort);
                  if (endpoint) out.listen.push_back(*endpoint);
                  return endpoint.has_value();
                });
  if (out.listen.empty()) out.listen.push_back(*endpoint_of("127.0.0.1", kDnsPort));
  dns.integer("workers", 1, 64, out.workers);
  dns.each_text("domain", "a domain name like \"mesos\"", [&](const std::string& text) {
    out.domain = text;
    return is_zone_name(text);
  });
  dns.integer("ttl_seconds", 0, 86400, out.ttl_seconds);
  const auto upstreams = [](Section& section, std::string_view key, std::vector<Endpoint>& list) {
    section.each_text(key, "an address like \"8.8.8.8\" or \"8.8.8.8:53\", or a list of them",
                      [&](const std::string& text) {
                        const auto endpoint = endpoint_of(text, kDnsPort);
                        if (endpoint) list.push_back(*endpoint);
                        return endpoint.has_value();
                      });
  };
  if (dns.find("upstreams") != nullptr) {
    out.upstreams.emplace();
    upstreams(dns, "upstreams", *out.upstreams);
  }
  read_dns_names(dns, out);
  read_dns_limits(dns, out);
  Section zones = dns.table("zones");
  for (const std::string& zone : zones.keys()) {
    if (!is_zone_name(zone)) zones.fail(*zones.find(zone), zone, "a domain name as the key");
    upstreams(zones, zone, out.zones[zone]);
  }
  dns.finish();
}

// `address:port` or `name:port`; the port may be left out.
bool is_join(std::string& text) {
  if (const auto endpoint = endpoint_of(text, kGossipPort)) {
    text = to_string(*endpoint);
    return endpoint->address.is_unicast();
  }
  const std::size_t colon = text.rfind(':');
  if (colon == std::string::npos) {
    if (!is_zone_name(text)) return false;
    text += ':' + std::to_string(kGossipPort);
    return true;
  }
  const std::string port = text.substr(colon + 1);
  unsigned number = 0;
  const auto [end, error] = std::from_chars(port.data(), port.data() + port.size(), number);
  return error == std::errc{} && end == port.data() + port.size() && Port::from(number) &&
         is_zone_name(text.substr(0, colon));
}

void read_gossip(Section gossip, bool there, Config& config) {
  Config::Gossip& out = config.gossip;
  out.enabled = there;
  gossip.boolean("enabled", out.enabled);
  gossip.each_text("listen", "an address like \"10.0.0.1\" or \"10.0.0.1:61420\"",
                   [&](const std::string& text) {
                     out.listen = endpoint_of(text, kGossipPort);
                     return out.listen.has_value();
                   });
  gossip.each_text("advertise", "an address like \"10.0.0.1:61420\", or a list of them",
                   [&](const std::string& text) {
                     const auto endpoint = endpoint_of(text, kGossipPort);
                     const bool good = endpoint && endpoint->address.is_unicast();
                     if (good) out.advertise.push_back(*endpoint);
                     return good;
                   });
  gossip.each_text("join", "an address or name like \"10.0.0.1\" or \"node1.example:61420\"",
                   [&](std::string text) {
                     const bool good = is_join(text);
                     if (good) out.join.push_back(std::move(text));
                     return good;
                   });
  gossip.path("key_file", out.key_file);
  gossip.boolean("insecure", out.insecure);
  gossip.each_text("cluster", "a name of 1 to 64 characters", [&](const std::string& text) {
    out.cluster = text;
    return !text.empty() && text.size() <= 64;
  });
  gossip.finish();
}

void read_rest(Section& root, Config& config) {
  Section lb = root.table("lb");
  lb.boolean("enabled", config.lb.enabled);
  lb.each_text("driver", "\"auto\", \"ipvs\" or \"nft\"", [&](const std::string& text) {
    config.lb.driver = text;
    return text == "auto" || text == "ipvs" || text == "nft";
  });
  lb.each_text("ipvs_scheduler", "the name of an IPVS scheduler like \"wlc\" or \"rr\"",
               [&](const std::string& text) {
                 config.lb.ipvs_scheduler = text;
                 return !text.empty() && text.size() < kMaxScheduler &&
                        std::all_of(text.begin(), text.end(), [](char c) {
                          return std::islower(static_cast<unsigned char>(c)) != 0;
                        });
               });
  lb.duration("ipvs_drain", std::chrono::seconds{0}, std::chrono::hours{24}, config.lb.ipvs_drain);
  lb.finish();

  Section metrics = root.table("metrics");
  metrics.each_text("listen", "an address and port like \"127.0.0.1:61421\"",
                    [&](const std::string& text) {
                      const auto endpoint = Endpoint::parse(text);
                      if (endpoint) config.metrics.listen = *endpoint;
                      return endpoint.has_value();
                    });
  metrics.each_text("allowed_hosts", "a host name or a list of them", [&](const std::string& text) {
    if (!text.empty()) config.metrics.allowed_hosts.push_back(text);
    return !text.empty();
  });
  metrics.finish();

  Section state = root.table("state");
  state.path("directory", config.state.directory);
  state.finish();

  Section log = root.table("log");
  log.each_text("level", "\"debug\", \"info\", \"warn\" or \"error\"",
                [&](const std::string& text) {
                  config.log.level = text;
                  return text == "debug" || text == "info" || text == "warn" || text == "error";
                });
  log.each_text("format", "\"text\" or \"json\"", [&](const std::string& text) {
    config.log.format = text;
    return text == "text" || text == "json";
  });
  log.finish();
}

}  // namespace

Config parse_config(std::string_view text, std::string_view name) {
  toml::table document;
  try {
    document = toml::parse(text, name);
  } catch (const toml::parse_error& error) {
    throw ConfigError{std::string{name} + ':' + std::to_string(error.source().begin.line) +
                      ": not TOML: " + std::string{error.description()}};
  }
  Config config;
  Section root{&document, "", name};
  read_node(root.table("node"), config);
  read_mesos(root.table("mesos"), config);
  read_dns(root.table("dns"), config);
  read_gossip(root.table("gossip"), document.contains("gossip"), config);
  read_rest(root, config);
  root.finish();
  check_together(config, name);
  return config;
}

Config load_config(const std::filesystem::path& path) {
  std::ifstream in{path, std::ios::binary};
  if (!in) throw ConfigError{path.string() + ": cannot be read; expected a TOML file"};
  std::string text(kMaxFileSize + 1, '\0');
  in.read(text.data(), static_cast<std::streamsize>(text.size()));
  text.resize(static_cast<std::size_t>(in.gcount()));
  if (text.size() > kMaxFileSize) {
    throw ConfigError{path.string() + ": expected at most 1 MiB of TOML"};
  }
  return parse_config(text, path.string());
}

}  // namespace muster::daemon
